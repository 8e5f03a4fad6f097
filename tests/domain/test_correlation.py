"""Which message a receipt or a reply is about: each rule in its order, and what just misses it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from receiptsvc.domain import meanings, numbers
from receiptsvc.domain.correlation import (
    BY_CLIENT_REF,
    BY_HAND,
    BY_LONE_TRANSACTION,
    BY_SHIFTED_CLOCK,
    BY_TOKEN,
    BY_TRANSACTION,
    LINK_ALONE,
    LINK_BY_CLIENT_REF,
    LINK_BY_LAST_MESSAGE,
    MAX_CANDIDATES,
    UNFITTING,
    Match,
    MatchContext,
    NoMatch,
    SentMessage,
    TransactionLink,
    TransactionLinks,
    adopt_at,
    correlate,
    describe_likeness,
    find_answered,
)
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Origin, Receipt, Reply
from receiptsvc.domain.statuses import Status

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ALICE, BOB = "447700900001", "447700900002"


def seconds(count: float) -> datetime:
    return T0 + timedelta(seconds=count)


@dataclass(kw_only=True)
class Message:
    """A message that was sent at T0, unless a test says otherwise."""

    id: UUID = field(default_factory=uuid4)
    recipient: str = ALICE
    client_ref: str | None = None
    origin: str = Origin.OWN
    offered_at: datetime | None = T0
    calling_since: datetime | None = None
    status: str = Status.SUBMITTED
    transaction_id: str | None = None
    links: Sequence[tuple[str, str]] = ()  # transactionIDs, each with its source


@dataclass(kw_only=True)
class Row:
    """How a receipt came: to the static URL an hour after T0, unless a test says otherwise."""

    channel: str = Channel.ACCOUNT
    message_id: UUID | None = None
    is_unauthenticated: bool = False
    received_at: datetime = T0 + timedelta(hours=1)
    assigned_to: UUID | None = None


def sent(tx: str | None = None, **fields: Any) -> Message:
    """A message; `tx`: the transactionID that its answer gave it."""
    return Message(transaction_id=tx, links=[(tx, "answer")] if tx else (), **fields)


def receipt(tx: str | None = None, ref: str | None = None, to: str | None = ALICE, at: float | None = None) -> Receipt:
    return Receipt(
        transaction_id=tx,
        recipient=to,
        client_ref=ref,
        status_id="1",
        description="Delivered",
        occurred_at=None if at is None else seconds(at),
    )


def context(*messages: Message) -> MatchContext[Message]:
    """What the store would load about these messages."""
    by_transaction: defaultdict[str, TransactionLinks] = defaultdict(TransactionLinks)
    by_client_ref: defaultdict[tuple[str, str], list[UUID]] = defaultdict(list)
    for message in messages:
        for transaction_id, source in message.links:
            link = TransactionLink(transaction_id, message.id, message.recipient, source)
            by_transaction[transaction_id].add(link)
        if message.client_ref:
            for length in range(1, 7):
                by_client_ref[message.client_ref, message.recipient[-length:]].append(message.id)
    return MatchContext(
        messages={message.id: message for message in messages},
        by_transaction=by_transaction,
        by_client_ref=by_client_ref,
    )


def rule(found: Match | NoMatch, message: Message) -> str | None:
    """The rule by which this message was found; None if no message was."""
    if isinstance(found, NoMatch):
        return None
    assert found.message_id == message.id
    return found.rule


def unmatched(reason: str, *candidates: Message) -> NoMatch:
    ids = [message.id for message in candidates]
    return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=ids or ())


def test_every_rule_has_a_meaning() -> None:
    rules = [BY_HAND, BY_TOKEN, BY_TRANSACTION, BY_LONE_TRANSACTION, BY_CLIENT_REF, BY_SHIFTED_CLOCK]
    assert list(meanings.MATCHING_RULES)[: len(rules)] == rules


# 0. An operator's word


def test_an_operators_assignment_wins_over_every_other_rule() -> None:
    tokened, meant = sent("1", client_ref="a"), sent("2", recipient=BOB, client_ref="b")
    row = Row(message_id=tokened.id, assigned_to=meant.id)
    assert rule(correlate(row, receipt("1", "a"), context(tokened, meant)), meant) == BY_HAND
    gone = Row(message_id=tokened.id, assigned_to=uuid4())
    assert rule(correlate(gone, receipt("1", "a"), context(tokened)), tokened) == BY_TOKEN


# 1. Our token


def test_the_token_wins_over_a_transaction_and_a_client_ref() -> None:
    mine, other = sent("1", client_ref="a"), sent(client_ref="b")
    assert rule(correlate(Row(message_id=mine.id), receipt("77", "b"), context(mine, other)), mine) == BY_TOKEN


@pytest.mark.parametrize("to", [ALICE, None])
def test_a_token_with_the_transaction_of_another_message_is_quarantined(to: str | None) -> None:
    mine, twin = sent("2"), sent("1")
    found = correlate(Row(message_id=mine.id), receipt("1", to=to), context(mine, twin))
    assert found == NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason="its transactionID was given to another message")


@pytest.mark.parametrize(
    "others",
    [
        [sent("1", recipient=BOB)],  # one transaction can have several recipients
        [Message(links=[("1", "receipt")])],  # only a send's answer is certain
        [],
    ],
    ids=["another recipient", "a receipt's word", "nobody"],
)
def test_what_seems_to_contradict_a_token_and_does_not(others: list[Message]) -> None:
    mine = sent("2")
    assert rule(correlate(Row(message_id=mine.id), receipt("1"), context(mine, *others)), mine) == BY_TOKEN


def test_a_transaction_that_this_message_shares_with_another_does_not_contradict_a_token() -> None:
    mine, twin = sent("1"), sent("1")
    assert rule(correlate(Row(message_id=mine.id), receipt("1"), context(mine, twin)), mine) == BY_TOKEN


@pytest.mark.parametrize(("to", "fits"), [("07700 900001", True), (None, True), (BOB, False), ("nobody", False)])
def test_a_token_of_a_message_to_another_recipient_is_quarantined(to: str | None, fits: bool) -> None:
    mine = sent("1")
    found = correlate(Row(message_id=mine.id), receipt(to=to), context(mine))
    reason = "its recipient is not the one of the message it came for"
    expected = NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason=reason)
    assert found == (Match(message_id=mine.id, rule=BY_TOKEN) if fits else expected)


def test_a_token_of_a_missing_message_excludes_a_match_by_client_ref() -> None:
    here = sent(client_ref="x")
    found = correlate(Row(message_id=uuid4()), receipt(ref="x"), context(here))
    assert found == unmatched("it came for a message that is not here")


# 2. The transactionID, and the recipient


def test_a_transaction_of_several_recipients_is_matched_by_recipient() -> None:
    alice, bob = sent("815", client_ref="x"), sent("815", recipient=BOB, client_ref="x")
    known = context(alice, bob)
    assert rule(correlate(Row(), receipt("815", "other"), known), alice) == BY_TRANSACTION
    assert rule(correlate(Row(), receipt("815", "x", to="07700 900002"), known), bob) == BY_TRANSACTION
    assert correlate(Row(), receipt("815", to=None), known) == unmatched(
        "its transactionID fits 2 messages", alice, bob
    )
    assert correlate(Row(), receipt("815", "x", to="447700900009"), known) == unmatched(
        "its transactionID was given for other recipients"
    )


def test_a_transaction_of_one_recipient_is_matched_without_a_recipient() -> None:
    only = sent("815", client_ref="x")
    assert rule(correlate(Row(), receipt("815", "other", to=None), context(only)), only) == BY_LONE_TRANSACTION


@pytest.mark.parametrize("to", [ALICE, None])
def test_a_transaction_of_two_messages_to_one_recipient_is_unmatched(to: str | None) -> None:
    both = sent("815", client_ref="a"), sent("815", client_ref="b")
    found = correlate(Row(), receipt("815", "a", to=to), context(*both))
    assert found == unmatched("its transactionID fits 2 messages", *both)


def test_a_number_that_fits_two_recipients_of_a_transaction_is_unmatched() -> None:
    both = sent("815"), sent("815", recipient="497700900001")
    found = correlate(Row(), receipt("815", to="07700900001"), context(*both))
    assert found == unmatched("its transactionID fits 2 messages", *both)


def test_a_transaction_learnt_from_one_receipt_matches_the_next() -> None:
    mine = sent()
    known = context(mine)
    known.learn(receipt("1"), Match(message_id=mine.id, rule=BY_TOKEN))
    known.learn(receipt("1"), Match(message_id=mine.id, rule=BY_TOKEN))
    assert (mine.transaction_id, len(known.by_transaction["1"])) == ("1", 1)
    assert rule(correlate(Row(), receipt("1"), known), mine) == BY_TRANSACTION


def test_what_is_learnt_replaces_no_transaction() -> None:
    mine = sent("1")
    known = context(mine)
    known.learn(receipt("2"), Match(message_id=mine.id, rule=BY_TOKEN))
    assert mine.transaction_id == "1"
    assert rule(correlate(Row(), receipt("2"), known), mine) == BY_TRANSACTION


# 3. The clientRef and the recipient


@pytest.mark.parametrize(
    ("known_tx", "tx", "fits"),
    [(None, None, True), ("1", None, True), (None, "2", True), ("1", "2", False)],
)
def test_client_ref_and_recipient_match_if_message_or_receipt_has_no_transaction(
    known_tx: str | None, tx: str | None, fits: bool
) -> None:
    only = sent(known_tx, client_ref="x")
    found = correlate(Row(), receipt(tx, "x"), context(only))
    assert rule(found, only) == (BY_CLIENT_REF if fits else None)


@pytest.mark.parametrize(
    ("to", "fits"), [("+44 (7700) 900-001", True), (BOB, False), ("447711900001", False), (None, False), ("", False)]
)
def test_a_client_ref_matches_only_with_its_recipient(to: str | None, fits: bool) -> None:
    only = sent("1", client_ref="x")
    assert rule(correlate(Row(), receipt(ref="x", to=to), context(only)), only) == (BY_CLIENT_REF if fits else None)


@pytest.mark.parametrize(("at", "received", "fits"), [(700, 2000, True), (699.999, 2000, False), (None, 1000, True)])
def test_a_message_sent_after_a_receipt_does_not_match_it(at: float | None, received: float, fits: bool) -> None:
    only = sent(client_ref="x", offered_at=seconds(1000))  # and clocks may differ by five minutes
    found = correlate(Row(received_at=seconds(received)), receipt(ref="x", at=at), context(only))
    assert rule(found, only) == (BY_CLIENT_REF if fits else None)


@pytest.mark.parametrize("tx", [None, "1"])
@pytest.mark.parametrize("offered_at", [None, T0])
def test_a_message_that_never_reached_the_gateway_does_not_match(tx: str | None, offered_at: datetime | None) -> None:
    unsent = sent(client_ref="x", status=Status.ACCEPTED, offered_at=offered_at)
    assert rule(correlate(Row(), receipt(tx, "x"), context(unsent)), unsent) is None


def test_another_systems_message_can_have_been_sent_at_any_time() -> None:
    external = sent("1", client_ref="x", origin=Origin.EXTERNAL, offered_at=None)
    assert rule(correlate(Row(), receipt(ref="x", at=-9999), context(external)), external) == BY_CLIENT_REF


def test_a_message_in_a_call_takes_a_transaction_by_client_ref_only_after_the_answer() -> None:
    calling = sent(client_ref="x", status=Status.ACCEPTED, calling_since=T0)
    assert rule(correlate(Row(), receipt(ref="x"), context(calling)), calling) == BY_CLIENT_REF
    reason = "the call that gives its message to the gateway has not been answered"
    assert correlate(Row(), receipt("1", "x"), context(calling)) == unmatched(reason, calling)


def test_several_fitting_messages_leave_a_receipt_unmatched() -> None:
    early, late = sent("1", client_ref="x"), sent(client_ref="x", offered_at=seconds(1000))
    for made in permutations([early, late]):
        assert rule(correlate(Row(), receipt(ref="x", at=100), context(*made)), early) == BY_CLIENT_REF
        assert rule(correlate(Row(), receipt("9", "x", at=2000), context(*made)), late) == BY_CLIENT_REF
        reason = "its clientRef and recipient fit 2 messages"
        assert correlate(Row(), receipt(ref="x", at=2000), context(*made)) == unmatched(reason, *made)


def test_one_fitting_message_among_as_many_as_are_loaded_leaves_a_receipt_unmatched() -> None:
    fits = sent(client_ref="x")
    unsent = [sent(client_ref="x", offered_at=None) for _ in range(MAX_CANDIDATES - 1)]
    reason = f"its clientRef and recipient fit {MAX_CANDIDATES} or more messages"
    assert correlate(Row(), receipt(ref="x"), context(fits, *unsent)) == unmatched(reason, fits)
    assert rule(correlate(Row(), receipt(ref="x"), context(fits, *unsent[1:])), fits) == BY_CLIENT_REF


def test_a_transaction_of_other_recipients_leaves_the_client_ref_to_decide() -> None:
    other, lost = sent("815", recipient=BOB, client_ref="x"), sent(client_ref="x")
    assert rule(correlate(Row(), receipt("815", "x"), context(other, lost)), lost) == BY_CLIENT_REF


# 3b. The same, by a clock of another zone

HOUR = 3600


def local(*said: Any, **more: Any) -> Receipt:
    """A receipt whose time has no zone of its own."""
    return receipt(*said, **more)._replace(is_local_time=True)


def shifted(found: Match | NoMatch) -> Match | NoMatch | None:
    """What holds unless the clock is known to be right; the strict rules found nothing."""
    assert isinstance(found, NoMatch)
    return found.if_shifted


SHIFTS = [  # kind, the receipt's time in seconds after the offer, how long after it the receipt came, whether it fits
    ("hours: London in summer, read as UTC's", -HOUR, 60, True),
    ("hours: New York", -5 * HOUR, 60, True),
    ("quarters: Kathmandu", -5.75 * HOUR, 60, True),
    ("quarters: Adelaide", -9.5 * HOUR, 60, True),
    ("limit: 14 hours", -14 * HOUR, 60, True),
    ("limit: 14 hours, and a minute of slack", -14 * HOUR - 60, 1, True),
    ("limit: more than that", -14 * HOUR - 61, 1, False),
    ("limit: more, but it came later", -14 * HOUR - 600, 1000, False),
    ("slack: a minute before the offer", -HOUR - 60, 1, True),
    ("slack: more than a minute before it", -HOUR - 61, 1, False),
    ("slack: a minute after the receipt", -HOUR + 61, 1, True),
    ("slack: more than a minute after it", -HOUR + 62, 1, False),
    ("no quarter: seven minutes", -HOUR - 420, 1, False),
    ("no quarter, but it came late", -HOUR - 420, 600, True),
    ("a day", -24 * HOUR, 60, False),
]


@pytest.mark.parametrize(("at", "came", "fits"), [case[1:] for case in SHIFTS], ids=[case[0] for case in SHIFTS])
def test_a_shift_by_quarters_of_an_hour_puts_a_time_between_offer_and_receipt(at: float, came: int, fits: bool) -> None:
    only = sent("1", client_ref="x")
    found = shifted(correlate(Row(received_at=seconds(came)), local(ref="x", at=at), context(only)))
    assert (found is not None and rule(found, only)) == (BY_SHIFTED_CLOCK if fits else False)


def test_the_strict_rule_comes_first() -> None:
    only = sent(client_ref="x")
    for at in (-300, 0, 3500, 99 * HOUR):
        assert rule(correlate(Row(), local(ref="x", at=at), context(only)), only) == BY_CLIENT_REF


OTHERWISE: dict[str, tuple[Receipt, Message]] = {
    "a zone of its own": (receipt(ref="x", at=-HOUR), sent(client_ref="x")),
    "no time": (local(ref="x"), sent(client_ref="x", offered_at=seconds(99 * HOUR))),
    "another transaction": (local("2", "x", at=-HOUR), sent("1", client_ref="x")),
    "another recipient": (local(ref="x", to=BOB, at=-HOUR), sent(client_ref="x")),
    "another clientRef": (local(ref="y", at=-HOUR), sent(client_ref="x")),
    "hidden digits": (local(ref="x", to="4477009000**", at=-HOUR), sent(client_ref="x")),
    "no recipient": (local(ref="x", to=None, at=-HOUR), sent(client_ref="x")),
    "never offered": (local(ref="x", at=-HOUR), sent(client_ref="x", offered_at=None)),
    "not sent": (local(ref="x", at=-HOUR), sent(client_ref="x", status=Status.ACCEPTED)),
    "offered after the receipt": (local(ref="x", at=-HOUR), sent(client_ref="x", offered_at=seconds(2 * HOUR))),
}


@pytest.mark.parametrize(("said", "only"), OTHERWISE.values(), ids=OTHERWISE)
def test_what_no_other_zone_explains(said: Receipt, only: Message) -> None:
    assert shifted(correlate(Row(), said, context(only))) is None


def test_a_transaction_of_another_recipient_speaks_against_a_shift() -> None:
    other, mine = sent("815", recipient=BOB, client_ref="x"), sent(client_ref="x")
    assert shifted(correlate(Row(), local("815", "x", at=-HOUR), context(other, mine))) is None


@pytest.mark.parametrize("tx", [None, "1"])
def test_several_messages_with_its_client_ref_and_recipient_leave_it_unmatched_and_never_adopted(
    tx: str | None,
) -> None:
    both = sent(client_ref="x"), sent(client_ref="x", offered_at=seconds(600))
    for made in permutations(both):
        found = shifted(correlate(Row(), local(tx, "x", at=-HOUR), context(*made)))
        assert isinstance(found, NoMatch)
        assert set(found.candidates) == {message.id for message in both}


def test_of_several_only_those_that_a_shift_fits_are_listed() -> None:
    fits, later = sent(client_ref="x"), sent(client_ref="x", offered_at=seconds(2 * HOUR))
    found = shifted(correlate(Row(), local(ref="x", at=-HOUR), context(fits, later)))
    assert isinstance(found, NoMatch)
    assert found.candidates == [fits.id]


def test_a_transaction_that_is_known_not_to_be_ours_leaves_its_receipt_to_be_adopted() -> None:
    both = sent("1", client_ref="x"), sent("2", client_ref="x")
    assert shifted(correlate(Row(), local("3", "x", at=-HOUR), context(*both))) is None


def test_a_message_in_a_call_takes_a_transaction_by_a_shift_only_after_the_answer() -> None:
    calling = sent(client_ref="x", status=Status.ACCEPTED, calling_since=T0)
    found = shifted(correlate(Row(), local("1", "x", at=-HOUR), context(calling)))
    assert found == unmatched("the call that gives its message to the gateway has not been answered", calling)
    found = shifted(correlate(Row(), local(ref="x", at=-HOUR), context(calling)))
    assert found is not None
    assert rule(found, calling) == BY_SHIFTED_CLOCK


def test_the_reason_of_a_receipt_whose_time_another_zone_explains_says_so() -> None:
    only = sent("1", client_ref="x")
    found = correlate(Row(received_at=seconds(60)), local(ref="x", at=-HOUR), context(only))
    assert isinstance(found, NoMatch)
    reason = (
        "its time fits the one message with its clientRef and recipient only if the gateway's clock is an hour behind"
    )
    assert found.reason == reason
    late = correlate(Row(received_at=seconds(1000)), local(ref="x", at=-HOUR), context(only))
    assert isinstance(late, NoMatch)
    assert late.reason == UNFITTING, "several shifts fit"


def test_the_reason_of_a_receipt_that_misses_its_message_by_its_time_is_true() -> None:
    found = correlate(Row(), receipt(ref="x", at=-HOUR), context(sent(client_ref="x")))
    assert found == unmatched("its time or its transactionID fits no message with its clientRef and recipient")


# A recipient that the gateway rewrites

REWRITTEN = [  # kind, the message's recipient, what the receipt says, whether it is the message's
    ("Argentina: without the 9", "5491112345678", "541112345678", True),
    ("Argentina: with the 9", "541112345678", "+54 9 11 1234-5678", True),
    ("Argentina: another number", "5491112345678", "541112345679", False),
    ("Mexico: without the 1", "5215512345678", "525512345678", True),
    ("Mexico: with the 1", "525512345678", "005215512345678", True),
    ("Mexico: another number", "525512345678", "5215512345679", False),
    ("Brazil: without the ninth digit", "5511987654321", "551187654321", True),
    ("Brazil: with the ninth digit", "551187654321", "+55 (11) 98765-4321", True),
    ("Brazil: a landline has no ninth digit", "551123456789", "5511923456789", False),
    ("Brazil: another area", "5511987654321", "552187654321", False),
    ("hidden: the middle", ALICE, "4477****0001", True),
    ("hidden: with a plus", ALICE, "+44 77xx xxx 001", True),
    ("hidden: after 00", ALICE, "0044770090####", True),
    ("hidden: all but two", ALICE, "**********01", True),
    ("hidden: all but one", ALICE, "***********1", False),
    ("hidden: all", ALICE, "************", False),
    ("hidden: one shown digit is another's", ALICE, "4477****0002", False),
    ("hidden: too few", ALICE, "4477***0001", False),
    ("hidden: too many", ALICE, "4477*****0001", False),
    ("hidden: no telling how many", ALICE, "4477...0001", False),
    ("another number", ALICE, BOB, False),
    ("a name", ALICE, "nobody", False),
]


@pytest.mark.parametrize(
    ("recipient", "to", "fits"), [case[1:] for case in REWRITTEN], ids=[case[0] for case in REWRITTEN]
)
def test_a_rewritten_recipient_is_the_messages_own_at_its_signed_address_only(
    recipient: str, to: str, fits: bool
) -> None:
    mine = sent("1", recipient=recipient, client_ref="x")
    found = correlate(Row(message_id=mine.id), receipt(to=to), context(mine))
    if fits:
        assert rule(found, mine) == BY_TOKEN
        assert isinstance(found, Match)
        assert found.note is not None
    else:
        reason = "its recipient is not the one of the message it came for"
        assert found == NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason=reason)
    for said in (receipt("1", to=to), receipt(ref="x", to=to)):
        assert rule(correlate(Row(), said, context(mine)), mine) is None


def test_a_rewritten_recipient_does_not_hide_that_a_transaction_contradicts_the_token() -> None:
    mine, twin = sent("2"), sent("1")
    found = correlate(Row(message_id=mine.id), receipt("1", to="4477****0001"), context(mine, twin))
    assert found == NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason="its transactionID was given to another message")


# 4. Nothing


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (receipt(), "it has no transactionID"),
        (receipt(ref="b"), "it has no transactionID, and no message has its clientRef and recipient"),
        (receipt("2"), "no message has its transactionID"),
        (receipt("2", "b"), "no message has its transactionID, and no message has its clientRef and recipient"),
        (receipt(ref="a", to=BOB), "it has no transactionID, and no message has its clientRef and recipient"),
        (receipt(ref="a", to=None), "it has no transactionID, and it names no recipient"),
        (receipt("1", to=BOB), "its transactionID was given for other recipients"),
    ],
)
def test_an_unmatched_receipt_says_why(said: Receipt, reason: str) -> None:
    assert correlate(Row(), said, context(sent("1", client_ref="a"))) == unmatched(reason)


# Adoption

PATIENCE = timedelta(minutes=10)


def test_a_stray_receipt_may_be_adopted_after_the_set_time() -> None:
    row = Row(received_at=T0)
    assert adopt_at(row, receipt("1"), PATIENCE) == adopt_at(row, receipt(ref="x"), PATIENCE) == T0 + PATIENCE
    assert adopt_at(row, receipt("1"), timedelta(0)) == T0
    assert adopt_at(row, receipt("1"), None) is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row(channel=Channel.MESSAGE), receipt("1")),
        (Row(is_unauthenticated=True), receipt("1")),
        (Row(), receipt()),
        (Row(), receipt("1", to=None)),
        (Row(), receipt("1", to="nobody")),
        (Row(), receipt("1", to="Bob 2")),
    ],
    ids=["our URL", "a wrong key", "no reference", "no recipient", "a name", "a name with a digit"],
)
def test_what_can_be_no_other_systems_is_never_adopted(row: Row, said: Receipt) -> None:
    assert adopt_at(row, said, PATIENCE) is None


# Replies


def to_alice(originator: str | None, at: float, ref: str | None = None) -> SentMessage:
    return SentMessage(uuid4(), uuid4(), originator, ref, seconds(at))


def said_to(recipient: str | None, ref: str | None = None) -> Reply:
    return Reply(msgid="1", sender=ALICE, recipient=recipient, content="Yes", client_ref=ref, occurred_at=None)


def test_a_reply_with_a_client_ref_answers_the_last_message_with_it_however_old() -> None:
    newest, wanted, older = to_alice("60030", 3), to_alice("60030", 2, "x"), to_alice("60030", 1, "x")
    known = [newest, wanted, older]
    assert find_answered(said_to("1", "x"), known, seconds(99)) == (wanted, LINK_BY_CLIENT_REF)
    assert find_answered(said_to("60030", "y"), known, T0) == (None, LINK_BY_CLIENT_REF)


@pytest.mark.parametrize("originator", ["60030", "+60030", None])
def test_a_reply_without_a_client_ref_answers_the_last_message_from_the_originator_it_went_to(
    originator: str | None,
) -> None:
    known = [to_alice("Other", 3), to_alice(originator, 2), to_alice("60030", 1)]
    assert find_answered(said_to(" 60 030"), known, T0) == (known[1], LINK_BY_LAST_MESSAGE)


def test_a_reply_to_no_message_within_the_window_stands_alone() -> None:
    known = [to_alice("60030", 10)]
    assert find_answered(said_to("60030"), known, seconds(9.9)) == (known[0], LINK_BY_LAST_MESSAGE)
    assert find_answered(said_to("60030"), known, seconds(10)) == (None, LINK_ALONE)
    assert find_answered(said_to("60031"), known, T0) == find_answered(said_to(None), known, T0) == (None, LINK_ALONE)


def test_a_receipt_is_compared_with_few_of_a_transactions_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system's campaign is one transaction: compared with all, ten thousand receipts took hours."""
    compared = 0
    is_same = numbers.is_same

    def count(text: str, number: str) -> bool:
        nonlocal compared
        compared += 1
        return is_same(text, number)

    monkeypatch.setattr(numbers, "is_same", count)
    people = [f"4477009{place:05}" for place in range(1_000)]
    links = TransactionLinks(TransactionLink("1", uuid4(), one, "receipt") for one in people)
    assert [[link.recipient for link in links.to(f"+{one}")] for one in people] == [[one] for one in people]
    assert compared == len(people)
    assert len(links.to(None)) == len(links) == len(people)


class Has(NamedTuple):
    """What a receipt names, or a message has."""

    recipient: Any = None
    client_ref: str | None = None
    transaction_id: str | None = None


@pytest.mark.parametrize(
    ("named", "has", "likeness"),
    [
        (Has("447700900001", "a", "1"), Has("447700900001", "a", "1"), "same number, clientRef and transactionID"),
        (Has("07700 900001", "a "), Has("447700900001", "a"), "same number and clientRef"),
        (Has("447700900001", "a"), Has("447700900002", "b"), "other number and clientRef"),
        (Has("447700900001", "a", "1"), Has("447700900001"), "same number; no clientRef and transactionID"),
        (Has(transaction_id="1"), Has("447700900001", "a", "2"), "other transactionID"),
        (Has(), Has("447700900001", "a", "2"), "nothing to compare"),
    ],
)
def test_a_likeness_names_what_is_the_same_what_is_other_and_what_is_not_there(
    named: Has, has: Has, likeness: str
) -> None:
    assert describe_likeness(named, has) == likeness
