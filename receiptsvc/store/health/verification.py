"""Verifies the store: everything derived is derived again from what was kept, and every difference is a fault.

It only reads. Each slice comes from one snapshot, so that concurrent work never looks like a fault. Repairs belong in
`worker.reprocess` and `worker.activity_repair`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import standing
from receiptsvc.domain.inbox import RECORDED, Channel, ReceiptOutcome
from receiptsvc.domain.standing import Standing
from receiptsvc.domain.statuses import Effect, Report, Source, State, Status, fold
from receiptsvc.store.core import slices
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import (
    ConversationActivity,
    InboxRow,
    Message,
    OutcomeRow,
    Parked,
    PendingRow,
    ReceiptReferences,
    Reply,
    SendingAccount,
    Transition,
)
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import activity, hourly_counts, transitions
from receiptsvc.store.messages.activity import Activity
from receiptsvc.store.messages.transitions import RecordedReport
from receiptsvc.store.outbound import accounts

_REPLY_KEPT = frozenset({ReceiptOutcome.APPLIED, ReceiptOutcome.CONFLICTING})  # a duplicate adds no reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A broken rule of the store. It holds no personal data."""

    what: str  # which rule is broken
    where: str  # the public id of the row, or the counter's name
    expected: str
    found: str


_CHECKED = ("id", "conversation_id", "status", "status_at", "conflict", "standing", "transition_count")
_COUNTED = (Message.created_at, Message.originator, Message.offered_at)
_REPORTED = ("source", "status", "received_at", "occurred_at", "provider_status_id", "provider_description", "rule")
_FETCH_ROWS = 1000

_Rows = Sequence[Row[*tuple[Any, ...]]]


def verify(database: Database, *, slice_size: int = 1000, tally: Counter[str] | None = None) -> Iterator[Fault]:
    """Every fault of the store, in no particular order. `tally` counts what was checked, by kind."""
    tally = Counter() if tally is None else tally
    checker = _SliceChecker(database, slice_size, tally)
    uncounted = _SliceChecker(database, slice_size, Counter())  # for what is a part of something else that is counted
    hours = _HourSums()
    yield from checker.check(
        "messages",
        select(*(getattr(Message, name) for name in _CHECKED), *_COUNTED, Message.recipient),
        partial(_check_messages, hours),
    )
    yield from uncounted.check(
        "messages",
        select(Message.id, SendingAccount.name)
        .outerjoin(SendingAccount, SendingAccount.name == accounts.of_message)
        .where(accounts.waits),
        _check_waiting,
    )
    yield from checker.check(
        "receipts",
        select(
            InboxRow.id,
            InboxRow.channel,
            PendingRow.receipt_id,
            OutcomeRow.outcome,
            Transition.effect,
            Reply.is_conflicting,
            Parked.receipt_id,
        )
        .outerjoin(PendingRow, PendingRow.receipt_id == InboxRow.id)
        .outerjoin(OutcomeRow, OutcomeRow.receipt_id == InboxRow.id)
        .outerjoin(Transition, (Transition.receipt_id == InboxRow.id) & Transition.superseded_at.is_(None))
        .outerjoin(Reply, Reply.receipt_id == InboxRow.id)
        .outerjoin(Parked, Parked.receipt_id == InboxRow.id),
        _check_receipts,
    )
    for kind, model in (
        ("pending receipts", PendingRow),
        ("outcomes", OutcomeRow),
        ("parked receipts", Parked),
        ("references", ReceiptReferences),
    ):
        kept = select(model.receipt_id, InboxRow.id).outerjoin(InboxRow, InboxRow.id == model.receipt_id)
        yield from uncounted.check(kind, kept, partial(_check_kept, kind))
    yield from checker.check(
        "transitions",
        select(
            Transition.id,
            Transition.message_id,
            Transition.receipt_id,
            Message.id,
            InboxRow.id,
            Transition.effect,
            Transition.superseded_at,
            *(getattr(Transition, name) for name in _REPORTED),
        )
        .outerjoin(Message, Message.id == Transition.message_id)
        .outerjoin(InboxRow, InboxRow.id == Transition.receipt_id),
        partial(_check_transitions, hours),
    )
    yield from checker.check(
        "replies",
        select(Reply.id, Reply.conversation_id, Reply.receipt_id, InboxRow.id).outerjoin(
            InboxRow, InboxRow.id == Reply.receipt_id
        ),
        _check_replies,
    )
    yield from checker.check("conversations", select(ConversationActivity.id), _check_conversations)
    with database.reading() as session:
        ledger, rows, received = counters.read(session), counters.count_rows(session), counters.count_received(session)
    tally["counters"] += len(ReceiptOutcome) + 2
    yield from _check_counters(ledger, rows, *received)
    yield from _check_hours(database, hours, tally)


