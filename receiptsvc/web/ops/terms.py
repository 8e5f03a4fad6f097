"""What a saved search asks for, and how it is stored: a term, a person, a list, a batch, or what is to be cancelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from receiptsvc.store.core.audits import AuditFilter
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.messages.operator_actions import CancelSelection
from receiptsvc.store.queries.contacts import ReplyFilter
from receiptsvc.store.queries.failed_messages import FailedFilter
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
    """Messages that somebody means to cancel, as they were found. `is_all`: whether no others fitted."""

    message_hex: str  # their ids, one after the other: of ten thousand as a list it would take twice as long
    is_all: bool

    @property
    def message_ids(self) -> Sequence[UUID]:
        """The messages."""
        return [UUID(self.message_hex[at : at + _HEX]) for at in range(0, len(self.message_hex), _HEX)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Messages that belong together: by one Idempotency-Key, of one file's requests, of one request, or by clientRef.

    One of these is given.
    """

    key: str | None = None
    job: str | None = None  # of a file: its requests have keys of `domain.references.file_key`
    message: str | None = None  # the public id of one of a request's messages
    client_ref_prefix: str | None = None


Asked: TypeAlias = (
    Term | Person | MessageFilter | FailedFilter | ReferenceFilter | ReplyFilter | AuditFilter | Cancellation | Batch
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
    "receipts": ReferenceFilter,
    "replies": ReplyFilter,
    "audits": AuditFilter,
    "cancellation": Cancellation,
    "batch": Batch,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TIMES = ("since", "until", "changed_since")
_HEX = 32  # digits of an id


def write(asked: Asked, after: str | None = None) -> dict[str, Any]:
    """What is asked for, as JSON."""
    values = {each.name: getattr(asked, each.name) for each in fields(asked)}
    given = {name: _to_json(value) for name, value in values.items() if value not in (None, ())}
    return {"kind": _NAMES[type(asked)], "asked": given, "after": after}


def read(terms: Mapping[str, Any]) -> Saved | None:
    """What was asked for; None if another release has saved what this one does not know."""
    try:
        kind, given = _KINDS[terms["kind"]], {name: _read(name, value) for name, value in terms["asked"].items()}
        return Saved(kind(**given), terms["after"])
    except (KeyError, TypeError, ValueError):
        return None


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _read(name: str, value: Any) -> Any:
    if name in _TIMES:
        return datetime.fromisoformat(value)
    if name == "order":
        return Order(value)
    return tuple(value) if isinstance(value, list) else value
