"""What must hold after a fault: each callback that was answered 200 is in the inbox, once, and the ledger balances."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select

from receiptsvc.spool import writer
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow
from receiptsvc.store.health import verification
from receiptsvc.store.inbox import counters
from tests.support.processes import until

_SERIAL = re.compile(rb"serial=([0-9]+)&")


def assert_nothing_lost(database_url: str, kept: Iterable[int]) -> None:
    """Assert that each of the serials is one row, no callback is stored twice, and the ledger balances."""
    database = Database(database_url)
    try:
        with database.reading() as session:
            serials = Counter(_serials(session.scalars(select(InboxRow.query))))
            counted = counters.read(session)
            rows = sum(counters.count_rows(session).values())
        assert not set(kept) - serials.keys(), "answered 200 and lost"
        assert not [serial for serial, times in serials.items() if times > 1], "kept twice"
        assert counted.received == rows
        assert counted.is_balanced
        assert list(verification.verify(database)) == []
    finally:
        database.close()


def wait_until_drained(folder: Path) -> None:
    """Wait until no file is left in the spool."""
    until("the spool is empty", lambda: not list(folder.glob(f"*{writer.SUFFIX}")), seconds=60)


def set_aside(folder: Path) -> list[str]:
    """The files of a spool that an operator would have to look at."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in {writer.TORN_SUFFIX, writer.REFUSED_SUFFIX})


def _serials(queries: Iterable[bytes]) -> Iterable[int]:
    return (int(match[1]) for match in map(_SERIAL.match, queries) if match)
