"""Records what is reported about messages: the only module that writes a message's status.

A report becomes a transition, and is joined to what the message's reports add up to (`domain.standing`), from which its
status follows. The rules belong in `domain.statuses`, the choice of the message in `domain.correlation`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Row, Select, Text, delete, func, literal, select, true, tuple_
from sqlalchemy.orm import Session

from receiptsvc.domain import standing
from receiptsvc.domain.correlation import MAX_CANDIDATES, Naming, TransactionLink
from receiptsvc.domain.messages import NewMessage, Origin
from receiptsvc.domain.standing import Standing, join, state_of
from receiptsvc.domain.statuses import UNSETTLED, Effect, Report, Source, Status, digest_of
from receiptsvc.store.core import bulk, topics
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import Message, MessageTransaction, Transition
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.messages import activity, change_feed, hourly_counts
from receiptsvc.store.messages.change_feed import Change


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTransition:
    """A report about a message, not yet recorded."""

    report: Report
    rule: str  # the rule that found the message, or the name of our own step
    reason: str | None = None
    receipt_id: UUID | None = None
    map_version: str | None = None


@dataclass(slots=True)
class LockedMessage:
    """A message that this transaction has locked. The columns in `_SAVED` may be changed; `record` writes them."""

    id: UUID
    recipient: str
    client_ref: str | None
    originator: str | None
    origin: str
    created_at: datetime
    offered_at: datetime | None
    calling_since: datetime | None
    unclear_since: datetime | None
    status: str
    status_at: datetime
    conflict: bool
    transaction_id: str | None
    due_at: datetime | None
    standing: bytes  # what its reports add up to, as `domain.standing` encodes it
    transition_count: int
    saved_values: tuple[Any, ...] = ()  # of `_SAVED`, as they are in the database
    saved_count: int = 0

    def __post_init__(self) -> None:
        self.saved_values, self.saved_count = self.values(), self.transition_count

    def values(self) -> tuple[Any, ...]:
        """The present values of `_SAVED`."""
        return self.id, self.status, self.status_at, self.conflict, self.transaction_id, self.due_at

    @property
    def saved_status(self) -> str:
        """The status in the database, which other transactions see."""
        status: str = self.saved_values[1]
        return status

    def counted(self) -> hourly_counts.CountedMessage:
        """The values by which it is counted."""
        return hourly_counts.CountedMessage(
            self.created_at, self.originator, self.offered_at, self.status, self.status_at, self.recipient
        )


class RecordedReport(NamedTuple):
    """A report of a transition. `overflow`: the digest of its content, if the standing had no room for it."""

    report: Report
    receipt_id: UUID | None
    overflow: bytes | None


_Recorded: TypeAlias = tuple[UUID, NewTransition, Effect, bytes | None]  # message, what, and the digest to keep

_MAX_SCANNED = 10_000  # messages of one clientRef
_FEW_ENDINGS = 8  # of numbers, for each of which the messages of one clientRef may be read again

_LOCKED = tuple(field.name for field in fields(LockedMessage) if not field.name.startswith("saved_"))
_NEW = tuple(field.name for field in fields(NewMessage))
_SAVED = ("id", "status", "status_at", "conflict", "transaction_id", "due_at")
_REPORTED = ("source", "status", "received_at", "occurred_at", "provider_status_id", "provider_description")
_FETCH_ROWS = 1000
_SOURCES: Mapping[str, Source] = {source.value: source for source in Source}
_STATUSES: Mapping[str | None, Status | None] = {None: None, **{status.value: status for status in Status}}


def accept(
    session: Session, messages: Sequence[NewMessage], now: datetime, *, schedules_messages: bool = False
) -> Mapping[str, object]:
    """Insert new messages: each gets its first transition, and is due. Returns the columns that all of them start with.

    `schedules_messages`: whether a message with a deliverAfter is due only then; else the gateway schedules it.
    """
    due = [max(message.deliver_after or now, now) if schedules_messages else now for message in messages]
    step = NewTransition(report=own_report(Status.ACCEPTED, now), rule="accepted")
    topics.mark(session, Topic.MESSAGES)
    return _insert(session, messages, [{"due_at": at} for at in due], step, now)


def accept_external(session: Session, messages: Sequence[NewMessage], now: datetime) -> None:
    """Insert messages that another system gave to the gateway. They are never due."""
    step = NewTransition(report=own_report(Status.SUBMITTED, now), rule="adopted", reason="another system sent it")
    _insert(session, messages, [{"origin": Origin.EXTERNAL, "due_at": None}] * len(messages), step, now)


def _insert(
    session: Session,
    messages: Sequence[NewMessage],
    more: Sequence[Mapping[str, object]],
    step: NewTransition,
    now: datetime,
) -> Mapping[str, object]:
    """Insert messages. `more`: further columns of each."""
    status = step.report.status
    initial = {
        "status": status,
        "status_at": now,
        "conflict": False,
        "created_at": now,
        "changed_at": now,
        "transaction_id": None,
        "tries": 0,
        "standing": standing.encode(standing.join(standing.EMPTY, step.report).standing),
        "transition_count": 1,
    }
    rows = [
        {**initial, **{name: getattr(message, name) for name in _NEW}, **columns}
        for message, columns in zip(messages, more, strict=True)
    ]
    bulk.insert_all(session, Message, rows)
    _insert_transitions(session, [(message.id, step, Effect.APPLIED, None) for message in messages], now)
    change_feed.record(session, [Change(message.id, None, str(status), now) for message in messages], now)
    hour = hourly_counts.hour_of(now)
    hourly_counts.add(
        session,
        Counter(
            hourly_counts.CountKey(hour, hourly_counts.MESSAGES, message.originator or "", str(status))
            for message in messages
        ),
    )
    activity.touch(session, (message.conversation_id for message in messages), now, is_reply=False)
    return initial


def own_report(status: Status, at: datetime) -> Report:
    """A report of our own, not the gateway's."""
    return Report(source=Source.OURSELVES, status=status, received_at=at)


