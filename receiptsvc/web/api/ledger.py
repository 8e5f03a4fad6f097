"""The ledger: how many receipts were kept, and how many have which outcome."""

from typing import Any

from receiptsvc.store.inbox import counters
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas.operations import Ledger

blueprint = new_blueprint("ledger", "The account of every receipt that was ever kept.")


@endpoint(blueprint, "GET", "/ledger", response=Ledger, errors=(503,))
@requires("ops")
def read_ledger() -> dict[str, Any]:
    """Read the ledger

    How many receipts were kept, and how many of them have which outcome, by the counters.
    """
    with context.database().reading() as session:
        ledger = counters.read(session)
    spool = context.spooled()
    waited = (context.now() - ledger.oldest_pending_at).total_seconds() if ledger.oldest_pending_at else None
    return {
        "row": ledger,
        **{outcome.value: count for outcome, count in ledger.outcomes.items()},
        "spooled": spool.records if spool else 0,
        "oldest_pending_seconds": waited,
        "balanced": ledger.is_balanced,
    }
