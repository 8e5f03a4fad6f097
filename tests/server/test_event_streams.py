"""Event streams on the loop: which events each gets, how it catches up, and that an idle feed reads nothing."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.statuses import Status
from receiptsvc.server import event_streams
from receiptsvc.server.event_streams import Feed, Stream
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import change_feed
from receiptsvc.store.messages.change_feed import BEGINNING, Event, FeedPosition, Label
from tests.support import event_readers, rows, stories
from tests.support.rows import seconds

pytestmark = pytest.mark.on_postgresql  # tests/store covers both databases

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


def open_stream(
    feed: Feed,
    database: Database,
    *labels: Label,
    after: FeedPosition | None = None,
    has_position_events: bool = False,
) -> Stream:
    with database.transaction() as session:
        change_feed.number(session)
    with database.reading() as session:
        last = change_feed.find_last(session)
    stream = feed.open(
        last if after is None else after, last, frozenset(labels), has_position_events=has_position_events
    )
    assert stream is not None
    return stream


def accept(database: Database, *client_refs: str) -> None:
    rows.accept(database, *(rows.message(client_ref=client_ref) for client_ref in client_refs))


def read_events(pieces: Iterator[bytes], count: int) -> list[str]:
    """The data of `count` events, or of a few more if they came in one piece."""
    events: list[str] = []
    while len(events) < count:
        events += [line[6:] for line in next(pieces).decode().splitlines() if line.startswith("data: ")]
    return events


class Pieces(Iterator[bytes]):
    """The pieces of a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._pieces = stream, iter(stream)

    def __next__(self) -> bytes:
        return next(self._pieces)

    @property
    def is_live(self) -> bool:
        """Whether the stream has joined its feed."""
        return self._stream._is_live  # noqa: SLF001 - nothing public shows it


def begin(stream: Stream) -> Pieces:
    """A stream whose first piece has been read."""
    pieces = Pieces(stream)
    assert next(pieces).startswith(b"retry: ")
    return pieces


def wait_on(pieces: Pieces) -> "gevent.Greenlet[..., bytes]":
    """Read the next piece in a greenlet; returns once the stream has joined the feed."""
    waiting = gevent.spawn(lambda: next(pieces))  # with `next` itself, a kill would free the iterator that it runs
    while not (pieces.is_live or waiting.ready()):
        gevent.sleep(0.005)
    return waiting


def has_distributed_all(feed: Feed, database: Database) -> bool:
    """Whether the poller has distributed every event."""
    with database.reading() as session:
        return not change_feed.has_unnumbered(session) and feed.position == change_feed.find_last(session)


def test_a_stream_begins_with_its_retry_time_and_its_position(feed: Feed, database: Database) -> None:
    accept(database, "a", "b")
    first = next(iter(open_stream(feed, database))).decode()
    retry, position, *rest = first.split("\n")
    assert retry.startswith("retry: ")
    assert 1000 <= int(retry[7:]) < 3000
    assert position == f": at {FeedPosition(1, 1)}"
    assert rest == [""], "no empty line, of which some clients make an event"


def test_a_stream_without_a_position_sends_only_later_events(feed: Feed, database: Database) -> None:
    accept(database, "before")
    pieces = begin(open_stream(feed, database))
    waiting = wait_on(pieces)
    accept(database, "after")
    assert waiting.get() == f"id: {FeedPosition(2, 0)}\nevent: event\ndata: after\n\n".encode()


def test_a_stream_catches_up_from_a_position_and_goes_live_without_gap_or_repeat(
    feed: Feed, database: Database
) -> None:
    live = wait_on(begin(open_stream(feed, database)))  # the poller runs
    accept(database, "a", "b", "c")
    assert live.get().count(b"data: ") == 3
    pieces = begin(open_stream(feed, database, after=FeedPosition(1, 0)))
    assert read_events(pieces, 2) == ["b", "c"]
    for client_ref in ("d", "e"):
        waiting = wait_on(pieces)
        accept(database, client_ref)
        assert read_events(iter([waiting.get()]), 1) == [client_ref]


def test_each_stream_gets_the_events_that_match_all_its_filters(feed: Feed, database: Database) -> None:
    filters: Sequence[tuple[Label, ...]] = [
        (("clientRef", "a"),),
        (("recipient", "447700900001"), ("clientRef", "b")),
        (("status", "accepted"), ("originator", "ACME")),
    ]
    streams = [begin(open_stream(feed, database, *labels)) for labels in filters]
    waiting = [wait_on(pieces) for pieces in streams]
    rows.accept(
        database,
        rows.message(client_ref="a"),
        rows.message("447700900002", client_ref="b"),
        rows.message(client_ref="b"),
        rows.message(client_ref="c", originator="ACME"),
    )
    assert [read_events(iter([each.get()]), 1) for each in waiting] == [["a"], ["b"], ["c"]]


