"""The rows behind a problem: by which filter the lists of receipts or messages have them, and the newest of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.problems import Kind
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
class Examples:
    """Some of a problem's rows."""

    receipts: Sequence[ReceiptEntry] = ()
    messages: Sequence[Message] = ()


def filter_of(row: ProblemRow, now: datetime) -> Rows | None:
    """What lists a problem's rows; None: it has none.

    It may let others through, too: those of other causes for which there is no filter, such as why work failed.
    """
    kind, cause = Kind(row.kind), row.cause
    if kind in _OUTCOMES:
        return ReceiptFilter(
            outcomes=(_OUTCOMES[kind],),
            channel=Channel(cause["channel"]) if "channel" in cause else None,
            names=ReferenceFilter(
                provider_status_id=cause.get("code"),
                provider_description=cause.get("description"),
                kid=cause.get("kid"),
            ),
        )
    if kind is Kind.OVERDUE:
        statuses = (Status.SUBMITTED.value, Status.SENT.value)
        return MessageFilter(statuses=statuses, originator=cause.get("originator"), until=now - OVERDUE_AFTER)
    if kind is Kind.SEND_UNKNOWN:
        return MessageFilter(statuses=(Status.SEND_UNKNOWN.value,))
    return None


def find_examples(session: Session, rows: Rows | None) -> Examples:
    """The newest of a problem's rows, as far as they are found among some of the newest."""
    if isinstance(rows, ReceiptFilter):
        return Examples(receipts=receipts.list_receipts(session, rows, limit=_LOOKED_AT).items[:MAX_EXAMPLES])
    if isinstance(rows, MessageFilter):
        return Examples(messages=listing.list_messages(session, rows, limit=_LOOKED_AT).items[:MAX_EXAMPLES])
    return Examples()
