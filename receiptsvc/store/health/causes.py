"""What needs attention, seen now, by cause. What is counted are the newest rows, and no more than so many of them.

Each rule stands with what it is about: `service_state`, `send_gate`, `accounts`, `gateway_clock` and others. Here they
become problems; what is kept of those is `problems`' business.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Select, Text, cast, func, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc import ids, logs
from receiptsvc.connection_shares import Bounds
from receiptsvc.domain import gateway_clock
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.gateway_clock import Vote
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.problems import MAX_COUNTED, OTHERS, Cause, Kind, Seen
from receiptsvc.domain.sentences import agree
from receiptsvc.domain.statuses import Effect
from receiptsvc.domain.waiting import OVERDUE_AFTER
from receiptsvc.store.core.clock import describe_skew
from receiptsvc.store.core.models import RARE_EFFECTS, InboxRow, Message, OutcomeRow, Transition
from receiptsvc.store.health import connection_limits
from receiptsvc.store.health.service_state import ServiceState
from receiptsvc.store.inbox import pending, receipt_references, time_slices
from receiptsvc.store.outbound import accounts, call_results, send_gate
from receiptsvc.store.queries import overdue

_MAX_GROUPS = 20  # problems of one kind; what is rarer is one more
_MAX_KIDS = 5  # anybody may claim a key
_SETTLES = timedelta(seconds=15)  # a receipt may overtake the answer of its own message's call
_MAX_DETAIL = 100  # characters of a description

_OF_WORKERS = (
    Kind.WORKER_UNSEEN,
    Kind.GATEWAY_AMISS,
    Kind.RECEIPTS_LATE,
    Kind.MESSAGES_LATE,
    Kind.NO_RECEIPTS,
    Kind.WORKER_CLOCK,
)
_OF_SENDING = (Kind.CREDENTIALS_REFUSED, Kind.ACCOUNT_REFUSED, Kind.ACCOUNT_SUSPECTED, Kind.SENDING_PAUSED)

ReadVotes: TypeAlias = Callable[[Session], Sequence[Vote]]
_Found: TypeAlias = tuple[list[Seen], bool]  # of one kind; whether it is all of it
_Part: TypeAlias = tuple[Sequence[Kind], Callable[[], _Found]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What decides, of the settings. `ignore_repeats`: as for `accounts.may_be_tried`; `zone`: of the gateway."""

    listed_kids: Collection[str]
    resend_for_seconds: float
    connections: Bounds
    ignore_repeats: Collection[str]
    zone: ZoneInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was seen at one time.

    `complete`: the kinds of which all was seen. `host`: of whose own problems all was.
    """

    at: datetime
    seen: Sequence[Seen]
    complete: Collection[Kind] = ()
    host: str | None = None


class _Group(NamedTuple):
    """Receipts with one cause."""

    cause: Cause
    size: int
    first_id: UUID
    newest_id: UUID
    detail: str | None = None


def look(session: Session, state: ServiceState, now: datetime, terms: Terms, read_votes: ReadVotes) -> Look:
    """All that is to be seen in the database. `state`: as it was read a moment ago.

    A part that fails is logged, and leaves its kinds as they are.
    """
    seen: list[Seen] = []
    complete: set[Kind] = set()
    for kinds, find in _parts(session, state, now, terms, read_votes):
        try:
            found, is_all = find()
        except Exception as error:
            if _is_away(error):
                raise
            session.rollback()  # PostgreSQL takes no more statements in a transaction of which one has failed
            logs.fault("health.part_failed", error, source=kinds[0], level=logging.ERROR, kinds=kinds)
        else:
            logs.over("health.part_failed", source=kinds[0])
            seen += found
            complete.update(kinds if is_all else ())
    return Look(at=now, seen=seen, complete=complete)


def _parts(
    session: Session, state: ServiceState, now: datetime, terms: Terms, read_votes: ReadVotes
) -> Sequence[_Part]:
    """What finds problems, each of these kinds."""
    before = now - timedelta(seconds=terms.resend_for_seconds)
    whole: list[tuple[Sequence[Kind], Callable[[], Iterator[Seen]]]] = [
        (_OF_WORKERS, lambda: _of_workers(state, now)),
        (_OF_SENDING, lambda: _of_sending(session, terms, now)),
        ([Kind.CALLBACKS_REFUSED, Kind.CALLBACKS_MISROUTED], lambda: _of_callbacks(state)),
        ([Kind.TIMEZONE_WRONG], lambda: _of_times(read_votes(session), now, terms.zone)),
        ([Kind.RECEIPTS_CROWD], lambda: _of_crowd(session, now)),
        ([Kind.CONNECTIONS_EXCEED], lambda: _of_limits(session, terms, now)),
        ([Kind.TIME_SLICE_MISSING], lambda: _of_slices(session, now)),
        ([Kind.SEND_UNKNOWN], lambda: _of_unknown(session, before, now - before)),
    ]
    return [
        *((kinds, partial(_find_whole, find)) for kinds, find in whole),
        *(([kind], partial(find, session, state, now)) for kind, find in _GROUPED.items()),
    ]


def _find_whole(find: Callable[[], Iterator[Seen]]) -> _Found:
    return list(find()), True


def _is_away(error: Exception) -> bool:
    """Whether nothing else can be asked either."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, StorageUnavailable | PoolTimeout)


