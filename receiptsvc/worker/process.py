"""Kept callbacks become transitions and replies: claim, read, correlate, record, all in one commit.

A batch that fails is done again row by row. A row that fails keeps failing alone, with growing gaps, and ends `dead`
with its error; it never holds up another. Before a row is worked on alone, a mark of that is committed, so that one
that ends the process itself is found out too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable, Unreadable
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Receipt, Reply
from receiptsvc.domain.statuses import Report, Source
from receiptsvc.dynmark.inbound import callbacks
from receiptsvc.dynmark.status_map import StatusMap
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbound import replies
from receiptsvc.store.inbox import parking, pending
from receiptsvc.store.inbox.parking import UnmatchedReceipt
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import LockedMessage
from receiptsvc.worker import correlation, external_messages
from receiptsvc.worker.correlation import Match, NoMatch

_MAX_TRIES = 8
_MAX_OUTAGES = 3  # in a row, before a batch is suspected
_FIRST_GAP = timedelta(seconds=5)
_LAG = timedelta(seconds=2)  # by which a commit may come after its rows' place in the queue
_WHOLE_LOOK_SECONDS = 8.0
_ACTOR = "worker"
_ENDED = "the process that worked on it ended"

MatchedReceipt = tuple[ClaimedReceipt, Receipt, Match]
Verdict = tuple[ClaimedReceipt, ReceiptOutcome, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How the gateway's words and times are read, when a receipt is taken for another system's (None: never), how long
    after a message a reply belongs to it, and which replies are opt-outs.
    """

    status_map: StatusMap
    zone: ZoneInfo
    adopt_after: timedelta | None = None
    reply_window: timedelta = replies.WINDOW
    opt_out_words: frozenset[str] = frozenset()  # as `opt_outs.fold` gives them
    suppresses_opt_outs: bool = False  # whether who replies so is written to no more


class Queue:
    """Where in the queue of pending rows to look next, so that what is done need not be walked over each time.

    It is only a hint: rows may come to stand before it, by a slow commit or a drained spool. So all of the queue is
    looked at first of all, and again every few seconds.
    """

    def __init__(self, *, careful_rows: int = 0) -> None:
        """`careful_rows`: how many rows to work on alone, because a worker ended in the middle of some."""
        self.careful_rows = careful_rows
        self.outages = 0  # in a row, after a claim
        self._lock = Lock()
        self._mark: pending.Mark | None = None
        self._whole_look_at = 0.0

    def be_careful(self, rows: int) -> None:
        """Work on that many rows more alone, or fewer. Any thread may say so."""
        with self._lock:
            self.careful_rows = max(0, self.careful_rows + rows)

    def look_from_the_start(self) -> None:
        """What was claimed was not worked on, and stands where it stood."""
        self._mark = None

    def claim(self, session: Session, now: datetime, limit: int) -> list[ClaimedReceipt]:
        """The next rows, locked."""
        if monotonic() >= self._whole_look_at:
            self._mark, self._whole_look_at = None, monotonic() + _WHOLE_LOOK_SECONDS
        rows = pending.claim(session, now, limit, after=self._mark)
        if rows:
            last = rows[-1]
            self._mark = (last.next_at, last.id) if last.next_at < now - _LAG else None
        return rows


def process(database: Database, reading: Reading, now: datetime, limit: int, queue: Queue | None = None) -> int:
    """Work on up to `limit` kept callbacks that are due; how many. Raises StorageUnavailable."""
    queue = queue or Queue()
    claimed: list[ClaimedReceipt] = []
    alone: list[UUID] = []
    try:
        with database.transaction() as session:
            claimed = queue.claim(session, now, limit)
            # What failed before, with others or alone, must not take others with it again.
            is_careful = queue.careful_rows > 0
            alone = [row.id for row in claimed if row.tries or is_careful]
            together = [row for row in claimed if not (row.tries or is_careful)]
            if together:
                _work(session, together, reading, now)
    except Exception as error:
        # A database that takes the claim, and fails again and again at what follows, is not away: it is the batch.
        queue.outages += isinstance(error, StorageUnavailable) and bool(claimed)
        queue.look_from_the_start()
        if not claimed or (isinstance(error, StorageUnavailable) and queue.outages < _MAX_OUTAGES):
            raise
        logs.warning("process.batch_failed", rows=len(claimed), error=logs.describe(error))
        alone = [row.id for row in claimed]
    for row_id in alone:
        _process_alone(database, row_id, reading, now, is_doubtful=queue.outages >= _MAX_OUTAGES)
    queue.outages = 0
    queue.be_careful(-len(claimed))
    return len(claimed)


