"""An answer that the event loop makes: it has a greenlet and takes no thread, however long it goes on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any


class LoopStream(ABC):
    """Such an answer, to be iterated once, on the loop. `WsgiBridge` knows it by its class."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """Its pieces."""

    @abstractmethod
    def end_on(self, stopping: Any) -> None:
        """End when this gevent event is set; None if there is no server that could stop."""

    @abstractmethod
    def close(self) -> None:
        """End it: its client has left, or it can't go on."""


class LoopFeed(ABC):
    """What feeds such answers."""

    _ends_on_stop = False

    def end_on(self, stopping: Any) -> None:
        """End every stream when this gevent event is set; None if there is no server that could stop."""
        if stopping is not None and not self._ends_on_stop:
            self._ends_on_stop = True
            stopping.rawlink(lambda _: self.end())

    @abstractmethod
    def end(self) -> None:
        """End every stream, and each that begins later at once."""
