"""Reading again what was read before: what a newer map of words, or a newer reader, makes of the bytes that were kept.

Each receipt that found its message is read anew. Where that says something else, a new transition takes the place of
the old one, in the fold and in the ledger; the old one stays and says when it was superseded. Whose a receipt is, is
not asked again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Receipt
from receiptsvc.domain.statuses import Report, Source
from receiptsvc.dynmark.inbound import callbacks
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import superseding, transitions
from receiptsvc.store.messages.superseding import Recorded
from receiptsvc.worker.process import Reading

_SLICE = 500
_SQLITE_SLICE = 100  # at most about 50 ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A receipt that is read otherwise today. Nothing in it is personal."""

    receipt: str
    message: str
    provider_status_id: str | None
    provider_description: str | None
    was: str | None  # the word that it was read as; none: unmapped
    now: str | None


def rebuild(
    database: Database,
    reading: Reading,
    now: datetime,
    *,
    is_applied: bool = False,
    slice_size: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Difference]:
    """Every receipt that is read otherwise today; with `is_applied` each slice is put right as it is given.

    Slice by slice, each in a short transaction, so that it can be stopped at any point and begun again. `on_progress`
    is told how many receipts were read. Raises StorageUnavailable.
    """
    after = 0
    slice_size = slice_size or (_SQLITE_SLICE if database.is_sqlite else _SLICE)
    while True:
        with database.reading() as session:
            slice_ = superseding.standing(session, after, slice_size)
        read = [(one, _read_again(one, reading)) for one in slice_]
        changed = [(one, report) for one, report in read if report is not None and _differs(one, report)]
        if is_applied and changed:
            with database.transaction() as session:
                _apply(session, changed, reading.status_map.version, now)
            database.rest()
        yield from (_difference(one, report) for one, report in changed)
        on_progress(len(slice_))
        if len(slice_) < slice_size:
            return
        after = slice_[-1].transition_id


def _read_again(recorded: Recorded, reading: Reading) -> Report | None:
    """What a receipt says by today's reading; None if it can't be read any more, which changes nothing."""
    said: Sequence[Receipt | Unreadable] = callbacks.read_receipts(recorded.callback, reading.zone)
    if recorded.part >= len(said):
        return None
    receipt = said[recorded.part]
    if isinstance(receipt, Unreadable):
        return None
    return Report(
        source=Source.GATEWAY,
        status=reading.status_map.status_for(receipt.status_id, receipt.description),
        received_at=recorded.report.received_at,
        occurred_at=receipt.occurred_at,
        provider_status_id=receipt.status_id,
        provider_description=receipt.description,
    )


def _differs(recorded: Recorded, report: Report) -> bool:
    return report != recorded.report


def _apply(session: Session, changed: Sequence[tuple[Recorded, Report]], version: str, now: datetime) -> None:
    """Supersede transitions, message by message, and let their receipts have the outcomes of the new ones."""
    held = superseding.hold(session, [one for one, _ in changed])
    wanted = [(one, report) for one, report in changed if one.transition_id in held]
    locked = transitions.lock_messages(session, {one.message_id for one, _ in wanted})
    entries: list[tuple[UUID, transitions.NewTransition]] = [
        (
            one.message_id,
            transitions.NewTransition(
                report=report, rule=one.rule, reason="read again", receipt_id=one.receipt_id, map_version=version
            ),
        )
        for one, report in wanted
    ]
    superseding.supersede(session, [one for one, _ in wanted], now)
    transitions.fold_again(session, locked)
    effects = transitions.record(session, locked, entries, now)
    superseding.move(session, [(one, effect) for (one, _), effect in zip(wanted, effects, strict=True)], now)


def _difference(recorded: Recorded, report: Report) -> Difference:
    return Difference(
        receipt=ids.public("rcp", recorded.receipt_id),
        message=ids.public("msg", recorded.message_id),
        provider_status_id=report.provider_status_id,
        provider_description=report.provider_description,
        was=recorded.report.status,
        now=report.status,
    )
