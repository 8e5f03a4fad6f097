"""Each web process shows itself in the database twice a minute, and adds to the counts that the first page reads.

Those are how long its answers to callbacks took, and once a minute the sums of all counts (`store.health.minutes`).
No answer to a callback waits for it.
"""

import os
import random
import socket
from contextlib import suppress
from datetime import timedelta
from threading import Event

from receiptsvc import __version__, logs, metrics
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Heartbeat
from receiptsvc.store.health import heartbeats, minutes
from receiptsvc.store.inbox import counters
from receiptsvc.web_role import WebRole

_SECONDS = 30.0
_FORGOTTEN_AFTER = timedelta(minutes=10)


class Presence:
    """One web process, as the database knows it. For one thread."""

    def __init__(self, database: Database, role: WebRole = WebRole.ALL) -> None:
        self._database = database
        self._name = f"{heartbeats.web_kind(role)}:{socket.gethostname()}:{os.getpid()}"
        self._counted: dict[float, int] = {}  # of the answers, those that the database has

    def show(self) -> None:
        """Report that this process runs, and add what it has counted. Raises StorageUnavailable."""
        counted = dict(metrics.count_durations())
        new = {longest: count - self._counted.get(longest, 0) for longest, count in counted.items()}
        now = self._database.clock.now()

        def is_gone(heartbeat: Heartbeat) -> bool:
            return heartbeat.seen_at < now - _FORGOTTEN_AFTER

        with self._database.transaction() as session:
            ahead_seconds = self._database.clock.ahead_seconds
            heartbeats.beat(session, self._name, now, clock_ahead_seconds=ahead_seconds, version=__version__)
            counters.add_answers(session, {longest: count for longest, count in new.items() if count})
            if minutes.keep(session, now):
                heartbeats.reap(session, heartbeats.WEB, is_gone)
        self._counted = counted

    def leave(self) -> None:
        """Report that it runs no more. Raises StorageUnavailable."""
        with self._database.transaction() as session:
            heartbeats.deregister(session, self._name, self._database.clock.now())


def keep_shown(database: Database, role: WebRole, stop: Event) -> None:
    """Show this process until `stop`. For a thread of its own."""
    presence = Presence(database, role)
    offset = random.random()  # noqa: S311 - so that not all processes of a host come at once
    while True:
        try:
            presence.show()
        except StorageUnavailable as error:
            logs.fault("ops.presence_not_shown", error)
        except Exception as error:  # noqa: BLE001 - without this thread the process would seem to be gone
            logs.error("ops.presence_not_shown", error)
        else:
            logs.over("ops.presence_not_shown")
        if stop.wait(_SECONDS - (database.clock.now().timestamp() - offset) % _SECONDS):
            break
    with suppress(StorageUnavailable):
        presence.leave()
