"""The change feed: which events there are, and that every reader gets each of them once, in the order of commits."""

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import delete, select, text, update

from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import EventRow, Message, Transition
from receiptsvc.store.messages import change_feed, transitions
from receiptsvc.store.messages.change_feed import BEGINNING, Event, FeedPosition, NewReply, NotKept, StatusChange
from tests.support import rows, stories
from tests.support.rows import T0, seconds

Step = tuple[UUID, str | None, str]


def of_many(url: str) -> Iterator[Database]:
    """Databases of processes that share no slot of the counters."""
    for slot in range(8):
        database = Database(url, busy_seconds=60)  # on a busy machine SQLite's one writer's turn may take long to come
        database.slot = slot
        yield database


@pytest.fixture
def three(postgresql_url: str) -> Iterator[tuple[Database, Database, Database]]:
    """The database of three processes."""
    first, second, third, *_ = of_many(postgresql_url)
    yield first, second, third
    for database in (first, second, third):
        database.close()


def entry(word: Status | None, at: datetime = T0, provider_id: str = "1") -> transitions.NewTransition:
    told = Report(source=Source.GATEWAY, status=word, received_at=at, provider_status_id=provider_id)
    return transitions.NewTransition(report=told, rule="its address")


def record(database: Database, message_id: UUID, *entries: transitions.NewTransition) -> None:
    with database.transaction() as session:
        locked = transitions.lock_messages(session, [message_id])
        transitions.record(session, locked, [(message_id, each) for each in entries], T0)


def read(database: Database, after: FeedPosition = BEGINNING, limit: int = 500) -> Sequence[Event]:
    """All events after a position, as a web process reads them."""
    found: list[Event] = []
    while True:
        with database.reading() as session:
            has_unnumbered = change_feed.has_unnumbered(session)
        if has_unnumbered:
            with database.transaction() as session:
                change_feed.number(session)
        with database.reading() as session:
            batch = change_feed.read(session, after, limit)
        found += batch.events
        after = batch.end
        if batch.is_all:
            return found


def steps(found: Sequence[Event]) -> list[Step]:
    return [(one.row.id, one.previous_status, one.status) for one in found if isinstance(one, StatusChange)]


def row_id(database: Database, message_id: UUID) -> int:
    """The id of the feed row of a message's acceptance."""
    with database.reading() as session:
        for identifier, changes in session.execute(select(EventRow.id, EventRow.changes)):
            if message_id.bytes in changes:
                return int(identifier)
    raise AssertionError("there is none")


def test_a_row_with_a_lower_id_that_commits_later_comes_later(
    three: tuple[Database, Database, Database],
) -> None:
    one, other, reader = three
    slow, quick = rows.message(client_ref="slow"), rows.message(client_ref="quick")
    with one.transaction() as session:
        transitions.accept(session, [slow], T0)
        rows.accept(other, quick)
        seen = read(reader)
        assert steps(seen) == [(quick.id, None, "accepted")]
    assert row_id(reader, slow.id) < row_id(reader, quick.id)
    assert steps(read(reader, seen[-1].position)) == [(slow.id, None, "accepted")]
    assert steps(read(reader)) == [(quick.id, None, "accepted"), (slow.id, None, "accepted")]


def test_a_transaction_that_waited_for_a_lock_comes_after_the_holder_of_the_lock(
    three: tuple[Database, Database, Database],
) -> None:
    one, other, reader = three
    [message] = rows.accept(reader)
    with ExitStack() as begun, other.transaction() as between:
        first = begun.enter_context(one.transaction())
        transitions.accept(first, [rows.message(client_ref="first")], T0)  # a low transaction id, and a row
        transitions.accept(between, [rows.message(client_ref="between")], T0)  # another one, open till the end
        record(reader, message, entry(Status.SENT))
        locked = transitions.lock_messages(first, [message])
        transitions.record(first, locked, [(message, entry(Status.DELIVERED, provider_id="2"))], T0)
        begun.close()
        of_it = [step for step in steps(read(reader)) if step[0] == message]
        assert of_it == [
            (message, None, "accepted"),
            (message, "accepted", "sent"),
            (message, "sent", "delivered"),
        ]


