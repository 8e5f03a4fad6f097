"""The proof of the store: what was derived is derived again from what was kept, and every difference is named.

It only reads. Each slice comes from one snapshot, so that work going on meanwhile never looks like a fault. Mending
what it finds is not done here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.statuses import Effect, fold
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import (
    ConversationActivity,
    InboxRow,
    Message,
    Parked,
    Reply,
    SendingAccount,
    Transition,
)
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import activity, hourly_counts, transitions
from receiptsvc.store.messages.activity import Activity
from receiptsvc.store.outbound import accounts

_EFFECTS = frozenset(effect.value for effect in Effect)
_REPLY_KEPT = frozenset({ReceiptOutcome.APPLIED, ReceiptOutcome.CONFLICTING})  # a duplicate's reply is there already


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing in the store that is not as it must be. Nothing in it is personal."""

    what: str  # which rule is broken
    where: str  # the public id of the row, or the counter's name
    expected: str
    found: str


_COUNTED = (Message.created_at, Message.originator, Message.offered_at)
_AT_ONCE = 1000

_Rows = Sequence[Row[*tuple[Any, ...]]]


def verify(database: Database, *, slice_size: int = 1000, tally: Counter[str] | None = None) -> Iterator[Fault]:
    """Every fault of the store, in no order that matters. `tally` is told how much of each kind was looked at."""
    tally = Counter() if tally is None else tally
    slices = _Slices(database, slice_size, tally)
    hours: Counter[hourly_counts.CountKey] = Counter()
    yield from slices.check(
        "messages",
        select(Message.id, Message.conversation_id, Message.status, Message.status_at, Message.conflict, *_COUNTED),
        Message.id,
        partial(_check_messages, hours),
    )
    yield from _Slices(database, slice_size, Counter()).check(  # these were counted above
        "messages",
        select(Message.id, SendingAccount.name)
        .outerjoin(SendingAccount, SendingAccount.name == accounts.of_message)
        .where(accounts.waits),
        Message.id,
        _check_waiting,
    )
    yield from slices.check(
        "receipts",
        select(
            InboxRow.id,
            InboxRow.channel,
            InboxRow.outcome,
            Transition.effect,
            Reply.is_conflicting,
            Parked.receipt_id,
        )
        .outerjoin(Transition, (Transition.receipt_id == InboxRow.id) & Transition.superseded_at.is_(None))
        .outerjoin(Reply, Reply.receipt_id == InboxRow.id)
        .outerjoin(Parked, Parked.receipt_id == InboxRow.id),
        InboxRow.id,
        _check_receipts,
    )
    yield from slices.check(
        "transitions",
        select(
            Transition.id,
            Transition.message_id,
            Transition.receipt_id,
            Message.id,
            InboxRow.id,
            Transition.received_at,
            Transition.effect,
            Transition.superseded_at,
        )
        .outerjoin(Message, Message.id == Transition.message_id)
        .outerjoin(InboxRow, InboxRow.id == Transition.receipt_id),
        Transition.id,
        partial(_check_transitions, hours),
    )
    yield from slices.check(
        "replies",
        select(Reply.id, Reply.conversation_id, Reply.receipt_id, InboxRow.id).outerjoin(
            InboxRow, InboxRow.id == Reply.receipt_id
        ),
        Reply.id,
        _check_replies,
    )
    yield from slices.check(
        "conversations", select(ConversationActivity.id), ConversationActivity.id, _check_conversations
    )
    with database.reading() as session:
        counted, rows, callbacks = (
            counters.read(session),
            counters.count_rows(session),
            counters.count_callbacks(session),
        )
    tally["counters"] += len(ReceiptOutcome) + 2
    yield from _check_counters(counted, rows, callbacks)
    yield from _check_hours(database, hours, tally)


@dataclass(frozen=True, slots=True)
class _Slices:
    """Walks a table by its key, a slice and a snapshot at a time, so that no transaction is long."""

    database: Database
    size: int
    tally: Counter[str]

    def check(
        self,
        kind: str,
        query: Select[*tuple[Any, ...]],
        key: InstrumentedAttribute[Any],
        find: Callable[[Session, _Rows], list[Fault]],
    ) -> Iterator[Fault]:
        """The faults that `find` sees in each slice of `query`, whose first column is `key`."""
        query = query.order_by(key).limit(self.size)
        page = query
        while True:
            with self.database.reading() as session:
                rows = session.execute(page).all()
                faults = find(session, rows) if rows else []
            self.tally[kind] += len(rows)
            yield from faults
            if len(rows) < self.size:
                return
            page = query.where(key > rows[-1][0])