def _process_alone(database: Database, row_id: UUID, reading: Reading, now: datetime, *, is_doubtful: bool) -> None:
    """Work on one row. First it is put off and its tries are counted: so it is if it ends this very process.

    `is_doubtful`: whether what looks like an outage is taken for the row's own fault.
    """
    with database.transaction() as session:
        held = pending.claim(session, now, 1, only=row_id)
        if not held:
            return
        row = held[0]
        if row.tries >= _MAX_TRIES:
            _settle(session, [(row, ReceiptOutcome.DEAD, _ENDED)], now)
            return
        pending.postpone(session, row, now + _FIRST_GAP * (1 << row.tries), _ENDED)
    try:
        with database.transaction() as session:
            _work(session, pending.claim(session, now, 1, only=row_id), reading, now)
    except Exception as error:
        if isinstance(error, StorageUnavailable) and not is_doubtful:
            raise
        logs.error("process.row_failed", error, receipt=str(row_id))
        with database.transaction() as session:
            for row in pending.claim(session, now, 1, only=row_id):
                if row.tries >= _MAX_TRIES:
                    _settle(session, [(row, ReceiptOutcome.DEAD, logs.describe(error))], now)
                else:
                    pending.explain(session, row, logs.describe(error))


def _work(session: Session, rows: Sequence[ClaimedReceipt], reading: Reading, now: datetime) -> None:
    verdicts: list[Verdict] = []
    read: list[tuple[ClaimedReceipt, Receipt]] = []
    answers: list[tuple[ClaimedReceipt, Reply]] = []
    several: dict[UUID, Sequence[Receipt | Unreadable]] = {}
    parts = 0
    for row in rows:
        if row.is_unauthenticated and row.assigned_to is None:
            verdicts.append((row, ReceiptOutcome.QUARANTINED, "its key was wrong"))
        elif row.channel == Channel.INBOUND:
            try:
                answers.append((row, callbacks.read_reply(pending.callback_of(session, row), reading.zone)))
            except Unreadable as error:
                verdicts.append((row, ReceiptOutcome.QUARANTINED, str(error)))
        else:
            said, new_parts = _read(session, row, reading.zone, several, now)
            parts += new_parts
            if isinstance(said, Unreadable):
                verdicts.append((row, ReceiptOutcome.QUARANTINED, str(said)))
            else:
                read.append((row, said))
    verdicts += _record_receipts(session, read, reading, now)
    replies.hold(session, [reply.msgid for _, reply in answers if reply.msgid])
    verdicts += [
        (row, *replies.record(session, row, reply, now, reading.opt_out_words, within=reading.reply_window))
        for row, reply in answers
    ]
    if reading.suppresses_opt_outs:
        replies.suppress_opt_outs(session, [row.id for row, _ in answers], _ACTOR, now)
    _settle(session, verdicts, now, parts)


def _read(
    session: Session,
    row: ClaimedReceipt,
    zone: ZoneInfo,
    several: dict[UUID, Sequence[Receipt | Unreadable]],
    now: datetime,
) -> tuple[Receipt | Unreadable, int]:
    """What a row says; if it is the first of a callback that says several things, each other has a row made for it.

    Those are for the next batches: there can be thousands. Also gives how many were made. `several`: what callbacks of
    several receipts say; each is read once, however many of its rows there are.
    """
    callback_id = row.callback_id or row.id
    said = several.get(callback_id)
    if said is None:
        said = callbacks.read_receipts(pending.callback_of(session, row), zone)
    if len(said) == 1:
        return said[0], 0
    several[callback_id] = said
    if row.callback_id is not None or pending.has_parts(session, row):
        return said[min(row.part, len(said) - 1)], 0
    return said[0], pending.add_parts(session, row, len(said), now)


def _settle(session: Session, verdicts: Sequence[Verdict], now: datetime, new_parts: int = 0) -> None:
    pending.settle(session, verdicts, now, new_parts)
    left = [
        (row.id, outcome, reason)
        for row, outcome, reason in verdicts
        if row.processed_at is not None and outcome is not ReceiptOutcome.UNMATCHED
    ]
    parking.remove(session, left, now, _ACTOR)