def test_two_processes_that_number_at_once_give_no_number_twice(postgresql_database: Database) -> None:
    rows.accept(postgresql_database)
    with postgresql_database.transaction() as session:
        assert change_feed.number(session) == 1
        rows.accept(postgresql_database)
        with postgresql_database.transaction() as other:
            assert change_feed.number(other) == 0, "somebody is at it"
    rows.accept(postgresql_database)
    read(postgresql_database)
    with postgresql_database.reading() as session:
        assert session.scalars(select(EventRow.number).order_by(EventRow.id)).all() == [1, 2, 3]


def test_only_changes_of_a_status_are_events(database: Database) -> None:
    [message] = rows.accept(database)
    accepted = (message, None, "accepted")
    record(database, message, entry(Status.SENT), entry(Status.UNDELIVERED, provider_id="2"))  # both in one commit
    for said in (entry(Status.SENT), entry(Status.SENT, provider_id="3"), entry(None, provider_id="99")):
        record(database, message, said)  # duplicate, stale, unmapped
    record(database, message, entry(Status.REJECTED, provider_id="4"))  # conflicting, and weaker
    record(database, message, entry(Status.DELIVERED, provider_id="5"))  # conflicting, and it wins
    told = [accepted, (message, "accepted", "sent"), (message, "sent", "undelivered")]
    assert steps(read(database)) == [*told, (message, "undelivered", "delivered")]


def test_a_superseded_transition_gives_an_event_with_the_new_status(database: Database) -> None:
    [message] = rows.accept(database)
    record(database, message, entry(Status.SENT))
    record(database, message, entry(Status.DELIVERED, provider_id="2"))
    with database.transaction() as session:
        locked = transitions.lock_messages(session, [message])
        session.execute(update(Transition).where(Transition.status == "delivered").values(superseded_at=seconds(1)))
        transitions.refold(session, locked)
        transitions.record(session, locked, [(message, entry(Status.SENT, provider_id="2"))], T0)
    assert steps(read(database))[-2:] == [(message, "sent", "delivered"), (message, "delivered", "sent")]


def test_an_event_has_its_message_and_its_labels(database: Database) -> None:
    [message] = rows.accept(database, rows.message(client_ref="a", originator="ACME"))
    stories.give_transaction(database, message, "7")
    stories.give_transaction(database, message, "8")
    stories.report(database, message, Status.DELIVERED, seconds(6), occurred_at=seconds(5))
    event = read(database)[-1]
    assert isinstance(event, StatusChange)
    assert (event.row.id, event.row.transaction_id, event.status_at) == (message, "8", seconds(5))
    assert event.labels == {
        ("recipient", "447700900001"),
        ("clientRef", "a"),
        ("originator", "ACME"),
        ("transactionID", "7"),
        ("transactionID", "8"),
        ("status", "delivered"),
    }


def test_a_reply_is_an_event_with_the_labels_of_the_message_it_answers(database: Database) -> None:
    rows.accept(database, rows.message(client_ref="a", originator="ACME"))
    stories.reply(database, "a", seconds(5))
    stories.reply(database, "other", seconds(6), sender="447700900002")
    answer, other = read(database)[1:]
    assert isinstance(answer, NewReply)
    assert (answer.row.sender, answer.row.content) == ("447700900001", "thanks")
    assert answer.labels == {("recipient", "447700900001"), ("clientRef", "a"), ("originator", "ACME")}
    assert other.labels == {("recipient", "447700900002"), ("clientRef", "other")}