@dataclass(frozen=True, slots=True)
class _SliceChecker:
    """Checks a table in the order of its key, one snapshot for each slice, so that no transaction is long."""

    database: Database
    size: int
    tally: Counter[str]

    def check(
        self, kind: str, query: Select[*tuple[Any, ...]], find: Callable[[Session, _Rows], list[Fault]]
    ) -> Iterator[Fault]:
        """The faults that `find` returns for each slice of `query`, whose first column is its key."""

        def step(session: Session, after: Any) -> Page[Fault, Any]:
            page = slices.read(session, query, limit=self.size, after=after)
            self.tally[kind] += len(page.items)
            return Page(items=find(session, page.items) if page.items else [], next=page.next)

        for page in slices.walk(self.database.reading, step):
            yield from page.items


def _fault_of(kind: str, row_id: UUID, what: str, *, expected: str = "kept", found: str = "missing") -> Fault:
    """A fault of a row. Its id is written here, since nearly every row has none."""
    return Fault(what=what, where=ids.public(kind, row_id), expected=expected, found=found)


def _check_messages(hours: "_HourSums", session: Session, rows: _Rows) -> list[Fault]:
    """A message's status, statusAt and conflict are the fold of its transitions."""
    faults = _check_activity_exists(session, rows)
    message_ids = [row[0] for row in rows]
    folded = {message_id: _fold(reports) for message_id, reports in transitions.stream_reports(session, message_ids)}
    counted = transitions.count(session, message_ids)
    for message_id, _, status, status_at, conflict, kept, count, created_at, originator, offered_at, recipient in rows:
        counted_by = (created_at, originator, offered_at, status, status_at, recipient)
        hours.add(hourly_counts.of_message(hourly_counts.CountedMessage._make(counted_by)))
        state, reports_standing = folded.get(message_id, (None, None))
        if state is None:
            faults.append(
                _fault_of("msg", message_id, "message's transitions", expected="one with a word", found="none")
            )
            continue
        faults += [
            _fault_of("msg", message_id, f"message's {name}", expected=expected, found=found)
            for name, expected, found in (
                ("status", state.status.value, status),
                ("statusAt", state.status_at.isoformat(), status_at.isoformat()),
                ("conflict", str(state.conflict), str(conflict)),
                ("standing", *_compare(reports_standing, standing.decode(kept))),
                ("number of transitions", str(counted.get(message_id, 0)), str(count)),
            )
            if expected != found
        ]
    return faults


def _fold(recorded: Iterator[RecordedReport]) -> tuple[State | None, Standing]:
    """A message's state by the definition, and what its reports add up to."""
    kept = list(recorded)
    reports = [report for report, *_ in kept]
    return fold(reports) if any(report.status for report in reports) else None, transitions.stand(kept)


def _compare(expected: Standing | None, found: Standing | None) -> tuple[str, str]:
    """What two standings differ in; receipts that say the same word may stand for each other."""
    names = [] if expected is None or found is None else standing.find_differences(expected, found)
    return ("kept", "kept") if found is not None and not names else ("kept", f"other {', '.join(names) or 'bytes'}")


def _check_waiting(_session: Session, rows: _Rows) -> list[Fault]:
    """The account of a message that waits for what is found of it is remembered: else it would wait for ever."""
    return [
        _fault_of("msg", message_id, "account that a message waits for")
        for message_id, account in rows
        if account is None
    ]


