"""Lists of messages, conversations, replies and contacts: what they find, in which order, and how pages go on."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from receiptsvc.domain import conversations
from receiptsvc.domain.correlation import LINK_ALONE, LINK_BY_LAST_MESSAGE
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Reply as Said
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import keyset
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Reply, Transition
from receiptsvc.store.inbound import replies
from receiptsvc.store.inbox import pending, receipts
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.store.queries import contacts, listing, lookup, timeline
from receiptsvc.store.queries.contacts import ReplyFilter, TimeCursor
from receiptsvc.store.queries.listing import ListCursor, MessageFilter, Order
from tests.support import rows, stories
from tests.support.rows import seconds

ALICE, BOB = "447700900001", "447700900002"


def listed(database: Database, where: MessageFilter, limit: int = 2) -> list[UUID]:
    """All that a filter finds, page by page."""
    found: list[UUID] = []
    after: ListCursor | None = None
    while True:
        with database.reading() as session:
            page = listing.list_messages(session, where, limit=limit, after=after)
        assert len(page.items) <= limit
        found += [row.id for row in page.items]
        after = page.next
        if after is None:
            return found


def answer(
    database: Database,
    sender: str,
    at: float,
    *,
    client_ref: str | None = None,
    to: str | None = "60030",
    within: timedelta = replies.WINDOW,
    content: str = "Yes",
) -> None:
    """A reply that says no more than the gateway does."""
    receipt_id = rows.keep(database, "content=Yes", channel=Channel.INBOUND, now=seconds(at))
    said = Said(msgid=None, sender=sender, recipient=to, content=content, client_ref=client_ref, occurred_at=None)
    with database.transaction() as session:
        (row,) = pending.take_one(session, receipt_id)
        rules = replies.ReplyRules(window=within, opt_out_words=frozenset({"stop"}), opt_in_words=frozenset({"start"}))
        verdict = (row, *replies.record(session, row, said, seconds(at), rules))
        pending.settle(session, [row], [verdict], seconds(at))


def answers(database: Database, where: ReplyFilter, limit: int = 2) -> list[Reply]:
    found: list[Reply] = []
    after: TimeCursor | None = None
    while True:
        with database.reading() as session:
            page = contacts.list_replies(session, where, limit=limit, after=after)
        found += page.items
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize("prefix", ["order/", "order/1", "o", "order/12"])
def test_a_prefix_finds_all_client_refs_that_begin_with_it_by_code_points(database: Database, prefix: str) -> None:
    refs = ["order/1", "order/12", "order/2", "Order/1", "order0", "order/\U0010ffff", "orde", "p", None]
    made = rows.accept(database, *(rows.message(client_ref=ref) for ref in refs))
    wanted = sorted((ref, found) for ref, found in zip(refs, made, strict=True) if ref and ref.startswith(prefix))
    assert listed(database, MessageFilter(client_ref_prefix=prefix)) == [found for _, found in wanted]


def test_a_prefix_may_end_in_the_last_code_point(database: Database) -> None:
    [made] = rows.accept(database, rows.message(client_ref="a\U0010ffff\U0010ffffb"))
    rows.accept(database, rows.message(client_ref="b"))
    assert listed(database, MessageFilter(client_ref_prefix="a\U0010ffff")) == [made]
    assert listed(database, MessageFilter(client_ref_prefix="\ud7ff")) == []


@pytest.mark.parametrize(("ends", "found"), [("0001", 2), ("900001", 1), ("447700900001", 1), ("9999", 0)])
def test_the_last_digits_of_a_number_find_it(database: Database, ends: str, found: int) -> None:
    rows.accept(database, rows.message(ALICE), rows.message("447700910001"), rows.message(BOB))
    assert len(listed(database, MessageFilter(recipient_ends=ends))) == found


def test_a_guid_finds_its_message_if_the_other_filters_fit(database: Database) -> None:
    [made] = rows.accept(database, rows.message(message_guid="g"))
    stories.give_transaction(database, made, "7")
    assert listed(database, MessageFilter(message_guid="g", transaction_id="7")) == [made]
    assert listed(database, MessageFilter(message_guid="g", transaction_id="8")) == []
    assert listed(database, MessageFilter(message_guid="g", statuses=["failed"])) == []


def test_changed_messages_are_listed_by_time_of_change(database: Database) -> None:
    first, second, third = rows.accept(database, *(rows.message() for _ in range(3)))
    stories.report(database, second, Status.SENT, seconds(10), occurred_at=seconds(-99))
    stories.report(database, first, Status.SENT, seconds(20))
    stories.report(database, second, Status.SENT, seconds(30))  # stale: nothing of the message changes
    assert listed(database, MessageFilter(order=Order.CHANGED)) == [third, second, first]
    assert listed(database, MessageFilter(changed_since=seconds(10))) == [second, first]
    assert listed(database, MessageFilter(changed_since=seconds(20), statuses=["delivered"])) == []
    stories.give_transaction(database, third, "7")
    assert rows.read_message(database, third).changed_at == rows.T0


def test_a_list_by_change_shows_messages_again_that_change_meanwhile(database: Database) -> None:
    made = rows.accept(database, *(rows.message() for _ in range(4)))
    with database.reading() as session:
        page = listing.list_messages(session, MessageFilter(order=Order.CHANGED), limit=2)
    stories.report(database, made[0], Status.SENT, seconds(5))
    stories.report(database, made[2], Status.SENT, seconds(6))
    with database.reading() as session:
        rest = listing.list_messages(session, MessageFilter(order=Order.CHANGED), limit=9, after=page.next)
    assert [row.id for row in page.items] == made[:2]
    assert [row.id for row in rest.items] == [made[3], made[0], made[2]]


def test_a_page_that_scanned_enough_rows_ends_early_and_the_next_goes_on(database: Database) -> None:
    wanted = [*rows.accept(database, rows.message(originator="RARE"))]
    rows.accept(
        database, *(rows.message(BOB, originator="RARE") for _ in range(keyset.MAX_PAGES_SCANNED))
    )  # else it is looked for there
    rows.accept(database, *(rows.message() for _ in range(2 * keyset.MAX_PAGES_SCANNED)), now=seconds(1))
    where = MessageFilter(recipient=ALICE, originator="RARE")
    with database.reading() as session:
        page = listing.list_messages(session, where, limit=1)
    assert page.items == []
    assert page.next is not None
    assert listed(database, where, limit=1) == wanted


def test_a_cursor_of_one_order_is_refused_in_another(database: Database) -> None:
    with database.reading() as session, pytest.raises(ValueError, match="order"):
        listing.list_messages(session, MessageFilter(), limit=1, after=ListCursor(Order.CHANGED, ()))


def test_a_status_that_changes_between_pages_loses_and_repeats_no_message(database: Database) -> None:
    made = [*rows.accept(database, *(rows.message(originator="ACME") for _ in range(4)))]
    with database.reading() as session:
        page = listing.list_messages(session, MessageFilter(originator="ACME"), limit=2)
    for one in made:
        stories.report(database, one, Status.DELIVERED, seconds(9))
    with database.reading() as session:
        rest = listing.list_messages(session, MessageFilter(originator="ACME"), limit=9, after=page.next)
    assert [row.id for row in [*page.items, *rest.items]] == made[::-1]


def test_client_refs_are_looked_up_with_the_newest_messages_of_each(database: Database) -> None:
    many = [rows.message(client_ref="many") for _ in range(listing.MAX_PER_TERM + 5)]
    rows.accept(database, *many, rows.message(client_ref='o"ne,'))
    with database.reading() as session:
        found = listing.find_by_client_ref(session, ["many", 'o"ne,', "none"])
        assert listing.find_by_client_ref(session, []) == {}
    assert set(found) == {"many", 'o"ne,'}
    assert [row.id for row in found["many"]] == [one.id for one in many[:3:-1]]


def list_conversations(database: Database, limit: int = 2) -> list[tuple[str | None, bool, dict[str, int] | None]]:
    """Each by its clientRef or its party, whether a reply came last, and its statuses."""
    found: list[lookup.ConversationOverview] = []
    after: tuple[object, ...] | None = None
    while True:
        with database.reading() as session:
            page = lookup.list_conversations(session, limit=limit, after=after)
        found += page.items
        after = page.next
        if after is None:
            return [
                (
                    glimpse.client_ref,
                    glimpse.last_from_recipient,
                    dict(glimpse.statuses) if glimpse.statuses is not None else None,
                )
                for glimpse in found
            ]


def test_conversations_are_listed_by_last_activity(database: Database) -> None:
    rows.accept(database, rows.message(client_ref="a"), rows.message(BOB, client_ref="a"))
    [second] = rows.accept(database, rows.message(client_ref="b"), now=seconds(10))
    rows.accept(database, *(rows.message(client_ref="c") for _ in range(11)), now=seconds(20))
    stories.report(database, second, Status.DELIVERED, seconds(99))
    assert list_conversations(database) == [
        ("c", False, None),
        ("b", False, {"delivered": 1}),
        ("a", False, {"accepted": 2}),
    ]
    answer(database, ALICE, 30, client_ref="a")
    answer(database, BOB, 40, client_ref="theirs")
    answer(database, ALICE, 5, client_ref="c")  # came late: what was said later stands
    assert [(ref, last_from_recipient) for ref, last_from_recipient, _ in list_conversations(database)] == [
        ("theirs", True), ("a", True), ("c", False), ("b", False),
    ]  # fmt: skip
    rows.accept(database, rows.message(client_ref="theirs"), now=seconds(50))
    assert list_conversations(database)[0] == ("theirs", False, {"accepted": 1})
    with database.reading() as session:
        counted = lookup.list_conversations(session, limit=9).items
    assert {each.client_ref: (each.messages, each.replies) for each in counted} == {
        "theirs": (1, 1), "a": (2, 1), "c": (11, 1), "b": (1, 0),
    }  # fmt: skip


def test_a_conversation_has_its_activity(database: Database) -> None:
    message = rows.message(client_ref="a")
    rows.accept(database, message, now=seconds(5))
    answer(database, ALICE, 9, client_ref="a")
    answer(database, ALICE, 1, client_ref="a")
    with database.reading() as session:
        found = lookup.find_conversation(session, message.conversation_id)
    assert found is not None
    assert found.activity is not None
    assert (found.activity.first_at, found.activity.last_at, found.activity.last_from_recipient) == (
        seconds(1),
        seconds(9),
        True,
    )


def test_a_large_conversation_goes_message_by_message_and_is_counted_in_part(database: Database) -> None:
    count = lookup.LARGE + 1
    made = [rows.message(f"4477009{number:05}", client_ref="a") for number in range(count)]
    rows.accept(database, *made[:-1])
    rows.accept(database, made[-1], now=seconds(60))
    stories.report(database, made[0].id, Status.DELIVERED, seconds(90))
    answer(database, ALICE, 30, client_ref="a")
    with database.reading() as session:
        found = lookup.find_conversation(session, made[0].conversation_id)
    assert found is not None
    assert found.is_large
    assert found.summary == lookup.Summary(
        messages=count, statuses={"accepted": 50, "delivered": 1}, conflicts=0, replies=1, is_bounded=True
    )
    entries: list[timeline.TimelineRow] = []
    after: timeline.TimelineCursor | None = None
    while True:
        with database.reading() as session:  # it goes on as it began
            page = timeline.read(session, found.id, limit=7, after=after, is_large=after is None)
        entries += page.items
        after = page.next
        if after is None:
            break
    kinds: Sequence[type] = [type(entry.row) for entry in entries]
    assert kinds[:5] == [Message, Transition, Transition, Message, Transition]
    assert kinds[-3:] == [Reply, Message, Transition]
    assert (entries[2].at, entries[2].to) == (seconds(90), made[0].recipient)
    told = [entry.row.id for entry in entries if isinstance(entry.row, Message)]
    assert told == [one.id for one in made]
    assert len(entries) == 2 * count + 2


def test_a_timeline_goes_on_behind_transitions_of_any_number(database: Database) -> None:
    message = rows.message(client_ref="a")
    rows.accept(database, message)
    stories.report(database, message.id, Status.SENT, seconds(1))
    stories.report(database, message.id, Status.DELIVERED, seconds(1))
    with database.transaction() as session:
        session.execute(update(Transition).values(id=Transition.id + 2**40))
    told: list[type] = []
    after: timeline.TimelineCursor | None = None
    while not told or after is not None:
        with database.reading() as session:
            page = timeline.read(session, message.conversation_id, limit=1, after=after)
        told += [type(entry.row) for entry in page.items]
        after = page.next
    assert told == [Message, Transition, Transition, Transition]


def test_a_large_conversation_that_changes_while_it_is_read_has_each_entry_once(database: Database) -> None:
    made = [rows.message(f"44770090{place:04}", client_ref="a") for place in range(30)]
    rows.accept(database, *made[:20])  # at one time, as a request's are
    rows.accept(database, *made[20:], now=seconds(10))
    answer(database, ALICE, 5, client_ref="a")
    told: list[tuple[type, object]] = []
    after: timeline.TimelineCursor | None = None
    words = (Status.SENT, Status.DELIVERED)
    for place in range(100):
        with database.reading() as session:
            page = timeline.read(session, made[0].conversation_id, limit=5, after=after, is_large=after is None)
        told += [(type(entry.row), entry.row.id) for entry in page.items]
        after = page.next
        if after is None:
            break
        # Some behind the cursor and some before it change their status, and so the stretch that they are read from.
        for one in {made[place % 30].id, made[-1 - place % 30].id}:
            stories.report(database, one, words[place // 30], seconds(20 + place))
    assert len(told) == len(set(told))
    assert sorted(str(one) for kind, one in told if kind is Message) == sorted(str(one.id) for one in made)
    with database.reading() as session:
        first = set(session.scalars(select(Transition.id).where(Transition.rule == "accepted")))
    assert first <= {one for kind, one in told if kind is Transition}
    assert sum(kind is Reply for kind, _ in told) == 1


def test_replies_are_filtered_by_sender_recipient_and_client_ref(database: Database) -> None:
    rows.accept(database, rows.message(ALICE, client_ref="a"))
    answer(database, "+447700900001", 1, to="+60030")
    answer(database, BOB, 2, to="60031", client_ref="b")
    answer(database, BOB, 3, content="STOP")
    answer(database, BOB, 4, content="START")
    found = answers(database, ReplyFilter())
    assert [row.received_at for row in found] == [seconds(4), seconds(3), seconds(2), seconds(1)]
    start, stop, second, first = found
    for where, wanted in (
        (ReplyFilter(sender=ALICE), [first]),
        (ReplyFilter(recipient="60030"), [start, stop, first]),
        (ReplyFilter(client_ref="a"), [first]),  # it did not say so, but belongs there
        (ReplyFilter(client_ref="b"), [second]),
        (ReplyFilter(since=seconds(2), until=seconds(3)), [second]),
        (ReplyFilter(is_opt_out=True), [stop]),
        (ReplyFilter(is_opt_out=False), [start, second, first]),
        (ReplyFilter(sender=BOB, is_opt_out=False), [start, second]),
        (ReplyFilter(is_opt_in=True), [start]),
        (ReplyFilter(is_opt_in=False), [stop, second, first]),
        (ReplyFilter(sender=BOB, is_opt_in=True), [start]),
        (ReplyFilter(is_opt_in=False, is_opt_out=False), [second, first]),
        (ReplyFilter(is_opt_in=True, is_opt_out=True), []),
        (ReplyFilter(recipient="60030", is_opt_out=True), [stop]),
        (ReplyFilter(sender=ALICE, recipient="60031"), []),
    ):
        assert [row.id for row in answers(database, where, limit=1)] == [row.id for row in wanted], where


@pytest.mark.parametrize(("days", "link"), [(1, LINK_ALONE), (3, LINK_BY_LAST_MESSAGE)])
def test_a_reply_belongs_to_the_last_message_only_within_the_window(database: Database, days: int, link: str) -> None:
    [message] = rows.accept(database, rows.message(ALICE, originator=None, client_ref="a"))
    answer(database, ALICE, 2 * 86_400, to="anything", within=timedelta(days=days))
    [row] = answers(database, ReplyFilter())
    assert row.link == link
    assert (row.message_id == message) == (link == LINK_BY_LAST_MESSAGE)


def test_a_reply_to_another_originator_starts_its_own_conversation(database: Database) -> None:
    rows.accept(database, rows.message(ALICE, originator="+447700900999"))
    answer(database, ALICE, 5, to="60030")
    answer(database, ALICE, 6, to="447700900999")
    second, first = answers(database, ReplyFilter())
    assert (first.link, second.link) == (LINK_ALONE, LINK_BY_LAST_MESSAGE)


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_a_contact_has_all_messages_and_replies_merged(database: Database, limit: int) -> None:
    rows.accept(database, rows.message(ALICE, client_ref="a"), rows.message(BOB))
    answer(database, ALICE, 5)
    rows.accept(database, rows.message(ALICE, client_ref="b"), now=seconds(10))
    answer(database, ALICE, 15, client_ref="elsewhere")
    told: list[tuple[float, type]] = []
    after: TimeCursor | None = None
    while True:
        with database.reading() as session:
            page = contacts.read_contact(session, ALICE, limit=limit, after=after)
        told += [((entry.at - rows.T0).total_seconds(), type(entry.row)) for entry in page.items]
        after = page.next
        if after is None:
            break
    assert told == [(15, Reply), (10, Message), (5, Reply), (0, Message)]


def test_receipts_are_listed_by_channel_outcome_and_arrival(database: Database) -> None:
    static = [rows.keep(database, "statusid=1") for _ in range(3)]
    own = [rows.keep(database, "statusid=1", message_id=UUID(int=5)) for _ in range(12)]
    inbound = rows.keep(database, "content=x", channel=Channel.INBOUND)

    def found(where: ReceiptFilter) -> list[UUID]:
        ids: list[UUID] = []
        after: UUID | None = None
        while True:
            with database.reading() as session:
                page = receipts.list_receipts(session, where, limit=1, after=after)
            ids += [entry.row.id for entry in page.items]
            after = page.next
            if after is None:
                return ids

    assert found(ReceiptFilter()) == [inbound, *own[::-1], *static[::-1]]
    assert found(ReceiptFilter(channel=Channel.ACCOUNT)) == static[::-1]
    assert found(ReceiptFilter(channel=Channel.MESSAGE)) == own[::-1]
    assert found(ReceiptFilter(channel=Channel.INBOUND, outcomes=[ReceiptOutcome.PENDING])) == [inbound]
    assert found(ReceiptFilter(outcomes=[ReceiptOutcome.APPLIED])) == []
    assert found(ReceiptFilter(outcomes=[ReceiptOutcome.DEAD], channel=Channel.ACCOUNT)) == []
    made_at = rows.T0.fromtimestamp((static[2].int >> 80) / 1000, tz=rows.T0.tzinfo)
    assert static[2] in found(ReceiptFilter(since=made_at))
    assert static[2] not in found(ReceiptFilter(until=made_at))
    assert found(ReceiptFilter(since=made_at + timedelta(hours=1))) == []


def test_ids_of_a_conversation_are_those_of_its_clientref(database: Database) -> None:
    """The list by clientRef and status is read by conversation id, so that must be derived from the clientRef."""
    rows.accept(database, rows.message(ALICE, client_ref="a"), rows.message(BOB, client_ref="a"))
    assert len(listed(database, MessageFilter(client_ref="a", statuses=["accepted"]))) == 2
    assert conversations.conversation_id(
        client_ref="a", recipient=ALICE, originator="x"
    ) == conversations.conversation_id(client_ref="a", recipient=None, originator=None)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"client_ref": "a"},
        {"originator": "ACME"},
        {"recipient": ALICE},
        {"changed_since": rows.T0},
        {"since": rows.T0},
    ],
    ids=str,
)
def test_several_statuses_find_the_messages_of_each(database: Database, more: dict[str, Any]) -> None:
    made = rows.accept(database, *(rows.message(ALICE, client_ref="a", originator="ACME") for _ in range(6)))
    for message_id, word in zip(made, [Status.SENT, Status.DELIVERED, Status.EXPIRED] * 2, strict=True):
        stories.report(database, message_id, word, seconds(10))
    wanted = MessageFilter(statuses=("sent", "expired"), **more)
    expected = {made[place] for place in (0, 2, 3, 5)}
    for limit in (1, 2, 10):
        found = listed(database, wanted, limit)
        assert (len(found), set(found)) == (4, expected)
