"""What is done with a batch of taken receipts and replies, in one transaction: read, match, record, settle.

Which are taken, and what follows if a batch fails, belongs in `receipt_processor`. What bytes mean belongs in a
gateway's `CallbackReader`, which message they belong to in `domain.correlation`, what a status becomes in
`domain.statuses`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain import correlation, gateway_clock
from receiptsvc.domain.callback_reader import CallbackReader, report_of
from receiptsvc.domain.correlation import Match, NoMatch
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.gateway_clock import Vote
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Receipt, Reply
from receiptsvc.domain.statuses import Status
from receiptsvc.store.inbound import consents, replies
from receiptsvc.store.inbound.replies import ReplyRules
from receiptsvc.store.inbox import dropped, parking, pending, receipt_references, time_slices
from receiptsvc.store.inbox.parking import UnmatchedReceipt
from receiptsvc.store.inbox.pending import ClaimedReceipt, Postponed, Verdict
from receiptsvc.store.inbox.receipt_references import FORGETTING, NAMING
from receiptsvc.store.inbox.receipts import describe_matches
from receiptsvc.store.messages import clock_votes, transitions
from receiptsvc.store.messages.transitions import LockedMessage
from receiptsvc.worker import external_messages, match_context
from receiptsvc.worker.pending_queue import PendingQueue

_ACTOR = "worker"
_MAX_READ = 5_000  # receipts of a batch, before what may hold many is left for later: some tenths of a second
_MAX_NEW_PARTS = 2_000  # of a batch; one callback in a turn of its own may have all it can hold
_LONG_BYTES = 512
_PACKED = (b"\x1f", b"\x78")  # how gzip and zlib begin

ParsedReceipt: TypeAlias = tuple[ClaimedReceipt, Receipt]
MatchedReceipt: TypeAlias = tuple[ClaimedReceipt, Receipt, Match]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptRules:
    """The settings that decide what receipts and replies mean.

    `adopt_after`: how long a receipt of another system's message waits before a message is made for it; None: for ever.
    `suppresses_opt_outs`: whether opt-outs suppress further messages to their senders, and opt-ins allow them again.
    """

    reader: CallbackReader
    adopt_after: timedelta | None = None
    replies: ReplyRules = field(default_factory=ReplyRules)
    suppresses_opt_outs: bool = False

    @classmethod
    def of(cls, settings: Settings, reader: CallbackReader) -> "ReceiptRules":
        """The rules of these settings."""
        return cls(
            reader=reader,
            adopt_after=settings.adopt_after,
            replies=ReplyRules(
                window=settings.reply_window,
                opt_out_words=settings.opt_out_words,
                opt_in_words=settings.opt_in_words,
            ),
            suppresses_opt_outs=settings.suppresses_opt_outs,
        )


def work_on(
    session: Session,
    rows: Sequence[ClaimedReceipt],
    rules: ReceiptRules,
    now: datetime,
    queue: PendingQueue | None = None,
) -> None:
    """Read, match, record and settle taken receipts, in the caller's transaction."""
    queue = queue or PendingQueue()
    surely_kept = time_slices.first_surely_kept(now)
    done = dropped.find_outcomes(session, [row.id for row in rows if row.id < surely_kept])
    verdicts: list[Verdict] = [(row, done[row.id], None) for row in rows if row.id in done]
    receipts: list[ParsedReceipt] = []
    answering: list[ClaimedReceipt] = []
    inbound: list[tuple[ClaimedReceipt, Reply]] = []
    reported: list[ClaimedReceipt] = []
    unreadable: dict[UUID, None] = {}
    for row in rows:
        if row.id in done:
            continue
        if row.is_unauthenticated and row.assigned_to is None:
            verdicts.append((row, ReceiptOutcome.QUARANTINED, "its key was wrong"))
        elif row.channel == Channel.INBOUND:
            answering.append(row)
        else:
            reported.append(row)
    answered, too_many = queue.part_replies(answering)
    for row in answered:
        try:
            inbound.append((row, rules.reader.read_reply(pending.callback_of(session, row), row.received_at)))
        except Unreadable as error:
            unreadable[row.id] = None
            verdicts.append((row, ReceiptOutcome.QUARANTINED, str(error)))
    said, new_parts = _read_and_split(session, reported, rules.reader, queue)
    large = [(row._replace(is_large=True), row.next_at, None) for row in reported if row.id not in said]
    for row, receipt in ((row, said[row.id]) for row in reported if row.id in said):
        if isinstance(receipt, Unreadable):
            unreadable[row.id] = None
            verdicts.append((row, ReceiptOutcome.QUARANTINED, str(receipt)))
        else:
            receipts.append((row, receipt))
    queue.note_new(new_parts)
    receipts, held_back = queue.part_crowds(receipts)
    recorded, retried = _record_receipts(session, receipts, rules, now)
    verdicts += recorded
    verdicts += _record_replies(session, inbound, rules, now)
    odd = [row for row, outcome, _ in verdicts if outcome in NAMING]
    if odd:
        read = {row.id: receipt for row, receipt in receipts}
        write_references(session, odd, {**unreadable, **read}, rules.reader)
    settle(session, rows, verdicts, now, later=[*too_many, *large, *held_back, *retried], new_parts=new_parts)


