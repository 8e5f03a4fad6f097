"""The ledger: where every kept receipt stands."""

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

    How many receipts were kept, and how many of them have which outcome, as the counters have it.
    """
    with context.database().reading() as session:
        read = counters.read(session)
    spool = context.spooled()
    waited = (context.now() - read.oldest_pending_at).total_seconds() if read.oldest_pending_at else None
    return {
        "row": read,
        **{outcome.value: count for outcome, count in read.outcomes.items()},
        "spooled": spool.records if spool else 0,
        "oldest_pending_seconds": waited,
        "balanced": read.is_balanced,
    }