def _of_workers(state: ServiceState, now: datetime) -> Iterator[Seen]:
    if state.workers.is_missing:
        yield Seen(kind=Kind.WORKER_UNSEEN, first_at=state.workers.seen_at or now, last_at=now)
    if state.workers.gateway_faults:
        detail = "; ".join(fault for fault, _ in state.workers.gateway_faults)
        first_at = min(since for _, since in state.workers.gateway_faults)
        yield Seen(kind=Kind.GATEWAY_AMISS, first_at=first_at, last_at=now, detail=detail)
    if state.are_receipts_late:
        first_at = now - timedelta(seconds=state.receipts_late_seconds)
        yield Seen(kind=Kind.RECEIPTS_LATE, first_at=first_at, last_at=now)
    if state.are_messages_late:
        first_at = now - timedelta(seconds=state.messages_late_seconds)
        yield Seen(kind=Kind.MESSAGES_LATE, first_at=first_at, last_at=now)
    if state.is_silent:
        yield Seen(kind=Kind.NO_RECEIPTS, first_at=state.no_receipt_since or now, last_at=now)
    clocks: dict[str, str] = {}
    for worker in state.workers.alive:
        skew = describe_skew("its", worker.clock_ahead_seconds)
        if skew is not None:
            clocks[worker.process.rsplit(":", 2)[1]] = skew
    for host, skew in clocks.items():
        yield Seen(kind=Kind.WORKER_CLOCK, cause={"host": host}, first_at=now, last_at=now, detail=skew)


def _of_sending(session: Session, terms: Terms, now: datetime) -> Iterator[Seen]:
    gate, impaired = send_gate.read(session), accounts.read_impaired(session, terms.ignore_repeats)
    own = next((account for account in impaired if account.name is None), None)
    refused = [at for at in (gate.refused_at, own.refused_at if own is not None else None) if at is not None]
    if refused:
        yield Seen(kind=Kind.CREDENTIALS_REFUSED, first_at=min(refused), last_at=now)
    for account in impaired:
        cause: Cause = {"account": account.name} if account.name is not None else {}
        waiting = agree(account.waiting, "message waits", "messages wait") if account.waiting else None
        if account.refused_at is not None and account.name is not None:
            at = account.refused_at
            yield Seen(kind=Kind.ACCOUNT_REFUSED, cause=cause, first_at=at, last_at=now, detail=waiting)
        elif account.refused_at is None and account.suspected_at is not None:
            at = account.suspected_at
            yield Seen(kind=Kind.ACCOUNT_SUSPECTED, cause=cause, first_at=at, last_at=now, detail=waiting)
    if gate.paused_at is not None and send_gate.is_paused_long(gate, now):
        detail = f"by {gate.paused_by}: {gate.pause_reason}"
        yield Seen(kind=Kind.SENDING_PAUSED, first_at=gate.paused_at, last_at=now, detail=detail)


