"""Reads kept replies again with today's reader, words and rules, and finds what was missed of them.

What was found before is not questioned: only a missing sender, link, time or word is filled in. Then opt-outs and
opt-ins that nothing was done about are followed, as far as later words and changes by hand let them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.domain.errors import Unreadable
from receiptsvc.store.core import slices
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbound import consents, replies
from receiptsvc.store.inbound.replies import RecordedReply
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.worker.receipt_batch import ReceiptRules

_ACTOR = "rebuild"
_SLICE, _SQLITE_SLICE = 250, 50  # replies; some take several statements


@dataclass(slots=True)
class Missed:
    """How many replies are read otherwise today, and whom their words suppress or allow again."""

    opt_outs: int = 0
    opt_ins: int = 0
    links: int = 0
    times: int = 0
    suppressed: set[Pair] = field(default_factory=set)
    allowed_again: set[Pair] = field(default_factory=set)

    def add(self, before: RecordedReply, after: RecordedReply) -> None:
        """Count a reply that is read otherwise."""
        self.opt_outs += after.is_opt_out > before.is_opt_out
        self.opt_ins += after.is_opt_in > before.is_opt_in
        self.links += (after.sender, after.message_id) != (before.sender, before.message_id)
        self.times += after.occurred_at != before.occurred_at


def repair_replies(
    database: Database,
    rules: ReceiptRules,
    now: datetime,
    *,
    is_applied: bool = False,
    slice_size: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Missed:
    """Find what was missed of replies; with `is_applied` each slice is put right, in a short transaction of its own.

    It can be stopped at any point and started again. `on_progress` gets the number of replies read. Raises
    StorageUnavailable.
    """
    missed = Missed()
    size = slice_size or (_SQLITE_SLICE if database.is_sqlite else _SLICE)

    def step(session: Session, after: UUID | None) -> Page[RecordedReply, UUID]:
        page = replies.find_recorded(session, limit=size, after=after, is_locked=is_applied)
        again = [_read_again(session, recorded, rules) for recorded in page.items]
        changed = [(before, now_read) for before, now_read in zip(page.items, again, strict=True) if before != now_read]
        for before, now_read in changed:
            missed.add(before, now_read)
        if is_applied:
            replies.correct(session, changed, _ACTOR, now)
        if rules.suppresses_opt_outs:
            change = consents.repair(session, again, _ACTOR if is_applied else None, now)
            missed.suppressed.update(change.suppressed)
            missed.allowed_again.update(change.allowed_again)
        return page

    for page in slices.walk(database.transaction if is_applied else database.reading, step):
        on_progress(len(page.items))
        if is_applied:
            database.let_others_write()
    return missed


def _read_again(session: Session, recorded: RecordedReply, rules: ReceiptRules) -> RecordedReply:
    try:
        reply = rules.reader.read_reply(recorded.callback, recorded.received_at)
    except Unreadable:
        return recorded  # it can't be read any more, which changes nothing
    return replies.read_again(session, recorded, reply, rules.replies)