def test_a_stream_of_several_statuses_gets_the_events_of_each(feed: Feed, database: Database) -> None:
    mine, other = rows.accept(database, rows.message(client_ref="a"), rows.message("447700900002", client_ref="b"))
    with database.transaction() as session:
        change_feed.number(session)
    with database.reading() as session:
        last = change_feed.find_last(session)
    some = feed.open(last, last, frozenset(), any_of=frozenset({("status", "sent"), ("status", "delivered")}))
    none = feed.open(last, last, frozenset(), any_of=frozenset({("status", "failed"), ("status", "expired")}))
    assert some is not None
    assert none is not None
    waiting, idle = wait_on(begin(some)), wait_on(begin(none))
    stories.report(database, other, Status.UNDELIVERED, seconds(3))
    stories.report(database, mine, Status.DELIVERED, seconds(3))
    assert read_events(iter([waiting.get()]), 1) == ["a"]
    assert not none.waiting
    idle.kill()


def test_a_silent_stream_sends_a_heartbeat_with_the_position_it_has_reached(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.5)
    pieces = begin(open_stream(feed, database, ("clientRef", "nobody's")))
    assert next(pieces) == f": at {BEGINNING}\n".encode()
    accept(database, "a")
    with gevent.Timeout(PATIENCE_SECONDS):
        while next(pieces) != f": at {FeedPosition(1, 0)}\n".encode():
            pass


def test_a_stream_that_falls_behind_catches_up_and_misses_nothing(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "_MAX_WAITING", 3)
    stream = open_stream(feed, database)
    pieces = begin(stream)
    waiting = wait_on(pieces)
    expected = [f"{serial}" for serial in range(30)]
    for client_ref in expected:
        accept(database, client_ref)
    while not has_distributed_all(feed, database):
        gevent.sleep(0.01)
    assert len(stream.waiting) <= 3  # only the first piece has been read
    events = read_events(iter([waiting.get()]), 1)
    events += read_events(pieces, len(expected) - len(events))
    assert events == expected
    waiting = wait_on(pieces)
    accept(database, "live again")
    assert read_events(iter([waiting.get()]), 1) == ["live again"]


def test_when_the_server_stops_every_stream_ends_with_a_retry_time(feed: Feed, database: Database) -> None:
    stopping = gevent.event.Event()
    stream = open_stream(feed, database)
    stream.end_on(stopping)
    pieces = begin(stream)
    waiting = wait_on(pieces)
    stopping.set()
    assert waiting.get(timeout=5).startswith(b": come again\nretry: ")
    assert list(pieces) == []
    late = begin(open_stream(feed, database))
    assert [piece[:12] for piece in late] == [b": come again"]


