"""Freezes a PostgreSQL of this machine: it holds its connections and says nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from benchmarks import machine
from receiptsvc.store.core.db import plain_url


@contextmanager
def postgresql(url: str) -> Iterator[None]:
    """While the block lasts, no process of the server does anything."""
    with psycopg.connect(plain_url(url)) as connection:
        fields = Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    first = int(fields[1])  # its parent, which could start others
    os.kill(first, signal.SIGSTOP)
    pids = [first, *machine.children(first)]
    try:
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
