"""The proof: what was answered 200, number by number, against what stands in the inbox."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from receiptsvc.store.core.db import Database

PARAMETER = b"bench"  # of each callback's query, the last one: its number


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """How answers and rows compare. Only `missing` and `repeated` are faults."""

    acknowledged: int
    rows: int
    missing: int  # answered 200, and not there
    repeated: int  # rows beyond the first with the same number
    unacknowledged: int  # there, and never answered 200

    @property
    def holds(self) -> bool:
        """Whether every 200 is one row, and there is something to say so of."""
        return self.acknowledged > 0 and not self.missing and not self.repeated


def compare(acknowledged: "array[int]", kept: Iterable[int]) -> Proof:
    """Hold the numbers answered 200 against the numbers of rows."""
    rows, found = 0, set[int]()
    for number in kept:
        rows += 1
        found.add(number)
    promised = set(acknowledged)
    return Proof(
        acknowledged=len(promised),
        rows=rows,
        missing=len(promised - found),
        repeated=rows - len(found),
        unacknowledged=len(found - promised),
    )


def numbers(database_url: str) -> Iterator[int]:
    """The number of each row of an inbox that only this bench has written to."""
    database = Database(database_url)
    try:
        with database.connection() as connection:
            streaming = connection.execution_options(stream_results=True, yield_per=10_000)
            for (query,) in streaming.exec_driver_sql("SELECT query FROM inbox"):
                name, _, number = bytes(query).rpartition(b"&")[2].partition(b"=")
                yield int(number) if name == PARAMETER else -1
    finally:
        database.close()
