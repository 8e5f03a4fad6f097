"""Event streams: each a greenlet on the event loop. One poller reads new events once for all of them.

A stream that begins at an earlier event first catches up: it reads page by page, at its own pace, until it reaches the
poller's position, and then goes live. A live stream whose reader falls far behind catches up again in the same way. So
the memory of a stream is bounded, and a stream takes no more than its greenlet. The database is read on native threads,
and only while there are streams.

A stream whose next events were pruned ends. Its client comes again with the id that it has, and is told so (410).

An empty line is sent only after an event with data: httpx-sse, fetch-event-source and others make an event without data
of any other block. So all between the events is comments and `retry`, each a line. Node's `eventsource` takes an id
only with data, too; so where a stream stands is told in a comment, or by an event of its own to whoever asks for it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from random import randrange
from time import monotonic
from typing import Any, NamedTuple

import gevent
from gevent.event import Event as GeventEvent
from gevent.lock import Semaphore

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.server.loop_stream import LoopFeed, LoopStream
from receiptsvc.server.stream_places import StreamPlaces
from receiptsvc.server.threads import NativeThreads
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import change_feed
from receiptsvc.store.messages.change_feed import (
    CLIENT_REF,
    ORIGINATOR,
    RECIPIENT,
    STATUS,
    TRANSACTION_ID,
    Event,
    FeedPosition,
    Label,
    NotKept,
)

MAX_OPEN_STREAMS = 600  # of one process, however many connections it has
THREADS = 2  # that read from the database

HEARTBEAT_SECONDS = 15.0  # after so long without an event a heartbeat is sent

_POLL_SECONDS = 0.2  # between two reads
_BUSY_POLL_SECONDS = 0.05  # after a read that found events
_OUTAGE_SECONDS = 1.0
_MAX_WAITING = 1000  # events for one stream, beyond which it has to catch up
_MAX_EVENTS_PER_WRITE = 100
_MAX_CAUGHT_UP = 200  # events in a page, but for the last row's, which is read whole
_RETRY_MILLISECONDS = (1000, 3000)  # spread out, so that clients don't all reconnect at once after a restart
_FINEST_FIRST = (RECIPIENT, TRANSACTION_ID, CLIENT_REF, ORIGINATOR, STATUS)


class Frame(NamedTuple):
    """An event as it is sent, its position, and the labels that filters match."""

    position: FeedPosition
    labels: frozenset[Label]
    text: bytes


class Page(NamedTuple):
    """Some frames, the position of the last event that was read, and whether there were no more events."""

    frames: Sequence[Frame]
    end: FeedPosition
    is_all: bool


class Feed(LoopFeed):
    """Feeds all streams of a process. Only `open` may be called from another thread than the loop's.

    `write` returns an event's name and its data as one line of JSON; it is called on a thread of the feed.
    """

    def __init__(self, database: Database, write: Callable[[Event], tuple[str, str]]) -> None:
        self.is_ending = self.is_polling = False
        self.position = change_feed.BEGINNING  # the live streams have been given everything up to here
        self._database, self._write = database, write
        self.streams: set[Stream] = set()
        self._places: StreamPlaces[Stream] = StreamPlaces()
        self._live: defaultdict[Label | None, set[Stream]] = defaultdict(set)  # by the finest label of each
        self._turns: defaultdict[str, Semaphore] = defaultdict(Semaphore)  # by key, to catch up

    def open(
        self,
        after: FeedPosition,
        last: FeedPosition,
        labels: frozenset[Label],
        max_streams: int | None = None,
        *,
        any_of: frozenset[Label] = frozenset(),
        key: str = "",
        has_position_events: bool = False,
    ) -> "Stream | None":
        """A stream of the events after a position that have all these labels; None if there are too many streams.

        `any_of`: they must also have one of these, if there are any. `last`: the position of the last event now.
        `max_streams`: how many the server has connections for. `key`: the name of the API key, which can't have all.
        `has_position_events`: see `Stream`.
        """
        limit = MAX_OPEN_STREAMS if max_streams is None else min(max_streams, MAX_OPEN_STREAMS)
        make = partial(
            Stream, self, after, last, labels, any_of=any_of, key=key, has_position_events=has_position_events
        )
        return self._places.take(make, key, limit)

    def end(self) -> None:
        """End every stream, and each that begins later at once."""
        self.is_ending = True
        self._end_streams()

    def enter(self, stream: "Stream", last: FeedPosition) -> None:
        """Register a stream, and start the poller if it does not run. `last`: the position of the last event."""
        self.streams.add(stream)
        if not self.is_polling:
            self.is_polling, self.position = True, last
            gevent.spawn(self._poll)

    def remove(self, stream: "Stream") -> None:
        """Remove a stream that has ended."""
        self._places.leave(stream)
        self.streams.discard(stream)
        self.leave(stream)

    def join(self, stream: "Stream") -> None:
        """Make a stream live: it has reached the feed's position and gets every later event."""
        self._live[stream.finest].add(stream)

    def leave(self, stream: "Stream") -> None:
        """Give a stream no more events: it ends, or has to catch up."""
        live = self._live[stream.finest]
        live.discard(stream)
        if not live:
            del self._live[stream.finest]

    def read(self, after: FeedPosition, key: str) -> Page:
        """The events after a position, for a stream of a key. Raises NotKept and StorageUnavailable.

        However many streams of a key catch up, that of another one waits for one page of them.
        """
        with self._turns[key]:
            return self._catch_up_thread.run(self._read, after)

    @cached_property
    def _poller_thread(self) -> NativeThreads:
        """For the poller. It must be made on the loop, to which it belongs."""
        return NativeThreads(1, is_low_priority=True)

    @cached_property
    def _catch_up_thread(self) -> NativeThreads:
        """For the streams that catch up, so that they can't delay the poller."""
        return NativeThreads(1, is_low_priority=True)

    def _poll(self) -> None:
        while self.streams:
            pause = _POLL_SECONDS
            try:
                page = self._poller_thread.run(self.poll, self.position)
            except NotKept:  # this process stood still for long; the next stream begins with another poller
                logs.warning("events.not_kept", streams=len(self.streams))
                self._end_streams()
                break
            except StorageUnavailable as error:
                logs.fault("events.not_read", error)
                pause = _OUTAGE_SECONDS
            except Exception as error:  # noqa: BLE001 - without its poller every stream would fall silent
                logs.error("events.not_read", error)
                pause = _OUTAGE_SECONDS
            else:
                for frame in page.frames:
                    self._distribute(frame)
                self.position = page.end
                if page.frames:
                    pause = _BUSY_POLL_SECONDS if page.is_all else 0
            gevent.sleep(pause)
        self.is_polling = False

    def _end_streams(self) -> None:
        for stream in self.streams:
            stream.end()

    def _distribute(self, frame: Frame) -> None:
        for label in (None, *frame.labels):
            for stream in list(self._live.get(label, ())):
                if stream.takes(frame):
                    stream.add(frame)

    def poll(self, after: FeedPosition) -> Page:
        """On a thread: number the new events and read those after a position. Raises NotKept and StorageUnavailable."""
        with self._database.reading() as session:
            if not change_feed.has_unnumbered(session):
                return self._page(change_feed.read(session, after))
        with self._database.transaction() as session:
            change_feed.number(session)
        with self._database.reading() as session:
            return self._page(change_feed.read(session, after))

    def _read(self, after: FeedPosition) -> Page:
        """On a thread. Each stream that catches up holds a page while its client takes it, so it is short."""
        with self._database.reading() as session:
            return self._page(change_feed.read(session, after, _MAX_CAUGHT_UP))

    def _page(self, batch: change_feed.Batch) -> Page:
        return Page([self._frame(event) for event in batch.events], batch.end, batch.is_all)

    def _frame(self, event: Event) -> Frame:
        name, data = self._write(event)
        return Frame(event.position, event.labels, f"id: {event.position}\nevent: {name}\ndata: {data}\n\n".encode())


