"""Streams on the loop: what each is given, how it catches up, and what it costs when nothing happens."""

from collections.abc import Iterator, Sequence

import gevent
import pytest

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.server import event_streams
from receiptsvc.server.event_streams import Feed, Stream
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import change_feed
from receiptsvc.store.messages.change_feed import BEGINNING, Event, FeedPosition, Label
from tests.support import rows
from tests.support.rows import seconds

pytestmark = pytest.mark.on_postgresql  # tests/store has what each database does for them

PATIENCE_SECONDS = 20


def write(event: Event) -> tuple[str, str]:
    return "event", f"{dict(event.labels).get('clientRef')}"


@pytest.fixture
def feed(database: Database) -> Iterator[Feed]:
    feed = Feed(database, write)
    with gevent.Timeout(PATIENCE_SECONDS):
        yield feed
        feed.end()
        for stream in list(feed.streams):
            stream.close()
        while feed.is_polling:
            gevent.sleep(0.01)


def open_stream(feed: Feed, database: Database, *labels: Label, after: FeedPosition | None = None) -> Stream:
    with database.transaction() as session:
        change_feed.number(session)
    with database.reading() as session:
        last = change_feed.find_last(session)
    stream = feed.open(last if after is None else after, last, frozenset(labels))
    assert stream is not None
    return stream


def accept(database: Database, *client_refs: str) -> None:
    rows.accept(database, *(rows.message(client_ref=client_ref) for client_ref in client_refs))


def told(pieces: Iterator[bytes], count: int) -> list[str]:
    """The data of so many events, or somewhat more if they came together."""
    found: list[str] = []
    while len(found) < count:
        found += [line[6:] for line in next(pieces).decode().splitlines() if line.startswith("data: ")]
    return found