def _check_messages(hours: Counter[hourly_counts.CountKey], session: Session, rows: _Rows) -> list[Fault]:
    """A message's status, statusAt and conflict are what its transitions add up to."""
    told = transitions.find_reports(session, [row[0] for row in rows])
    faults = _unnoted(session, rows)
    for message_id, _, status, status_at, conflict, created_at, originator, offered_at in rows:
        where = ids.public("msg", message_id)
        hours.update(
            hourly_counts.of_message(
                hourly_counts.CountedMessage(created_at, originator, offered_at, status, status_at)
            )
        )
        reports = told[message_id]
        if all(report.status is None for report in reports):
            found = f"{len(reports)} without a word"
            faults.append(Fault(what="message's transitions", where=where, expected="one with a word", found=found))
            continue
        state = fold(reports)
        faults += [
            Fault(what=f"message's {name}", where=where, expected=expected, found=found)
            for name, expected, found in (
                ("status", state.status.value, status),
                ("statusAt", state.status_at.isoformat(), status_at.isoformat()),
                ("conflict", str(state.conflict), str(conflict)),
            )
            if expected != found
        ]
    return faults


def _check_waiting(_session: Session, rows: _Rows) -> list[Fault]:
    """The account of a message that waits for what is found of it is remembered: else it would wait for ever."""
    return [
        Fault(
            what="account that a message waits for",
            where=ids.public("msg", message_id),
            expected="kept",
            found="missing",
        )
        for message_id, account in rows
        if account is None
    ]


def _check_receipts(_session: Session, rows: _Rows) -> list[Fault]:
    """A receipt's outcome is its transition's effect, and a reply is there once if it was taken in."""
    faults: list[Fault] = []
    for receipt_id, channel, word, effect, is_conflicting, parked in rows:
        outcome = ReceiptOutcome(word)
        where = ids.public("rcp", receipt_id)
        transition, reply = _traces(outcome, is_reply=channel == Channel.INBOUND)
        # An operator may dismiss what no word was known for; its transition stays.
        if effect != transition and (outcome, effect) != (ReceiptOutcome.DISMISSED, Effect.UNMAPPED):
            faults.append(
                Fault(
                    what=f"transition of a receipt that is {outcome}",
                    where=where,
                    expected=transition or "none",
                    found=effect or "none",
                )
            )
        is_parked, may_be_parked = parked is not None, outcome in {ReceiptOutcome.UNMATCHED, ReceiptOutcome.PENDING}
        if is_parked > may_be_parked or (outcome is ReceiptOutcome.UNMATCHED and not is_parked):
            what = f"parking of a receipt that is {outcome}"
            faults.append(Fault(what=what, where=where, expected=_yes(may_be_parked), found=_yes(is_parked)))
        found = None if is_conflicting is None else _reply_word(is_conflicting=is_conflicting)
        if found != reply:
            what = f"reply of a callback that is {outcome}"
            faults.append(Fault(what=what, where=where, expected=reply or "none", found=found or "none"))
    return faults


def _traces(outcome: ReceiptOutcome, *, is_reply: bool) -> tuple[str | None, str | None]:
    """What a callback of this outcome has left: the effect of its transition, and what its reply is."""
    if not is_reply:
        return (outcome.value if outcome.value in _EFFECTS else None), None
    if outcome in _REPLY_KEPT:
        return None, _reply_word(is_conflicting=outcome is ReceiptOutcome.CONFLICTING)
    return None, None


def _reply_word(*, is_conflicting: bool) -> str:
    return "a conflicting one" if is_conflicting else "one"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _check_transitions(hours: Counter[hourly_counts.CountKey], _session: Session, rows: _Rows) -> list[Fault]:
    """A transition's message, and the receipt that it names, are there."""
    faults: list[Fault] = []
    for _, message_id, receipt_id, message, receipt, received_at, effect, superseded_at in rows:
        where = ids.public("msg", message_id)
        if receipt_id is not None and superseded_at is None:
            hours[hourly_counts.of_receipt(received_at, Effect(effect))] += 1
        if message is None:
            faults.append(Fault(what="message of a transition", where=where, expected="kept", found="missing"))
        if receipt_id is not None and receipt is None:
            expected = f"{ids.public('rcp', receipt_id)} kept"
            faults.append(Fault(what="receipt of a transition", where=where, expected=expected, found="missing"))
    return faults


