"""Kept callbacks become transitions and replies: claim, read, correlate, record, all in one commit.

A batch that fails is done again row by row. A row that fails keeps failing alone, with growing gaps, and ends `dead`
with its error; it never holds up another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable, Unreadable
from receiptsvc.domain.inbox import Channel, InboxOutcome
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.domain.statuses import Report, Source
from receiptsvc.dynmark import receipts
from receiptsvc.dynmark.codes import Words
from receiptsvc.store import inbox, messages, replies
from receiptsvc.store.db import Database
from receiptsvc.store.models import InboxRow
from receiptsvc.worker import correlation
from receiptsvc.worker.correlation import Found

_MOST_TRIES = 8
_FIRST_GAP = timedelta(seconds=5)

Verdict = tuple[InboxRow, InboxOutcome, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How the gateway's words and times are read."""

    words: Words
    zone: ZoneInfo


def process(database: Database, reading: Reading, now: datetime, limit: int) -> int:
    """Work on up to `limit` kept callbacks that are due; how many. Raises StorageUnavailable."""
    claimed: list[UUID] = []
    try:
        with database.transaction() as session:
            rows = inbox.claim(session, now, limit)
            claimed = [row.id for row in rows]
            _work(session, rows, reading, now)
    except StorageUnavailable:
        raise
    except Exception as error:
        if not claimed:
            raise
        logs.warning("process.batch_failed", rows=len(claimed), error=logs.describe(error))
        for row_id in claimed:
            _process_alone(database, row_id, reading, now)
    return len(claimed)


def _process_alone(database: Database, row_id: UUID, reading: Reading, now: datetime) -> None:
    try:
        with database.transaction() as session:
            _work(session, inbox.claim(session, now, 1, only=row_id), reading, now)
    except StorageUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - this row is set aside with its error
        logs.error("process.row_failed", error, receipt=str(row_id))
        with database.transaction() as session:
            for row in inbox.claim(session, now, 1, only=row_id):
                _set_aside(session, row, logs.describe(error), now)


def _set_aside(session: Session, row: InboxRow, reason: str, now: datetime) -> None:
    if row.tries + 1 >= _MOST_TRIES:
        inbox.settle(session, [(row, InboxOutcome.DEAD, reason)], now)
    else:
        inbox.postpone(row, now + _FIRST_GAP * (1 << row.tries), reason)


def _work(session: Session, rows: Sequence[InboxRow], reading: Reading, now: datetime) -> None:
    verdicts: list[Verdict] = []
    read: list[tuple[InboxRow, Receipt]] = []
    answers: list[tuple[InboxRow, Reply]] = []
    for row in rows:
        if row.is_stranger:
            verdicts.append((row, InboxOutcome.QUARANTINED, "its key was wrong"))
            continue
        callback = Callback(method=row.method, query=row.query, content_type=row.content_type, body=row.body)
        try:
            if row.channel == Channel.INBOUND:
                answers.append((row, receipts.read_reply(callback, reading.zone)))
            else:
                read.append((row, receipts.read_receipt(callback, reading.zone)))
        except Unreadable as error:
            verdicts.append((row, InboxOutcome.QUARANTINED, str(error)))
    verdicts += _record_receipts(session, read, reading.words, now)
    verdicts += [(row, *replies.record(session, row, reply, now)) for row, reply in sorted(answers, key=_msgid)]
    inbox.settle(session, verdicts, now)


def _msgid(answer: tuple[InboxRow, Reply]) -> str:
    return answer[1].msgid or ""


def _record_receipts(
    session: Session, read: Sequence[tuple[InboxRow, Receipt]], words: Words, now: datetime
) -> list[Verdict]:
    known = correlation.look_up(session, read)
    verdicts: list[Verdict] = []
    found: list[tuple[InboxRow, Receipt, Found]] = []
    for row, receipt in read:
        match = correlation.correlate(row, receipt, known)
        if isinstance(match, Found):
            found.append((row, receipt, match))
        else:
            verdicts.append((row, match.outcome, match.reason))
    entries = [(match.message_id, _entry(row, receipt, match, words)) for row, receipt, match in found]
    noted = [
        (known.messages[match.message_id], receipt.transaction_id)
        for _, receipt, match in found
        if receipt.transaction_id
    ]
    messages.note_transactions(session, noted, "receipt", now)
    effects = messages.record(session, known.messages, entries, now)
    for (row, receipt, _), effect in zip(found, effects, strict=True):
        verdicts.append((row, InboxOutcome(effect.value), "; ".join(receipt.notes) or None))
    return verdicts


def _entry(row: InboxRow, receipt: Receipt, match: Found, words: Words) -> messages.Entry:
    return messages.Entry(
        report=Report(
            source=Source.GATEWAY,
            word=words.word_for(receipt.status_id, receipt.description),
            received_at=row.received_at,
            occurred_at=receipt.occurred_at,
            provider_status_id=receipt.status_id,
            provider_description=receipt.description,
        ),
        rule=match.rule,
        reason="; ".join(receipt.notes) or None,
        receipt_id=row.id,
        map_version=words.version,
    )
