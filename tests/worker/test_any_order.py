"""Order, repetitions and batches of receipts make no difference to how a message ends.

The expected end is derived here from the rules in docs/statuses.md, without the code under test.
"""

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc import ids
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback, SendOutcome
from receiptsvc.store.core.db import Database
from tests.support.forms import examples
from tests.support.rows import insert_arrivals, message, read_message, seconds
from tests.support.work import ALICE, BOB, assert_sound, said, send, sweep, work, work_off

LAST = 10_000  # seconds after T0: by then every receipt has come
LONG = 2 * 86_400  # seconds: more than any gap between two looks into the parking lot
FIVE_MINUTES = 300

# The gateway's descriptions and our statuses; None: unmapped.
MEANINGS = {
    "Message+sent": "sent",
    "Buffered": "sent",
    "Delivered": "delivered",
    "Delivered+to+handset": "delivered",
    "Undelivered": "undelivered",
    "Not+delivered": "undelivered",
    "Expired": "expired",
    "Rejected": "rejected",
    "Frobnicated": None,
}
WORDS = tuple(MEANINGS)
OWN_WORDS = {SendOutcome.TAKEN: "submitted", SendOutcome.UNCLEAR: "send_unknown", SendOutcome.REFUSED: "failed"}
# How a send ended, and whether its answer gave a transactionID.
ENDED = (
    (SendOutcome.UNCLEAR, False),
    (SendOutcome.TAKEN, True),
    (SendOutcome.REFUSED, False),
    (SendOutcome.TAKEN, False),
    (SendOutcome.UNCLEAR, False),
    (SendOutcome.TAKEN, True),
)
# Whether a receipt has our token, the transactionID, the clientRef, the recipient.
HAS = (
    (True, True, False, True),
    (False, True, False, True),
    (False, False, True, True),
    (False, True, True, True),
    (False, True, False, False),
    (False, True, True, True),
    (True, False, True, False),
    (False, False, True, True),
)
PROGRESS = ("accepted", "send_unknown", "submitted", "sent")
LIGHTEST_FIRST = ("rejected", "expired", "undelivered", "delivered")


class Sent(NamedTuple):
    """A message that was sent at `at`."""

    to: str
    ref: str | None
    at: int
    ended: SendOutcome
    tx: str  # its transactionID
    is_told: bool  # whether the answer of its send gave the transactionID


class SentReceipt(NamedTuple):
    """A receipt about a message, and which of its references it carries. Times are seconds after T0."""

    about: int
    words: str
    occurred: int | None
    received: int
    has_token: bool
    has_tx: bool
    has_ref: bool
    has_recipient: bool


class Conversation(NamedTuple):
    sent: Sequence[Sent]
    told: Sequence[SentReceipt]

    def tx(self, receipt: SentReceipt) -> str | None:
        return self.sent[receipt.about].tx if receipt.has_tx else None

    def ref(self, receipt: SentReceipt) -> str | None:
        return self.sent[receipt.about].ref if receipt.has_ref else None

    def to(self, receipt: SentReceipt) -> str | None:
        return self.sent[receipt.about].to if receipt.has_recipient else None


class End(NamedTuple):
    """How a message ends. `times`: several where a digest decides which of two reports counts."""

    status: str
    times: frozenset[datetime]
    conflict: bool


class Delivery(NamedTuple):
    """A delivery of receipts: which ones, in this order, and after which of them the worker runs."""

    order: Sequence[int]
    works: Sequence[bool]


