"""Every change made behind the store's back is a fault; concurrent work is not."""

from collections import Counter
from collections.abc import Callable
from threading import Thread
from uuid import UUID

import pytest
from sqlalchemy import Update, UpdateBase, delete, event, insert, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Reply as Said
from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import (
    ConversationActivity,
    HourlyCount,
    InboxRow,
    Message,
    OutcomeRow,
    Parked,
    PendingRow,
    Reply,
    Transition,
)
from receiptsvc.store.core.models import Counter as Count
from receiptsvc.store.health.verification import Fault, verify
from receiptsvc.store.inbound import replies
from receiptsvc.store.inbox import parking, pending
from receiptsvc.store.inbox.parking import UnmatchedReceipt
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import activity, transitions
from receiptsvc.worker.activity_repair import repair_activity
from tests.support import rows
from tests.support.processes import until
from tests.support.rows import T0, seconds

BESIDES = (
    "count of an hour's",
    "parking of",
    "conversation's",
)  # what most changes put out of order too, and has tests of its own


def claim(session: Session, receipt_id: UUID) -> ClaimedReceipt:
    (row,) = pending.take_one(session, receipt_id)
    return row


def report(database: Database, message_id: UUID, word: Status | None, minutes: int = 1) -> UUID:
    """One receipt about a message, recorded as the worker does it."""
    receipt_id = rows.keep(database, "statusid=1", message_id=message_id)
    said = Report(
        source=Source.GATEWAY,
        status=word,
        received_at=T0,
        occurred_at=seconds(60 * minutes),
        provider_status_id="1",
    )
    with database.transaction() as session:
        row = claim(session, receipt_id)
        entry = transitions.NewTransition(report=said, rule="token", receipt_id=receipt_id)
        (effect,) = transitions.record(
            session, transitions.lock_messages(session, [message_id]), [(message_id, entry)], T0
        )
        pending.settle(session, [row], [(row, ReceiptOutcome(effect.value), None)], T0)
    return receipt_id


def settle(database: Database, channel: Channel, outcome: ReceiptOutcome) -> UUID:
    """One callback without a message."""
    receipt_id = rows.keep(database, "statusid=1", channel=channel)
    with database.transaction() as session:
        row = claim(session, receipt_id)
        pending.settle(session, [row], [(row, outcome, "a reason")], T0)
        if outcome is ReceiptOutcome.UNMATCHED:
            parking.park(session, [UnmatchedReceipt(receipt_id=receipt_id, transaction_id=None, client_ref=None)], T0)
    return receipt_id


def answer(database: Database, content: str) -> UUID:
    """One reply with the msgid 7."""
    receipt_id = rows.keep(database, "msgid=7", channel=Channel.INBOUND)
    said = Said(
        msgid="7", sender="447700900001", recipient="SHOP", content=content, client_ref="order-1", occurred_at=T0
    )
    with database.transaction() as session:
        row = claim(session, receipt_id)
        pending.settle(session, [row], [(row, *replies.record(session, row, said, T0))], T0)
    return receipt_id


class Store:
    """A store with one of everything, and the ids of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.message, self.silent = rows.accept(database, rows.message(client_ref="order-1"), rows.message())
        self.receipts = {
            "applied": report(database, self.message, Status.DELIVERED, 5),
            "duplicate": report(database, self.message, Status.DELIVERED, 5),
            "stale": report(database, self.message, Status.SENT, 1),
            "conflicting": report(database, self.message, Status.EXPIRED, 6),
            "unmapped": report(database, self.message, None, 7),
            "unmatched": settle(database, Channel.ACCOUNT, ReceiptOutcome.UNMATCHED),
            "quarantined": settle(database, Channel.MESSAGE, ReceiptOutcome.QUARANTINED),
            "dead": settle(database, Channel.ACCOUNT, ReceiptOutcome.DEAD),
            "dismissed": settle(database, Channel.ACCOUNT, ReceiptOutcome.DISMISSED),
            "pending": rows.keep(database, "statusid=1", message_id=self.message),
            "reply": answer(database, "yes"),
            "repeated reply": answer(database, "yes"),
            "conflicting reply": answer(database, "no"),
        }

    def outcome_of(self, receipt: str) -> Update:
        return update(OutcomeRow).where(OutcomeRow.receipt_id == self.receipts[receipt])

    def where(self, receipt: str) -> str:
        return ids.public("rcp", self.receipts[receipt])

    def faults(self) -> set[tuple[str, str]]:
        """What and where, of every fault; slices of two rows, so that their seams are walked over."""
        return {(fault.what, fault.where) for fault in self.verified() if not fault.what.startswith(BESIDES)}

    def besides(self) -> set[str]:
        """Of the counts of hours and the parking lot, what is at fault."""
        return {fault.what for fault in self.verified() if fault.what.startswith(BESIDES)}

    def verified(self) -> list[Fault]:
        return list(verify(self.database, slice_size=2))

    def change(self, statement: UpdateBase) -> None:
        """Somebody else's change of one row, with no foreign key in its way."""
        with self.database.connection() as connection:
            if self.database.is_sqlite:
                connection.exec_driver_sql("ROLLBACK")  # the setting counts from the next transaction on
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            assert connection.execute(statement).rowcount in {1, -1}, "nothing was changed"  # -1: an insert
            connection.commit()
            connection.invalidate()  # the next one has its foreign keys on


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def test_a_sound_store_has_no_fault(store: Store) -> None:
    tally: Counter[str] = Counter()
    assert list(verify(store.database, slice_size=3, tally=tally)) == []
    assert tally == {
        "messages": 2,
        "receipts": 13,
        "transitions": 7,
        "replies": 2,
        "conversations": 2,
        "counters": 12,
        "counts of hours": 12,
    }