def _record_receipts(
    session: Session, read: Sequence[tuple[ClaimedReceipt, Receipt]], reading: Reading, now: datetime
) -> list[Verdict]:
    if not read:
        return []
    known = correlation.look_up(session, read)
    found: list[MatchedReceipt] = []
    strays: list[tuple[ClaimedReceipt, Receipt]] = []
    verdicts: list[Verdict] = []
    for row, receipt in read:
        match = correlation.correlate(row, receipt, known)
        if isinstance(match, Match):
            known.learn(receipt, match)
            found.append((row, receipt, match))
        elif match.outcome is ReceiptOutcome.UNMATCHED:
            strays.append((row, receipt))
        else:
            verdicts.append((row, match.outcome, match.reason))
    parking.hold(
        session,
        {receipt.transaction_id for _, receipt in strays if receipt.transaction_id},
        {receipt.client_ref for _, receipt in strays if receipt.client_ref},
    )
    verdicts += _record(session, found, known.locked, reading.status_map, now)
    return verdicts + _keep_strays(session, strays, reading, now)


def _record(
    session: Session,
    found: Sequence[MatchedReceipt],
    locked: Mapping[UUID, LockedMessage],
    status_map: StatusMap,
    now: datetime,
) -> list[Verdict]:
    """Record receipts that found their messages."""
    touched = {match.message_id: locked[match.message_id] for _, _, match in found}
    noted = [
        (touched[match.message_id], receipt.transaction_id) for _, receipt, match in found if receipt.transaction_id
    ]
    transitions.link_transactions(session, noted, "receipt", now)
    entries = [(match.message_id, _entry(row, receipt, match, status_map)) for row, receipt, match in found]
    effects = transitions.record(session, touched, entries, now)
    return [
        (row, ReceiptOutcome(effect.value), "; ".join(receipt.notes) or None)
        for (row, receipt, _), effect in zip(found, effects, strict=True)
    ]


def _keep_strays(
    session: Session, strays: Sequence[tuple[ClaimedReceipt, Receipt]], reading: Reading, now: datetime
) -> list[Verdict]:
    """Adopt or park what fits no message, unless one has come to fit meanwhile: that is for the next batch.

    The caller holds what they speak of.
    """
    if not strays:
        return []
    known = correlation.look_up(session, strays, only_look=True)
    adopted: list[tuple[ClaimedReceipt, Receipt]] = []
    parked: list[tuple[ClaimedReceipt, Receipt, NoMatch, datetime | None]] = []
    later: list[ClaimedReceipt] = []
    for row, receipt in strays:
        match = correlation.correlate(row, receipt, known)
        if isinstance(match, Match) or match.outcome is not ReceiptOutcome.UNMATCHED:
            later.append(row)
            continue
        due_at = None if match.candidates else external_messages.due_at(row, receipt, reading.adopt_after)
        if due_at is not None and due_at <= now:
            adopted.append((row, receipt))
        else:
            parked.append((row, receipt, match, due_at))
    parking.park(
        session,
        [
            UnmatchedReceipt(
                receipt_id=row.id,
                transaction_id=receipt.transaction_id,
                client_ref=receipt.client_ref,
                candidates=why.candidates,
                not_before=due_at,
            )
            for row, receipt, why, due_at in parked
        ],
        now,
    )
    found, as_well = external_messages.adopt(session, adopted, now)
    parking.release(
        session,
        transaction_ids={receipt.transaction_id for _, receipt, _ in found if receipt.transaction_id},
        client_refs={receipt.client_ref for _, receipt, _ in found if receipt.client_ref},
        now=now,
    )
    for row in [*later, *as_well]:
        pending.postpone(session, row._replace(tries=row.tries - 1), now, "its message has come meanwhile")
    locked = transitions.lock_messages(session, {match.message_id for _, _, match in found})
    verdicts: list[Verdict] = [(row, ReceiptOutcome.UNMATCHED, why.reason) for row, _, why, _ in parked]
    return verdicts + _record(session, found, locked, reading.status_map, now)


def _entry(row: ClaimedReceipt, receipt: Receipt, match: Match, status_map: StatusMap) -> transitions.NewTransition:
    return transitions.NewTransition(
        report=Report(
            source=Source.GATEWAY,
            status=status_map.status_for(receipt.status_id, receipt.description),
            received_at=row.received_at,
            occurred_at=receipt.occurred_at,
            provider_status_id=receipt.status_id,
            provider_description=receipt.description,
        ),
        rule=match.rule,
        reason="; ".join(receipt.notes) or None,
        receipt_id=row.id,
        map_version=status_map.version,
    )