def lock_messages(
    session: Session, message_ids: Collection[UUID], *, takes_lock: bool = True
) -> dict[UUID, LockedMessage]:
    """Messages by id, locked until the caller's commit. Locked in the order of ids, which prevents deadlocks.

    `takes_lock`: False for a caller that writes nothing about them.
    """
    if not message_ids:
        return {}
    query = (
        select(*(getattr(Message, name) for name in _LOCKED))
        .where(bulk.among(session, Message.id, message_ids))
        .order_by(Message.id)
    )
    if takes_lock:
        query = query.with_for_update(key_share=True)  # so that a reply's foreign key need not wait for the lock
    return {row[0]: LockedMessage(*row) for row in session.execute(query)}


def record(
    session: Session,
    locked: Mapping[UUID, LockedMessage],
    entries: Sequence[tuple[UUID, NewTransition]],
    now: datetime,
    calls: Mapping[UUID, Mapping[str, object]] = MappingProxyType({}),
) -> list[Effect]:
    """Record reports about locked messages, in this order, and set each status to the fold of all its reports.

    Returns the effect of each entry, and brings `locked` up to date. A settled message that is in no call is no longer
    due. Also saves what `link_transactions` changed, and `calls`: further columns by message, which a call has changed
    and no reader is shown.
    """
    standings = _read_standings(session, {message_id: locked[message_id] for message_id, _ in entries})
    known = _find_overflowing(session, standings, entries)
    recorded: list[_Recorded] = []
    changes: list[Change] = []
    feed_statuses = {message_id: message.saved_status for message_id, message in locked.items()}
    counts: Counter[hourly_counts.CountKey] = Counter()
    for message_id, entry in entries:
        message, before = locked[message_id], standings[message_id]
        effect, after, overflow = join(before, entry.report, entry.receipt_id, known=known[message_id])
        if overflow is not None:
            known[message_id].add(overflow)
        standings[message_id] = after
        recorded.append((message_id, entry, effect, overflow))
        message.transition_count += 1
        state = state_of(after)
        message.status, message.status_at, message.conflict = state.status, state.status_at, state.conflict
        if state.status != feed_statuses[message_id]:
            changes.append(Change(message_id, feed_statuses[message_id], state.status, state.status_at))
            feed_statuses[message_id] = state.status
        if entry.receipt_id is not None:
            counts[hourly_counts.of_receipt(entry.report.received_at, effect)] += 1
        code = hourly_counts.of_report(entry.report, entry.rule, effect)
        if code is not None:
            counts[code] += 1
    for message_id, after in standings.items():
        locked[message_id].standing = standing.encode(after)
    for message in locked.values():  # also those without an entry
        if message.status not in UNSETTLED and message.calling_since is None:
            message.due_at = None
    _insert_transitions(session, recorded, now)
    change_feed.record(session, changes, now)
    _save(session, locked.values(), calls, counts, now)
    hourly_counts.add(session, counts)
    return [effect for _, _, effect, _ in recorded]