def _of_callbacks(state: ServiceState) -> Iterator[Seen]:
    by_cause = [
        *(({"kid": entry.kid or "", "listed": "yes"}, entry) for entry in state.refused_for_listed),
        *(({"kid": entry.kid or ""}, entry) for entry in state.refused[:_MAX_KIDS]),
        *((OTHERS, entry) for entry in state.refused[_MAX_KIDS:]),
    ]
    merged: dict[UUID, Seen] = {}
    for cause, entry in by_cause:
        seen = Seen(
            kind=Kind.CALLBACKS_REFUSED,
            cause=cause,
            first_at=entry.first_at,
            last_at=entry.last_at,
            count=entry.callbacks,
            detail="in the last hour, of the sample that is kept",
        )
        merged[seen.id] = _add(merged[seen.id], seen) if seen.id in merged else seen
    yield from merged.values()
    stray = state.misrouted
    if stray is not None:
        kind = Kind.CALLBACKS_MISROUTED
        yield Seen(
            kind=kind, first_at=stray.first_at, last_at=stray.last_at, count=stray.count, detail="in the last hour"
        )


def _of_times(votes: Sequence[Vote], now: datetime, zone: ZoneInfo) -> Iterator[Seen]:
    agreeing = gateway_clock.find_agreeing(votes, now)
    if agreeing:
        times = [vote.received_at for vote in agreeing]
        detail = f"{gateway_clock.write_difference(agreeing)}; {gateway_clock.explain_setting(agreeing, zone)}"
        yield Seen(kind=Kind.TIMEZONE_WRONG, first_at=min(times), last_at=max(times), detail=detail)


def _of_crowd(session: Session, now: datetime) -> Iterator[Seen]:
    crowd = pending.find_crowd(session)
    if crowd is not None:
        yield Seen(kind=Kind.RECEIPTS_CROWD, first_at=now, last_at=now, detail=crowd.describe())


def _of_limits(session: Session, terms: Terms, now: datetime) -> Iterator[Seen]:
    fault = connection_limits.find_fault(session, terms.connections, now)
    if fault:
        yield Seen(kind=Kind.CONNECTIONS_EXCEED, first_at=now, last_at=now, detail=fault)


def _of_slices(session: Session, now: datetime) -> Iterator[Seen]:
    if not time_slices.is_ready(session, now):
        yield Seen(kind=Kind.TIME_SLICE_MISSING, first_at=now, last_at=now)


def _of_unknown(session: Session, before: datetime, offered_for: timedelta) -> Iterator[Seen]:
    """Messages whose answer was lost before that time. Each is one since it is not offered again."""
    unknown = select(Message.id, Message.unclear_since).where(call_results.is_overdue(before))
    newest = unknown.order_by(Message.unclear_since.desc()).limit(MAX_COUNTED + 1).subquery()
    since = newest.c.unclear_since
    query = select(func.count(), func.min(since), func.max(since), func.max(cast(newest.c.id, Text)))
    count, first, last, newest_id = session.execute(query).one()
    if count:
        shown, is_all = _limit(count)
        yield Seen(
            kind=Kind.SEND_UNKNOWN,
            first_at=first + offered_for,
            last_at=last + offered_for,
            count=shown,
            is_all=is_all,
            newest_id=UUID(newest_id),
        )


