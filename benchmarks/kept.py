"""Compares the numbers that were answered 200 with the rows in the inbox, one by one."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from receiptsvc.store.core.db import Database

PARAMETER = b"bench"  # the last parameter of each callback's query: its number


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """How answers and rows compare. Only `missing` and `repeated` are faults."""

    acknowledged: int
    rows: int
    missing: int  # answered 200, but without a row
    repeated: int  # rows beyond the first with the same number
    unacknowledged: int  # rows that were never answered 200

    @property
    def holds(self) -> bool:
        """Whether every 200 has exactly one row, and there is at least one."""
        return self.acknowledged > 0 and not self.missing and not self.repeated


def compare(acknowledged: "array[int]", row_numbers: Iterable[int]) -> Proof:
    """Compare the numbers that were answered 200 with the numbers of the rows."""
    rows, kept = 0, set[int]()
    for number in row_numbers:
        rows += 1
        kept.add(number)
    answered = set(acknowledged)
    return Proof(
        acknowledged=len(answered),
        rows=rows,
        missing=len(answered - kept),
        repeated=rows - len(kept),
        unacknowledged=len(kept - answered),
    )


def numbers(database_url: str) -> Iterator[int]:
    """The number of each inbox row; -1 for a row that this bench did not write."""
    database = Database(database_url)
    try:
        with database.connection() as connection:
            streaming = connection.execution_options(stream_results=True, yield_per=10_000)
            for (query,) in streaming.exec_driver_sql("SELECT query FROM inbox"):
                name, _, number = bytes(query).rpartition(b"&")[2].partition(b"=")
                yield int(number) if name == PARAMETER else -1
    finally:
        database.close()