def refold(session: Session, locked: Mapping[UUID, LockedMessage]) -> None:
    """Join the remaining reports of locked messages anew, after some were superseded. `record` saves it."""
    for message_id, reports in stream_reports(session, locked):
        after, message = stand(reports), locked[message_id]
        state = state_of(after)
        message.standing = standing.encode(after)
        message.status, message.status_at, message.conflict = state.status, state.status_at, state.conflict


def _read_standings(session: Session, messages: Mapping[UUID, LockedMessage]) -> dict[UUID, Standing]:
    """What the reports of locked messages add up to; joined anew where that is not kept in a way that can be read."""
    decoded = {message_id: standing.decode(message.standing) for message_id, message in messages.items()}
    unread = [message_id for message_id, found in decoded.items() if found is None]
    again = {message_id: stand(reports) for message_id, reports in stream_reports(session, unread)}
    return {message_id: found or again.get(message_id, standing.EMPTY) for message_id, found in decoded.items()}


def _find_overflowing(
    session: Session, standings: Mapping[UUID, Standing], entries: Sequence[tuple[UUID, NewTransition]]
) -> defaultdict[UUID, set[bytes]]:
    """The digests of those contents that came before, and that standings had no more room for; by message."""
    known: defaultdict[UUID, set[bytes]] = defaultdict(set)
    looked_for = {
        (message_id, digest_of(entry.report)) for message_id, entry in entries if standings[message_id].is_full
    }
    if not looked_for:
        return known
    query = select(Transition.message_id, Transition.content_digest).where(
        bulk.among(session, Transition.message_id, {message_id for message_id, _ in looked_for}),
        bulk.among(session, Transition.content_digest, {digest for _, digest in looked_for}),
        Transition.superseded_at.is_(None),
    )
    for message_id, digest in session.execute(query):
        if digest is not None:
            known[message_id].add(digest)
    return known


def find_transaction_links(session: Session, transaction_ids: Collection[str]) -> Sequence[TransactionLink]:
    """The messages that were ever given one of these transactionIDs."""
    if not transaction_ids:
        return []
    columns = (
        MessageTransaction.transaction_id,
        MessageTransaction.message_id,
        MessageTransaction.recipient,
        MessageTransaction.source,
    )
    query = select(*columns).where(bulk.among(session, MessageTransaction.transaction_id, transaction_ids))
    return [TransactionLink._make(row) for row in session.execute(query)]


def find_candidates(session: Session, pairs: Collection[Naming]) -> dict[Naming, list[UUID]]:
    """The messages with a clientRef whose recipient ends with some digits, for pairs of both.

    Among the newest ten thousand messages of a clientRef, and at most MAX_CANDIDATES for a pair; none without digits.
    """
    pairs = {pair for pair in pairs if pair[1]}
    endings: defaultdict[str, set[str]] = defaultdict(set)
    for client_ref, digits in pairs:
        endings[client_ref].add(digits)
    # Receipts of another system name ever new clientRefs: a query for each took a batch seconds. One that comes with
    # many endings is read once for all of them.
    most = 0 if is_sqlite(session) else _FEW_ENDINGS
    few = [(client_ref, digits) for client_ref, digits in pairs if len(endings[client_ref]) <= most]
    found = _find_by_pairs(session, few)
    for client_ref in sorted(each for each in endings if len(endings[each]) > most):
        newest = _newest_of(literal(client_ref)).subquery()
        query = select(newest.c.id, newest.c.recipient).order_by(newest.c.id.desc())
        if len(endings[client_ref]) == 1:  # on SQLite; of many, each would read all of these messages again
            [digits] = endings[client_ref]
            query = query.where(newest.c.recipient.endswith(digits, autoescape=True)).limit(MAX_CANDIDATES)
        rows = [(message_id, recipient) for message_id, recipient in session.execute(query)]
        for digits, message_id in _choose(rows, endings[client_ref]):
            found[client_ref, digits].append(message_id)
    return found


