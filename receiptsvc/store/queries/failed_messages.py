"""Failed messages with something in common, as breakdowns count them: by sender, country, prefix, code and reason.

No index has most of it. So the failed messages of a period are looked through, the newest first, a bounded number for
each page, and the page says how far that was.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.domain.failures import FAILURES
from receiptsvc.domain.statuses import Effect, Report, Source, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.core.paging import Page
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.messages.hourly_counts import Code
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.listing import ListCursor, MessageFilter, Order

FAILED = tuple(status.value for status in Status if status in FAILURES)
LOOKED_THROUGH = 500  # messages, for one page

_READ_FOR_WORDS = 300  # messages
_MAX_TRANSITIONS = 10_000  # of the messages of one page


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedFilter:
    """Which failed messages to list: those that fit all that is given. `since` ≤ createdAt < `until`.

    `originator`: empty for those without one. `status_id`, `reason`: one report of failure has both; empty `status_id`
    for one without.
    """

    since: datetime
    until: datetime
    originator: str | None = None
    calling_code: str | None = None
    prefix: str | None = None
    status_id: str | None = None  # as it is counted: a long one is cut
    reason: str | None = None


class _Looked(NamedTuple):
    """What a message is judged by."""

    id: UUID
    created_at: datetime
    recipient: str
    originator: str | None
    transition_count: int

    @property
    def cursor(self) -> TimeCursor:
        return TimeCursor(self.created_at, self.id)


class _Told(NamedTuple):
    """A report of failure."""

    message_id: UUID
    code: Code
    description: str | None


def list_failed(
    session: Session, where: FailedFilter, *, limit: int, after: TimeCursor | None = None
) -> Page[Message, TimeCursor]:
    """Messages, the newest first. A short or empty page need not be the last one."""
    failed = MessageFilter(statuses=FAILED, originator=where.originator or None, since=where.since, until=where.until)
    begin = ListCursor(Order.CREATED, tuple(after)) if after is not None else None
    page = listing.find_ids(session, failed, limit=LOOKED_THROUGH, after=begin)
    looked, rest = _read(session, page.items), TimeCursor(*page.next.key) if page.next is not None else None
    if _names_a_report(where):
        taken = _take(looked)
        rest = rest if len(taken) == len(looked) else taken[-1].cursor
        looked = taken
    fitting = _fitting(session, looked, where)
    if len(fitting) > limit:
        fitting, rest = fitting[:limit], fitting[limit - 1].cursor
    return Page(items=listing.read_messages(session, [message.id for message in fitting]), next=rest)


def find_words(session: Session, since: datetime, until: datetime) -> dict[str, Counter[str]]:
    """What the gateway wrote with each status id, and how often, in reports about some of the newest of them."""
    failed = MessageFilter(statuses=FAILED, since=since, until=until)
    looked = _take(_read(session, listing.find_ids(session, failed, limit=_READ_FOR_WORDS).items))
    words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for told in _read_reports(session, looked) if looked else ():
        if told.description:
            words[told.code.status_id][told.description] += 1
    return words


def _read(session: Session, message_ids: Sequence[UUID]) -> list[_Looked]:
    if not message_ids:
        return []
    columns = (getattr(Message, name) for name in _Looked._fields)
    rows = session.execute(select(*columns).where(bulk.among(session, Message.id, message_ids)))
    found = {row.id: _Looked(*row) for row in rows}
    return [found[message_id] for message_id in message_ids if message_id in found]


def _take(looked: Sequence[_Looked]) -> list[_Looked]:
    """The first of them that have as many transitions as may be read together; at least one."""
    running = accumulate(message.transition_count for message in looked)
    return list(looked[: max(1, sum(count <= _MAX_TRANSITIONS for count in running))])


def _fitting(session: Session, looked: Sequence[_Looked], where: FailedFilter) -> list[_Looked]:
    found = [message for message in looked if _fits(message, where)]
    if not found or not _names_a_report(where):
        return found
    reported = {told.message_id for told in _read_reports(session, found) if _is_meant(told.code, where)}
    return [message for message in found if message.id in reported]


def _fits(message: _Looked, where: FailedFilter) -> bool:
    if where.originator == "" and message.originator:
        return False
    if where.calling_code is None and where.prefix is None:
        return True
    calling_code, prefix = numbers.place(message.recipient)
    return where.calling_code in {None, calling_code} and where.prefix in {None, prefix}


def _names_a_report(where: FailedFilter) -> bool:
    return where.status_id is not None or where.reason is not None


def _is_meant(code: Code, where: FailedFilter) -> bool:
    return where.status_id in {None, code.status_id} and where.reason in {None, code.reason}


def _read_reports(session: Session, looked: Sequence[_Looked]) -> Iterator[_Told]:
    """The reports of failure of these messages, as they are counted."""
    of_report = (Transition.source, Transition.status, Transition.provider_status_id, Transition.provider_description)
    query = (
        select(Transition.message_id, Transition.rule, Transition.effect, Transition.received_at, *of_report)
        .where(
            bulk.among(session, Transition.message_id, [message.id for message in looked]),
            Transition.status.in_(FAILED),
            Transition.superseded_at.is_(None),
        )
        .limit(_MAX_TRANSITIONS)
    )
    for row in session.execute(query):
        report = Report(
            source=Source(row.source),
            status=Status(row.status),
            received_at=row.received_at,
            provider_status_id=row.provider_status_id,
            provider_description=row.provider_description,
        )
        key = hourly_counts.of_report(report, row.rule, Effect(row.effect))
        if key is not None:
            yield _Told(row.message_id, hourly_counts.code_of(key.label), row.provider_description)
