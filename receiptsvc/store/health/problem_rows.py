"""The rows behind a problem: by which filter the lists of receipts or messages have them, and the newest of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.problems import OTHERS, Cause, Kind
from receiptsvc.domain.statuses import Status
from receiptsvc.domain.waiting import OVERDUE_AFTER
from receiptsvc.store.core.models import Message, ProblemRow
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import ReceiptEntry, ReceiptFilter
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.listing import MessageFilter

MAX_EXAMPLES = 5
_LOOKED_AT = 50  # rows

Rows: TypeAlias = ReceiptFilter | MessageFilter

_OUTCOMES = {
    Kind.UNMAPPED: ReceiptOutcome.UNMAPPED,
    Kind.UNMATCHED: ReceiptOutcome.UNMATCHED,
    Kind.QUARANTINED: ReceiptOutcome.QUARANTINED,
    Kind.DEAD: ReceiptOutcome.DEAD,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFilter:
    """What lists a problem's rows. `is_exact`: it lists none of other causes, for which there is no filter."""

    where: Rows
    is_exact: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Some of a problem's rows."""

    receipts: Sequence[ReceiptEntry] = ()
    messages: Sequence[Message] = ()


def filter_of(row: ProblemRow, now: datetime) -> RowFilter | None:
    """What lists a problem's rows; None: it has none."""
    kind, cause = Kind(row.kind), row.cause
    if kind in _OUTCOMES:
        return _filter_of_receipts(kind, cause)
    if kind is Kind.OVERDUE:
        statuses = (Status.SUBMITTED.value, Status.SENT.value)
        # It goes by when they were accepted, so those that are to be delivered later are in it.
        where = MessageFilter(statuses=statuses, originator=cause.get("originator"), until=now - OVERDUE_AFTER)
        return RowFilter(where=where, is_exact=False)
    if kind is Kind.SEND_UNKNOWN:
        return RowFilter(where=MessageFilter(statuses=(Status.SEND_UNKNOWN.value,)), is_exact=True)
    return None


def find_examples(session: Session, row: ProblemRow, rows: RowFilter | None) -> Examples:
    """The newest of a problem's rows, as far as they are found, and told from others, among some of the newest."""
    if rows is not None and isinstance(rows.where, MessageFilter):
        messages = listing.list_messages(session, rows.where, limit=_LOOKED_AT).items
        fitting = messages if rows.is_exact else [each for each in messages if _is_overdue(each, row.cause, rows.where)]
        return Examples(messages=fitting[:MAX_EXAMPLES])
    if rows is not None and rows.is_exact and isinstance(rows.where, ReceiptFilter):
        return Examples(receipts=receipts.list_receipts(session, rows.where, limit=_LOOKED_AT).items[:MAX_EXAMPLES])
    return Examples()


def _filter_of_receipts(kind: Kind, cause: Cause) -> RowFilter:
    channel = Channel(cause["channel"]) if "channel" in cause else None
    names = ReferenceFilter(
        provider_status_id=cause.get("code"), provider_description=cause.get("description"), kid=cause.get("kid")
    )
    # Receipts that have a code may have the same description; those with a wrong key are on the same channel.
    is_exact = (
        (kind is Kind.UNMATCHED and "channel" in cause)
        or (kind is Kind.UNMAPPED and "code" in cause)
        or (kind is Kind.QUARANTINED and "kid" in cause)
    )
    return RowFilter(where=ReceiptFilter(outcomes=(_OUTCOMES[kind],), channel=channel, names=names), is_exact=is_exact)


def _is_overdue(message: Message, cause: Cause, where: MessageFilter) -> bool:
    """Whether a message is one of a sender's that wait too long."""
    is_of_cause = cause != OTHERS and message.originator == cause.get("originator")
    since = message.deliver_after or message.created_at
    return is_of_cause and where.until is not None and since < where.until
