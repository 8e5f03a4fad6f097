"""Tells workers that callbacks were stored (LISTEN/NOTIFY, PostgreSQL only). An optimisation: workers also poll.

A NOTIFY takes a lock when its transaction commits, which would put all commits of callbacks in one queue. So it is sent
on a connection of its own, after their commits. The listening connection must not go through a pooler in transaction
mode: such a set-up names a direct URL, or has only the polling.
"""

import threading
from collections.abc import Callable

import psycopg

from receiptsvc import logs
from receiptsvc.store.core import outages
from receiptsvc.store.core.db import plain_url

_CHANNEL = "receiptsvc_inbox"
_RECONNECT_SECONDS = 30.0
_STOP_CHECK_SECONDS = 1.0


class Notifier:
    """Tells the workers. Not thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = plain_url(url)
        self._connection: psycopg.Connection | None = None

    def notify(self) -> None:
        """Send a notification. A failure is ignored: a worker that misses it polls within a second."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=2,
                    application_name="receiptsvc notifier",
                    **outages.TCP_KEEPALIVE,
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
    """Call `wake` at every notification, until `stop`. While it can't listen it only tries to reconnect."""
    while not stop.is_set():
        try:
            with psycopg.connect(
                plain_url(url),
                autocommit=True,
                connect_timeout=5,
                application_name="receiptsvc listener",
                **outages.TCP_KEEPALIVE,
            ) as connection:
                connection.execute(f"LISTEN {_CHANNEL}")
                while not stop.is_set():
                    for _ in connection.notifies(timeout=_STOP_CHECK_SECONDS, stop_after=1):
                        wake()
        except psycopg.Error as error:
            logs.warning("worker.does_not_listen", error=logs.describe(error))
            stop.wait(_RECONNECT_SECONDS)
