"""The receipts of one load: which messages they are about, in what order, and what each says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from benchmarks.e2e.trees import Target
from benchmarks.kept import PARAMETER

_GROUP = 500  # messages whose first receipts all come before the second ones: as if these came some time later
_FIRST_AT = datetime(2026, 1, 5, 12, 0)  # noqa: DTZ001 - the gateway's times have no zone
_DELIVERED = (1, "Delivered")
_SENT, _BUFFERED = (2, "Message sent"), (3, "Buffered")  # both mean `sent`


@dataclass(frozen=True, slots=True)
class Wave:
    """`targets`: a file for the load generator. `last_of`: for each line in it, the message whose last receipt it is.

    A message's last receipt says `delivered`; for those before it there is None.
    """

    targets: Path
    last_of: Sequence[UUID | None]

    def __len__(self) -> int:
        return len(self.last_of)


def write(file: Path, messages: Sequence[Target], per_message: int) -> Wave:
    """Write the receipts of messages, of which each has `per_message` (2 or more), no two alike."""
    last_of: list[UUID | None] = []
    with file.open("w") as lines:
        for message, index in _order(messages, per_message):
            is_last = index == per_message - 1
            lines.write(f"{message.path}?{_query(message, index, is_last=is_last)}&{PARAMETER.decode()}=\n")
            last_of.append(message.message_id if is_last else None)
    return Wave(file, last_of)


def _order(messages: Sequence[Target], per_message: int) -> Iterator[tuple[Target, int]]:
    for start in range(0, len(messages), _GROUP):
        for index in range(per_message):
            for message in messages[start : start + _GROUP]:
                yield message, index


def _query(message: Target, index: int, *, is_last: bool) -> str:
    status_id, description = _DELIVERED if is_last else _BUFFERED if index else _SENT
    at = _FIRST_AT + timedelta(seconds=index, milliseconds=message.number % 1000)
    fields = {
        "datetime": at.isoformat(timespec="milliseconds"),
        "recipient": str(447700000000 + message.number),
        "statusid": str(status_id),
        "statusdescription": description,
        "clientref": f"order-{message.number}",
        "transactionid": str(1_000_000 + message.number),
    }
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
