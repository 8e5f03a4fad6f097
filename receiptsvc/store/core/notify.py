"""A word from who keeps to who works: there is news. PostgreSQL only, and never needed: everybody looks himself too.

A NOTIFY takes a lock when its transaction commits, which would put all writers of callbacks in one queue; so it goes
out on a connection of its own, after their commits. A connection that listens must not be behind a pooler in
transaction mode: such a set-up names a direct one, or has only the polling.
"""

import threading
from collections.abc import Callable

import psycopg

from receiptsvc import logs
from receiptsvc.store.core import outages
from receiptsvc.store.core.db import plain_url

_CHANNEL = "receiptsvc_inbox"
_AGAIN_SECONDS = 30.0
_LOOK_SECONDS = 1.0


class Notifier:
    """Tells the workers. Not for several threads at once."""

    def __init__(self, url: str) -> None:
        self._url = plain_url(url)
        self._connection: psycopg.Connection | None = None

    def ring(self) -> None:
        """Say that there is news, or say nothing: whoever misses it looks within a second."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, connect_timeout=2, application_name="receiptsvc bell", **outages.NOTICED
                )
            self._connection.execute(f"NOTIFY {_CHANNEL}")
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def listen(url: str, wake: Callable[[], None], stop: threading.Event) -> None:
    """Call `wake` at every word, until `stop`. Without a connection that can listen it does nothing but try again."""
    while not stop.is_set():
        try:
            with psycopg.connect(
                plain_url(url),
                autocommit=True,
                connect_timeout=5,
                application_name="receiptsvc listener",
                **outages.NOTICED,
            ) as connection:
                connection.execute(f"LISTEN {_CHANNEL}")
                while not stop.is_set():
                    for _ in connection.notifies(timeout=_LOOK_SECONDS, stop_after=1):
                        wake()
        except psycopg.Error as error:
            logs.warning("worker.does_not_listen", error=logs.describe(error))
            stop.wait(_AGAIN_SECONDS)
