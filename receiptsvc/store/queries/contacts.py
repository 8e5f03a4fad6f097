"""Lists of replies, and everything sent to and received from one recipient, or in one conversation, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from receiptsvc.domain import conversations
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import Scan, scan
from receiptsvc.store.core.models import Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.timeline import TimelineRow


class TimeCursor(NamedTuple):
    """The position in a list by time: after the row with this time and id."""

    at: datetime
    id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyFilter:
    """Which replies to list: those that fit every given field. `since` ≤ time of receipt < `until`.

    `client_ref`: of the conversation, whether or not the reply itself has it.
    """

    sender: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_opt_out: bool | None = None
    is_opt_in: bool | None = None


def list_replies(
    session: Session, where: ReplyFilter, *, limit: int, after: TimeCursor | None = None
) -> Page[Reply, TimeCursor]:
    """Replies, the newest first. A short or empty page need not be the last one: see `keyset`."""
    page = scan(session, _plan_scan(where), limit=limit, after=after)
    items = _load_replies(session, [reply_id for _, reply_id in page.keys])
    return Page(items=items, next=TimeCursor._make(page.next) if page.next is not None else None)


def read_contact(
    session: Session, number: str, *, limit: int, after: TimeCursor | None = None
) -> Page[TimelineRow, TimeCursor]:
    """Everything sent to a number and received from it, the newest first, by the time at which we got it."""
    sent = Scan(order=(Message.created_at, Message.id), branches=[[Message.recipient == number]])
    received = Scan(order=(Reply.received_at, Reply.id), branches=[[Reply.sender == number]])
    return _read_newest(session, sent, received, limit=limit, after=after)


def read_conversation(
    session: Session, conversation_id: UUID, *, limit: int, after: TimeCursor | None = None
) -> Page[TimelineRow, TimeCursor]:
    """The messages and replies of a conversation, the newest first, by the time at which we got them."""
    # The index of messages has the status before the time: a branch for each status, merged.
    equals = [[(Message.conversation_id, conversation_id), (Message.status, status.value)] for status in Status]
    branches: list[list[ColumnElement[bool]]] = [[] for _ in equals]
    sent = Scan(order=(Message.created_at, Message.id), branches=branches, equals=equals)
    received = Scan(order=(Reply.received_at, Reply.id), branches=[[Reply.conversation_id == conversation_id]])
    return _read_newest(session, sent, received, limit=limit, after=after)


def find_by_msgid(session: Session, msgid: str, limit: int) -> Sequence[Reply]:
    """The replies to which the gateway gave this id; several, if it gave it twice."""
    return session.scalars(select(Reply).where(Reply.msgid == msgid).limit(limit)).all()


def _read_newest(
    session: Session, sent: Scan, received: Scan, *, limit: int, after: TimeCursor | None
) -> Page[TimelineRow, TimeCursor]:
    """The messages of one scan and the replies of the other, merged, the newest first."""
    message_keys = [TimeCursor._make(key) for key in scan(session, sent, limit=limit + 1, after=after).keys]
    reply_keys = [TimeCursor._make(key) for key in scan(session, received, limit=limit + 1, after=after).keys]
    keys = sorted([*message_keys, *reply_keys], reverse=True)
    page_keys = keys[:limit]
    is_reply = set(reply_keys)
    rows: dict[UUID, Message | Reply] = dict(
        listing.find_by_id(session, [key.id for key in page_keys if key not in is_reply])
    )
    rows.update((row.id, row) for row in _load_replies(session, [key.id for key in page_keys if key in is_reply]))
    entries = [TimelineRow(at=key.at, row=rows[key.id]) for key in page_keys]
    return Page(items=entries, next=page_keys[-1] if len(keys) > limit else None)


def _load_replies(session: Session, reply_ids: Sequence[UUID]) -> list[Reply]:
    if not reply_ids:
        return []
    rows = {row.id: row for row in session.scalars(select(Reply).where(bulk.among(session, Reply.id, reply_ids)))}
    return [rows[reply_id] for reply_id in reply_ids]


_MARKS = ("opt_out", "opt_in")


def _plan_scan(where: ReplyFilter) -> Scan:
    conditions: dict[str, ColumnElement[bool]] = {}
    if where.sender is not None:
        conditions["sender"] = Reply.sender == where.sender
    if where.client_ref is not None:
        conversation_ids = conversations.ids_of_client_ref(where.client_ref)
        conditions["client_ref"] = or_(*(Reply.conversation_id == each for each in conversation_ids))
    if where.is_opt_out is not None:
        conditions["opt_out"] = Reply.is_opt_out == where.is_opt_out
    if where.recipient is not None:
        conditions["recipient"] = Reply.recipient == where.recipient
    if where.is_opt_in is not None:
        conditions["opt_in"] = Reply.is_opt_in == where.is_opt_in
    # The first condition picks the index. `opt_out` only if it is true, or nothing else does: few replies are opt-outs.
    # `opt_in` has no index; a reply is never both.
    served = [name for name in conditions if name not in _MARKS or (name == "opt_out" and where.is_opt_out)][:1]
    branches = [[conditions[name] for name in served]]
    if not served:
        sides = [False] if where.is_opt_out is False or where.is_opt_in else [False, True]
        branches = [[Reply.is_opt_out == is_opt_out] for is_opt_out in sides]
    return Scan(
        order=(Reply.received_at, Reply.id),
        branches=branches,
        since=where.since,
        until=where.until,
        filters=[condition for name, condition in conditions.items() if name not in served],
    )