def write_references(
    session: Session, rows: Sequence[ClaimedReceipt], read: Mapping[UUID, Receipt | None], reader: CallbackReader
) -> None:
    """Write down what receipts name that are not simply recorded.

    `read`: what those say that were read, None if they can't be; the others are read now.
    """
    named = [(row, read[row.id] if row.id in read else _read_again(session, row, reader)) for row in rows]
    found = (receipt_references.row_of(row.id, receipt, row.claimed_kid or None) for row, receipt in named)
    receipt_references.write(session, [values for values in found if values is not None])


def _read_again(session: Session, row: ClaimedReceipt, reader: CallbackReader) -> Receipt | Reply | None:
    """What a receipt says that may not be read for what it says: its key was wrong, or work on it fails."""
    callback = pending.callback_of(session, row)
    try:
        if row.channel == Channel.INBOUND:
            return reader.read_reply(callback, row.received_at)
        receipts = reader.read_receipts(callback, row.received_at)
    except Unreadable:
        return None
    except Exception as error:  # noqa: BLE001 - it may be what the work failed on
        logs.warning("process.names_unread", receipt=str(row.id), error=logs.describe(error))
        return None
    receipt = receipts[min(row.part, len(receipts) - 1)]
    return None if isinstance(receipt, Unreadable) else receipt


def _read_and_split(
    session: Session, rows: Sequence[ClaimedReceipt], reader: CallbackReader, queue: PendingQueue
) -> tuple[dict[UUID, Receipt | Unreadable], int]:
    """Read the receipts of rows; and how many rows were added for further receipts of the same callbacks.

    The added rows are for the next batches: there can be thousands. What is missing in the result was not read, or not
    split: it would take the others of the batch too long, and needs a turn of its own. Some hundred bytes can hold ten
    thousand receipts, so that the length of a callback tells little.
    """
    said: dict[UUID, Receipt | Unreadable] = {}
    read, new_parts = 0, 0
    # Parts of callbacks of the same millisecond lie among each other: each callback is read once all the same.
    for row in sorted(rows, key=lambda row: row.callback_id or row.id):
        callback_id = row.callback_id or row.id
        receipts = queue.read_callbacks.get(callback_id)
        if receipts is None:
            if read > _MAX_READ and row.callback_id is None and _may_hold_many(row):
                continue
            receipts = reader.read_receipts(pending.callback_of(session, row), row.received_at)
            read += len(receipts)
        if len(receipts) == 1:
            said[row.id] = receipts[0]
            continue
        queue.read_callbacks.keep(callback_id, receipts)
        if row.callback_id is None and not pending.has_parts(session, row):
            if new_parts + len(receipts) > _MAX_NEW_PARTS and (new_parts or not row.is_large):
                continue
            new_parts += pending.add_parts(session, row, len(receipts))
            queue.note_parts(row, len(receipts))
        said[row.id] = receipts[min(row.part, len(receipts) - 1)]
    return said, new_parts


def _may_hold_many(row: ClaimedReceipt) -> bool:
    """Whether there may be many receipts in a callback: it is long, or perhaps compressed."""
    is_packed = row.content_encoding is not None or row.body[:1] in _PACKED
    return row.is_large or is_packed or len(row.query) + len(row.body) > _LONG_BYTES


