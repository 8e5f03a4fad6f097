"""The ledger's counters: kept apart from the rows that they count, so that the two can be checked against each other.

They are written in the same transaction as the rows. `received` counts ledger rows and `callbacks` the calls that
brought them; every outcome has a counter of its name. Each process adds to its own slot, so that commits need not wait
for each other; a reader sums the slots.
"""

from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Counter, InboxRow, OutcomeRow, PendingRow, Transition

RECEIVED = "received"
CALLBACKS = "callbacks"
REFUSED = "refused"  # callbacks answered 403, and those that the server refused by itself
MISROUTED = "misrouted"  # callbacks that were kept by a process whose role does not expect them
SLOW_ANSWERS = "answers_over_1s"
SLOWEST_ANSWER = "slowest_answer_milliseconds"  # a maximum, not a sum
TAKEN = "taken"  # messages that the gateway has taken, when its answer was recorded

_ANSWERED = "answered_within_"  # and the longest duration of a class, in seconds: answers to callbacks


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The sums of the counters. `outcomes` holds every outcome, `pending` included."""

    callbacks: int
    received: int
    outcomes: Mapping[ReceiptOutcome, int]
    refused: int
    misrouted: int
    slowest_answer_seconds: float
    answers_over_1s: int
    oldest_pending_at: datetime | None

    @property
    def is_balanced(self) -> bool:
        """Whether every kept receipt has exactly one outcome, by the counters."""
        is_plausible = min(self.outcomes.values(), default=0) >= 0 and self.callbacks <= self.received
        return is_plausible and self.received == sum(self.outcomes.values())


def add(session: Session, counts: Mapping[str, int]) -> None:
    """Add to this process's slot of each counter, in the caller's transaction."""
    statement = bulk.upsert(session, Counter)
    _upsert(session, statement, counts, Counter.value + statement.excluded.value)


def move(
    session: Session, moves: Mapping[tuple[ReceiptOutcome, ReceiptOutcome], int], extra: Mapping[str, int] | None = None
) -> None:
    """Count moves of rows, given as {(from, to): rows}. `extra`: further counts to add in the same statement."""
    counts: dict[str, int] = dict(extra or {})
    for (before, after), rows in moves.items():
        counts[before] = counts.get(before, 0) - rows
        counts[after] = counts.get(after, 0) + rows
    add(session, {name: count for name, count in counts.items() if count})


def raise_maximum(session: Session, name: str, value: int) -> None:
    """Set a counter that holds a maximum to `value`, unless this process's slot holds more."""
    statement = bulk.upsert(session, Counter)
    greater = case((statement.excluded.value > Counter.value, statement.excluded.value), else_=Counter.value)
    _upsert(session, statement, {name: value}, greater)


def read(session: Session) -> Ledger:
    """The sums of the counters. Call it in a transaction that reads one snapshot."""
    totals = {
        name: (int(total), int(maximum))
        for name, total, maximum in session.execute(
            select(Counter.name, func.sum(Counter.value), func.max(Counter.value)).group_by(Counter.name)
        )
    }

    def total(name: str) -> int:
        return totals.get(name, (0, 0))[0]

    return Ledger(
        callbacks=total(CALLBACKS),
        received=total(RECEIVED),
        outcomes={outcome: total(outcome) for outcome in ReceiptOutcome},
        refused=total(REFUSED),
        misrouted=total(MISROUTED),
        slowest_answer_seconds=totals.get(SLOWEST_ANSWER, (0, 0))[1] / 1000,
        answers_over_1s=total(SLOW_ANSWERS),
        oldest_pending_at=session.scalar(
            select(InboxRow.received_at)
            .join(PendingRow, PendingRow.receipt_id == InboxRow.id)
            .order_by(PendingRow.receipt_id)
            .limit(1)
        ),
    )


def add_answers(session: Session, counts: Mapping[float, int]) -> None:
    """Add answers to callbacks, by the class of how long they took: its longest duration in seconds."""
    add(session, {f"{_ANSWERED}{longest:g}": count for longest, count in counts.items()})


def read_totals(session: Session) -> dict[str, int]:
    """The sums of all counters by their names, but of maxima."""
    query = select(Counter.name, func.sum(Counter.value)).where(Counter.name != SLOWEST_ANSWER)
    return {name: int(total) for name, total in session.execute(query.group_by(Counter.name))}


def answers_in(totals: Mapping[str, int]) -> dict[float, int]:
    """The answers to callbacks in such sums, by the longest duration of their class in seconds."""
    return {float(name.removeprefix(_ANSWERED)): count for name, count in totals.items() if name.startswith(_ANSWERED)}


def read_one(session: Session, name: str) -> int:
    """The sum of one counter."""
    return int(session.scalar(select(func.sum(Counter.value)).where(Counter.name == name)) or 0)


def count_rows(session: Session) -> dict[ReceiptOutcome, int]:
    """The receipts of each outcome, counted row by row: what the counters should hold."""
    is_current = (Transition.receipt_id.is_not(None), Transition.superseded_at.is_(None))
    effects = select(Transition.effect, func.count()).where(*is_current).group_by(Transition.effect)
    written = select(OutcomeRow.outcome, func.count()).group_by(OutcomeRow.outcome)
    counted = Counts({ReceiptOutcome(name): int(count) for name, count in session.execute(effects)})
    for effect, count in session.execute(  # those that were dismissed
        effects.join(OutcomeRow, OutcomeRow.receipt_id == Transition.receipt_id)
    ):
        counted[ReceiptOutcome(effect)] -= count
    for name, count in session.execute(written):
        counted[ReceiptOutcome(name)] += count
    counted[ReceiptOutcome.PENDING] += session.scalar(select(func.count()).select_from(PendingRow)) or 0
    return {outcome: count for outcome, count in counted.items() if count}


def count_received(session: Session) -> tuple[int, int]:
    """The receipts that are kept, and the calls that brought them, counted row by row."""
    rows = session.scalar(select(func.count()).select_from(InboxRow)) or 0
    parts = session.scalar(select(func.count()).where(InboxRow.callback_id.is_not(None))) or 0
    return rows, rows - parts


def _upsert(session: Session, statement: bulk.Upsert, counts: Mapping[str, int], value: ColumnElement[int]) -> None:
    # In the order of names, so that two processes that share a slot can't deadlock.
    rows = [{"name": str(name), "slot": session.info["slot"], "value": count} for name, count in sorted(counts.items())]
    if rows:
        session.execute(statement.on_conflict_do_update(index_elements=["name", "slot"], set_={"value": value}), rows)