def test_an_empty_store_has_no_fault(database: Database) -> None:
    assert list(verify(database)) == []


@pytest.mark.parametrize(
    ("column", "value", "what", "expected", "found"),
    [
        ("status", "expired", "message's status", "delivered", "expired"),
        ("conflict", False, "message's conflict", "True", "False"),
        (
            "status_at",
            seconds(3600),
            "message's statusAt",
            "2026-01-05T12:05:00+00:00",
            "2026-01-05T13:00:00+00:00",
        ),
    ],
)
def test_a_message_that_is_not_the_fold_of_its_reports_is_a_fault(
    store: Store, *, column: str, value: object, what: str, expected: str, found: str
) -> None:
    store.change(update(Message).where(Message.id == store.message).values({column: value}))
    fault = Fault(what=what, where=ids.public("msg", store.message), expected=expected, found=found)
    assert [one for one in verify(store.database) if not one.what.startswith(BESIDES)] == [fault]


@pytest.mark.parametrize(
    ("column", "value", "is_ours", "found"),
    [
        ("last_from_recipient", True, True, "12:00:00+00:00, the last word theirs"),
        ("last_at", seconds(3600), False, "to 2026-01-05T13:00:00+00:00"),
        ("first_at", seconds(-3600), True, "2026-01-05T11:00:00+00:00 to"),
        ("messages", 2, True, "2 messages, 0 replies"),
        ("replies", 0, False, "1 messages, 0 replies"),
    ],
)
def test_a_wrong_activity_row_is_a_fault_and_is_repaired(
    store: Store, *, column: str, value: object, is_ours: bool, found: str
) -> None:
    ours = rows.message()
    both = rows.message(client_ref="order-1")  # both spoke at the same time: the last word is either's
    conversation = (ours if is_ours else both).conversation_id
    store.change(update(ConversationActivity).where(ConversationActivity.id == conversation).values({column: value}))
    (fault,) = store.verified()
    assert (fault.what, fault.where) == ("conversation's activity", ids.public("cnv", conversation))
    assert found in fault.found
    assert list(repair_activity(store.database)) == [conversation]
    assert len(store.verified()) == 1
    assert list(repair_activity(store.database, is_applied=True)) == [conversation]
    assert store.verified() == []


def test_a_missing_activity_row_is_a_fault_and_is_repaired(store: Store) -> None:
    """The previous release leaves such conversations: it runs for a moment after the migration."""
    [later] = rows.accept(store.database, rows.message(client_ref="order-1"), now=seconds(60))
    store.change(delete(ConversationActivity).where(ConversationActivity.id == rows.message().conversation_id))
    store.change(
        delete(ConversationActivity).where(
            ConversationActivity.id == rows.message(client_ref="order-1").conversation_id
        )
    )
    faults = store.verified()
    assert {fault.what for fault in faults} == {"conversation's activity"}
    assert len({fault.where for fault in faults}) == 2
    list(repair_activity(store.database, is_applied=True))
    assert store.verified() == []
    with store.database.reading() as session:
        row = session.get_one(ConversationActivity, session.get_one(Message, later).conversation_id)
        assert (row.first_at, row.last_at, row.last_from_recipient) == (T0, seconds(60), False)


@pytest.mark.parametrize("is_missing", [False, True])
def test_activity_during_a_repair_is_not_lost(postgresql_database: Database, *, is_missing: bool) -> None:
    rows.accept(postgresql_database, rows.message())
    conversation = rows.message().conversation_id
    if is_missing:
        with postgresql_database.transaction() as session:
            session.execute(delete(ConversationActivity))
    with postgresql_database.transaction() as session:
        activity.repair(session, [conversation])
        made = rows.message()
        speaker = Thread(target=lambda: rows.accept(postgresql_database, made, now=seconds(60)))
        speaker.start()
        until("the speaker waits for the row", lambda: waiting(postgresql_database))
    speaker.join(timeout=10)
    assert list(verify(postgresql_database)) == []


