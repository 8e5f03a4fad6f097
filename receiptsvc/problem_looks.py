"""Looks for problems, and keeps what was seen: in each worker, and in each web process.

A worker looks at all that stands in the database; a web process at what only it can see, and at all while no worker is
at work. What is looked for is `store.health.causes`', what becomes of it `store.health.problems`'.
"""

import socket
from collections.abc import Sequence
from datetime import datetime

from receiptsvc.config import Settings
from receiptsvc.domain import gateway_clock
from receiptsvc.domain.problems import Seen
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import causes, heartbeats, problems, service_state
from receiptsvc.store.health.causes import Look, Terms
from receiptsvc.store.health.service_state import ServiceState
from receiptsvc.store.messages import clock_votes

SECONDS = 20.0  # between two looks


class ProblemLooks:
    """The looks of one process. For one thread."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._terms = _terms_of(settings)
        self._host = socket.gethostname()
        self._has_own = True  # as of the last look; at first, what a process before this one may have left

    @property
    def host(self) -> str:
        """The name of the machine, which is the cause of its own problems."""
        return self._host

    def look(self) -> ServiceState:
        """Look at all that stands in the database. How the service does, for whoever wants to know that, too."""
        now = self._database.clock.now()
        state, seen = self._look(now)
        self._note(seen)
        return state

    def look_beside_workers(self, own: Sequence[Seen]) -> None:
        """Note what only this host's web processes see; and look at all, if no worker is at work."""
        now = self._database.clock.now()
        with self._database.glance() as connection:
            is_any_worker = heartbeats.is_any_alive(connection, "worker", now)
        if not is_any_worker:
            _, seen = self._look(now)
            self._note(Look(at=now, seen=[*seen.seen, *own], complete=seen.complete, host=self._host))
        elif own or self._has_own:
            self._note(Look(at=now, seen=own, host=self._host))
        self._has_own = bool(own)

    def _look(self, now: datetime) -> tuple[ServiceState, Look]:
        # Each in a transaction of its own: what makes a time slice waits but a moment for the locks of one that reads.
        with self._database.reading() as session:
            state = service_state.read(session, now, listed_kids=self._terms.listed_kids)
        with self._database.reading() as session:
            votes = clock_votes.read(session, now - gateway_clock.WINDOW)
            return state, causes.look(session, state, now, self._terms, votes)

    def _note(self, look: Look) -> None:
        if not look.seen:
            with self._database.reading() as session:
                if not problems.is_any_wanting(session):
                    return
        with self._database.transaction() as session:
            problems.note(session, look)


def _terms_of(settings: Settings) -> Terms:
    return Terms(
        listed_kids=frozenset(key.kid for key in settings.callback_keys),
        resend_for_seconds=settings.resend_for_seconds,
        connections=settings.database_connections,
        ignore_repeats=IGNORE_REPEATS,
    )
