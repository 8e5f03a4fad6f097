"""What the API reads: filters, pages, summaries, and the order of a timeline."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import event

from receiptsvc import ids
from receiptsvc.domain import conversations
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Reply, Transition
from receiptsvc.store.queries import listing, lookup, timeline
from receiptsvc.store.queries.listing import ListCursor, MessageFilter
from tests.support import rows, stories
from tests.support.rows import seconds


def listed(database: Database, where: MessageFilter) -> list[UUID]:
    with database.reading() as session:
        return [row.id for row in listing.list_messages(session, where, limit=100).items]


def told(database: Database, conversation_id: UUID, limit: int = 100) -> list[tuple[float, str]]:
    """The whole timeline, page by page: seconds since T0, and what."""
    entries: list[timeline.TimelineRow] = []
    after: timeline.TimelineCursor | None = None
    while True:
        with database.reading() as session:
            page = timeline.read(session, conversation_id, limit=limit, after=after)
        assert len(page.items) <= limit
        entries += page.items
        after = page.next
        if after is None:
            return [((entry.at - rows.T0).total_seconds(), _what(entry)) for entry in entries]


def _what(entry: timeline.TimelineRow) -> str:
    match entry.row:
        case Message():
            return "message"
        case Transition():
            return str(entry.row.status)
        case Reply():
            return "reply"


def test_each_filter_finds_its_messages_and_all_must_fit(database: Database) -> None:
    [old] = rows.accept(database, rows.message(client_ref="a", originator="ACME"), now=seconds(0))
    [new] = rows.accept(database, rows.message("447700900002", client_ref="a"), now=seconds(10))
    stories.report(database, new, Status.DELIVERED, seconds(11))
    assert listed(database, MessageFilter()) == [new, old]
    assert listed(database, MessageFilter(client_ref="a")) == [new, old]
    assert listed(database, MessageFilter(client_ref="A")) == []
    assert listed(database, MessageFilter(recipient="447700900002")) == [new]
    assert listed(database, MessageFilter(originator="ACME")) == [old]
    assert listed(database, MessageFilter(statuses=["delivered"])) == [new]
    assert listed(database, MessageFilter(since=seconds(10))) == [new]
    assert listed(database, MessageFilter(until=seconds(10))) == [old]
    assert listed(database, MessageFilter(client_ref="a", recipient="447700900002", statuses=["accepted"])) == []


def test_a_message_is_found_by_every_transaction_id_it_was_given(database: Database) -> None:
    [message] = rows.accept(database)
    rows.accept(database)
    stories.give_transaction(database, message, "7")
    stories.give_transaction(database, message, "8")
    assert listed(database, MessageFilter(transaction_id="7")) == [message]
    assert listed(database, MessageFilter(transaction_id="8")) == [message]
    assert listed(database, MessageFilter(transaction_id="9")) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_pages_hold_each_message_once_even_when_new_ones_come_between(database: Database, limit: int) -> None:
    made = [rows.accept(database)[0] for _ in range(5)]
    seen: list[UUID] = []
    after: ListCursor | None = None
    while True:
        with database.reading() as session:
            page = listing.list_messages(session, MessageFilter(), limit=limit, after=after)
        seen += [row.id for row in page.items]
        rows.accept(database)
        after = page.next
        if after is None:
            break
    assert seen == made[::-1]


def test_a_transaction_counts_its_messages_by_status(database: Database) -> None:
    first, second = rows.accept(database, rows.message(), rows.message("447700900002"))
    stories.give_transaction(database, first, "42")
    stories.give_transaction(database, second, "42")
    stories.report(database, first, Status.DELIVERED, seconds(1))
    stories.report(database, first, Status.UNDELIVERED, seconds(2))
    with database.reading() as session:
        found = lookup.find_transaction(session, "42")
        assert lookup.find_transaction(session, "43") is None
    assert found is not None
    assert found.summary == lookup.Summary(messages=2, statuses={"accepted": 1, "delivered": 1}, conflicts=1)
    assert [story.row.id for story in found.messages] == [first, second]
    assert [len(story.transitions) for story in found.messages] == [3, 1]


def test_details_are_read_in_a_fixed_number_of_queries(database: Database) -> None:
    for number in range(20):
        [message] = rows.accept(database, rows.message(f"4477009000{number:02}"))
        stories.give_transaction(database, message, "42")
    statements: list[str] = []
    with database.reading() as session:
        event.listen(session.connection(), "before_cursor_execute", lambda *call: statements.append(call[2]))
        lookup.find_transaction(session, "42")
    assert len(statements) == 4


def test_a_conversation_has_a_summary_and_its_parties(database: Database) -> None:
    first, _ = rows.accept(
        database, rows.message("447700900002", client_ref="a"), rows.message("447700900001", client_ref="a")
    )
    conversation = conversations.conversation_id(client_ref="a", recipient=None, originator=None)
    stories.report(database, first, Status.EXPIRED, seconds(1))
    stories.reply(database, "a", seconds(2), sender="447700900001")
    stories.reply(database, "a", seconds(3), sender="447700900003")
    with database.reading() as session:
        found = lookup.find_conversation(session, conversation)
    assert found is not None
    assert found.client_ref == "a"
    assert [(party.number[-1], party.messages, party.replies) for party in found.parties] == [
        ("1", 1, 1), ("2", 1, 0), ("3", 0, 1),
    ]  # fmt: skip
    assert found.summary == lookup.Summary(messages=2, statuses={"accepted": 1, "expired": 1}, conflicts=0, replies=2)


def test_a_conversation_may_consist_of_replies_alone(database: Database) -> None:
    conversation = conversations.conversation_id(client_ref="elsewhere", recipient=None, originator=None)
    with database.reading() as session:
        assert not lookup.has_conversation(session, conversation)
        assert lookup.find_conversation(session, conversation) is None
    stories.reply(database, "elsewhere", seconds(1))
    with database.reading() as session:
        assert lookup.has_conversation(session, conversation)
        found = lookup.find_conversation(session, conversation)
    assert found is not None
    assert (found.client_ref, found.summary.messages, found.summary.replies) == ("elsewhere", 0, 1)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_timeline_is_in_the_order_of_time_and_pages_lose_nothing(database: Database, limit: int) -> None:
    message = rows.message(client_ref="a")
    other = rows.message("447700900002", client_ref="a")
    rows.accept(database, message)
    rows.accept(database, other, now=seconds(20))
    rows.accept(database, rows.message(client_ref="b"))
    conversation = message.conversation_id
    stories.report(database, message.id, Status.DELIVERED, seconds(6), occurred_at=seconds(5))
    stories.report(database, message.id, Status.SENT, seconds(8), occurred_at=seconds(3))
    stories.report(database, other.id, Status.UNDELIVERED, seconds(25))
    stories.reply(database, "a", seconds(30), occurred_at=seconds(7))
    stories.reply(database, "a", seconds(25))
    assert told(database, conversation, limit) == [
        (0, "message"),
        (0, "accepted"),
        (3, "sent"),
        (5, "delivered"),
        (7, "reply"),
        (20, "message"),
        (20, "accepted"),
        (25, "undelivered"),
        (25, "reply"),
    ]


@pytest.mark.parametrize("limit", [1, 100])
def test_no_transition_comes_before_its_message(database: Database, limit: int) -> None:
    message = rows.message()
    rows.accept(database, message)
    stories.report(database, message.id, Status.SENT, seconds(2), occurred_at=seconds(0) - timedelta(hours=1))
    stories.report(database, message.id, Status.DELIVERED, seconds(3), occurred_at=seconds(0) - timedelta(hours=2))
    assert told(database, message.conversation_id, limit) == [
        (0, "message"),
        (0, "accepted"),
        (0, "sent"),
        (0, "delivered"),
    ]


def test_messages_with_the_same_time_page_without_loss(database: Database) -> None:
    made = [rows.message(f"4477009000{number:02}", client_ref="a") for number in range(9)]
    rows.accept(database, *made)
    with database.reading() as session:
        first = timeline.read(session, made[0].conversation_id, limit=4)
        assert first.next is not None
        second = timeline.read(session, made[0].conversation_id, limit=100, after=first.next)
    seen = [entry.row.id for entry in [*first.items, *second.items] if isinstance(entry.row, Message)]
    assert seen == [message.id for message in made]
    assert len(first.items) + len(second.items) == 18


def test_a_transition_in_a_timeline_names_its_messages_recipient(database: Database) -> None:
    message = rows.message("447700900005")
    rows.accept(database, message)
    with database.reading() as session:
        page = timeline.read(session, message.conversation_id, limit=10)
    assert [entry.to for entry in page.items] == [None, "447700900005"]


def test_only_known_guids_are_found(database: Database) -> None:
    [message] = rows.accept(database, rows.message(message_guid="guid-1"))
    with database.reading() as session:
        assert lookup.find_by_guid(session, ["guid-1", "guid-2"]) == {"guid-1": message}
        assert lookup.find_by_guid(session, []) == {}
        assert lookup.find_message(session, ids.new()) is None