def _check_replies(session: Session, rows: _Rows) -> list[Fault]:
    """The callback that brought a reply is there."""
    return _unnoted(session, rows) + [
        Fault(
            what="receipt of a reply",
            where=ids.public("rpl", reply_id),
            expected=f"{ids.public('rcp', receipt_id)} kept",
            found="missing",
        )
        for reply_id, _, receipt_id, receipt in rows
        if receipt is None
    ]


def _unnoted(session: Session, rows: _Rows) -> list[Fault]:
    """What was said is noted of its conversation, which stands second in these rows."""
    return [
        Fault(what="conversation's activity", where=ids.public("cnv", one), expected="noted", found="missing")
        for one in sorted(activity.find_missing(session, [row[1] for row in rows]))
    ]


def _check_conversations(session: Session, rows: _Rows) -> list[Fault]:
    """What is noted of a conversation is what its messages and replies say."""
    return [
        Fault(
            what="conversation's activity",
            where=ids.public("cnv", one.id),
            expected=_told(one.true),
            found=_told(one.noted),
        )
        for one in activity.find_differences(session, [row[0] for row in rows])
    ]


def _told(activity: Activity | None) -> str:
    if activity is None:
        return "none"
    last = {True: "theirs", False: "ours", None: "either"}[activity.last_from_recipient]
    return f"{activity.first_at.isoformat()} to {activity.last_at.isoformat()}, the last word {last}"


def _check_counters(counted: counters.Ledger, rows: dict[ReceiptOutcome, int], callbacks: int) -> list[Fault]:
    """The counters say what the rows say."""
    pairs = [(outcome.value, rows.get(outcome, 0), counted.outcomes[outcome]) for outcome in ReceiptOutcome]
    pairs += [
        (counters.RECEIVED, sum(rows.values()), counted.received),
        (counters.CALLBACKS, callbacks, counted.callbacks),
    ]
    return [
        Fault(what="counter", where=name, expected=str(expected), found=str(found))
        for name, expected, found in pairs
        if expected != found
    ]


def _check_hours(database: Database, counted: Counter[hourly_counts.CountKey], tally: Counter[str]) -> Iterator[Fault]:
    """Every count of an hour is what the rows add up to. One that seems not to be is looked at again, in one snapshot.

    The rows were walked in many snapshots, between which the work went on.
    """
    with database.reading() as session:
        kept = hourly_counts.read(session)
    tally["counts of hours"] += len(counted.keys() | kept.keys())
    hours = {key.hour for key in counted.keys() | kept.keys() if counted[key] != kept[key]}
    for hour in sorted(hours):
        with database.reading() as session:
            rows, kept = _count_hour(session, hour), hourly_counts.read(session, hour)
        for key in sorted(rows.keys() | kept.keys()):
            if rows[key] != kept[key]:
                yield Fault(
                    what=f"count of an hour's {key.kind}",
                    where=f"{key.hour.isoformat()} {key.label}",
                    expected=str(rows[key]),
                    found=str(kept[key]),
                )


def _count_hour(session: Session, hour: datetime) -> Counter[hourly_counts.CountKey]:
    """What the rows of an hour add up to."""
    counted: Counter[hourly_counts.CountKey] = Counter()
    following = hour + timedelta(hours=1)
    columns = (*_COUNTED, Message.status, Message.status_at)
    of_hour = select(*columns).where(Message.created_at >= hour, Message.created_at < following)
    for row in session.execute(of_hour.execution_options(yield_per=_AT_ONCE)):
        counted.update(hourly_counts.of_message(hourly_counts.CountedMessage._make(row)))
    effects = (
        select(Transition.effect, func.count())
        .where(
            Transition.received_at >= hour,
            Transition.received_at < following,
            Transition.receipt_id.is_not(None),
            Transition.superseded_at.is_(None),
        )
        .group_by(Transition.effect)
    )
    for effect, count in session.execute(effects):
        counted[hourly_counts.of_receipt(hour, Effect(effect))] += count
    return counted