def _check_receipts(_session: Session, rows: _Rows) -> list[Fault]:
    """A receipt stands at one place, where its transition and its reply say; a recorded reply exists once."""
    faults: list[Fault] = []
    for receipt_id, channel, waiting, written, effect, is_conflicting, parked in rows:
        is_reply = channel == Channel.INBOUND
        stands = [ReceiptOutcome.PENDING] * (waiting is not None)
        if written is not None:
            stands.append(ReceiptOutcome(written))
        # An operator may dismiss an unmapped receipt; its transition stays.
        if effect is not None and (stands, effect) != ([ReceiptOutcome.DISMISSED], Effect.UNMAPPED):
            stands.append(ReceiptOutcome(effect))
        if len(stands) != 1:
            found = " and ".join(stands) or "none"
            faults.append(_fault_of("rcp", receipt_id, "outcome of a receipt", expected="one", found=found))
            continue
        [outcome] = stands
        if effect is None and not is_reply and outcome in RECORDED:
            what = f"transition of a receipt that is {outcome}"
            faults.append(_fault_of("rcp", receipt_id, what, expected=outcome.value, found="none"))
        is_parked, may_be_parked = parked is not None, outcome in {ReceiptOutcome.UNMATCHED, ReceiptOutcome.PENDING}
        if is_parked > may_be_parked or (outcome is ReceiptOutcome.UNMATCHED and not is_parked):
            what = f"parking of a receipt that is {outcome}"
            faults.append(
                _fault_of("rcp", receipt_id, what, expected=_yes_or_no(may_be_parked), found=_yes_or_no(is_parked))
            )
        reply = _expected_reply(outcome) if is_reply else None
        left = None if is_conflicting is None else _describe_reply(is_conflicting=is_conflicting)
        if left != reply:
            what = f"reply of a callback that is {outcome}"
            faults.append(_fault_of("rcp", receipt_id, what, expected=reply or "none", found=left or "none"))
    return faults


def _check_kept(kind: str, _session: Session, rows: _Rows) -> list[Fault]:
    """What is said of a receipt is said of one that is kept."""
    return [_fault_of("rcp", receipt_id, f"receipt of {kind}") for receipt_id, kept in rows if kept is None]


def _expected_reply(outcome: ReceiptOutcome) -> str | None:
    """The description of the reply that a row of this outcome must have left."""
    return _describe_reply(is_conflicting=outcome is ReceiptOutcome.CONFLICTING) if outcome in _REPLY_KEPT else None


def _describe_reply(*, is_conflicting: bool) -> str:
    return "a conflicting one" if is_conflicting else "one"


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _check_transitions(hours: "_HourSums", _session: Session, rows: _Rows) -> list[Fault]:
    """The message of a transition exists, and its receipt."""
    faults: list[Fault] = []
    for _, message_id, receipt_id, message, receipt, effect, superseded_at, *reported in rows:
        if superseded_at is None:
            hours.add(_counts_of(effect, *reported, is_receipt=receipt_id is not None))
        if message is None:
            faults.append(_fault_of("msg", message_id, "message of a transition"))
        if receipt_id is not None and receipt is None:
            expected = f"{ids.public('rcp', receipt_id)} kept"
            faults.append(_fault_of("msg", message_id, "receipt of a transition", expected=expected))
    return faults


def _counts_of(
    effect: str, source: str, status: str | None, received_at: datetime, *said: Any, is_receipt: bool
) -> list[hourly_counts.CountKey]:
    """The counts that a report is part of. `said`: its time, status id and description; and its rule."""
    *content, rule = said
    report = Report(Source(source), Status(status) if status else None, received_at, *content)
    code = hourly_counts.of_report(report, rule, Effect(effect))
    receipts = [hourly_counts.of_receipt(received_at, Effect(effect))] if is_receipt else []
    return receipts if code is None else [*receipts, code]


def _check_replies(session: Session, rows: _Rows) -> list[Fault]:
    """The callback that brought a reply exists."""
    return _check_activity_exists(session, rows) + [
        _fault_of("rpl", reply_id, "receipt of a reply", expected=f"{ids.public('rcp', receipt_id)} kept")
        for reply_id, _, receipt_id, receipt in rows
        if receipt is None
    ]


def _check_activity_exists(session: Session, rows: _Rows) -> list[Fault]:
    """The conversation of each row, which is its second column, has an activity row."""
    return [
        _fault_of("cnv", each, "conversation's activity", expected="noted")
        for each in sorted(activity.find_missing(session, [row[1] for row in rows]))
    ]


def _check_conversations(session: Session, rows: _Rows) -> list[Fault]:
    """A conversation's activity row is what its messages and replies add up to."""
    return [
        _fault_of(
            "cnv",
            each.id,
            "conversation's activity",
            expected=_describe_activity(each.actual),
            found=_describe_activity(each.stored),
        )
        for each in activity.find_differences(session, [row[0] for row in rows])
    ]


