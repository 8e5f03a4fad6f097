"""Reads what a stack has used: processor time of its processes, write-ahead log, bytes on disk, transactions."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import machine

_TICKS = os.sysconf("SC_CLK_TCK")
_SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_TRANSACTIONS = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname = %s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What was used up to a moment, or between two. `seconds`: processor time by kind of process."""

    seconds: Mapping[str, float]
    wal_bytes: int

    def since(self, earlier: "Usage") -> "Usage":
        """What was used between an earlier moment and this one."""
        spent = {kind: seconds - earlier.seconds[kind] for kind, seconds in self.seconds.items()}
        return Usage(seconds=spent, wal_bytes=self.wal_bytes - earlier.wal_bytes)


def read(kinds: Mapping[str, Iterable[int]], connection: psycopg.Connection) -> Usage:
    """What processes have used so far. `kinds`: kind → the pids of its topmost processes.

    `connection`: the bench's own, to the measured server; what its session used is not counted.
    """
    seconds = {kind: sum(map(tree_seconds, pids)) for kind, pids in kinds.items()}
    seconds["postgresql"] -= tree_seconds(connection.info.backend_pid)
    return Usage(seconds=seconds, wal_bytes=read_int(connection, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


def tree_seconds(pid: int) -> float:
    """The processor time of a process and all that it has started, also of those that have ended since.

    Linux scales user and system time to what the scheduler measured, so their sum is exact but for its unit of 10 ms.
    """
    with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile: its parent has its time
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        own = sum(map(int, fields[11:15])) / _TICKS  # utime, stime, and those of children that ended
        return own + sum(map(tree_seconds, machine.children(pid)))
    return 0.0


def table_bytes(connection: psycopg.Connection) -> int:
    """The size of all tables with their indexes, after a plain VACUUM."""
    connection.execute("VACUUM (ANALYZE)")
    return read_int(connection, _SIZE)


def transactions(server: psycopg.Connection, database: str) -> int:
    """How many transactions a database has had. `server`: a connection to another one of the same server."""
    return read_int(server, _TRANSACTIONS, database)


def read_int(connection: psycopg.Connection, query: str, *values: str) -> int:
    """The one number that a query gives."""
    row = connection.execute(query.encode(), values).fetchone()
    return int(row[0]) if row and row[0] is not None else 0