def _find_overdue(session: Session, _: ServiceState, now: datetime) -> _Found:
    late = overdue.count_by_originator(session, now - OVERDUE_AFTER, overdue.WITH_THE_GATEWAY)
    seen = [
        Seen(
            kind=Kind.OVERDUE,
            cause={"originator": sender.originator} if sender.originator is not None else {},
            first_at=sender.first_since + OVERDUE_AFTER,
            last_at=sender.last_since + OVERDUE_AFTER,
            count=sender.messages,
            is_all=late.is_all,
            newest_id=sender.newest_id,
        )
        for sender in late.items
    ]
    return _keep_largest(seen, is_all=late.is_all)


def _find_unmapped(session: Session, state: ServiceState, _: datetime) -> _Found:
    if state.ledger.outcomes[ReceiptOutcome.UNMAPPED] <= 0:
        return [], True
    newest = (
        select(Transition.receipt_id, Transition.provider_status_id, Transition.provider_description)
        .where(literal_column(f"({RARE_EFFECTS})"), Transition.effect == literal_column(f"'{Effect.UNMAPPED.value}'"))
        .order_by(Transition.receipt_id.desc())
        .limit(MAX_COUNTED + 1)
        .subquery()
    )
    # Not EXISTS, for which PostgreSQL may read the whole table into a hash.
    written = select(OutcomeRow.receipt_id).where(OutcomeRow.receipt_id == newest.c.receipt_id).limit(1)
    is_dismissed = written.scalar_subquery().is_not(None)
    query = _grouped(newest, is_dismissed, newest.c.provider_status_id, newest.c.provider_description)
    groups, looked_at = [], 0
    for dismissed, code, description, count, first_id, newest_id in session.execute(query):
        looked_at += count
        if not dismissed:
            groups.append(_Group(_cause_of(code, description), count, UUID(first_id), UUID(newest_id), description))
    return _find_grouped(Kind.UNMAPPED, groups, is_all=looked_at <= MAX_COUNTED)


def _find_outcomes(
    kind: Kind, outcome: ReceiptOutcome, by: Sequence[Any], name: Callable[[Any], Cause | None]
) -> Callable[..., _Found]:
    """What finds the receipts of an outcome. `name`: the cause of rows with the same values `by`; None: it is gone."""

    def find(session: Session, state: ServiceState, now: datetime) -> _Found:
        if state.ledger.outcomes[outcome] <= 0:
            return [], True
        newest = (
            select(OutcomeRow.receipt_id, OutcomeRow.reason)
            .where(OutcomeRow.outcome == outcome, OutcomeRow.receipt_id < ids.first_at(now - _SETTLES))
            .order_by(OutcomeRow.receipt_id.desc())
            .limit(MAX_COUNTED + 1)
            .subquery()
        )
        groups, looked_at = [], 0
        for row in session.execute(_grouped(newest, *(_value(newest, column) for column in by))):
            *_, count, first_id, newest_id = row
            looked_at += count
            cause = name(row)
            if cause is not None:
                groups.append(_Group(cause, count, UUID(first_id), UUID(newest_id)))
        return _find_grouped(kind, groups, is_all=looked_at <= MAX_COUNTED)

    return find


def _value(newest: Any, column: InstrumentedAttribute[Any]) -> Any:
    """A column of the outcome, or of the receipt's row: looked up for each, as a join might read what lies between."""
    if column.class_ is OutcomeRow:
        return newest.c[column.key]
    return select(column).where(InboxRow.id == newest.c.receipt_id).limit(1).scalar_subquery()


def _grouped(newest: Any, *by: Any) -> Select[Any]:
    """The rows of a range counted by these columns, with the first and the newest id."""
    receipt_id = cast(newest.c.receipt_id, Text)
    columns = [column.label(f"by_{number}") for number, column in enumerate(by)]
    query: Select[Any] = select(*columns, func.count(), func.min(receipt_id), func.max(receipt_id))
    return query.group_by(*(literal_column(f"by_{number}") for number in range(len(by))))


