"""Looks for problems, and keeps what was seen: in one worker, and in each web process.

One worker looks at all that is in the database; a web process at what only it can see, and at all while no worker is
at work. What is looked for is `store.health.causes`', what becomes of it `store.health.problems`'.
"""

import socket
from collections.abc import Sequence
from functools import partial

from receiptsvc.config import Settings
from receiptsvc.domain.gateway_clock import WINDOW
from receiptsvc.domain.problems import Seen
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import causes, heartbeats, problems, service_state
from receiptsvc.store.health.causes import Look, Terms
from receiptsvc.store.health.service_state import ServiceState
from receiptsvc.store.messages import clock_votes

SECONDS = 25.0  # between two looks
SOON_SECONDS = 10.0  # while no worker is at work: that is said once none has been for a while

_NOTED_AFTER = 4  # looks of a web process that sees nothing of its own: then that has ended


class ProblemLooks:
    """The looks of one process. For one thread."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._terms = _terms_of(settings)
        self._host = socket.gethostname()
        self._to_note = _NOTED_AFTER  # a process before this one may have left something

    @property
    def host(self) -> str:
        """The name of the machine, which is the cause of its own problems."""
        return self._host

    def read_state(self) -> ServiceState:
        """How the service does."""
        with self._database.reading() as session:
            clock = self._database.clock
            return service_state.read(
                session, clock.now(), listed_kids=self._terms.listed_kids, answers_since=clock.answers_since
            )

    def look(self, state: ServiceState) -> None:
        """Look at all that stands in the database. `state`: as it was read a moment ago."""
        self._note(self._look(state))

    def look_beside_workers(self, own: Sequence[Seen]) -> bool:
        """Note what only this host's web processes see; and look at all, if no worker is at work: whether one is."""
        now = self._database.clock.now()
        with self._database.glance() as connection:
            is_any_worker = heartbeats.is_any_alive(connection, "worker", now)
        if own:
            self._to_note = _NOTED_AFTER
        if not is_any_worker:
            seen = self._look(self.read_state())
            self._note(Look(at=seen.at, seen=[*seen.seen, *own], complete=seen.complete, host=self._host))
        elif own or self._to_note:
            self._note(Look(at=now, seen=own, host=self._host))
        if not own:
            self._to_note = max(0, self._to_note - 1)
        return is_any_worker

    def _look(self, state: ServiceState) -> Look:
        # In a transaction of its own: what makes a time slice waits but a moment for the locks of one that reads.
        now = self._database.clock.now()
        with self._database.reading() as session:
            votes = partial(clock_votes.read_with_hints, since=now - WINDOW)
            return causes.look(session, state, now, self._terms, votes)

    def _note(self, look: Look) -> None:
        if not look.seen:
            with self._database.glance() as connection:
                if not problems.may_any_end(connection):
                    return
        with self._database.transaction() as session:
            problems.note(session, look)


def _terms_of(settings: Settings) -> Terms:
    return Terms(
        listed_kids=frozenset(key.kid for key in settings.callback_keys),
        resend_for_seconds=settings.resend_for_seconds,
        connections=settings.connection_bounds,
        ignore_repeats=IGNORE_REPEATS,
        zone=settings.gateway_timezone,
    )
