"""Holds the connections that all sets of processes may open against what the PostgreSQL server allows.

A set has one worker at least, so the workers that are alive tell how many sets there are. Web processes for callbacks
alone stand beside the sets, and each shows its role.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from receiptsvc.connection_shares import Bounds
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.health import heartbeats
from receiptsvc.web_role import WebRole

# The least of what the server, the role and the database allow; -1 stands for no limit of its own.
_LIMIT = text("""
    SELECT least(
        CAST(current_setting('max_connections') AS integer)
            - CAST(current_setting('superuser_reserved_connections') AS integer)
            - coalesce(CAST(current_setting('reserved_connections', true) AS integer), 0),
        (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
        (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
    )
""")  # reserved_connections: from PostgreSQL 16 on

_IN_USE = text("""
    SELECT application_name, count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'receiptsvc%'
    GROUP BY application_name ORDER BY application_name
""")
# By these names connections are listed.
WEB, WORKER = "receiptsvc", "receiptsvc worker"  # the web processes', and commands'; the worker's
INBOX_WRITER, NOTIFIER, LISTENER = "receiptsvc inbox writer", "receiptsvc notifier", "receiptsvc listener"


@dataclass(frozen=True, slots=True)
class Total:
    """How many sets of processes are alive, what all processes may open together, and what the database allows."""

    sets: int
    for_callbacks: int  # web processes for callbacks alone
    connections: int
    limit: int

    @property
    def fault(self) -> str | None:
        """What is wrong if they may open more than it allows."""
        if self.connections <= self.limit:
            return None
        who = "the processes" if self.sets == 1 else f"{self.sets} sets of processes"
        who += f" and {self.for_callbacks} for callbacks alone" if self.for_callbacks else ""
        opened = f"{who} may open {self.connections} connections"
        return f"{opened}, and the database allows {self.limit}: lower DATABASE_CONNECTIONS"


def measure(session: Session, bounds: Bounds, now: datetime) -> Total | None:
    """What all processes sum to; None on SQLite, where it does not matter."""
    if is_sqlite(session):
        return None
    limit: int = session.execute(_LIMIT).scalar_one()
    sets = max(1, len(heartbeats.find_alive(session, "worker", now)))
    for_callbacks = len(heartbeats.find_alive(session, heartbeats.web_kind(WebRole.CALLBACKS), now))
    connections = sets * bounds.of_set + for_callbacks * bounds.of_callbacks_process
    return Total(sets, for_callbacks, connections, limit)


def count_in_use(session: Session) -> Mapping[str, int]:
    """How many connections of ours are open to this database, by the name under which they are; none on SQLite."""
    if is_sqlite(session):
        return {}
    return {row[0]: row[1] for row in session.execute(_IN_USE)}


def find_fault(session: Session, bounds: Bounds, now: datetime) -> str | None:
    """What is wrong if more connections may be opened than the server allows."""
    total = measure(session, bounds, now)
    return None if total is None else total.fault