def _record_receipts(
    session: Session, receipts: Sequence[ParsedReceipt], rules: ReceiptRules, now: datetime
) -> tuple[list[Verdict], list[Postponed]]:
    """Correlate receipts with messages; record those that match, adopt or park those that match none."""
    if not receipts:
        return [], []
    context = match_context.load(session, receipts)
    matched: list[MatchedReceipt] = []
    unmatched: list[ParsedReceipt] = []
    verdicts: list[Verdict] = []
    for row, receipt in receipts:
        match = correlation.correlate(row, receipt, context)
        if isinstance(match, Match):
            context.learn(receipt, match)
            matched.append((row, receipt, match))
        elif match.outcome is ReceiptOutcome.UNMATCHED:
            unmatched.append((row, receipt))
        else:
            verdicts.append((row, match.outcome, match.reason))
    if unmatched:  # before any count is added to
        parking.lock(
            session,
            {receipt.transaction_id for _, receipt in unmatched if receipt.transaction_id},
            {receipt.client_ref for _, receipt in unmatched if receipt.client_ref},
        )
    verdicts += _record_matches(session, matched, context.messages, rules.reader, now)
    ended, later = _adopt_or_park(session, unmatched, context.messages, rules, now)
    return verdicts + ended, later


def _record_matches(
    session: Session,
    matched: Sequence[MatchedReceipt],
    locked: Mapping[UUID, LockedMessage],
    reader: CallbackReader,
    now: datetime,
) -> list[Verdict]:
    """Record receipts as transitions of their messages."""
    matched = _note_hands(session, matched)
    messages = {match.message_id: locked[match.message_id] for _, _, match in matched}
    links = [
        (messages[match.message_id], receipt.transaction_id) for _, receipt, match in matched if receipt.transaction_id
    ]
    transitions.link_transactions(session, links, "receipt", now)
    entries = [(match.message_id, _transition_of(row, receipt, match, reader)) for row, receipt, match in matched]
    effects = transitions.record(session, messages, entries, now)
    return [
        (row, ReceiptOutcome(effect.value), _notes_of(receipt, match))
        for (row, receipt, match), effect in zip(matched, effects, strict=True)
    ]


def _note_hands(session: Session, matched: Sequence[MatchedReceipt]) -> Sequence[MatchedReceipt]:
    """The same, with a note of who matched what was matched by hand: it is a person's word that it is the message's."""
    by_hand = describe_matches(session, [row.id for row, _, match in matched if match.rule == correlation.BY_HAND])
    if not by_hand:
        return matched
    return [(row, receipt, replace(match, note=by_hand.get(row.id, match.note))) for row, receipt, match in matched]


def _transition_of(
    row: ClaimedReceipt, receipt: Receipt, match: Match, reader: CallbackReader
) -> transitions.NewTransition:
    return transitions.NewTransition(
        report=report_of(receipt, row.received_at, reader),
        rule=match.rule,
        reason=_notes_of(receipt, match),
        receipt_id=row.id,
        map_version=reader.version,
    )


def _notes_of(receipt: Receipt, match: Match) -> str | None:
    notes = receipt.notes if match.note is None else (*receipt.notes, match.note)
    return "; ".join(notes) or None


