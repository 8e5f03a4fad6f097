"""Failed messages with something in common, as breakdowns count them: by sender, country, prefix, code and reason.
Why a message failed, too.

No index has most of it. So the failed messages of a period are looked through, the newest first, a bounded number for
each page, and the page says how far that was.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Row, literal_column, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers, standing
from receiptsvc.domain.failures import FAILURES, FailureReason, reason_of
from receiptsvc.domain.statuses import Effect, Source, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import RARE_EFFECTS, Message, Transition
from receiptsvc.store.core.paging import Page
from receiptsvc.store.messages import hourly_counts, transitions
from receiptsvc.store.messages.hourly_counts import Code
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.listing import ListCursor, MessageFilter, Order

FAILED = tuple(status.value for status in Status if status in FAILURES)
LOOKED_THROUGH = 500  # messages, for one page

_READ_FOR_WORDS = 150  # messages
_MAX_TRANSITIONS = 10_000  # of the messages of one page
_OF_REPORT = (
    *("id", "message_id", "rule", "reason", "effect", "received_at", "occurred_at"),
    *("source", "status", "provider_status_id", "provider_description"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedFilter:
    """Which failed messages to list: those that fit all that is given. `since` ≤ createdAt < `until`.

    `originator`: empty for those without one. `status_id`, `reason`: one report of failure has both; empty `status_id`
    for one without. `reported_since` ≤ when it came < `reported_until`. `statuses`: of that report where one is asked
    for, else of the message.
    """

    since: datetime | None = None
    until: datetime
    statuses: Sequence[str] = FAILED
    originator: str | None = None
    calling_code: str | None = None
    prefix: str | None = None
    status_id: str | None = None  # as it is counted: a long one is cut
    reason: str | None = None
    reported_since: datetime | None = None
    reported_until: datetime | None = None

    @property
    def names_a_report(self) -> bool:
        """Whether reports decide what fits, and not the messages alone."""
        return self.status_id is not None or self.reason is not None


class Failure(NamedTuple):
    """Why a message failed, by the report that decides. `status_id`: the gateway's code.

    `description`: what the gateway wrote with it; of a step of our own, why it was taken.
    """

    reason: FailureReason
    status_id: str | None
    description: str | None


class _Looked(NamedTuple):
    """What a message is judged by."""

    id: UUID
    created_at: datetime
    recipient: str
    originator: str | None
    status: str
    transition_count: int

    @property
    def cursor(self) -> TimeCursor:
        return TimeCursor(self.created_at, self.id)


class _Told(NamedTuple):
    """A report of failure."""

    message_id: UUID
    received_at: datetime
    code: Code
    description: str | None


def list_failed(
    session: Session, where: FailedFilter, *, limit: int, after: TimeCursor | None = None
) -> Page[Message, TimeCursor]:
    """Messages, the newest first. A short or empty page need not be the last one."""
    page = find_ids(session, where, limit=limit, after=after)
    return Page(items=listing.read_messages(session, page.items), next=page.next)


def find_ids(
    session: Session, where: FailedFilter, *, limit: int, after: TimeCursor | None = None
) -> Page[UUID, TimeCursor]:
    """The ids of what `list_failed` returns."""
    statuses = FAILED if where.names_a_report else where.statuses
    failed = MessageFilter(statuses=statuses, originator=where.originator or None, since=where.since, until=where.until)
    begin = ListCursor(Order.CREATED, tuple(after)) if after is not None else None
    page = listing.find_ids(session, failed, limit=LOOKED_THROUGH, after=begin)
    looked, rest = _read(session, page.items), TimeCursor(*page.next.key) if page.next is not None else None
    if where.names_a_report:
        taken = _take(looked)
        rest = rest if len(taken) == len(looked) else taken[-1].cursor
        looked = taken
    fitting = _fitting(session, looked, where)
    if len(fitting) > limit:
        fitting, rest = fitting[:limit], fitting[limit - 1].cursor
    return Page(items=[message.id for message in fitting], next=rest)


def find_recovered(session: Session, where: FailedFilter, *, limit: int) -> list[Message]:
    """Messages that were reported so too, but have not failed: the gateway said both. Where a report is asked for.

    They are looked for among so many contradictions that came since the period began, the first ones first.
    """
    contradiction = (
        select(Transition.message_id)
        .where(
            literal_column(f"({RARE_EFFECTS})"),  # word for word as in their index
            Transition.effect == literal_column(f"'{Effect.CONFLICTING.value}'"),
            Transition.receipt_id >= (ids.first_at(where.reported_since) if where.reported_since else UUID(int=0)),
        )
        .order_by(Transition.receipt_id)
        .limit(LOOKED_THROUGH)
    )
    looked = _read(session, list(dict.fromkeys(session.scalars(contradiction))))
    recovered = _take([message for message in looked if message.status not in FAILED])
    return listing.read_messages(session, [message.id for message in _fitting(session, recovered, where)[:limit]])


def find_failures(session: Session, message_ids: Sequence[UUID]) -> dict[UUID, Failure]:
    """Why each of these messages failed; those that did not are left out. A bounded number of them, such as a page's.

    The deciding report is known by its receipt; only of a step of our own the message's reports are looked through.
    """
    if not message_ids:
        return {}
    columns = (Message.id, Message.status, Message.status_at, Message.standing)
    is_meant = bulk.among(session, Message.id, message_ids)
    rows = {row.id: row for row in session.execute(select(*columns).where(is_meant, Message.status.in_(FAILED)))}
    kept = {message_id: standing.decode(row.standing) for message_id, row in rows.items()}
    receipts = {
        message_id: receipt_id
        for message_id, each in kept.items()
        if each is not None and (receipt_id := standing.deciding_receipt(each)) is not None
    }
    others = [message_id for message_id in rows if message_id not in receipts]
    found: list[Row[Any]] = []
    if receipts:
        found += _fetch_reports(session, bulk.among(session, Transition.receipt_id, list(receipts.values())))
    if others:
        of_others = _fetch_reports(session, bulk.among(session, Transition.message_id, others))
        found += (row for row in of_others if _decides(row, rows[row.message_id]))
    return {row.message_id: _describe(row) for row in reversed(found)}  # of equal reports the first


def find_words(session: Session, since: datetime, until: datetime) -> dict[str, Counter[str]]:
    """What the gateway wrote with each status id, and how often, in reports about some of the newest of them."""
    failed = MessageFilter(statuses=FAILED, since=since, until=until)
    looked = _take(_read(session, listing.find_ids(session, failed, limit=_READ_FOR_WORDS).items))
    words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for told in _read_reports(session, [message.id for message in looked]) if looked else ():
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
    if not found or not where.names_a_report:
        return found
    reported = {
        told.message_id for told in _read_reports(session, [message.id for message in found]) if _is_meant(told, where)
    }
    return [message for message in found if message.id in reported]


def _fits(message: _Looked, where: FailedFilter) -> bool:
    if where.originator == "" and message.originator:
        return False
    if where.calling_code is None and where.prefix is None:
        return True
    calling_code, prefix = numbers.place(message.recipient)
    return where.calling_code in {None, calling_code} and where.prefix in {None, prefix}


def _is_meant(told: _Told, where: FailedFilter) -> bool:
    code = told.code
    if (where.reported_since and told.received_at < where.reported_since) or (
        where.reported_until and told.received_at >= where.reported_until
    ):
        return False
    is_fit = where.status_id in {None, code.status_id} and where.reason in {None, code.reason}
    return is_fit and code.status in where.statuses


def _read_reports(session: Session, message_ids: Sequence[UUID]) -> Iterator[_Told]:
    """The reports of failure of these messages, as they are counted."""
    for row in _fetch_reports(session, bulk.among(session, Transition.message_id, message_ids)):
        key = hourly_counts.of_report(transitions.report_of(row), row.rule, Effect(row.effect))
        if key is not None:
            code = hourly_counts.code_of(key.label)
            yield _Told(row.message_id, row.received_at, code, row.provider_description)


def _fetch_reports(session: Session, is_meant: ColumnElement[bool]) -> Sequence[Row[Any]]:
    """Reports of failure that count, the first recorded first."""
    columns = (getattr(Transition, name) for name in _OF_REPORT)
    query = select(*columns).where(is_meant, Transition.status.in_(FAILED), Transition.superseded_at.is_(None))
    return sorted(session.execute(query.limit(_MAX_TRANSITIONS)), key=lambda row: row.id)


def _decides(row: Row[Any], message: Row[*tuple[Any, ...]]) -> bool:
    return (row.status, row.occurred_at or row.received_at) == (message.status, message.status_at)


def _describe(row: Row[Any]) -> Failure:
    report = transitions.report_of(row)
    description = row.reason if report.source is Source.OURSELVES else row.provider_description
    return Failure(reason_of(report, row.rule), row.provider_status_id, description)
