"""Tells workers that there is work (NOTIFY), and hears it in a worker (LISTEN). PostgreSQL only.

A notification saves a wait and is never relied on: it may be lost with a connection, and behind a pooler in transaction
mode none is heard. So a `Listener` tests itself with an echo, and whoever uses it polls: often while it is not
listening, seldom while it is (`worker.watch`).

A NOTIFY takes a lock when its transaction commits, which would put all commits of callbacks in one queue. So it is sent
on a connection of its own, after their commits.
"""

import secrets
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from time import monotonic, sleep

import psycopg
from sqlalchemy import Connection, text

from receiptsvc import logs
from receiptsvc.domain.backoff import Backoff
from receiptsvc.store.core import outages
from receiptsvc.store.core.db import plain_url
from receiptsvc.store.core.topics import Topic

ECHO_SECONDS = 5.0  # between two echoes

_CHANNELS = {f"receiptsvc_{topic}": topic for topic in Topic}
_ECHO = "receiptsvc_echo"
# A NOTIFY writes a commit record. Its wait for the disk would be one more in the way of the callbacks' commits.
_QUICKLY = "BEGIN; SET LOCAL synchronous_commit = off"
_INTERVAL_SECONDS = 0.02
_RETRY_SECONDS = 1.0
_FLUSH_SECONDS = 3.0
_TRUSTED_SECONDS = 1.5 * ECHO_SECONDS  # after an echo
_MAX_DEAF_SECONDS = 3 * ECHO_SECONDS  # without an echo, before it connects anew
_STOP_CHECK_SECONDS = 1.0
_RECONNECTS = Backoff.doubling(timedelta(seconds=1), timedelta(seconds=60))


class Notifier:
    """Notifies the workers from a thread of its own, at most every 20 ms. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = plain_url(url)
        self._connection: psycopg.Connection | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_topics = threading.Event()
        self._topics: set[Topic] = set()
        self._is_closing = False

    def notify(self, topics: Collection[Topic]) -> None:
        """Notify the workers soon; returns at once. While the database is away it tries again and again."""
        if self._topics.issuperset(topics):
            return  # it is still to be sent
        with self._lock:
            self._topics.update(topics)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
                self._thread.start()
        self._has_topics.set()

    def close(self) -> None:
        """Send what was not sent yet, for some seconds at most, and close the connection."""
        self._is_closing = True
        self._has_topics.set()
        if self._thread is not None:
            self._thread.join(_FLUSH_SECONDS)

    def _run(self) -> None:
        while self._topics or not self._is_closing:
            self._has_topics.wait()
            self._has_topics.clear()
            with self._lock:
                topics, self._topics = self._topics, set()
            # An idle connection may have been cut; a new one says whether the database is away.
            while topics and not (self._send(topics) or self._send(topics)):
                if self._is_closing:
                    return
                sleep(_RETRY_SECONDS)
            sleep(_INTERVAL_SECONDS)
        self._disconnect()

    def _send(self, topics: Iterable[Topic]) -> bool:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=2,
                    application_name="receiptsvc notifier",
                    **outages.TCP_KEEPALIVE,
                )
            notify = "; ".join(f"NOTIFY receiptsvc_{topic}" for topic in sorted(topics))
            outages.check(self._connection.pgconn.exec_(f"{_QUICKLY}; {notify}; COMMIT".encode()))
        except psycopg.Error:
            self._disconnect()
            return False
        return True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class Listener:
    """Hears notifications on a connection of its own, and knows whether it does.

    That an echo came back, which was sent through the pool like any other statement, shows that notifications arrive.
    """

    def __init__(self, url: str, on_notify: Callable[[Collection[Topic]], None], on_change: Callable[[], None]) -> None:
        """`on_change` is called when it has connected, and when it has begun or ceased to listen."""
        self._url, self._on_notify, self._on_change = plain_url(url), on_notify, on_change
        self._token = secrets.token_hex(8)
        self._trusted_until = self._echo_at = 0.0  # of the monotonic clock
        self._was_listening = False
        self._failures = 0

    @property
    def is_listening(self) -> bool:
        """Whether notifications arrive, as far as the last echo shows."""
        return monotonic() < self._trusted_until

    def needs_echo(self) -> bool:
        """Whether it is time to call `send_echo`."""
        return monotonic() >= self._echo_at

    def send_echo(self, connection: Connection) -> None:
        """Send the notification that shows whether notifications arrive."""
        self._echo_at = monotonic() + ECHO_SECONDS
        connection.execute(text("SELECT pg_notify(:channel, :token)"), {"channel": _ECHO, "token": self._token})

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop`, and connect anew when the connection is lost or nothing is heard on it."""
        while not stop.is_set():
            try:
                self._listen(stop)
                fault = "no notification arrives: does DATABASE_LISTEN_URL lead past the pooler?"
            except psycopg.Error as error:
                fault = logs.describe(error)
            self._trusted_until = 0.0
            if not stop.is_set():
                if self._was_listening or not self._failures:
                    logs.warning("worker.does_not_listen", error=fault)
                self._was_listening = False
                self._on_change()
                stop.wait(_RECONNECTS.gap(self._failures).total_seconds())
                self._failures += 1

    def _listen(self, stop: threading.Event) -> None:
        """Listen until `stop`, or until no echo has come for long. Raises psycopg.Error."""
        with psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            application_name="receiptsvc listener",
            **outages.TCP_KEEPALIVE,
        ) as connection:
            connection.execute("; ".join(f"LISTEN {channel}" for channel in [*_CHANNELS, _ECHO]).encode())
            self._echo_at = 0.0
            self._on_change()
            deaf_at = monotonic() + _MAX_DEAF_SECONDS
            while not stop.is_set() and monotonic() < deaf_at:
                for notification in connection.notifies(timeout=_STOP_CHECK_SECONDS, stop_after=1):
                    if notification.channel in _CHANNELS:
                        self._on_notify({_CHANNELS[notification.channel]})
                    elif notification.payload == self._token:
                        deaf_at = monotonic() + _MAX_DEAF_SECONDS
                        self._trust()

    def _trust(self) -> None:
        self._trusted_until = monotonic() + _TRUSTED_SECONDS
        if not self._was_listening:
            self._was_listening, self._failures = True, 0
            logs.info("worker.listens")
            self._on_change()
