"""What people wrote, and all that one person was sent and wrote. Nothing is written here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import Scan, scan
from receiptsvc.store.core.models import Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.messages import transitions
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.timeline import TimelineRow


class TimeCursor(NamedTuple):
    """Where such a list goes on: after what has this time and id."""

    at: datetime
    id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyFilter:
    """Which replies to list: all that every given field fits. Times are those of receipt; `until` itself is left out.

    `client_ref`: of this conversation, whether or not the reply said so itself.
    """

    sender: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_opt_out: bool | None = None


def list_replies(
    session: Session, where: ReplyFilter, *, limit: int, after: TimeCursor | None = None
) -> Page[Reply, TimeCursor]:
    """Replies, the newest first. A page may be short, or empty, and not be the last: see `walks`."""
    walked = scan(session, _way(where), limit=limit, after=after)
    items = _replies(session, [identifier for _, identifier in walked.keys])
    return Page(items=items, next=TimeCursor._make(walked.next) if walked.next is not None else None)


def read_contact(
    session: Session, number: str, *, limit: int, after: TimeCursor | None = None
) -> Page[TimelineRow, TimeCursor]:
    """All that was sent to a person and came from them, the newest first, each at the time when we had it."""
    sent = Scan(order=(Message.created_at, Message.id), branches=[[Message.recipient == number]])
    said = Scan(order=(Reply.received_at, Reply.id), branches=[[Reply.sender == number]])
    ours = [TimeCursor._make(key) for key in scan(session, sent, limit=limit + 1, after=after).keys]
    theirs = [TimeCursor._make(key) for key in scan(session, said, limit=limit + 1, after=after).keys]
    found = sorted([*ours, *theirs], reverse=True)
    shown = found[:limit]
    is_theirs = set(theirs)
    rows: dict[UUID, Message | Reply] = dict(
        listing.look_up(session, [one.id for one in shown if one not in is_theirs])
    )
    rows.update((row.id, row) for row in _replies(session, [one.id for one in shown if one in is_theirs]))
    entries = [TimelineRow(at=one.at, row=rows[one.id]) for one in shown]
    return Page(items=entries, next=shown[-1] if len(found) > limit else None)


def _replies(session: Session, reply_ids: Sequence[UUID]) -> list[Reply]:
    if not reply_ids:
        return []
    found = {row.id: row for row in session.scalars(select(Reply).where(bulk.among(session, Reply.id, reply_ids)))}
    return [found[one] for one in reply_ids]


def _way(where: ReplyFilter) -> Scan:
    wanted: dict[str, ColumnElement[bool]] = {}
    if where.sender is not None:
        wanted["sender"] = Reply.sender == where.sender
    if where.client_ref is not None:
        reference = transitions.conversation_id(client_ref=where.client_ref, recipient=None, originator=None)
        wanted["client_ref"] = Reply.conversation_id == reference
    if where.is_opt_out is not None:
        wanted["opt_out"] = Reply.is_opt_out == where.is_opt_out
    if where.recipient is not None:
        wanted["recipient"] = Reply.recipient == where.recipient
    # By the first of these that is asked for; few replies are opt-outs, and hardly any are not.
    served = [name for name in wanted if name != "opt_out" or where.is_opt_out or len(wanted) == 1][:1]
    branches = [[wanted[name] for name in served]]
    if not wanted:
        branches = [[Reply.is_opt_out == is_opt_out] for is_opt_out in (False, True)]
    return Scan(
        order=(Reply.received_at, Reply.id),
        branches=branches,
        since=where.since,
        until=where.until,
        others=[condition for name, condition in wanted.items() if name not in served],
    )
