"""Watches when the statuses that receipts bring become visible, over one session that counts for nothing.

Visible means committed: what a new transaction reads, `GET /v1/messages/<id>` shows, and this reads in a new
transaction each time. It asks for the statuses of a sample, because asking the API would cost what is measured.
"""

from collections.abc import Mapping
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType
from uuid import UUID

import psycopg

_POLL_SECONDS = 0.01  # so much later at most is something seen
_SHOWN = "SELECT id FROM messages WHERE id = ANY(%s) AND status = 'delivered'"


class Watch:
    """Looks for messages to become `delivered`, from the start of the block until all have or it is left.

    `due_after`: when each one's last receipt is sent, in seconds from now; it is not looked for earlier. `seen_at`:
    when each was seen, in seconds of `time.monotonic()`.
    """

    def __init__(self, connection: psycopg.Connection, due_after: Mapping[UUID, float]) -> None:
        self.seen_at: dict[UUID, float] = {}
        self._connection = connection
        now = monotonic()
        self._due_at = {message_id: now + seconds for message_id, seconds in due_after.items()}
        self._is_over = Event()
        self._thread = Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def wait(self, message_ids: "set[UUID]", seconds: float) -> bool:
        """Wait until these of them have been seen. False if they are not within `seconds`."""
        deadline = monotonic() + seconds
        while not message_ids <= self.seen_at.keys():
            if monotonic() > deadline or not self._thread.is_alive():
                return message_ids <= self.seen_at.keys()
            sleep(_POLL_SECONDS)
        return True

    def _look(self) -> None:
        waiting = dict(self._due_at)
        while waiting and not self._is_over.is_set():
            now = monotonic()
            due = [message_id for message_id, due_at in waiting.items() if due_at <= now]
            if due:
                shown = self._connection.execute(_SHOWN, [due]).fetchall()
                now = monotonic()
                for (message_id,) in shown:
                    self.seen_at[message_id] = now
                    del waiting[message_id]
            self._is_over.wait(_POLL_SECONDS)