def _cause_of(code: str | None, description: str | None) -> Cause:
    """What makes a receipt unmapped: its code, which a setting can name; else its description."""
    if code:
        return {"code": code}
    return {"description": receipt_references.fold_description(description)} if description else {}


def _cause_of_unmatched(row: Any) -> Cause | None:
    channel, *_ = row
    return {"channel": channel} if channel is not None else None


def _cause_of_quarantine(row: Any) -> Cause | None:
    channel, kid, *_ = row
    if kid is None:
        return {"channel": channel} if channel is not None else None
    return {"kid": kid} if kid else {"unclaimed": "yes"}


def _cause_of_death(row: Any) -> Cause:
    reason, *_ = row
    return {"error": (reason or "for a reason that was not kept").partition(":")[0]}


def _find_grouped(kind: Kind, groups: Sequence[_Group], *, is_all: bool) -> _Found:
    """One problem for each cause."""
    merged: dict[UUID, Seen] = {}
    for group in groups:
        seen = Seen(
            kind=kind,
            cause=group.cause,
            first_at=ids.made_at(group.first_id),
            last_at=ids.made_at(group.newest_id),
            count=_limit(group.size)[0],
            is_all=is_all,
            newest_id=group.newest_id,
            detail=_quote(group),
        )
        merged[seen.id] = _add(merged[seen.id], seen) if seen.id in merged else seen
    return _keep_largest(list(merged.values()), is_all=is_all)


def _quote(group: _Group) -> str | None:
    """What the gateway says, where that is not the cause itself."""
    return f"the gateway says “{group.detail[:_MAX_DETAIL]}”" if group.detail and "code" in group.cause else None


def _keep_largest(seen: Sequence[Seen], *, is_all: bool) -> _Found:
    """The largest ones, and the others as one. Then a problem that is not among them may still be there."""
    ordered = sorted(seen, key=lambda one: (-(one.count or 0), one.id))
    kept, rest = ordered[:_MAX_GROUPS], ordered[_MAX_GROUPS:]
    others: Seen | None = None
    for one in rest:
        other = Seen(
            kind=one.kind,
            cause=OTHERS,
            first_at=one.first_at,
            last_at=one.last_at,
            count=one.count,
            is_all=one.is_all,
            newest_id=one.newest_id,
        )
        others = other if others is None else _add(others, other)
    return [*kept, *([others] if others is not None else [])], is_all and not rest


def _add(one: Seen, other: Seen) -> Seen:
    """Both as one; the detail is that of the larger."""
    larger = one if (one.count or 0) >= (other.count or 0) else other
    newest_ids = [each.newest_id for each in (one, other) if each.newest_id is not None]
    count, is_all = _limit((one.count or 0) + (other.count or 0))
    return Seen(
        kind=one.kind,
        cause=one.cause,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
        detail=larger.detail,
        count=count,
        is_all=is_all and one.is_all and other.is_all,
        newest_id=max(newest_ids, default=None),
    )


def _limit(count: int) -> tuple[int, bool]:
    """How many of these are said to be there, and whether that is all."""
    return min(count, MAX_COUNTED), count <= MAX_COUNTED


_GROUPED: Mapping[Kind, Callable[[Session, ServiceState, datetime], _Found]] = {
    Kind.OVERDUE: _find_overdue,
    Kind.UNMAPPED: _find_unmapped,
    Kind.UNMATCHED: _find_outcomes(Kind.UNMATCHED, ReceiptOutcome.UNMATCHED, [InboxRow.channel], _cause_of_unmatched),
    Kind.QUARANTINED: _find_outcomes(
        Kind.QUARANTINED, ReceiptOutcome.QUARANTINED, [InboxRow.channel, InboxRow.claimed_kid], _cause_of_quarantine
    ),
    Kind.DEAD: _find_outcomes(Kind.DEAD, ReceiptOutcome.DEAD, [OutcomeRow.reason], _cause_of_death),
}
