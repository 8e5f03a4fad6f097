"""Event streams: each a greenlet on the event loop, all fed by one poller that reads what is new once for all of them.

A stream that begins at an earlier event first reads, page by page and at its own pace, up to where the poller is, and
then joins it; one whose reader falls far behind leaves it and does so again. So whatever a stream holds is bounded, and
none is served by more than its greenlet. The database is asked on native threads, and while nobody listens not at all.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from random import randrange
from time import monotonic
from typing import Any, NamedTuple

import gevent
from gevent.event import Event as Bell

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
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
)

MAX_OPEN_STREAMS = 600  # of one process, however many connections it has
THREADS = 2  # that ask the database

BEAT_SECONDS = 15.0  # after so long without an event a comment is sent

_LOOK_SECONDS = 0.2  # between two looks for what is new
_NEXT_LOOK_SECONDS = 0.05  # after one that found something
_OUTAGE_SECONDS = 1.0
_MAX_WAITING = 1000  # events for one stream, beyond which it is left to its own pace
_MAX_AT_ONCE = 100  # events in one write
_RETRY_MILLISECONDS = (1000, 3000)  # not all at once after a restart
_FINEST_FIRST = (RECIPIENT, TRANSACTION_ID, CLIENT_REF, ORIGINATOR, STATUS)


class Frame(NamedTuple):
    """An event as it goes out, and by what it can be filtered."""

    place: FeedPosition
    labels: frozenset[Label]
    text: bytes


class Page(NamedTuple):
    """Some frames, the place of the last event that was looked at, and whether there was no more."""

    frames: Sequence[Frame]
    upto: FeedPosition
    is_all: bool


class Feed:
    """What a process's streams are fed by. Only `open` may be called elsewhere than on the loop.

    `write` gives an event's name and its data as one line of JSON; it is called on a thread of the feed.
    """

    def __init__(self, database: Database, write: Callable[[Event], tuple[str, str]]) -> None:
        self.is_ending = self.is_polling = False
        self.place = change_feed.BEGINNING  # up to which the streams that are live have been given everything
        self._database, self._write = database, write
        self.streams: set[Stream] = set()
        self._live: defaultdict[Label | None, set[Stream]] = defaultdict(set)  # by the finest label of each
        self._heeds = False

    def open(
        self, after: FeedPosition, last: FeedPosition, labels: frozenset[Label], most: int | None = None
    ) -> "Stream | None":
        """A stream of what comes after a place and has all these labels. `last`: where the last event stands now.

        None: there are as many streams as there may be. `most`: what the server has room for.
        """
        most = MAX_OPEN_STREAMS if most is None else min(most, MAX_OPEN_STREAMS)
        return Stream(self, after, last, labels) if len(self.streams) < most else None

    def heed(self, stopping: Any) -> None:
        """End every stream when this bell rings."""
        if stopping is not None and not self._heeds:
            self._heeds = True
            stopping.rawlink(lambda _: self.end())

    def end(self) -> None:
        """End every stream, those that begin later too."""
        self.is_ending = True
        for stream in self.streams:
            stream.has_news.set()

    def enter(self, stream: "Stream", last: FeedPosition) -> None:
        """Have a stream among those that the poller is there for. `last`: where the last event stands."""
        self.streams.add(stream)
        if not self.is_polling:
            self.is_polling, self.place = True, last
            gevent.spawn(self._poll)

    def forget(self, stream: "Stream") -> None:
        """A stream has ended."""
        self.streams.discard(stream)
        self.leave(stream)

    def join(self, stream: "Stream") -> None:
        """Give a stream that has come up to the feed's place all that comes after."""
        self._live[stream.finest].add(stream)

    def leave(self, stream: "Stream") -> None:
        """Give a stream nothing more."""
        live = self._live[stream.finest]
        live.discard(stream)
        if not live:
            del self._live[stream.finest]

    def read(self, after: FeedPosition) -> Page | None:
        """What comes after a place; None: some of it is kept no more. Raises StorageUnavailable."""
        return self._hand_behind.do(self._read, after)

    @cached_property
    def _hand_ahead(self) -> NativeThreads:
        """For the poller. Made on the loop, to which it belongs."""
        return NativeThreads(1, gives_way=True)

    @cached_property
    def _hand_behind(self) -> NativeThreads:
        """For the streams that catch up, so that they can't keep the poller waiting."""
        return NativeThreads(1, gives_way=True)

    def _poll(self) -> None:
        while self.streams:
            rest = _LOOK_SECONDS
            try:
                page = self._hand_ahead.do(self.look, self.place)
            except Exception as error:  # noqa: BLE001 - without its poller every stream would fall silent
                logs.error("events.not_read", error)
                rest = _OUTAGE_SECONDS
            else:
                for frame in page.frames:
                    self._hand_out(frame)
                self.place = page.upto
                if page.frames:
                    rest = _NEXT_LOOK_SECONDS if page.is_all else 0
            gevent.sleep(rest)
        self.is_polling = False

    def _hand_out(self, frame: Frame) -> None:
        for label in (None, *frame.labels):
            for stream in list(self._live.get(label, ())):
                if stream.labels <= frame.labels:
                    stream.take(frame)

    def look(self, after: FeedPosition) -> Page:
        """On a thread: number what is new and read it."""
        with self._database.reading() as session:
            if not change_feed.has_unnumbered(session):
                return self._page(change_feed.read(session, after))
        with self._database.transaction() as session:
            change_feed.number(session)
        with self._database.reading() as session:
            return self._page(change_feed.read(session, after))

    def _read(self, after: FeedPosition) -> Page | None:
        """On a thread."""
        with self._database.reading() as session:
            return self._page(change_feed.read(session, after)) if change_feed.is_kept(session, after) else None

    def _page(self, batch: change_feed.Batch) -> Page:
        return Page([self._frame(event) for event in batch.events], batch.end, batch.is_all)

    def _frame(self, event: Event) -> Frame:
        name, data = self._write(event)
        return Frame(event.position, event.labels, f"id: {event.position}\nevent: {name}\ndata: {data}\n\n".encode())