def _adopt_or_park(
    session: Session,
    unmatched: Sequence[ParsedReceipt],
    locked: Mapping[UUID, LockedMessage],
    rules: ReceiptRules,
    now: datetime,
) -> tuple[list[Verdict], list[Postponed]]:
    """Adopt or park receipts that match no message; postpone those whose message has appeared meanwhile.

    Those that match if the gateway's clock is in another zone are recorded here: all others of the batch are by now,
    and may show that it is not. The caller holds the parking locks of their transactionIDs and clientRefs, and the
    messages that are `locked`.
    """
    if not unmatched:
        return [], []
    context = match_context.load(session, unmatched, locks_messages=False)
    adoptable: list[ParsedReceipt] = []
    hints: dict[UUID, str] = {}  # of those, what stays known of the gateway's clock
    parked: list[tuple[ClaimedReceipt, Receipt, NoMatch, datetime | None]] = []
    retried: list[ClaimedReceipt] = []
    shifted: list[MatchedReceipt] = []
    clock = _GatewayClock(session, min(row.received_at for row, _ in unmatched))
    for row, receipt in unmatched:
        match = correlation.correlate(row, receipt, context)
        if isinstance(match, NoMatch) and match.if_shifted is not None:
            status = rules.reader.status_for(receipt.status_id, receipt.description)
            match = match if clock.is_setting_right(status, row.received_at) else match.if_shifted
        if isinstance(match, Match) and match.rule == correlation.BY_SHIFTED_CLOCK and match.message_id in locked:
            context.learn(receipt, match)
            shifted.append((row, receipt, match))
            continue
        if isinstance(match, Match) or match.outcome is not ReceiptOutcome.UNMATCHED:
            retried.append(row)
            continue
        adopt_at = None if match.candidates else correlation.adopt_at(row, receipt, rules.adopt_after)
        if adopt_at is not None and adopt_at <= now:
            adoptable.append((row, receipt))
            if gateway_clock.read_hint(match.reason) is not None:
                hints[row.id] = match.reason
        else:
            parked.append((row, receipt, match, adopt_at))
    parking.park(
        session,
        [
            UnmatchedReceipt(
                receipt_id=row.id,
                transaction_id=receipt.transaction_id,
                client_ref=receipt.client_ref,
                candidates=no_match.candidates,
                not_before=adopt_at,
            )
            for row, receipt, no_match, adopt_at in parked
        ],
        now,
    )
    recorded = _record_matches(session, shifted, locked, rules.reader, now) if shifted else []
    adopted, ambiguous = external_messages.adopt(session, adoptable, now)
    parking.release(
        session,
        transaction_ids={receipt.transaction_id for _, receipt, _ in adopted if receipt.transaction_id},
        client_refs={receipt.client_ref for _, receipt, _ in adopted if receipt.client_ref},
        now=now,
    )
    # Not a failure: the try is not counted.
    later: list[Postponed] = [
        (row._replace(tries=0), now, "its message has come meanwhile") for row in [*retried, *ambiguous]
    ]
    adopted = [(row, receipt, replace(match, note=hints.get(row.id))) for row, receipt, match in adopted]
    made = transitions.lock_messages(session, {match.message_id for _, _, match in adopted})
    recorded += _record_matches(session, adopted, made, rules.reader, now)
    verdicts: list[Verdict] = [(row, ReceiptOutcome.UNMATCHED, no_match.reason) for row, _, no_match, _ in parked]
    return verdicts + recorded, later


class _GatewayClock:
    """What recorded receipts show of the gateway's clock. They are read if anybody asks."""

    def __init__(self, session: Session, earliest_at: datetime) -> None:
        self._session, self._since = session, earliest_at - gateway_clock.WINDOW
        self._votes: Sequence[Vote] | None = None

    def is_setting_right(self, status: Status | None, received_at: datetime) -> bool:
        if self._votes is None:
            self._votes = clock_votes.read(self._session, self._since)
        return gateway_clock.is_setting_right(self._votes, status, received_at)


def _record_replies(
    session: Session, inbound: Sequence[tuple[ClaimedReceipt, Reply]], rules: ReceiptRules, now: datetime
) -> list[Verdict]:
    if not inbound:
        return []
    replies.lock_msgids(session, [reply.msgid for _, reply in inbound if reply.msgid])
    verdicts: list[Verdict] = [
        (row, *replies.record(session, row, reply, now, rules.replies)) for row, reply in inbound
    ]
    if rules.suppresses_opt_outs:
        consents.follow(session, [row.id for row, _ in inbound], _ACTOR, now)
    return verdicts


def settle(
    session: Session,
    taken: Sequence[ClaimedReceipt],
    verdicts: Sequence[Verdict],
    now: datetime,
    *,
    later: Sequence[Postponed] = (),
    new_parts: int = 0,
) -> None:
    """End what was taken. What had an outcome before, and is now matched, leaves the parking lot."""
    pending.settle(session, taken, verdicts, now, later=later, new_parts=new_parts)
    unparked = [
        (row.id, outcome, reason)
        for row, outcome, reason in verdicts
        if row.processed_at is not None and outcome is not ReceiptOutcome.UNMATCHED
    ]
    parking.remove(session, unparked, now, _ACTOR)
    # What a person matched keeps what it names, which may be something else than its message has.
    by_hand = {row.id for row in taken if row.assigned_to is not None}
    recorded = [receipt_id for receipt_id, outcome, _ in unparked if outcome in FORGETTING]
    receipt_references.forget(session, [receipt_id for receipt_id in recorded if receipt_id not in by_hand])