@st.composite
def reports(draw: st.DrawFn) -> Conversation:
    """One message and its receipts, all with its token. Few values for each field, so that they often collide."""
    ended, is_told = draw(st.sampled_from(ENDED))
    words = draw(st.lists(st.sampled_from(sorted(MEANINGS)), min_size=2, max_size=3, unique=True))
    times = draw(st.sampled_from(((5,), (None,), (5, None), (5, 6))))
    said = st.builds(
        SentReceipt,
        about=st.just(0),
        words=st.sampled_from(words),
        occurred=st.sampled_from(times),
        received=st.sampled_from((1, 6, 2000)),
        has_token=st.just(True),
        has_tx=st.booleans(),
        has_ref=st.just(False),
        has_recipient=st.just(False),
    )
    return Conversation([Sent(ALICE, None, 0, ended, "1", is_told)], draw(st.lists(said, min_size=2, max_size=6)))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Messages that share what they can, and what is reported of them, told apart by their times."""
    sent: list[Sent] = []
    for index in range(draw(st.integers(2, 3))):
        to, ref = draw(st.sampled_from((ALICE, ALICE, BOB))), draw(st.sampled_from(("x", "x", "x", "y", None)))
        ended, is_told = draw(st.sampled_from(ENDED))
        # One transaction may be of several recipients, if answers say so.
        is_shared = is_told and all((one.tx, one.to) != ("9", to) for one in sent) and draw(st.booleans())
        at = draw(st.sampled_from((0, 1000))) + index
        sent.append(Sent(to, ref, at, ended, "9" if is_shared else str(index + 1), is_told))
    told = []
    for number in range(draw(st.integers(4, 7))):
        about = draw(st.integers(0, len(sent) - 1))
        occurred = draw(st.sampled_from((None, 10, -FIVE_MINUTES)))
        at, words = sent[about].at, draw(st.sampled_from(("Message+sent", "Delivered")))
        told.append(
            SentReceipt(
                about,
                words,
                None if occurred is None else at + occurred + number,
                at + 50 + number,
                *draw(st.sampled_from(HAS)),
            )
        )
    return Conversation(sent, told)


@st.composite
def deliveries(draw: st.DrawFn, count: int) -> Delivery:
    again = draw(st.lists(st.integers(0, count - 1), max_size=3))
    order = draw(st.permutations([*range(count), *again]))
    return Delivery(order, [draw(st.booleans()) for _ in order])


# The model: whose receipt it is, and what the reports about a message add up to


def placed(talk: Conversation) -> dict[int, set[int]]:
    """The receipts of each message, when nothing more can be found out."""
    known = {(one.tx, index) for index, one in enumerate(talk.sent) if one.is_told}
    found: dict[int, set[int]] = {index: set() for index in range(len(talk.sent))}
    while True:
        before = sum(map(len, found.values()))
        for number, receipt in enumerate(talk.told):
            about = whose(talk, receipt, known)
            if about is not None:
                found[about].add(number)
                known |= {(tx, about) for tx in [talk.tx(receipt)] if tx}
        if sum(map(len, found.values())) == before:
            return found


def whose(talk: Conversation, receipt: SentReceipt, known: set[tuple[str, int]]) -> int | None:
    tx, ref, to = talk.tx(receipt), talk.ref(receipt), talk.to(receipt)
    if receipt.has_token:
        return receipt.about
    fitting = [index for one, index in known if one == tx and to in {None, talk.sent[index].to}]
    if not fitting and ref is not None and to is not None:
        latest = receipt.received if receipt.occurred is None else receipt.occurred + FIVE_MINUTES
        fitting = [
            index
            for index, one in enumerate(talk.sent)
            if (one.ref, one.to) == (ref, to)
            and one.at <= latest
            and (tx is None or all(known_of != index for _, known_of in known))
        ]
    return fitting[0] if len(fitting) == 1 else None


def end_of(message: Sent, told: Sequence[SentReceipt]) -> End:
    """What one's own steps and the gateway's reports add up to."""
    own = {"accepted": message.at, OWN_WORDS[message.ended]: message.at}
    spoken = [(MEANINGS[one.words], one) for one in told]
    finals = [(word, one) for word, one in spoken if word in LIGHTEST_FIRST]
    sent = [one.received if one.occurred is None else one.occurred for word, one in spoken if word == "sent"]
    conflict = len({word for word, _ in finals}) > 1
    if finals:
        delivered = [one for word, one in finals if word == "delivered"]
        best = delivered or [one for _, one in finals]
        timed = [one for one in best if one.occurred is not None]
        if timed:
            latest = max(one.occurred or 0 for one in timed)
            best = [one for one in timed if one.occurred == latest]
        heaviest = max((MEANINGS[one.words] or "" for one in best), key=LIGHTEST_FIRST.index)
        best = sorted((one for one in best if MEANINGS[one.words] == heaviest), key=lambda one: one.words)
        alike = [list(group) for _, group in groupby(best, key=lambda one: one.words)]
        times = {min(one.received if one.occurred is None else one.occurred for one in group) for group in alike}
        return End(heaviest, frozenset(map(seconds, times)), conflict)
    if sent:
        return End("sent", frozenset({seconds(min(sent))}), conflict)
    status = "failed" if "failed" in own else max(own, key=PROGRESS.index)
    return End(status, frozenset({seconds(own[status])}), conflict)


# The real thing


class Desk:
    """One SQLite file after another in the same place, so that statements need be compiled once only."""

    def __init__(self, folder: Path, template: Path) -> None:
        self._now, self._begun, self._template = folder / "now.db", folder / "begun.db", template
        self.database = Database(f"sqlite:///{self._now}")

    def begin(self, sent: Sequence[Sent]) -> list[UUID]:
        """Start anew, with these messages."""
        self._lay(self._template)
        made = begin(self.database, sent)
        self.database.close()
        shutil.copy(self._now, self._begun)
        return made

    def begin_again(self) -> None:
        """Start from where those messages were sent and nothing else had happened."""
        self._lay(self._begun)

    def _lay(self, path: Path) -> None:
        self.database.close()
        shutil.copy(path, self._now)


def begin(database: Database, sent: Sequence[Sent]) -> list[UUID]:
    """Give the messages to the gateway, in the order of time. Over REST a lost answer makes none due again."""
    made: dict[int, UUID] = {}
    for index, one in sorted(enumerate(sent), key=lambda pair: pair[1].at):
        tx = one.tx if one.is_told else None
        made[index] = send(database, message(one.to, client_ref=one.ref, transport="rest"), one.ended, tx=tx, at=one.at)
    return [made[index] for index in range(len(sent))]


def come(database: Database, talk: Conversation, coming: Delivery, made: Sequence[UUID]) -> None:
    """Let receipts come, the worker work in between, and look into the parking lot until all is found that can be."""
    waiting: list[Arrival] = []
    for number, works in zip(coming.order, coming.works, strict=True):
        receipt = talk.told[number]
        query = said(
            receipt.words, tx=talk.tx(receipt), ref=talk.ref(receipt), to=talk.to(receipt), at=receipt.occurred
        )
        message_id = made[receipt.about] if receipt.has_token else None
        channel = Channel.MESSAGE if message_id else Channel.ACCOUNT
        callback = Callback("GET", query.encode(), None, b"")
        waiting.append(Arrival(ids.new(), channel, message_id, seconds(receipt.received), callback))
        if works:
            keep_and_work(database, waiting)
            waiting = []
    keep_and_work(database, waiting)
    for turn in range(1, len(talk.sent) + 2):
        sweep(database, turn * LONG)
        work_off(database, turn * LONG)


def keep_and_work(database: Database, waiting: Sequence[Arrival]) -> None:
    if waiting:
        with database.transaction() as session:
            insert_arrivals(session, waiting)
        work(database, LAST)


def assert_ends_as_it_must(desk: Desk, talk: Conversation, ways: Sequence[Delivery]) -> None:
    made = desk.begin(talk.sent)
    found = placed(talk)
    must = [end_of(one, [talk.told[number] for number in sorted(found[index])]) for index, one in enumerate(talk.sent)]
    seen: set[tuple[datetime, ...]] = set()
    for way in ways:
        desk.begin_again()
        come(desk.database, talk, way, made)
        rows = [read_message(desk.database, message_id) for message_id in made]
        assert [(row.status, row.conflict) for row in rows] == [(one.status, one.conflict) for one in must]
        assert all(row.status_at in one.times for row, one in zip(rows, must, strict=True))
        seen.add(tuple(row.status_at for row in rows))
    assert_sound(desk.database)
    assert len(seen) == 1, "where a digest decides, it decides the same"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("any_order"), sqlite_template)
    yield desk
    desk.database.close()


@pytest.mark.long
@pytest.mark.parametrize("talks", [reports(), conversations()], ids=["one message", "a conversation"])
@given(data=st.data())
@settings(max_examples=examples(15), deadline=None, derandomize=True)
def test_order_repetition_and_batches_make_no_difference(
    desk: Desk, talks: st.SearchStrategy[Conversation], data: st.DataObject
) -> None:
    talk = data.draw(talks)
    count = len(talk.told)
    as_they_are = Delivery(range(count), [False] * count)
    assert_ends_as_it_must(desk, talk, [as_they_are, data.draw(deliveries(count))])
