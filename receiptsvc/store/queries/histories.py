"""What was recorded of messages, of each a bounded part: nobody knows how many reports a gateway sends."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, union_all
from sqlalchemy.orm import Session

from receiptsvc.domain import standing
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.core.paging import Page, cut

MOST = 400  # transitions of one message: half of them the first, half the newest
_MOST_OF_ALL = 10_000  # of the messages of one answer together
_LEAST = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A message's transitions in the order recorded.

    All of them; or of many the first ones, the newest ones, the one that decides its status, and one of each final word
    of the gateway. `gap`: the index before which some are left out; None: none is.
    """

    transitions: Sequence[Transition]
    gap: int | None = None

    @property
    def rest_after(self) -> int | None:
        """The id after which some are left out."""
        return None if self.gap is None else self.transitions[self.gap - 1].id


def find(session: Session, messages: Sequence[Message]) -> Mapping[UUID, History]:
    """The histories of messages: the more messages, the shorter each, but never below twenty transitions."""
    most = max(_LEAST, min(MOST, _MOST_OF_ALL // max(1, len(messages))))
    few = [message.id for message in messages if message.transition_count <= most]
    many = [message for message in messages if message.transition_count > most]
    recorded: defaultdict[UUID, list[Transition]] = defaultdict(list)
    if few:
        for row in session.scalars(_in_order().where(bulk.among(session, Transition.message_id, few))):
            recorded[row.message_id].append(row)
    found = {message_id: History(transitions=recorded[message_id]) for message_id in few}
    for message in many:
        found[message.id] = _find_some(session, message, most // 2)
    return found


def read_page(session: Session, message_id: UUID, *, limit: int, after: int | None = None) -> Page[Transition, int]:
    """A message's transitions in the order recorded, by pages."""
    query = _in_order().where(Transition.message_id == message_id)
    if after is not None:
        query = query.where(Transition.id > after)
    return cut(session.scalars(query.limit(limit + 1)).all(), limit, lambda row: row.id)


def _in_order() -> Select[Transition]:
    return select(Transition).order_by(Transition.id)


def _find_some(session: Session, message: Message, most: int) -> History:
    """The first and the newest transitions of a message, so many each, and those that decide; each once, in order."""
    of_message = select(Transition.id).where(Transition.message_id == message.id)
    parts: list[Select[Any]] = [
        of_message.order_by(Transition.id).limit(most),
        of_message.order_by(Transition.id.desc()).limit(most),
    ]
    kept = standing.decode(message.standing)
    receipt_ids = standing.shown_receipts(kept) if kept is not None else set()
    if receipt_ids:
        is_shown = bulk.among(session, Transition.receipt_id, receipt_ids)
        parts.append(select(Transition.id).where(is_shown, Transition.superseded_at.is_(None)))
    row_ids: Collection[int] = set(session.scalars(union_all(*(select(part.subquery()) for part in parts))))
    found = list(session.scalars(_in_order().where(bulk.among(session, Transition.id, row_ids))))
    if not any(_decides(row, message) for row in found):
        found = sorted([*found, *_find_own_step(session, message)], key=lambda row: row.id)
    return History(transitions=found, gap=most if len(found) > most else None)


def _decides(row: Transition, message: Message) -> bool:
    at = row.occurred_at or row.received_at
    return row.superseded_at is None and (row.status, at) == (message.status, message.status_at)


def _find_own_step(session: Session, message: Message) -> Sequence[Transition]:
    """The step of our own that decides. It is nearly always among the first, so no index serves this."""
    query = _in_order().where(
        Transition.message_id == message.id,
        Transition.receipt_id.is_(None),
        Transition.superseded_at.is_(None),
        Transition.status == message.status,
        Transition.received_at == message.status_at,
    )
    return session.scalars(query.limit(1)).all()