def waiting(database: Database) -> bool:
    """Whether a transaction waits for a lock."""
    with database.connection() as connection:
        return bool(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar())


def test_a_wrong_hourly_count_is_a_fault(store: Store) -> None:
    for kind, word in (("messages", "delivered"), ("messages", "accepted"), ("receipts", "duplicate")):
        row = update(HourlyCount).where(HourlyCount.kind == kind, HourlyCount.label == word)
        store.change(row.values(value=HourlyCount.value + 1))
        (fault,) = store.verified()
        where = f"2026-01-05T12:00:00+00:00 {word}"
        assert (fault.what, fault.where, fault.expected, fault.found) == (f"count of an hour's {kind}", where, "1", "2")
        store.change(row.values(value=HourlyCount.value - 1))


def test_a_deleted_message_or_transition_is_a_fault_of_its_hour_and_conversation(store: Store) -> None:
    store.change(delete(Message).where(Message.id == store.silent))
    missed = {"count of an hour's messages", "conversation's activity"}
    assert store.besides() == missed
    store.change(delete(Transition).where(Transition.receipt_id == store.receipts["stale"]))
    assert store.besides() == missed | {"count of an hour's receipts", "count of an hour's codes"}


def test_only_unmatched_receipts_may_be_parked(store: Store) -> None:
    store.change(store.outcome_of("unmatched").values(outcome="dead"))
    assert store.besides() == {"parking of a receipt that is dead"}
    store.change(store.outcome_of("unmatched").values(outcome="unmatched"))
    store.change(delete(Parked))
    assert store.besides() == {"parking of a receipt that is unmatched"}


def test_a_superseded_transition_does_not_count(store: Store) -> None:
    of_receipt = Transition.receipt_id == store.receipts["conflicting"]
    store.change(update(Transition).where(of_receipt).values(superseded_at=T0))
    assert store.faults() == {
        ("outcome of a receipt", store.where("conflicting")),
        ("counter", "conflicting"),
        ("message's conflict", ids.public("msg", store.message)),
        ("message's standing", ids.public("msg", store.message)),
    }


def test_a_deleted_transition_is_a_fault_of_its_receipt_and_its_message(store: Store) -> None:
    store.change(delete(Transition).where(Transition.receipt_id == store.receipts["conflicting"]))
    assert store.faults() == {
        ("outcome of a receipt", store.where("conflicting")),
        ("counter", "conflicting"),
        ("message's conflict", ids.public("msg", store.message)),
        ("message's standing", ids.public("msg", store.message)),
        ("message's number of transitions", ids.public("msg", store.message)),
    }


def test_a_message_without_transitions_is_a_fault(store: Store) -> None:
    store.change(delete(Transition).where(Transition.message_id == store.silent))
    assert store.faults() == {("message's transitions", ids.public("msg", store.silent))}


def test_a_deleted_message_is_a_fault_of_its_transition(store: Store) -> None:
    store.change(delete(Message).where(Message.id == store.silent))
    assert store.faults() == {("message of a transition", ids.public("msg", store.silent))}


def test_a_deleted_receipt_is_a_fault_of_its_transition_and_the_counters(store: Store) -> None:
    store.change(delete(InboxRow).where(InboxRow.id == store.receipts["stale"]))
    assert store.faults() == {
        ("receipt of a transition", ids.public("msg", store.message)),
        ("counter", "received"),
        ("counter", "callbacks"),
    }


def test_a_deleted_receipt_without_references_is_a_fault_of_the_counters(store: Store) -> None:
    for receipt in ("quarantined", "dead", "dismissed", "pending"):
        before = store.faults()
        store.change(delete(InboxRow).where(InboxRow.id == store.receipts[receipt]))
        kind = "pending receipts" if receipt == "pending" else "outcomes"
        missing = {(f"receipt of {kind}", store.where(receipt)), ("counter", "received"), ("counter", "callbacks")}
        assert store.faults() == before | missing


def test_what_is_said_of_a_receipt_that_is_not_kept_is_a_fault(store: Store) -> None:
    store.change(delete(InboxRow).where(InboxRow.id == store.receipts["unmatched"]))
    assert store.faults() == {
        ("receipt of outcomes", store.where("unmatched")),
        ("receipt of parked receipts", store.where("unmatched")),
        ("counter", "received"),
        ("counter", "callbacks"),
    }


