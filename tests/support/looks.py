"""Looks for problems at times that are made up."""

from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from receiptsvc.connection_shares import Bounds
from receiptsvc.domain import gateway_clock
from receiptsvc.domain.problems import Kind, Seen, State
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.health import causes, heartbeats, problems, service_state
from receiptsvc.store.health.causes import Look, Terms
from receiptsvc.store.messages import clock_votes

TERMS = Terms(
    listed_kids=frozenset({"k1"}),
    resend_for_seconds=3600,
    connections=Bounds(of_set=18, of_callbacks_process=3),
    ignore_repeats=frozenset({"soap"}),
    zone=ZoneInfo("UTC"),
)


def look(database: Database, now: datetime, *, with_worker: bool = True) -> Look:
    """What is seen at a time. `with_worker`: while one is at work."""
    if with_worker:
        with database.transaction() as session:
            heartbeats.beat(session, "worker:here:1", now)
    with database.reading() as session:
        state = service_state.read(session, now, listed_kids=TERMS.listed_kids)
        votes = partial(clock_votes.read_with_hints, since=now - gateway_clock.WINDOW)
        return causes.look(session, state, now, TERMS, votes)


def see(database: Database, now: datetime, **options: Any) -> dict[Kind, list[Seen]]:
    """The same, but for what the testing database lacks, by kind."""
    found: dict[Kind, list[Seen]] = {}
    for seen in look(database, now, **options).seen:
        if seen.kind is not Kind.TIME_SLICE_MISSING:
            found.setdefault(seen.kind, []).append(seen)
    return found


def note(database: Database, now: datetime, **options: Any) -> None:
    """Look, and keep what is seen."""
    made = look(database, now, **options)
    with database.transaction() as session:
        problems.note(session, made)


def rows_of(database: Database, kind: Kind) -> list[ProblemRow]:
    """What is kept of a kind, in any state."""
    with database.reading() as session:
        return [row for row in problems.list_problems(session, database.clock.now(), list(State)) if row.kind == kind]