def _find_by_pairs(session: Session, pairs: Sequence[Naming]) -> defaultdict[Naming, list[UUID]]:
    """The same for all pairs by one query, on PostgreSQL."""
    found: defaultdict[Naming, list[UUID]] = defaultdict(list)
    if not pairs:
        return found
    client_refs, endings = ([pair[place] for pair in pairs] for place in (0, 1))
    given = func.unnest(literal(client_refs, ARRAY(Text)), literal(endings, ARRAY(Text)))
    named = given.table_valued("client_ref", "ending").render_derived(name="named")
    newest = _newest_of(named.c.client_ref).correlate(named).lateral()
    ends_so = func.right(newest.c.recipient, func.length(named.c.ending)) == named.c.ending
    best = select(newest.c.id).where(ends_so).order_by(newest.c.id.desc()).limit(MAX_CANDIDATES)
    fitting = best.correlate(named).lateral()
    query = select(named.c.client_ref, named.c.ending, fitting.c.id).select_from(named.join(fitting, true()))
    for client_ref, digits, message_id in session.execute(query.order_by(fitting.c.id.desc())):
        found[client_ref, digits].append(message_id)
    return found


def _newest_of(client_ref: ColumnElement[str]) -> Select[UUID, str]:
    """The newest messages with a clientRef: a campaign's million messages may share one."""
    query = select(Message.id, Message.recipient).where(Message.client_ref == client_ref)
    return query.order_by(Message.created_at.desc(), Message.id.desc()).limit(_MAX_SCANNED)


def _choose(rows: Sequence[tuple[UUID, str]], endings: Collection[str]) -> Iterator[tuple[str, UUID]]:
    """Each ending with the ids of messages whose recipient has it, at most MAX_CANDIDATES for each."""
    lengths = sorted({len(digits) for digits in endings})
    counts: Counter[str] = Counter()
    for message_id, recipient in rows:
        for digits in (recipient[-length:] for length in lengths):
            if digits in endings and counts[digits] < MAX_CANDIDATES:
                counts[digits] += 1
                yield digits, message_id


def link_transactions(session: Session, links: Sequence[tuple[LockedMessage, str]], source: str, now: datetime) -> None:
    """Store transactionIDs of locked messages. `source`: `answer` (a send's answer gave them) or `receipt`.

    An answer is certain and replaces what a receipt suggested; a receipt never replaces anything.
    """
    rows = {
        (message.id, transaction_id): {
            "message_id": message.id,
            "transaction_id": transaction_id,
            "recipient": message.recipient,
            "source": source,
            "noted_at": now,
        }
        for message, transaction_id in links
    }
    for message, transaction_id in links:
        if source == "answer" or message.transaction_id is None:
            message.transaction_id = transaction_id
    if rows:
        statement = bulk.upsert(session, MessageTransaction)
        keys = ["message_id", "transaction_id"]
        if source == "answer":
            statement = statement.on_conflict_do_update(index_elements=keys, set_={"source": source})
        else:
            statement = statement.on_conflict_do_nothing(index_elements=keys)
        bulk.execute_all(session, statement, MessageTransaction, list(rows.values()))


def unlink_transactions(session: Session, links: Sequence[tuple[LockedMessage, str]]) -> None:
    """Forget transactionIDs of locked messages: the receipts that gave them are about others. `record` saves it."""
    if not links:
        return
    for message, transaction_id in links:
        if message.transaction_id == transaction_id:
            message.transaction_id = None
    keys = tuple_(MessageTransaction.message_id, MessageTransaction.transaction_id)
    ended = keys.in_([(message.id, transaction_id) for message, transaction_id in links])
    session.execute(delete(MessageTransaction).where(ended).execution_options(synchronize_session=False))


def find_transaction_ids(session: Session, message_id: UUID) -> Sequence[str]:
    """Every transactionID that a message was given."""
    query = select(MessageTransaction.transaction_id).where(MessageTransaction.message_id == message_id)
    return session.scalars(query).all()


def find_external(session: Session, message_ids: Collection[UUID]) -> set[UUID]:
    """Those of these messages that another system sent."""
    query = select(Message.id).where(bulk.among(session, Message.id, message_ids), Message.origin == Origin.EXTERNAL)
    return set(session.scalars(query)) if message_ids else set()


def find_reported(session: Session, message_ids: Collection[UUID]) -> set[UUID]:
    """Those of these messages that a receipt is recorded about, and not superseded."""
    query = select(Transition.message_id).where(
        bulk.among(session, Transition.message_id, message_ids),
        Transition.receipt_id.is_not(None),
        Transition.superseded_at.is_(None),
    )
    return set(session.scalars(query.distinct()))