class Pieces(Iterator[bytes]):
    """What a stream gives."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._pieces = stream, iter(stream)

    def __next__(self) -> bytes:
        return next(self._pieces)

    @property
    def is_live(self) -> bool:
        """Whether the stream has joined its feed."""
        return self._stream._is_live  # noqa: SLF001 - from outside nothing shows it


def begin(stream: Stream) -> Pieces:
    """A stream whose beginning is read."""
    pieces = Pieces(stream)
    assert next(pieces).startswith(b"retry: ")
    return pieces


def wait_on(pieces: Pieces) -> "gevent.Greenlet[..., bytes]":
    """Wait for the next piece aside, and until the stream has joined the feed."""
    waiting = gevent.spawn(lambda: next(pieces))  # not `next` itself: who kills it would free what it runs
    while not (pieces.is_live or waiting.ready()):
        gevent.sleep(0.005)
    return waiting


def has_given_out_all(feed: Feed, database: Database) -> bool:
    """Whether the poller has given out all that has happened."""
    with database.reading() as session:
        return not change_feed.has_unnumbered(session) and feed.place == change_feed.find_last(session)


def test_it_begins_with_when_to_come_again_and_its_place(feed: Feed, database: Database) -> None:
    accept(database, "a", "b")
    first = next(iter(open_stream(feed, database))).decode()
    retry, place, *rest = first.split("\n")
    assert retry.startswith("retry: ")
    assert 1000 <= int(retry[7:]) < 3000
    assert place == f"id: {FeedPosition(1, 1)}"
    assert rest == ["", ""]


def test_it_tells_what_happens_from_now_on(feed: Feed, database: Database) -> None:
    accept(database, "before")
    pieces = begin(open_stream(feed, database))
    waiting = wait_on(pieces)
    accept(database, "after")
    assert waiting.get() == f"id: {FeedPosition(2, 0)}\nevent: event\ndata: after\n\n".encode()


def test_it_goes_on_after_a_place_and_joins_the_others_without_gap_or_repeat(feed: Feed, database: Database) -> None:
    live = wait_on(begin(open_stream(feed, database)))  # the poller runs
    accept(database, "a", "b", "c")
    assert live.get().count(b"data: ") == 3
    pieces = begin(open_stream(feed, database, after=FeedPosition(1, 0)))
    assert told(pieces, 2) == ["b", "c"]
    for client_ref in ("d", "e"):
        waiting = wait_on(pieces)
        accept(database, client_ref)
        assert told(iter([waiting.get()]), 1) == [client_ref]


def test_each_stream_is_given_what_fits_all_its_filters(feed: Feed, database: Database) -> None:
    wanted: Sequence[tuple[Label, ...]] = [
        (("clientRef", "a"),),
        (("recipient", "447700900001"), ("clientRef", "b")),
        (("status", "accepted"), ("originator", "ACME")),
    ]
    listening = [begin(open_stream(feed, database, *labels)) for labels in wanted]
    waiting = [wait_on(pieces) for pieces in listening]
    rows.accept(
        database,
        rows.message(client_ref="a"),
        rows.message("447700900002", client_ref="b"),
        rows.message(client_ref="b"),
        rows.message(client_ref="c", originator="ACME"),
    )
    assert [told(iter([each.get()]), 1) for each in waiting] == [["a"], ["b"], ["c"]]


def test_silence_is_broken_by_a_comment_with_the_place_that_was_reached(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "BEAT_SECONDS", 0.5)
    pieces = begin(open_stream(feed, database, ("clientRef", "nobody's")))
    assert next(pieces) == f":\nid: {BEGINNING}\n\n".encode()
    accept(database, "a")
    with gevent.Timeout(PATIENCE_SECONDS):
        while next(pieces) != f":\nid: {FeedPosition(1, 0)}\n\n".encode():
            pass


def test_who_falls_behind_is_left_to_its_own_pace_and_misses_nothing(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "_MAX_WAITING", 3)
    stream = open_stream(feed, database)
    pieces = begin(stream)
    waiting = wait_on(pieces)
    every = [f"{serial}" for serial in range(30)]
    for client_ref in every:
        accept(database, client_ref)
    while not has_given_out_all(feed, database):
        gevent.sleep(0.01)
    assert len(stream.waiting) <= 3  # nobody has taken more than the first piece
    found = told(iter([waiting.get()]), 1)
    found += told(pieces, len(every) - len(found))
    assert found == every
    waiting = wait_on(pieces)
    accept(database, "live again")
    assert told(iter([waiting.get()]), 1) == ["live again"]


def test_told_to_stop_every_stream_ends_and_says_to_come_again(feed: Feed, database: Database) -> None:
    stopping = gevent.event.Event()
    stream = open_stream(feed, database)
    stream.heed(stopping)
    pieces = begin(stream)
    waiting = wait_on(pieces)
    stopping.set()
    assert waiting.get(timeout=5).startswith(b": come again\nretry: ")
    assert list(pieces) == []
    late = begin(open_stream(feed, database))
    assert [piece[:12] for piece in late] == [b": come again"]


def test_while_nobody_listens_nothing_is_asked(feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[FeedPosition] = []
    look = Feed.look

    def counted(feed: Feed, after: FeedPosition) -> event_streams.Page:
        looks.append(after)
        return look(feed, after)

    monkeypatch.setattr(Feed, "look", counted)
    stream = open_stream(feed, database)
    waiting = wait_on(begin(stream))
    while len(looks) < 3:
        gevent.sleep(0.05)
    waiting.kill()
    stream.close()
    while feed.is_polling:
        gevent.sleep(0.01)
    so_far = len(looks)
    gevent.sleep(0.3)  # in which a poller would look
    assert len(looks) == so_far
    waiting = wait_on(begin(open_stream(feed, database)))
    accept(database, "a")
    assert told(iter([waiting.get()]), 1) == ["a"]


def test_an_outage_leaves_no_gap(feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "_OUTAGE_SECONDS", 0.1)
    outages = [StorageUnavailable("away"), ValueError("odd")]
    look = Feed.look

    def failing(feed: Feed, after: FeedPosition) -> event_streams.Page:
        if outages:
            raise outages.pop()
        return look(feed, after)

    monkeypatch.setattr(Feed, "look", failing)
    waiting = wait_on(begin(open_stream(feed, database)))
    accept(database, "a")
    assert told(iter([waiting.get()]), 1) == ["a"]
    assert outages == []


def test_a_stream_that_can_not_catch_up_ends(feed: Feed, database: Database) -> None:
    for client_ref in "abc":
        accept(database, client_ref)
    stream = open_stream(feed, database, after=FeedPosition(1, 0))
    with database.transaction() as session:
        change_feed.prune(session, seconds(1))
    assert [piece[:6] for piece in stream][-1] == b": come"


def test_there_are_so_many_streams_and_no_more(feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "MAX_OPEN_STREAMS", 1)
    stream = open_stream(feed, database)
    waiting = wait_on(begin(stream))
    assert feed.open(BEGINNING, BEGINNING, frozenset()) is None
    waiting.kill()
    stream.close()
    assert feed.open(BEGINNING, BEGINNING, frozenset()) is not None
