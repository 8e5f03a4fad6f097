"""The places of streams: how many a process has open at most, and how many of them for one client."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Stream = TypeVar("Stream")


class StreamPlaces(Generic[Stream]):
    """Who has which place. Thread-safe. A tenth of the places is out of the reach of a single holder.

    A stream that was opened and never begins gives its place back when it is freed.
    """

    def __init__(self) -> None:
        self._holders: WeakKeyDictionary[Stream, Hashable] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def take(self, make: Callable[[], Stream], holder: Hashable, limit: int) -> Stream | None:
        """A new stream, made by `make`; None if there is no place. `limit`: of all."""
        with self._lock:  # threads count and open: two of them could both take the last place
            of_holder = sum(each == holder for each in self._holders.values())
            if len(self._holders) >= limit or of_holder >= limit - limit // 10:
                return None
            stream = make()
            self._holders[stream] = holder
            return stream

    def leave(self, stream: Stream) -> None:
        """Give a stream's place back, if it has one."""
        with self._lock:
            self._holders.pop(stream, None)
