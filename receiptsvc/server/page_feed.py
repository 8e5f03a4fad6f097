"""A feed for open pages that all show the same: their parts are made once a process, and each page gets what it lacks.

A page has a greenlet on the event loop. The parts are made on a native thread, every few seconds, and only while there
are pages. Who reads slowly is sent the newest state of each part, so nothing queues up.

What is sent is text/event-stream: an event a part, with the part's name and, as its id, a tag of its content. A page is
fed for somebody who is signed in. Whether they still are is asked for all pages at once, by who makes the parts.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from random import randrange
from typing import Any, NamedTuple
from uuid import UUID

import gevent
from gevent.event import Event as GeventEvent

from receiptsvc import logs
from receiptsvc.server.loop_stream import LoopFeed, LoopStream
from receiptsvc.server.stream_places import StreamPlaces
from receiptsvc.server.threads import NativeThreads

MAX_PAGES = 500  # of one process, however many connections it has
INTERVAL_SECONDS = 3.0

_WAIT_SECONDS = 15.0  # for something new, before a page looks whether it has to end
_RETRY_MILLISECONDS = (1000, 3000)  # spread out, so that pages don't all come again at once after a restart


class Part(NamedTuple):
    """What a part of the page shows. `tag`: the same as long as it shows the same; empty: it is always sent."""

    tag: str
    text: str


class Made(NamedTuple):
    """The parts by their names, and which sessions are still open, of those that have pages."""

    parts: Mapping[str, Part]
    open_sessions: Collection[UUID]


class _Frame(NamedTuple):
    """A part as it is sent. `number`: rises with each change of any part."""

    number: int
    tag: str
    data: bytes


class PageFeed(LoopFeed):
    """Feeds all open pages of a process. Only `open` may be called from another thread than the loop's.

    `make` is given the sessions that have pages, and called on a thread of the feed.
    """

    def __init__(self, make: Callable[[Collection[UUID]], Made]) -> None:
        self._make = make
        self.streams: set[PageStream] = set()
        self.is_feeding = self._is_ending = False
        self._places: StreamPlaces[PageStream] = StreamPlaces()
        self._frames: dict[str, _Frame] = {}
        self._number = 0

    def open(
        self, session_id: UUID, tags: Collection[str], max_streams: int | None = None, *, who: str | None = None
    ) -> "PageStream | None":
        """A stream to a page of a session; None if there are too many.

        `tags`: of the parts that the page has. `max_streams`: how many the server has connections for. `who`: whose
        session it is, who can't have all streams by many; None: nobody else's.
        """
        limit = MAX_PAGES if max_streams is None else min(max_streams, MAX_PAGES)
        return self._places.take(partial(PageStream, self, session_id, frozenset(tags)), who or session_id, limit)

    def end(self) -> None:
        """End every stream, and each that begins later at once."""
        self._is_ending = True
        for stream in self.streams:
            stream.end()

    def enter(self, stream: "PageStream") -> None:
        """Register a stream that begins, and start to feed if nothing is fed."""
        if self._is_ending:
            stream.end()
        self.streams.add(stream)
        if not self.is_feeding:
            self.is_feeding = True
            self._frames.clear()  # they are of the last time that there were pages
            gevent.spawn(self._feed)

    def remove(self, stream: "PageStream") -> None:
        """Remove a stream that has ended."""
        self._places.leave(stream)
        self.streams.discard(stream)

    def frames_after(self, number: int) -> tuple[int, list[_Frame]]:
        """The newest number, and the parts that changed after another one."""
        return self._number, [frame for frame in self._frames.values() if frame.number > number]

    @cached_property
    def _thread(self) -> NativeThreads:
        """It must be made on the loop, to which it belongs."""
        return NativeThreads(1, is_low_priority=True)

    def _feed(self) -> None:
        while self.streams:
            sessions = frozenset(stream.session_id for stream in self.streams)
            try:
                made = self._thread.run(self._make, sessions)
                self._publish(made.parts, ended=sessions.difference(made.open_sessions))
            except Exception as error:  # noqa: BLE001 - without its feed every page would stand still
                logs.fault("ops.pages_not_fed", error, level=logging.ERROR)
            else:
                logs.over("ops.pages_not_fed")
            gevent.sleep(INTERVAL_SECONDS)
        self.is_feeding = False

    def _publish(self, parts: Mapping[str, Part], ended: Collection[UUID]) -> None:
        for name, part in parts.items():
            known = self._frames.get(name)
            if known is None or not part.tag or known.tag != part.tag:
                self._number += 1
                self._frames[name] = _Frame(self._number, part.tag, _write(name, part))
        for stream in self.streams:
            if stream.session_id in ended:
                stream.end()
            else:
                stream.wake_up.set()


class PageStream(LoopStream):
    """The stream to one page. `tags`: of the parts that the page has."""

    def __init__(self, feed: PageFeed, session_id: UUID, tags: frozenset[str]) -> None:
        self.session_id, self._feed, self._tags = session_id, feed, tags
        self.wake_up = GeventEvent()
        self._is_ending = False
        self._sent = 0  # everything up to this number

    def end_on(self, stopping: Any) -> None:
        """End when this gevent event is set; None if there is no server that could stop."""
        self._feed.end_on(stopping)

    def end(self) -> None:
        """Send nothing more."""
        self._is_ending = True
        self.wake_up.set()

    def close(self) -> None:
        """End the stream: its client has left."""
        self._feed.remove(self)

    def __iter__(self) -> Iterator[bytes]:
        yield b"retry: %d\n\n" % randrange(*_RETRY_MILLISECONDS)  # noqa: S311 - it may be guessed
        self._feed.enter(self)
        try:
            while not self._is_ending:
                self.wake_up.wait(_WAIT_SECONDS)  # what was made before it was opened may be older than the page
                self.wake_up.clear()
                self._sent, frames = self._feed.frames_after(self._sent)
                lacking = b"".join(frame.data for frame in frames if frame.tag not in self._tags)
                if frames:
                    self._tags = frozenset()  # of the page as it was loaded: from now on it has what was sent
                if lacking:
                    yield lacking
        finally:
            self.close()


def _write(name: str, part: Part) -> bytes:
    data = "".join(f"data: {line}\n" for line in part.text.splitlines())
    identity = f"id: {part.tag}\n" if part.tag else ""
    return f"event: {name}\n{identity}{data}\n".encode()
