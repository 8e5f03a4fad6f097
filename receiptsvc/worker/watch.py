"""Wakes the worker's duties when there is something to do, so that they can rest, and an idle worker costs little.

A duty rests until it is woken
- by a notification: at once, of what this process or, while it listens, another one has committed;
- when the first in its queue is due, which a look at the heads of the queues tells. What is due and yet can't be taken
  (it is locked, or waits for another) is tried again every half second.

A notification may be missed, so nothing rests on it for ever. There is a look at the latest
- 5 s after the last one while notifications arrive (an echo every 5 s shows that, see `store.core.notify`);
- 0.35 s after it while none do: behind a pooler, while the listening connection is lost, or when no echo came back;
- at each such change, and when a duty goes to rest;
- on SQLite, which has no notifications, within 0.2 s of a commit by another connection.
A look that fails wakes all duties, and they find out for themselves.
"""

import threading
from collections.abc import Callable, Collection
from datetime import datetime
from time import monotonic

from receiptsvc.store.core.db import Database
from receiptsvc.store.core.notify import Listener
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.outbound import next_due

_POLL_SECONDS = 0.35  # between two looks at least, and at most while nothing else tells
_SAFETY_SECONDS = 5.0  # between two looks at most
_VERSION_SECONDS = 0.2  # between two checks whether a SQLite database has changed
_AGAIN_SECONDS = 0.5  # before what was due, and could not be taken, is tried again


class WakeUp:
    """A flag that ends one wait, of one thread, and is lowered by it. Raised while none waits, it ends the next."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_raised = self._is_closed = False

    def set(self) -> None:
        """Raise the flag."""
        with self._condition:
            self._is_raised = True
            self._condition.notify()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the flag, so many seconds at most. Returns whether it was raised."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_raised or self._is_closed, seconds)
            was_raised, self._is_raised = self._is_raised, False
            return was_raised

    def close(self) -> None:
        """End every wait, now and from now on."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()


class Watch:
    """What the duties of one worker rest on. `look` and `rest` are themselves a duty; other threads call the rest."""

    def __init__(
        self,
        database: Database,
        *,
        listen_url: str | None,
        is_sending: bool,
        sends_per_second: float | None,
        on_due_receipts: Callable[[], None],
    ) -> None:
        """`listen_url`: None: there are no notifications. `is_sending`: whether any duty sends messages.

        `on_due_receipts` is called before the duty is woken for receipts that were found due, not notified.
        """
        self.listener = None if listen_url is None else Listener(listen_url, self.notify, self.ask)
        self._closing = threading.Event()
        self._database = database
        self._is_sending, self._sends_per_second = is_sending, sends_per_second
        self._on_due_receipts = on_due_receipts
        self._wake_ups = {topic: WakeUp() for topic in Topic}
        self._asked = WakeUp()
        self._next_at: dict[Topic, datetime | None] = dict.fromkeys(Topic)
        self._woken_at = dict.fromkeys(Topic, 0.0)  # of the monotonic clock: when it was last found due
        self._looked_at = 0.0  # of the monotonic clock
        self._version: int | None = None  # of a SQLite database, before the last look

    def listen(self) -> None:
        """Hear notifications, until `close`. For a thread of its own."""
        if self.listener is not None:
            self.listener.run(self._closing)

    def notify(self, topics: Collection[Topic]) -> None:
        """Wake the duties of these topics."""
        for topic in topics:
            self._wake_ups[topic].set()

    def ask(self) -> None:
        """Have a look soon: something may be due at another time than before."""
        self._asked.set()

    def rest_until(self, topic: Topic) -> None:
        """Rest until there may be work of this topic. Of several threads that do, one is woken at a time."""
        self.ask()
        self._wake_ups[topic].wait()

    def close(self) -> None:
        """End every rest, now and from now on."""
        self._closing.set()
        for wake_up in (*self._wake_ups.values(), self._asked):
            wake_up.close()

    def look(self) -> int:
        """Find what is due next, and wake the duties for what is due already. Raises StorageUnavailable."""
        try:
            self._looked_at = monotonic()
            if self._database.is_sqlite:
                self._version = self._database.sqlite_version()
            elif self.listener is not None and self.listener.needs_echo():
                with self._database.glance() as connection:
                    self.listener.send_echo(connection)
            now = self._database.clock.now()
            with self._database.glance() as connection:
                found = next_due.find(connection, now, self._sends_per_second)
        except Exception:
            self.notify(set(Topic))
            raise
        message_at = found.message_at if self._is_sending else None
        self._next_at = {Topic.RECEIPTS: found.receipt_at, Topic.MESSAGES: message_at}
        for topic, at in self._next_at.items():
            if at is not None and at <= now and monotonic() >= self._woken_at[topic] + _AGAIN_SECONDS:
                self._woken_at[topic] = monotonic()
                if topic is Topic.RECEIPTS:
                    self._on_due_receipts()
                self._wake_ups[topic].set()
        return 0

    def rest(self) -> None:
        """Rest until it is time for the next look."""
        if self._database.is_sqlite:
            self._rest_until_changed(self._due_at())
        elif self.listener is not None and self.listener.is_listening:
            self._asked.wait(max(0.0, self._due_at() - monotonic()))
        self._closing.wait(max(0.0, self._looked_at + _POLL_SECONDS - monotonic()))

    def _rest_until_changed(self, until: float) -> None:
        """Rest until SQLite has a commit that the last look may not have seen."""
        while not self._closing.is_set() and (seconds := until - monotonic()) > 0:
            if self._asked.wait(min(seconds, _VERSION_SECONDS)) or self._database.sqlite_version() != self._version:
                break

    def _due_at(self) -> float:
        """When, of the monotonic clock, the next look is due if nothing else tells."""
        now = self._database.clock.now()
        due = [
            max(monotonic() + (at - now).total_seconds(), self._woken_at[topic] + _AGAIN_SECONDS)
            for topic, at in self._next_at.items()
            if at is not None
        ]
        return min([self._looked_at + _SAFETY_SECONDS, *due])