def stream_reports(session: Session, message_ids: Collection[UUID]) -> Iterator[tuple[UUID, Iterator[RecordedReport]]]:
    """The reports about these messages that are not superseded, in the order recorded, one message after another.

    Each message's are to be read before the next message is asked for. Messages without any are left out.
    """
    if not message_ids:
        return
    columns = (Transition.message_id, Transition.receipt_id, Transition.content_digest)
    query = (
        select(*columns, *(getattr(Transition, name) for name in _REPORTED))
        .where(bulk.among(session, Transition.message_id, message_ids), Transition.superseded_at.is_(None))
        .order_by(Transition.message_id, Transition.id)
        .execution_options(yield_per=_FETCH_ROWS)
    )
    for message_id, rows in groupby(session.execute(query), key=itemgetter(0)):
        yield (
            message_id,
            (
                RecordedReport(Report(_SOURCES[source], _STATUSES[status], *rest), receipt_id, overflow)
                for _, receipt_id, overflow, source, status, *rest in rows
            ),
        )


def count(session: Session, message_ids: Collection[UUID]) -> dict[UUID, int]:
    """How many transitions these messages have, superseded ones too."""
    query = select(Transition.message_id, func.count()).group_by(Transition.message_id)
    rows = session.execute(query.where(bulk.among(session, Transition.message_id, message_ids)))
    return {message_id: int(rows_of_message) for message_id, rows_of_message in rows}


def stand(reports: Iterable[RecordedReport]) -> Standing:
    """What all reports of a message add up to. The contents that transitions keep stay with them."""
    after = standing.EMPTY
    for report, receipt_id, overflow in reports:
        after = join(after, report, receipt_id, known=() if overflow is None else (overflow,)).standing
    return after


def report_of(transition: Transition | Row[Any]) -> Report:
    """The report that a transition recorded, or one whose columns were read."""
    return Report(
        source=Source(transition.source),
        status=Status(transition.status) if transition.status else None,
        received_at=transition.received_at,
        occurred_at=transition.occurred_at,
        provider_status_id=transition.provider_status_id,
        provider_description=transition.provider_description,
    )


def _insert_transitions(session: Session, recorded: Sequence[_Recorded], now: datetime) -> None:
    rows = [
        {
            "message_id": message_id,
            "receipt_id": entry.receipt_id,
            "source": entry.report.source,
            "status": entry.report.status,
            "effect": effect,
            "rule": entry.rule,
            "reason": entry.reason,
            "provider_status_id": entry.report.provider_status_id,
            "provider_description": entry.report.provider_description,
            "occurred_at": entry.report.occurred_at,
            "received_at": entry.report.received_at,
            "recorded_at": now,
            "map_version": entry.map_version,
            "content_digest": overflow,
        }
        for message_id, entry, effect, overflow in recorded
    ]
    bulk.insert_all(session, Transition, rows)


def _save(
    session: Session,
    locked: Iterable[LockedMessage],
    calls: Mapping[UUID, Mapping[str, object]],
    counts: Counter[hourly_counts.CountKey],
    now: datetime,
) -> None:
    """Update the locked messages, each once, and add to `counts` what that changes in them.

    A further report alone changes nothing that a reader of lists is shown, nor an index.
    """
    messages = list(locked)
    changed = [message for message in messages if message.values() != message.saved_values]
    joined = [message for message in messages if message.transition_count != message.saved_count]
    rows: dict[UUID, dict[str, object]] = {
        message.id: dict(zip(_SAVED, message.values(), strict=True), changed_at=now) for message in changed
    }
    for message in joined:
        kept = {"standing": message.standing, "transition_count": message.transition_count}
        rows[message.id] = {**rows.get(message.id, {"id": message.id}), **kept}
    for message_id, call in calls.items():
        rows[message_id] = {**rows.get(message_id, {"id": message_id}), **call}
    bulk.update_all(session, Message, "id", rows.values())
    for message in changed:
        _, status, status_at, *_ = message.saved_values
        counts.subtract(hourly_counts.of_message(message.counted()._replace(status=status, status_at=status_at)))
        counts.update(hourly_counts.of_message(message.counted()))
        message.saved_values = message.values()
    for message in joined:
        message.saved_count = message.transition_count
