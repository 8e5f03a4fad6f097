"""Transactions: the messages of one transactionID of the gateway."""

from receiptsvc.domain import references
from receiptsvc.store.queries import lookup
from receiptsvc.store.queries.lookup import Transaction
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import messages as schemas

blueprint = new_blueprint("transactions", "Messages by the gateway's transactionID.")


@endpoint(
    blueprint,
    "GET",
    "/transactions/<transaction_id>",
    path={"transaction_id": "The gateway's transactionID; leading zeros are ignored."},
    response=schemas.Transaction,
    errors=(404, 503),
)
@requires("read")
def read_transaction(transaction_id: str) -> Transaction:
    """Read a transaction

    Every message that was ever given this transactionID, with its transitions, and a summary by status.
    """
    digits = references.parse_transaction_id(transaction_id)
    with context.database().reading() as session:
        transaction = lookup.find_transaction(session, digits) if digits else None
    if transaction is None:
        raise Problem(404, "No message was given this transactionID.")
    return transaction
