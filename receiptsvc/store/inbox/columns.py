"""The columns that an arriving callback fills in its inbox row: the one list, from which every such INSERT is made.

The other columns are empty or have the table's default.
"""

from collections.abc import Mapping
from operator import attrgetter

from receiptsvc.domain.inbox import ReceiptOutcome

# By column: the attribute of an `Arrival`.
_ATTRIBUTES: Mapping[str, str] = {
    "id": "id",
    "channel": "channel",
    "message_id": "message_id",
    "is_unauthenticated": "is_unauthenticated",
    "received_at": "received_at",
    "method": "callback.method",
    "query": "callback.query",
    "content_type": "callback.content_type",
    "body": "callback.body",
}

ARRIVED = tuple(_ATTRIBUTES)
values_of = attrgetter(*_ATTRIBUTES.values())  # of an `Arrival`, in the order of ARRIVED

# What a row also has while it waits for its first try. Its `next_at` says when that is due: a new row's, at once.
WAITING: Mapping[str, str | int] = {"outcome": ReceiptOutcome.PENDING.value, "tries": 0}
