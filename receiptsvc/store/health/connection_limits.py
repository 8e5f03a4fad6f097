"""Holds the connections that all sets of processes may open against what the PostgreSQL server allows.

A set has one worker at least, so the workers that are alive tell how many sets there are.
"""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.health import heartbeats

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


def find_fault(session: Session, connections: int, now: datetime) -> str | None:
    """What is wrong if more connections may be opened than the server allows. `connections`: of one set."""
    if is_sqlite(session):
        return None
    limit: int = session.execute(_LIMIT).scalar_one()
    sets = max(1, len(heartbeats.find_alive(session, "worker", now)))
    if sets * connections <= limit:
        return None
    who = "the processes" if sets == 1 else f"{sets} sets of processes"
    return (
        f"{who} may open {sets * connections} connections, and the database allows {limit}: lower DATABASE_CONNECTIONS"
    )
