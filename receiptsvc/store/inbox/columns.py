"""The columns that an arriving callback fills: the one list, from which every such INSERT is made.

The other columns are empty or have the table's default.
"""

from collections.abc import Mapping
from operator import attrgetter

# Of the inbox row, by column: the attribute of an `Arrival`.
_ATTRIBUTES: Mapping[str, str] = {
    "id": "id",
    "channel": "channel",
    "message_id": "message_id",
    "claimed_kid": "claimed_kid",
    "received_at": "received_at",
    "method": "callback.method",
    "query": "callback.query",
    "content_type": "callback.content_type",
    "content_encoding": "callback.content_encoding",
    "body": "callback.body",
}

ARRIVED = tuple(_ATTRIBUTES)
values_of = attrgetter(*_ATTRIBUTES.values())  # of an `Arrival`, in the order of ARRIVED

LARGE_BYTES = 16 * 1024  # of query and body together: what is longer waits for a turn of its own

# Of the row in `pending`, by column: in SQL of both databases, over the columns of the inbox row.
QUEUED: Mapping[str, str] = {
    "receipt_id": "id",
    "group_id": "message_id",
    "is_large": f"length(query) + length(body) > {LARGE_BYTES}",
}