@pytest.mark.parametrize(
    ("receipt", "model"), [("pending", PendingRow), ("dead", OutcomeRow), ("applied", Transition)], ids=str
)
def test_a_receipt_that_stands_nowhere_is_a_fault(
    store: Store, receipt: str, model: type[PendingRow | OutcomeRow | Transition]
) -> None:
    """It was kept and would never be worked on, nor shown."""
    store.change(delete(model).where(model.receipt_id == store.receipts[receipt]))
    assert {("outcome of a receipt", store.where(receipt)), ("counter", receipt)} <= store.faults()


def test_a_deleted_receipt_is_a_fault_of_its_reply(store: Store) -> None:
    store.change(delete(InboxRow).where(InboxRow.id == store.receipts["reply"]))
    assert {what for what, _ in store.faults()} == {"receipt of a reply", "receipt of outcomes", "counter"}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [("reply", "applied"), ("conflicting reply", "conflicting")],
    ids=["applied", "conflicting"],
)
def test_a_deleted_reply_is_a_fault_of_its_callback(store: Store, reply: str, outcome: str) -> None:
    store.change(delete(Reply).where(Reply.receipt_id == store.receipts[reply]))
    assert store.faults() == {(f"reply of a callback that is {outcome}", store.where(reply))}


FLIPS = [
    ("dead", "dead", "stale", "transition of a receipt"),
    ("reply", "applied", "conflicting", "reply of a callback"),
    ("reply", "applied", "quarantined", "reply of a callback"),
    ("repeated reply", "duplicate", "applied", "reply of a callback"),
    ("conflicting reply", "conflicting", "duplicate", "reply of a callback"),
]


def test_an_outcome_that_contradicts_the_records_is_a_fault(store: Store) -> None:
    for receipt, before, after, what in FLIPS:
        store.change(store.outcome_of(receipt).values(outcome=after))
        assert store.faults() == {
            (f"{what} that is {after}", store.where(receipt)),
            ("counter", before),
            ("counter", after),
        }
        store.change(store.outcome_of(receipt).values(outcome=before))


@pytest.mark.parametrize(
    ("receipt", "after"),
    [
        ("applied", "duplicate"),
        ("applied", "dismissed"),
        ("duplicate", "unmatched"),
        ("conflicting", "applied"),
        ("unmapped", "quarantined"),
    ],
)
def test_a_recorded_receipt_with_an_outcome_besides_is_a_fault(store: Store, receipt: str, after: str) -> None:
    receipt_id = store.receipts[receipt]
    store.change(insert(OutcomeRow).values(receipt_id=receipt_id, outcome=after, processed_at=T0))
    expected = {("outcome of a receipt", store.where(receipt)), ("counter", receipt), ("counter", after)}
    assert store.faults() == expected


@pytest.mark.parametrize("receipt", ["stale", "dead"])
def test_a_receipt_that_is_pending_besides_is_a_fault(store: Store, receipt: str) -> None:
    store.change(insert(PendingRow).values(receipt_id=store.receipts[receipt]))
    assert store.faults() == {("outcome of a receipt", store.where(receipt)), ("counter", "pending")}


def test_an_unmapped_receipt_may_be_dismissed(store: Store) -> None:
    receipt_id = store.receipts["unmapped"]
    store.change(insert(OutcomeRow).values(receipt_id=receipt_id, outcome="dismissed", processed_at=T0))
    assert store.faults() == {("counter", "unmapped"), ("counter", "dismissed")}


def test_a_message_that_would_wait_for_ever_is_named(database: Database) -> None:
    (message_id,) = rows.accept(database)
    with database.transaction() as session:
        session.execute(update(Message).values(suspicion=1))
    fault = Fault(
        what="account that a message waits for",
        where=ids.public("msg", message_id),
        expected="kept",
        found="missing",
    )
    assert list(verify(database)) == [fault]


def test_a_wrong_counter_is_a_fault(store: Store) -> None:
    for name in ("received", "callbacks", *(outcome.value for outcome in ReceiptOutcome)):
        row = update(Count).where(Count.name == name)
        store.change(row.values(value=Count.value + 1))
        assert store.faults() == {("counter", name)}
        store.change(row.values(value=Count.value - 1))


def test_a_receipt_recorded_during_the_check_is_no_fault(store: Store) -> None:
    meanwhile: list[Callable[[], UUID]] = [lambda: report(store.database, store.silent, Status.DELIVERED)]

    def intervene(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT messages.id") and meanwhile:
            meanwhile.pop()()

    with store.database.connection() as connection:
        engine = connection.engine
    event.listen(engine, "after_cursor_execute", intervene)
    assert list(verify(store.database)) == []
    assert not meanwhile, "nothing happened in between"