def test_without_streams_the_feed_does_not_read_the_database(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[FeedPosition] = []
    poll = Feed.poll

    def counted(feed: Feed, after: FeedPosition) -> event_streams.Page:
        polls.append(after)
        return poll(feed, after)

    monkeypatch.setattr(Feed, "poll", counted)
    stream = open_stream(feed, database)
    waiting = wait_on(begin(stream))
    while len(polls) < 3:
        gevent.sleep(0.05)
    waiting.kill()
    stream.close()
    while feed.is_polling:
        gevent.sleep(0.01)
    so_far = len(polls)
    gevent.sleep(0.3)  # a poller would read the database in this time
    assert len(polls) == so_far
    waiting = wait_on(begin(open_stream(feed, database)))
    accept(database, "a")
    assert read_events(iter([waiting.get()]), 1) == ["a"]


def test_an_outage_leaves_no_gap(feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "_OUTAGE_SECONDS", 0.1)
    outages = [StorageUnavailable("away"), ValueError("odd")]
    poll = Feed.poll

    def failing(feed: Feed, after: FeedPosition) -> event_streams.Page:
        if outages:
            raise outages.pop()
        return poll(feed, after)

    monkeypatch.setattr(Feed, "poll", failing)
    waiting = wait_on(begin(open_stream(feed, database)))
    accept(database, "a")
    assert read_events(iter([waiting.get()]), 1) == ["a"]
    assert outages == []


def test_a_stream_whose_next_events_were_deleted_ends(feed: Feed, database: Database) -> None:
    for client_ref in "abc":
        accept(database, client_ref)
    stream = open_stream(feed, database, after=FeedPosition(1, 0))
    with database.transaction() as session:
        assert change_feed.prune(session, seconds(1), limit=9) == 2
    assert [piece[:6] for piece in stream] == [b"retry:", b": come"]


def test_live_streams_end_if_events_were_pruned_before_the_poller_read_them(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poll = Feed.poll
    sleeps = [True]

    def prune_first(feed: Feed, after: FeedPosition) -> event_streams.Page:
        if sleeps:  # as if the process had stood still for days
            for client_ref in "bcd":
                accept(database, client_ref)
            with database.transaction() as session:
                change_feed.number(session)
                change_feed.prune(session, seconds(1), limit=9)
            sleeps.clear()
        return poll(feed, after)

    accept(database, "a")
    streams = [begin(open_stream(feed, database)), begin(open_stream(feed, database, ("clientRef", "other")))]
    monkeypatch.setattr(Feed, "poll", prune_first)
    waiting = [wait_on(pieces) for pieces in streams]
    assert [each.get()[:6] for each in waiting] == [b": come", b": come"]
    assert [list(pieces) for pieces in streams] == [[], []]
    assert [record.message for record in caplog.records] == ["events.not_kept"]
    again = wait_on(begin(open_stream(feed, database)))
    accept(database, "e")
    assert read_events(iter([again.get()]), 1) == ["e"]


def test_there_are_at_most_max_open_streams(feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "MAX_OPEN_STREAMS", 1)
    stream = open_stream(feed, database)
    waiting = wait_on(begin(stream))
    assert feed.open(BEGINNING, BEGINNING, frozenset()) is None
    waiting.kill()
    stream.close()
    assert feed.open(BEGINNING, BEGINNING, frozenset()) is not None


def test_a_tenth_of_the_streams_is_out_of_the_reach_of_one_key(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "MAX_OPEN_STREAMS", 10)
    greedy = [feed.open(BEGINNING, BEGINNING, frozenset(), key="greedy") for _ in range(20)]
    assert sum(stream is not None for stream in greedy) == 9
    others = [feed.open(BEGINNING, BEGINNING, frozenset(), key="other") for _ in range(2)]
    assert [stream is not None for stream in others] == [True, False]


def test_however_many_streams_of_a_key_catch_up_another_one_waits_for_one_page(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, may_go_on = list[FeedPosition](), threading.Event()

    def slowly(after: FeedPosition) -> event_streams.Page:
        may_go_on.wait(PATIENCE_SECONDS)
        read.append(after)
        return event_streams.Page([], after, is_all=True)

    monkeypatch.setattr(feed, "_read", slowly)
    other = FeedPosition(2, 0)
    readers = [gevent.spawn(feed.read, BEGINNING, "greedy") for _ in range(20)]
    readers.append(gevent.spawn(feed.read, other, "other"))
    gevent.sleep(0.05)
    may_go_on.set()
    gevent.joinall(readers, raise_error=True)
    assert read.index(other) <= 1


def test_threads_that_open_at_once_do_not_pass_the_bound(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "MAX_OPEN_STREAMS", 5)
    together = threading.Barrier(8)

    def open_some(_: int) -> list[event_streams.Stream | None]:
        together.wait(PATIENCE_SECONDS)
        return [feed.open(BEGINNING, BEGINNING, frozenset()) for _ in range(100)]

    with ThreadPoolExecutor(8) as threads:
        opened = [stream for some in threads.map(open_some, range(8)) for stream in some if stream is not None]
    assert len(opened) == 5, "none of them has begun, and each has its place"
    opened.pop()
    again = feed.open(BEGINNING, BEGINNING, frozenset())
    assert again is not None, "one that nobody has any more gives its place back"
    again.close()
    again.close()
    assert feed.open(BEGINNING, BEGINNING, frozenset()) is not None


def read_for_a_while(feed: Feed, database: Database, *, has_position_events: bool = False) -> bytes:
    """All that one stream sends: its start, silence, events, silence, events, and its end."""
    stream = open_stream(feed, database, has_position_events=has_position_events)
    pieces = iter(stream)
    sent = [next(pieces), next(pieces)]
    for client_refs in (["a"], ["b", "c"]):
        accept(database, *client_refs)
        while sent[-1].count(b"event: event\n") < len(client_refs):
            sent.append(next(pieces))
        sent += [next(pieces), next(pieces)]
    stream.end()
    return b"".join([*sent, *pieces])


@pytest.mark.parametrize("reader", event_readers.READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("size", [1, 5, 64, 10_000])
def test_every_client_gets_the_events_and_nothing_without_data(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch, reader: event_readers.Reader, size: int
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.05)
    text = read_for_a_while(feed, database)
    events = list(reader(text[start : start + size] for start in range(0, len(text), size)))
    assert [(event.name, event.data) for event in events] == [("event", "a"), ("event", "b"), ("event", "c")]
    assert [event.id for event in events] == [str(FeedPosition(1, 0)), str(FeedPosition(2, 0)), str(FeedPosition(2, 1))]


@pytest.mark.parametrize("reader", event_readers.READERS, ids=lambda reader: reader.__name__)
def test_whoever_asks_for_positions_has_an_id_before_the_first_event(
    feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch, reader: event_readers.Reader
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.05)
    events = list(reader([read_for_a_while(feed, database, has_position_events=True)]))
    assert (events[0].id, events[0].name) == (str(BEGINNING), "position")
    assert all(event.data == f'{{"id":"{event.id}"}}' for event in events if event.name == "position")
    assert [event.data for event in events if event.name == "event"] == ["a", "b", "c"]
    assert (events[-1].id, events[-1].name) == (str(FeedPosition(2, 1)), "position")