def _describe_activity(activity: Activity | None) -> str:
    if activity is None:
        return "none"
    last = {True: "theirs", False: "ours", None: "either"}[activity.last_from_recipient]
    times = f"{activity.first_at.isoformat()} to {activity.last_at.isoformat()}"
    return f"{activity.messages} messages, {activity.replies} replies, {times}, the last word {last}"


def _check_counters(
    ledger: counters.Ledger, rows: dict[ReceiptOutcome, int], received: int, callbacks: int
) -> list[Fault]:
    """The counters agree with the rows."""
    pairs = [(outcome.value, rows.get(outcome, 0), ledger.outcomes[outcome]) for outcome in ReceiptOutcome]
    pairs += [
        (counters.RECEIVED, received, ledger.received),
        (counters.CALLBACKS, callbacks, ledger.callbacks),
    ]
    return [
        Fault(what="counter", where=name, expected=str(expected), found=str(found))
        for name, expected, found in pairs
        if expected != found
    ]


class _HourSums(dict[tuple[datetime, bool], int]):
    """One number for all counts of an hour; equal numbers are of equal counts.

    The counts themselves would be as many as hours, countries and codes make together. Each adds the hash of its key as
    often as it counts; the hash is another one in each process, so that different counts give one number about once in
    2⁶⁴ times. Breakdowns have a number of their own, as they may have been counted for a part of an hour only.
    """

    def add(self, keys: Iterable[hourly_counts.CountKey], value: int = 1) -> None:
        """Add to each of these counts."""
        for key in keys:
            part = key.hour, key.kind in hourly_counts.BREAKDOWNS
            self[part] = (self.get(part, 0) + value * hash(key)) % 2**64


def _check_hours(database: Database, counted: _HourSums, tally: Counter[str]) -> Iterator[Fault]:
    """Every hourly count is what the rows add up to. An hour that differs is counted again, in one snapshot.

    `counted` comes from many snapshots, between which the counts may have changed.
    """
    kept = _HourSums()
    with database.reading() as session:
        since = hourly_counts.counted_since(session)
        for key, value in hourly_counts.stream(session):
            kept.add([key], value)
            tally["counts of hours"] += 1

    def is_whole(hour: datetime, is_broken_down: bool) -> bool:
        return since is None or hour >= since or not is_broken_down

    parts = {part for part in counted.keys() | kept.keys() if counted.get(part, 0) != kept.get(part, 0)}
    for hour in sorted({hour for hour, is_broken_down in parts if is_whole(hour, is_broken_down)}):
        with database.reading() as session:
            rows, stored = _count_hour(session, hour), Counter(dict(hourly_counts.stream(session, hour)))
        for key in sorted(rows.keys() | stored.keys()):
            if rows[key] != stored[key] and is_whole(hour, key.kind in hourly_counts.BREAKDOWNS):
                yield Fault(
                    what=f"count of an hour's {key.kind}",
                    where=f"{key.hour.isoformat()} {key.label}",
                    expected=str(rows[key]),
                    found=str(stored[key]),
                )


def _count_hour(session: Session, hour: datetime) -> Counter[hourly_counts.CountKey]:
    """The counts of an hour by its rows."""
    counted: Counter[hourly_counts.CountKey] = Counter()
    following = hour + timedelta(hours=1)
    columns = (*_COUNTED, Message.status, Message.status_at, Message.recipient)
    of_hour = select(*columns).where(Message.created_at >= hour, Message.created_at < following)
    for row in session.execute(of_hour.execution_options(yield_per=_FETCH_ROWS)):
        counted.update(hourly_counts.of_message(hourly_counts.CountedMessage._make(row)))
    is_receipt = Transition.receipt_id.is_not(None)
    reported = [Transition.effect, *(getattr(Transition, name) for name in _REPORTED)]
    reports = select(is_receipt, *reported).where(
        Transition.received_at >= hour, Transition.received_at < following, Transition.superseded_at.is_(None)
    )
    for has_receipt, effect, *said in session.execute(reports.execution_options(yield_per=_FETCH_ROWS)):
        counted.update(_counts_of(effect, *said, is_receipt=has_receipt))
    return counted