class Stream(LoopStream):
    """One stream, to be iterated once, on the loop. Its pieces are text/event-stream.

    It tells its position at its start and in its heartbeats: a client that reconnects there misses nothing, and no
    event that did not match has to be read again. It does so in comments, or with `has_position_events` by events.
    """

    def __init__(
        self,
        feed: Feed,
        after: FeedPosition,
        last: FeedPosition,
        labels: frozenset[Label],
        *,
        any_of: frozenset[Label] = frozenset(),
        key: str = "",
        has_position_events: bool = False,
    ) -> None:
        self.labels, self._any_of, self._key = labels, any_of, key
        self.finest = min(labels, key=lambda label: _FINEST_FIRST.index(label[0])) if labels else None
        self.wake_up = GeventEvent()
        self._feed, self._last = feed, last
        self._position = after  # everything up to here has been sent or did not match
        self._has_position_events = has_position_events
        self.waiting: deque[Frame] = deque()
        self._is_live = self._is_ending = False
        self._sent_at = monotonic()

    def end_on(self, stopping: Any) -> None:
        """End when this gevent event is set; None if there is no server that could stop."""
        self._feed.end_on(stopping)

    def end(self) -> None:
        """Send nothing more than a farewell."""
        self._is_ending = True
        self.wake_up.set()

    def add(self, frame: Frame) -> None:
        """Queue a frame. If too many wait, drop them all and leave the live streams: `_catch_up` reads them again."""
        if frame.position <= self._position:
            return
        if len(self.waiting) >= _MAX_WAITING:
            self._is_live = False
            self.waiting.clear()
            self._feed.leave(self)
        else:
            self.waiting.append(frame)
        self.wake_up.set()

    def __iter__(self) -> Iterator[bytes]:
        feed = self._feed
        yield _retry() + self._write_position()
        feed.enter(self, self._last)
        try:
            while not (feed.is_ending or self._is_ending):
                piece = self._next_piece()
                if piece is None:
                    break
                if piece or monotonic() - self._sent_at >= HEARTBEAT_SECONDS:
                    yield piece or self._write_position()
                    self._sent_at = monotonic()
        finally:
            self.close()
        yield b": come again\n" + _retry()

    def close(self) -> None:
        """End the stream: its client has left, or it can't go on."""
        self._feed.remove(self)

    def _next_piece(self) -> bytes | None:
        """What to send next, b"" after a wait for nothing; None if the stream can't go on."""
        feed = self._feed
        if self.waiting:
            frames = [self.waiting.popleft() for _ in range(min(len(self.waiting), _MAX_EVENTS_PER_WRITE))]
            self._position = frames[-1].position
            return b"".join(frame.text for frame in frames)
        if self._is_live:
            self._position = max(self._position, feed.position)  # what was not queued did not match
            self.wake_up.clear()
            self.wake_up.wait(max(0.0, self._sent_at + HEARTBEAT_SECONDS - monotonic()))
            return b""
        if self._position >= feed.position:
            self._is_live = True
            feed.join(self)
            return b""
        return self._catch_up()

    def _catch_up(self) -> bytes | None:
        try:
            page = self._feed.read(self._position, self._key)
        except (NotKept, StorageUnavailable):
            return None
        if page.end == self._position:
            return None
        self._position = page.end
        return b"".join(frame.text for frame in page.frames if self.takes(frame))

    def takes(self, frame: Frame) -> bool:
        """Whether an event fits its filters."""
        return self.labels <= frame.labels and (not self._any_of or not self._any_of.isdisjoint(frame.labels))

    def _write_position(self) -> bytes:
        """The position: the beginning of a stream, and what keeps an idle connection alive."""
        position = str(self._position).encode()
        if self._has_position_events:
            return b'id: %s\nevent: position\ndata: {"id":"%s"}\n\n' % (position, position)
        return b": at %s\n" % position


def _retry() -> bytes:
    return b"retry: %d\n" % randrange(*_RETRY_MILLISECONDS)  # noqa: S311 - it may be guessed