@pytest.mark.parametrize("limit", [1, 2, 7, 500])
def test_reading_after_any_position_gives_the_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(change_feed, "_MAX_CHANGES_PER_ROW", 3)
    monkeypatch.setattr(change_feed, "_MAX_ROWS_PER_READ", 2)
    rows.accept(database, *(rows.message() for _ in range(8)))  # rows of 3, 3 and 2
    rows.accept(database)
    every = read(database)
    assert len(every) == 9
    assert [one.position for one in every] == sorted(one.position for one in every)
    assert [str(one.position) for one in every] == sorted(str(one.position) for one in every)
    for index, event in enumerate(every):
        assert change_feed.parse_position(str(event.position)) == event.position
        assert read(database, event.position, limit) == every[index + 1 :]


@pytest.mark.parametrize(
    "word", ["", "1.2", "000000000001.0000", "00000000000a.000", "000000000001.000\n", "٠" * 12 + ".000"]
)
def test_other_texts_are_not_parsed_as_positions(word: str) -> None:
    assert change_feed.parse_position(word) is None


def test_events_of_deleted_messages_are_left_out(database: Database) -> None:
    [gone], [here] = rows.accept(database), rows.accept(database)
    with database.transaction() as session:
        session.execute(text("DELETE FROM transitions"))
        session.execute(delete(Message).where(Message.id == gone))
    assert steps(read(database)) == [(here, None, "accepted")]


def refuses(database: Database, position: FeedPosition) -> bool:
    """Whether a reader can't go on after a position; both ways to ask must agree."""
    with database.reading() as session:
        try:
            change_feed.require_kept(session, position)
        except NotKept:
            with pytest.raises(NotKept):
                change_feed.read(session, position)
            return True
        change_feed.read(session, position)
    return False


def prune(database: Database, before: datetime, limit: int = 1000) -> int:
    with database.transaction() as session:
        return change_feed.prune(session, before, limit)


def numbers(database: Database) -> Sequence[int | None]:
    with database.reading() as session:
        return session.scalars(select(EventRow.number).order_by(EventRow.id)).all()


def test_pruning_leaves_the_newest_old_row_and_refuses_every_position_before_it(database: Database) -> None:
    for age in range(4):
        rows.accept(database, now=seconds(age))
    positions = [BEGINNING, *(one.position for one in read(database))]
    assert prune(database, seconds(3)) == 2
    assert numbers(database) == [3, 4]
    assert [refuses(database, position) for position in positions] == [True, True, True, False, False]
    assert prune(database, seconds(3)) == 0


def test_after_all_was_pruned_numbers_go_on_and_only_who_has_seen_everything_does(database: Database) -> None:
    for age in range(3):
        rows.accept(database, now=seconds(age))
    positions = [BEGINNING, *(one.position for one in read(database))]
    assert prune(database, seconds(9)) == 2
    assert numbers(database) == [3]
    assert [refuses(database, position) for position in positions] == [True, True, True, False]
    [message] = rows.accept(database, now=seconds(10))
    [event] = read(database, positions[-1])
    assert (event.position.number, event.row.id) == (4, message)


def test_a_position_that_never_was_here_is_refused(database: Database) -> None:
    assert not refuses(database, BEGINNING)
    assert refuses(database, FeedPosition(1, 0)), "there are no events"
    rows.accept(database, rows.message(), rows.message())
    read(database)
    assert not refuses(database, BEGINNING)
    assert not refuses(database, FeedPosition(1, 1))
    assert refuses(database, FeedPosition(1, 2)), "its row has two events"
    assert refuses(database, FeedPosition(2, 0)), "of the future"
    assert refuses(database, FeedPosition(0, 1))


