"""The API's cursors: where the next page of a list begins, as text that a client gives back as it is.

A cursor holds the name of its list and a position in it: JSON and a checksum, in base64url. One of another list, a cut
or a changed one is refused with a reason. It is not signed (see docs/decisions/0036-cursors.md): it names a position in
what the API key may read anyway, and each value is checked before a query gets it.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zlib import crc32

import marshmallow as ma

from receiptsvc.domain.times import from_micros, to_micros
from receiptsvc.store.core.audits import AuditKey
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.listing import ListCursor, Order
from receiptsvc.store.queries.timeline import TimelineCursor

Position = TypeVar("Position")

MAX_LENGTH = 600
PATTERN = f"^[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}$"  # for the OpenAPI document

_CHECKSUM_BYTES = 4


class Part(NamedTuple):
    """A value of a cursor: its name, and how it becomes JSON and is read again."""

    name: str
    write: Callable[[Any], str | int]
    read: Callable[[Any], Any]

    def parse(self, value: Any) -> Any:
        """Read a value of JSON. Raises ValidationError for one that `write` would not give."""
        try:
            parsed = self.read(value)
            if repr(self.write(parsed)) == repr(value):
                return parsed
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            pass
        raise _refusal(f"its {self.name} can't be read")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor(Generic[Position]):
    """The cursors of one list. `parts`: of a position; `split` gives their values, and `make` takes them."""

    name: str
    parts: Sequence[Part]
    make: Callable[..., Position]
    split: Callable[[Position], Iterable[Any]] = tuple  # type: ignore[assignment]  # most positions are tuples

    def encode(self, position: Position) -> str:
        """The text of a position."""
        values = zip(self.parts, self.split(position), strict=True)
        return _seal([self.name, *(part.write(value) for part, value in values)])

    def decode(self, text: str) -> Position:
        """The position of a text. Raises ValidationError, of the field `cursor`."""
        try:
            data = urlsafe_b64decode(text[:MAX_LENGTH] + "=" * (-len(text) % 4))
            content = list(json.loads(data[_CHECKSUM_BYTES:]))
            is_whole = _seal(content) == text
        except (TypeError, ValueError):
            is_whole = False
        if not is_whole:
            raise _refusal("this one is cut or changed")
        if content[:1] != [self.name] or len(content) != 1 + len(self.parts):
            raise _refusal("this one is of another list")
        return self.make(*(part.parse(value) for part, value in zip(self.parts, content[1:], strict=True)))


def _seal(content: list[Any]) -> str:
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return urlsafe_b64encode(crc32(data).to_bytes(_CHECKSUM_BYTES) + data).decode().rstrip("=")


def _refusal(reason: str) -> ma.ValidationError:
    return ma.ValidationError(f"Must be a nextCursor of this list; {reason}.", "cursor")


def _read_text(text: str) -> str:
    if len(text) > 64 or "\0" in text:
        raise ValueError
    return text


_ID = Part("id", lambda identifier: identifier.hex, UUID)
_TIME = Part("time", to_micros, from_micros)
_KIND = Part("kind", int, range(4).__getitem__)
_SERIAL = Part("serial", int, range(2**63).__getitem__)
_ORDER = Part("order", str, Order)
_CLIENT_REF, _RECIPIENT, _ORIGINATOR = (
    Part(name, str, _read_text) for name in ("clientRef", "recipient", "originator")
)


def _split_list(cursor: ListCursor) -> tuple[Any, ...]:
    *client_ref, at, identifier = cursor.key  # in the order by clientRef that comes first
    return cursor.order, "".join(client_ref), at, identifier


def _make_list(order: Order, client_ref: str, *key: Any) -> ListCursor:
    return ListCursor(order, (client_ref, *key) if order is Order.CLIENT_REF else key)


def _by_time(name: str) -> Cursor[TimeCursor]:
    return Cursor(name=name, parts=(_TIME, _ID), make=TimeCursor)


def _by_id(name: str) -> Cursor[UUID]:
    return Cursor(name=name, parts=(_ID,), make=lambda identifier: identifier, split=lambda position: (position,))


MESSAGES = Cursor(name="messages", parts=(_ORDER, _CLIENT_REF, _TIME, _ID), make=_make_list, split=_split_list)
CONVERSATIONS, RECIPIENT, REPLIES = _by_time("conversations"), _by_time("recipient"), _by_time("replies")
FAILED = _by_time("failed")
CONVERSATION = _by_time("conversation")  # one, from its newest entry on
RECEIPTS, REPLAY, DISMISS = (_by_id(name) for name in ("receipts", "replay", "dismiss"))
TRANSITIONS = Cursor(name="transitions", parts=(_SERIAL,), make=int, split=lambda position: (position,))
TIMELINE = Cursor(name="timeline", parts=(_TIME, _KIND, _ID, _SERIAL), make=TimelineCursor)
SUPPRESSIONS = Cursor(name="suppressions", parts=(_RECIPIENT, _ORIGINATOR), make=Pair)
AUDITS = Cursor(name="audits", parts=(_TIME, _SERIAL), make=AuditKey)
