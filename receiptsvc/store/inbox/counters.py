"""The counters: kept apart from the rows that they count, in the same transaction, so that the two can disagree.

`received` counts ledger rows and `callbacks` the calls that brought them; every outcome has a counter of its name.
Each process adds to its own slot, so that no two commits wait for each other; a reader sums the slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import upsert
from receiptsvc.store.core.models import Counter, InboxRow

RECEIVED = "received"
CALLBACKS = "callbacks"
REFUSED = "refused"  # callbacks answered 403
SLOW_ANSWERS = "answers_over_1s"
SLOWEST_ANSWER = "slowest_answer_milliseconds"  # a greatest, not a sum


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The counters' sums. `outcomes` has every outcome, `pending` among them."""

    callbacks: int
    received: int
    outcomes: Mapping[ReceiptOutcome, int]
    refused: int
    slowest_answer_seconds: float
    answers_over_1s: int
    oldest_pending_at: datetime | None

    @property
    def is_balanced(self) -> bool:
        """Whether every kept receipt has exactly one outcome, as far as the counters know."""
        whole = min(self.outcomes.values(), default=0) >= 0 and self.callbacks <= self.received
        return whole and self.received == sum(self.outcomes.values())


def add(session: Session, counts: Mapping[str, int]) -> None:
    """Add to this process's slot of each counter, in the caller's transaction."""
    statement = upsert.into(session, Counter)
    _put(session, statement, counts, Counter.value + statement.excluded.value)


def move(
    session: Session, moves: Mapping[tuple[ReceiptOutcome, ReceiptOutcome], int], more: Mapping[str, int] | None = None
) -> None:
    """Count rows from one outcome to another, and whatever else there is to count in the same step."""
    counts: dict[str, int] = dict(more or {})
    for (before, after), rows in moves.items():
        counts[before] = counts.get(before, 0) - rows
        counts[after] = counts.get(after, 0) + rows
    add(session, {name: count for name, count in counts.items() if count})


def raise_to(session: Session, name: str, value: int) -> None:
    """Let a counter of the greatest kind be at least `value`."""
    statement = upsert.into(session, Counter)
    greater = case((statement.excluded.value > Counter.value, statement.excluded.value), else_=Counter.value)
    _put(session, statement, {name: value}, greater)


def read(session: Session) -> Ledger:
    """The counters as they stand, in one snapshot of the caller's."""
    summed = {
        name: (int(total), int(greatest))
        for name, total, greatest in session.execute(
            select(Counter.name, func.sum(Counter.value), func.max(Counter.value)).group_by(Counter.name)
        )
    }

    def total(name: str) -> int:
        return summed.get(name, (0, 0))[0]

    return Ledger(
        callbacks=total(CALLBACKS),
        received=total(RECEIVED),
        outcomes={outcome: total(outcome) for outcome in ReceiptOutcome},
        refused=total(REFUSED),
        slowest_answer_seconds=summed.get(SLOWEST_ANSWER, (0, 0))[1] / 1000,
        answers_over_1s=total(SLOW_ANSWERS),
        oldest_pending_at=session.scalar(
            select(func.min(InboxRow.received_at)).where(InboxRow.outcome == ReceiptOutcome.PENDING)
        ),
    )


def count_rows(session: Session) -> dict[ReceiptOutcome, int]:
    """The rows of each outcome, counted one by one: what the counters should say."""
    rows = session.execute(select(InboxRow.outcome, func.count()).group_by(InboxRow.outcome))
    return {ReceiptOutcome(word): int(count) for word, count in rows}


def count_callbacks(session: Session) -> int:
    """The calls that brought the rows, counted one by one."""
    rows = session.scalar(select(func.count()).select_from(InboxRow)) or 0
    parts = session.scalar(select(func.count()).where(InboxRow.callback_id.is_not(None))) or 0
    return rows - parts


def _put(session: Session, statement: upsert.Insert, counts: Mapping[str, int], value: ColumnElement[int]) -> None:
    # In the order of the names: two processes that share a slot then can't wait for each other in a circle.
    rows = [{"name": str(name), "slot": session.info["slot"], "value": count} for name, count in sorted(counts.items())]
    if rows:
        session.execute(statement.on_conflict_do_update(index_elements=["name", "slot"], set_={"value": value}), rows)
