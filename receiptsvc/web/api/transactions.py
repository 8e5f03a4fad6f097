"""What the gateway calls a transaction."""

from receiptsvc.store import queries
from receiptsvc.store.queries import Transaction
from receiptsvc.web import context
from receiptsvc.web.auth import requires
from receiptsvc.web.endpoints import endpoint, noun
from receiptsvc.web.errors import Problem
from receiptsvc.web.fields import parse_transaction_id
from receiptsvc.web.schemas import messages as schemas

blueprint = noun("transactions", "The gateway's own ids of what it sent.")


@endpoint(
    blueprint,
    "GET",
    "/transactions/<transaction_id>",
    path={"transaction_id": "The gateway's transactionID; leading zeros say nothing."},
    gives=schemas.Transaction,
    fails=(404, 503),
)
@requires("read")
def read_transaction(transaction_id: str) -> Transaction:
    """Read a transaction

    Every message that was ever given this transactionID, with what was recorded of it, and how many stand where.
    """
    digits = parse_transaction_id(transaction_id)
    with context.database().reading() as session:
        found = queries.find_transaction(session, digits) if digits else None
    if found is None:
        raise Problem(404, "No message was given this transactionID.")
    return found