def test_pruning_takes_so_many_rows_in_one_transaction(database: Database) -> None:
    for _ in range(6):
        rows.accept(database)
    read(database)
    assert [prune(database, seconds(1), limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert numbers(database) == [6]


def test_a_row_behind_one_that_is_not_old_is_not_pruned(database: Database) -> None:
    for age in (0, 0, 9, 0, 0):  # the clocks of two hosts differ, or a transaction was long
        rows.accept(database, now=seconds(age))
    read(database)
    assert prune(database, seconds(5)) == 1
    assert numbers(database) == [2, 3, 4, 5]


def test_rows_without_a_number_are_not_pruned(postgresql_database: Database) -> None:
    rows.accept(postgresql_database)
    rows.accept(postgresql_database)
    read(postgresql_database)
    rows.accept(postgresql_database)
    assert prune(postgresql_database, seconds(9)) == 1
    assert numbers(postgresql_database) == [2, None]


def test_processes_that_prune_at_once_delete_each_row_once(database_url: str) -> None:
    database, *processes = of_many(database_url)
    for _ in range(20):
        rows.accept(database)
    read(database)

    def prune_all(process: Database) -> int:
        return sum(iter(lambda: prune(process, seconds(1), limit=3), 0))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(prune_all, processes[:4])) == 19
    assert numbers(database) == [20]
    for each in (database, *processes):
        each.close()


def test_the_last_position_is_that_of_the_last_change(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_feed, "_MAX_CHANGES_PER_ROW", 3)
    with database.reading() as session:
        assert change_feed.find_last(session) == BEGINNING
    rows.accept(database, *(rows.message() for _ in range(5)))
    every = read(database)
    with database.reading() as session:
        assert change_feed.find_last(session) == every[-1].position == FeedPosition(2, 1)


def write_at_random(database: Database, chosen_from: Sequence[UUID], seed: int) -> None:
    """Reports about the same few messages, in transactions that stay open for a while."""
    chance = random.Random(seed)
    words = [Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.EXPIRED, Status.REJECTED]
    for serial in range(25):
        chosen = chance.sample(chosen_from, 4)
        said = [(one, entry(chance.choice(words), provider_id=f"{seed}.{serial}.{one}")) for one in chosen]
        with database.transaction() as session:
            if chance.random() < 0.3:  # then its row is there before the locks are
                transitions.accept(session, [rows.message(client_ref=f"{seed}.{serial}")], T0)
            transitions.record(session, transitions.lock_messages(session, chosen), said, T0)
            threading.Event().wait(chance.random() / 50)


def follow_at_random(
    database: Database, seed: int, seen: list[tuple[FeedPosition, Sequence[Event]]], stop: threading.Event
) -> None:
    """Read after positions of all kinds, and collect what was found."""
    chance = random.Random(seed)
    place = BEGINNING
    while not stop.is_set():
        found = read(database, place, limit=chance.choice([1, 5, 500]))
        seen.append((place, found))
        ways = [place, *(one.position for one in found)]
        place = chance.choice([ways[-1], chance.choice(ways), BEGINNING])


@pytest.mark.slow
def test_readers_that_resume_anywhere_see_each_change_once_in_order(database_url: str) -> None:
    """What any reader ever saw after a position is exactly what the final feed has there."""
    database, *processes = of_many(database_url)
    written = rows.accept(database, *(rows.message() for _ in range(12)))
    seen: list[tuple[FeedPosition, Sequence[Event]]] = []
    stop = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        following = [pool.submit(follow_at_random, database, seed, seen, stop) for seed in (1, 2)]
        writing = [pool.submit(write_at_random, processes[seed], written, seed) for seed in (3, 4, 5)]
        wait(writing)
        stop.set()
    for task in (*writing, *following):
        task.result()
    every = read(database)
    at = {one.position: index for index, one in enumerate(every)}
    for place, found in seen:
        begin = at[place] + 1 if place in at else 0
        assert [one.position for one in found] == [one.position for one in every[begin : begin + len(found)]]
    before: dict[UUID, str | None] = {}
    for message_id, previous, status in steps(every):
        assert before.get(message_id) == previous, "an order that contradicts the message's own"
        before[message_id] = status
    with database.reading() as session:
        assert before == {row.id: row.status for row in session.execute(select(Message.id, Message.status))}
    for each in (database, *processes):
        each.close()
