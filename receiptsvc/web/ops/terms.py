"""What a saved search asks for, and how that is stored: a term, a person, or a list of what a filter lets through.

Receipts that were chosen for an action are stored in the same way.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, TypeGuard, overload
from uuid import UUID

from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core.audits import AuditFilter
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.store.messages.operator_actions import CancelSelection
from receiptsvc.store.queries.contacts import ReplyFilter
from receiptsvc.store.queries.failed_messages import FAILED, FailedFilter
from receiptsvc.store.queries.listing import MessageFilter, Order


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """Whatever a term may mean."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """All of one number."""

    number: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancellation(CancelSelection):
    """Messages that somebody means to cancel, as they were found. `is_all`: whether no others fitted.

    `packed_ids`: as `pack_ids` has them.
    """

    packed_ids: str
    is_all: bool

    @property
    def message_ids(self) -> Sequence[UUID]:
        """The messages."""
        return PackedIds(self.packed_ids)[:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Messages that belong together: by one Idempotency-Key, of one file's requests, of one request, or by clientRef.

    One of these is given.
    """

    key: str | None = None
    job: str | None = None  # of a file: its requests have keys of `domain.references.file_key`
    message: str | None = None  # the public id of one of a request's messages
    client_ref_prefix: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Receipts that were chosen for an action, and why it is done: exactly these, whatever comes later.

    `is_all`: whether no more of what was meant had to be left out. `unfit`: how many of those that were ticked could
    not be acted on any more. `packed_ids`: as `pack_ids` has them.
    """

    action: str
    reason: str | None = None
    outcomes: tuple[ReceiptOutcome, ...]  # one of which each of them had
    packed_ids: str
    is_all: bool = True
    unfit: int = 0


Asked: TypeAlias = (
    Term
    | Person
    | MessageFilter
    | FailedFilter
    | ReceiptFilter
    | ReplyFilter
    | AuditFilter
    | Cancellation
    | Batch
    | Chosen
)


class Saved(NamedTuple):
    """What a search asks for. `after`: a cursor that no address may hold, since a clientRef is in it."""

    asked: Asked
    after: str | None = None


_KINDS: Mapping[str, type[Asked]] = {
    "term": Term,
    "person": Person,
    "messages": MessageFilter,
    "failed": FailedFilter,
    "receipts": ReceiptFilter,
    "replies": ReplyFilter,
    "audits": AuditFilter,
    "chosen": Chosen,
    "cancellation": Cancellation,
    "batch": Batch,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_ID_BYTES = 16
_TIMES = ("since", "until", "changed_since", "reported_since", "reported_until")
_READERS: Mapping[str, Callable[[Any], Any]] = {  # of values that are no texts, numbers or lists of texts
    **dict.fromkeys(_TIMES, datetime.fromisoformat),
    "order": Order,
    "outcomes": lambda words: tuple(ReceiptOutcome(word) for word in words),
    "channel": Channel,
    "message_id": UUID,
    "names": lambda given: ReferenceFilter(**given),
}


def write(asked: Asked, after: str | None = None) -> dict[str, Any]:
    """What is asked for, as JSON."""
    return {"kind": _NAMES[type(asked)], "asked": _write_fields(asked), "after": after}


def read(terms: Mapping[str, Any]) -> Saved | None:
    """What was asked for; None if another release has saved what this one does not know."""
    try:
        kind, given = _KINDS[terms["kind"]], {name: _read(name, value) for name, value in terms["asked"].items()}
        return Saved(kind(**given), terms["after"])
    except (KeyError, TypeError, ValueError):
        return None


def is_of_failed(asked: Asked) -> TypeGuard[MessageFilter | FailedFilter]:
    """Whether it lists failed messages, and can be had as a file."""
    if isinstance(asked, FailedFilter):
        return True
    return isinstance(asked, MessageFilter) and bool(asked.statuses) and set(asked.statuses) <= set(FAILED)


def pack_ids(identifiers: Sequence[UUID]) -> str:
    """Many ids as one text: as a list of texts they would be twice as long."""
    return b64encode(b"".join(each.bytes for each in identifiers)).decode()


class PackedIds(Sequence[UUID]):
    """The ids of `pack_ids`, each made when it is asked for."""

    def __init__(self, packed: str) -> None:
        """Raises ValueError for what `pack_ids` does not give."""
        self._data = b64decode(packed, validate=True)
        if len(self._data) % _ID_BYTES:
            raise ValueError("cut in an id")

    def __len__(self) -> int:
        return len(self._data) // _ID_BYTES

    @overload
    def __getitem__(self, index: int) -> UUID: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[UUID]: ...
    def __getitem__(self, index: int | slice) -> UUID | Sequence[UUID]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        at = range(len(self))[index] * _ID_BYTES
        return UUID(bytes=self._data[at : at + _ID_BYTES])


def _write_fields(asked: Any) -> dict[str, Any]:
    values = {each.name: getattr(asked, each.name) for each in fields(asked)}
    return {name: _to_json(value) for name, value in values.items() if value not in (None, (), ReferenceFilter())}


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return value.hex
    if is_dataclass(value):
        return _write_fields(value)
    return list(value) if isinstance(value, tuple) else value


def _read(name: str, value: Any) -> Any:
    if name in _READERS:
        return _READERS[name](value)
    return tuple(value) if isinstance(value, list) else value
