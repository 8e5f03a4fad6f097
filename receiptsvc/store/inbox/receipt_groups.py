"""An action on a group of receipts that was fixed before: on exactly these, slice after slice, and what became of each.

How far it has come is told by its audits, each written with the slice that it is about. So two who go on with it at
once do nothing twice, and one that was cut off goes on where it stood.

A receipt that is being worked on when its turn comes has another turn, in a further round: it may soon stand where it
stood before. All others that have moved on are left alone, and counted by where they stand.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from time import monotonic
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import audits, locks
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.locks import Lock
from receiptsvc.store.inbox import bulk_receipts, receipts
from receiptsvc.store.inbox.bulk_receipts import Changed
from receiptsvc.store.inbox.receipts import DISMISSIBLE, RETRIABLE, ReceiptFilter

MAX_CHOSEN = 100_000  # receipts of a group
MAX_ROUNDS = 5

_MAX_EXAMPLES = 20  # of receipts that had moved on
_CHOSEN_AT_ONCE = 2_500  # ids in a query
_KEPT = ("total", "passed", "waiting", "round", "done", "left", "examples")  # of a progress, in its audits
_GONE = "gone"  # what is said of one that is not kept any more


class GroupAction(StrEnum):
    """What is done to a group, by the word of its audits."""

    RETRY = bulk_receipts.REPLAYED
    DISMISS = bulk_receipts.DISMISSED
    RESTORE = bulk_receipts.RESTORED  # takes back what the group's dismissal did, and nothing else


POSSIBLE: Mapping[GroupAction, Sequence[ReceiptOutcome]] = {
    GroupAction.RETRY: RETRIABLE,
    GroupAction.DISMISS: DISMISSIBLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Receipts that were chosen. `id`: as audits name the group. `outcomes`: one of which they had then."""

    id: str
    receipt_ids: Sequence[UUID]
    outcomes: Collection[ReceiptOutcome]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far an action on a group has come. Of the current round: `passed` of `total`, and `waiting` for the next.

    `done`: were changed. `left`: had moved on, by where they stood; `examples`: the public ids of some of these.
    """

    total: int
    passed: int = 0
    waiting: int = 0
    round: int = 0
    done: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[str] = ()
    at: datetime | None = None  # of the last slice; none: it was not begun
    actor: str | None = None
    reason: str | None = None

    @property
    def has_round_ended(self) -> bool:
        """Whether each receipt of the round had its turn."""
        return self.passed >= self.total

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.has_round_ended and (self.waiting == 0 or self.round + 1 >= MAX_ROUNDS)

    @property
    def moved_on(self) -> int:
        """How many were left alone, as they had moved on."""
        return sum(self.left.values()) + (self.waiting if self.is_over else 0)


def choose(session: Session, where: ReceiptFilter, *, seconds: float) -> tuple[Sequence[UUID], bool]:
    """The ids of what a filter finds, the oldest first, and whether that is all.

    It is not if there are more than MAX_CHOSEN, or if to find them takes longer than so many seconds.
    """
    chosen: list[UUID] = []
    after: UUID | None = None
    ends_at = monotonic() + seconds
    while True:
        page = receipts.find_ids(session, where, limit=min(_CHOSEN_AT_ONCE, MAX_CHOSEN - len(chosen)), after=after)
        chosen += page.items
        after = page.next
        if after is None or len(chosen) >= MAX_CHOSEN or monotonic() >= ends_at:
            return chosen, after is None


def read_progress(session: Session, group: Group, action: GroupAction) -> Progress:
    """How far an action on a group has come."""
    newest = audits.find_newest(session, [group.id], action.value).get(group.id)
    if newest is None:
        return Progress(total=len(group.receipt_ids))
    told = newest.details
    kept = {name: told[name] for name in _KEPT}
    return Progress(**kept, at=newest.at, actor=newest.actor, reason=newest.reason)


def step(session: Session, group: Group, action: GroupAction, *, by: Actor, now: datetime, limit: int) -> Progress:
    """Do an action to the group's next receipts, in the order in which they were chosen; how far it has come then.

    Nobody else does anything to the group meanwhile. Raises Refused if nothing can be undone, or if that has begun.
    """
    locks.take(session, Lock.RECEIPT_GROUPS, [group.id])
    progress = read_progress(session, group, action)
    opposite = GroupAction.DISMISS if action is GroupAction.RESTORE else GroupAction.RESTORE
    has_opposite_begun = read_progress(session, group, opposite).at is not None
    if action is GroupAction.RESTORE and not has_opposite_begun:
        raise Refused("There is nothing that could be undone.")
    if action is not GroupAction.RESTORE and has_opposite_begun:
        raise Refused("It is being undone, or was: choose again which are meant.")
    if progress.is_over:
        return progress
    if progress.has_round_ended:
        progress = replace(progress, round=progress.round + 1, passed=0, total=progress.waiting, waiting=0)
    slice_ids = _ids_of_round(session, group, action, progress.round)[progress.passed : progress.passed + limit]
    changed = _change(session, slice_ids, group, action, by=by, now=now)
    waiting, left = _find_rest(session, set(slice_ids) - set(changed.receipt_ids), group, action)
    progress = replace(
        progress,
        passed=progress.passed + len(slice_ids),
        waiting=progress.waiting + len(waiting),
        done=progress.done + len(changed.receipt_ids),
        left=dict(Counter(progress.left) + Counter(left.values())),
        examples=[*progress.examples, *left][:_MAX_EXAMPLES],
        at=now,
        actor=by.actor,
        reason=by.reason,
    )
    details = {**changed.details, **{name: getattr(progress, name) for name in _KEPT}, "again": list(waiting)}
    audits.write(
        session, at=now, actor=by.actor, action=action.value, subject=group.id, reason=by.reason, details=details
    )
    return progress


def _ids_of_round(session: Session, group: Group, action: GroupAction, number: int) -> Sequence[UUID]:
    """The receipts whose turn is in a round: all, or those that the round before left waiting."""
    if number == 0:
        return group.receipt_ids
    before = [each for each in audits.find_all(session, group.id, action.value) if each.details["round"] == number - 1]
    named = [receipt_id for audit in before for receipt_id in audit.details["again"]]
    return [identifier for identifier in (ids.parse("rcp", each) for each in named) if identifier is not None]


def _change(
    session: Session, receipt_ids: Sequence[UUID], group: Group, action: GroupAction, *, by: Actor, now: datetime
) -> Changed:
    if action is GroupAction.RETRY:
        return bulk_receipts.retry(session, receipt_ids, group.outcomes, now)
    if action is GroupAction.DISMISS:
        return bulk_receipts.dismiss(session, receipt_ids, group.outcomes, by, now, group=group.id)
    return bulk_receipts.restore(session, receipt_ids, by, now, group=group.id)


def _find_rest(
    session: Session, receipt_ids: Collection[UUID], group: Group, action: GroupAction
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Of receipts that were not changed, those that wait for another turn, and where the others stand; by public id."""
    stands = receipts.find_outcomes(session, receipt_ids)
    # What still stands where it stood is locked by somebody who is about to move it.
    again: set[ReceiptOutcome] = set()
    if action is not GroupAction.RESTORE:
        again = {ReceiptOutcome.PENDING, *group.outcomes}
    waiting = [each for each in sorted(receipt_ids) if each in stands and stands[each].outcome in again]
    left = {each: stands[each].outcome.value if each in stands else _GONE for each in set(receipt_ids) - set(waiting)}
    return [_name(each) for each in waiting], {_name(each): word for each, word in sorted(left.items())}


def _name(receipt_id: UUID) -> str:
    return ids.public("rcp", receipt_id)