class Stream:
    """One stream: to be iterated once, on the loop. Its pieces are text/event-stream.

    It begins with its place, and silence is broken by it, so that who comes again need not be given the way once more.
    """

    def __init__(self, feed: Feed, after: FeedPosition, last: FeedPosition, labels: frozenset[Label]) -> None:
        self.labels = labels
        self.finest = min(labels, key=lambda label: _FINEST_FIRST.index(label[0])) if labels else None
        self.has_news = Bell()
        self._feed, self._last = feed, last
        self._place = after  # up to which everything has been given out or passed over
        self.waiting: deque[Frame] = deque()
        self._is_live = False
        self._said_at = monotonic()

    def heed(self, stopping: Any) -> None:
        """End when the server is to stop. `stopping`: its bell, if there is a server."""
        self._feed.heed(stopping)

    def take(self, frame: Frame) -> None:
        """Have a frame to give out. One that fell too far behind forgets them all, and reads them when it can."""
        if frame.place <= self._place:
            return
        if len(self.waiting) >= _MAX_WAITING:
            self._is_live = False
            self.waiting.clear()
            self._feed.leave(self)
        else:
            self.waiting.append(frame)
        self.has_news.set()

    def __iter__(self) -> Iterator[bytes]:
        feed = self._feed
        yield b"%sid: %s\n\n" % (_retry(), str(self._place).encode())
        feed.enter(self, self._last)
        try:
            while not feed.is_ending:
                piece = self._next_piece()
                if piece is None:
                    break
                if piece or monotonic() - self._said_at >= BEAT_SECONDS:
                    yield piece or self._beat()
                    self._said_at = monotonic()
        finally:
            self.close()
        yield b": come again\n%s\n" % _retry()

    def close(self) -> None:
        """Nobody listens any more."""
        self._feed.forget(self)

    def _next_piece(self) -> bytes | None:
        """What is to be said next, if anything; None: it can't go on. Waits for a while if there is nothing."""
        feed = self._feed
        if self.waiting:
            frames = [self.waiting.popleft() for _ in range(min(len(self.waiting), _MAX_AT_ONCE))]
            self._place = frames[-1].place
            return b"".join(frame.text for frame in frames)
        if self._is_live:
            self._place = max(self._place, feed.place)  # what did not fit was passed over
            self.has_news.clear()
            self.has_news.wait(max(0.0, self._said_at + BEAT_SECONDS - monotonic()))
            return b""
        if self._place >= feed.place:
            self._is_live = True
            feed.join(self)
            return b""
        return self._read_on()

    def _read_on(self) -> bytes | None:
        try:
            page = self._feed.read(self._place)
        except StorageUnavailable:
            return None
        if page is None or page.upto == self._place:
            return None
        self._place = page.upto
        return b"".join(frame.text for frame in page.frames if self.labels <= frame.labels)

    def _beat(self) -> bytes:
        return b":\nid: %s\n\n" % str(self._place).encode()


def _retry() -> bytes:
    return b"retry: %d\n" % randrange(*_RETRY_MILLISECONDS)  # noqa: S311 - nobody is to be kept from guessing it
