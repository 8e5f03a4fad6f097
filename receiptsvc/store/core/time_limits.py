"""How long PostgreSQL lets a transaction wait or stand idle, per kind of work.

The same message asks for the server's time (`store.core.clock`).

A process that hangs with rows locked would otherwise hold up everybody else for as long as it hangs. The limits are set
in the message that begins the transaction: they cost no round trip, and leave nothing behind in a session that a pooler
gives to somebody else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
from sqlalchemy.orm import Session

from receiptsvc.store.core import outages

_SQLITE_STEPS = 10_000  # of SQLite's machine between two looks at the clock: some hundred microseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLimits:
    """In seconds: for one lock, for one statement, and between two statements; 0: as long as it takes."""

    lock: float
    statement: float
    idle: float

    def begin_command(self, characteristics: str = "") -> bytes:
        """The command that begins a transaction with these limits."""
        commands = (
            f"BEGIN {characteristics}",
            f"SET LOCAL lock_timeout = {round(self.lock * 1000)}",
            f"SET LOCAL statement_timeout = {round(self.statement * 1000)}",
            f"SET LOCAL idle_in_transaction_session_timeout = {round(self.idle * 1000)}",
            "SELECT extract(epoch FROM clock_timestamp())",
        )
        return "; ".join(commands).encode()


REQUEST = TimeLimits(lock=1.5, statement=10, idle=10)  # somebody waits for the answer
PANEL = TimeLimits(lock=0.25, statement=0.25, idle=5)  # a part of the ops page: a late one is shown as late
EXPORT = TimeLimits(lock=1.5, statement=60, idle=10)  # one slice
WORK = TimeLimits(lock=2, statement=60, idle=15)  # the worker's: a batch, or an answer of the gateway
TIME_SLICE = TimeLimits(lock=0.05, statement=600, idle=2)  # of a step to make one: callbacks may wait for its locks
# A migration that waits behind a long transaction makes callbacks wait behind it: it is soon begun again. It may take
# its time. What runs outside of a transaction (CREATE INDEX CONCURRENTLY) has no limit: nobody waits behind it.
MIGRATION = TimeLimits(lock=0.5, statement=0, idle=30)
# Its last try: PostgreSQL ends an autovacuum that is in the way once that was waited for for `deadlock_timeout`, 1 s.
LAST_MIGRATION = TimeLimits(lock=1.5, statement=0, idle=30)
COMMAND = TimeLimits(lock=10, statement=3600, idle=600)  # an operator's that reads, who can interrupt it
CHANGE = TimeLimits(lock=10, statement=3600, idle=15)  # an operator's that writes: who stops it may hold a lock


def begin(connection: psycopg.Connection, command: bytes) -> float:
    """Send a begin command. Returns the time by the server's clock, in seconds since 1970. Raises psycopg.Error."""
    result = connection.pgconn.exec_(command)
    outages.check(result)
    return float(result.get_value(0, 0) or 0)


@contextmanager
def interrupting(session: Session, seconds: float) -> Iterator[None]:
    """On SQLite, which has no limits of its own: what runs on after so many seconds ends as StatementTimeout."""
    driver: Any = session.connection().connection.driver_connection
    ends_at = monotonic() + seconds
    driver.set_progress_handler(lambda: monotonic() > ends_at, _SQLITE_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
