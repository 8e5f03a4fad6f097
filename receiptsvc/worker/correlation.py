"""Which message a receipt is about: rules in a fixed order, each with the name that its transition will carry.

Nothing here guesses. A receipt that fits no message, or two, says so and stays in the inbox.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import phonenumbers
from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import InboxOutcome
from receiptsvc.domain.messages import Receipt
from receiptsvc.store import messages
from receiptsvc.store.models import InboxRow, Message, MessageTransaction

BY_TOKEN = "token"  # noqa: S105 - a rule's name
BY_TRANSACTION = "transactionID and recipient"
BY_LONE_TRANSACTION = "transactionID"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The message that a receipt is about, and the rule that says so."""

    message_id: UUID
    rule: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stray:
    """A receipt that can't be given to a message, and why."""

    outcome: InboxOutcome
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the store knows about a batch of receipts. The messages are locked."""

    messages: Mapping[UUID, Message]
    by_transaction: Mapping[str, Sequence[MessageTransaction]]


def look_up(session: Session, read: Iterable[tuple[InboxRow, Receipt]]) -> Known:
    """Find and lock every message that these receipts may be about."""
    read = list(read)
    noted = messages.transactions(session, {receipt.transaction_id for _, receipt in read if receipt.transaction_id})
    by_transaction = defaultdict(list)
    for row in noted:
        by_transaction[row.transaction_id].append(row)
    wanted = {row.message_id for row, _ in read if row.message_id} | {row.message_id for row in noted}
    return Known(messages=messages.lock(session, wanted), by_transaction=by_transaction)


def correlate(row: InboxRow, receipt: Receipt, known: Known) -> Found | Stray:
    """The message that a receipt is about, by the first rule that fits."""
    message = known.messages.get(row.message_id) if row.message_id else None
    given = known.by_transaction.get(receipt.transaction_id, ()) if receipt.transaction_id else ()
    if message is not None:
        return _by_token(message, receipt, given)
    fitting = [one for one in given if receipt.recipient is None or same_number(receipt.recipient, one.recipient)]
    if len(fitting) == 1:
        return Found(
            message_id=fitting[0].message_id, rule=BY_TRANSACTION if receipt.recipient else BY_LONE_TRANSACTION
        )
    return Stray(outcome=InboxOutcome.UNMATCHED, reason=_why_unmatched(row, receipt, given, fitting))


def same_number(written: str, recipient: str) -> bool:
    """Whether a number, however it is written, is this recipient's (international, digits only)."""
    if written.strip().lstrip("+") == recipient:
        return True
    wanted = _parsed(f"+{recipient}")
    if wanted is None:
        return False
    region = phonenumbers.region_code_for_country_code(wanted.country_code or 0)
    given = (_parsed(written, region), _parsed(f"+{written.strip().lstrip('+0')}"))
    return any(
        (one.country_code, one.national_number) == (wanted.country_code, wanted.national_number) for one in given if one
    )


def _parsed(written: str, region: str | None = None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return None


def _by_token(message: Message, receipt: Receipt, given: Sequence[MessageTransaction]) -> Found | Stray:
    if receipt.recipient is not None and not same_number(receipt.recipient, message.recipient):
        return Stray(outcome=InboxOutcome.QUARANTINED, reason="its recipient is not the one of the message it came for")
    answered = [one for one in given if one.source == "answer" and one.recipient == message.recipient]
    if answered and all(one.message_id != message.id for one in answered):
        return Stray(outcome=InboxOutcome.QUARANTINED, reason="its transactionID was given to another message")
    return Found(message_id=message.id, rule=BY_TOKEN)


def _why_unmatched(
    row: InboxRow, receipt: Receipt, given: Sequence[MessageTransaction], fitting: Sequence[MessageTransaction]
) -> str:
    if fitting:
        return f"its transactionID fits {len(fitting)} messages"
    if given:
        return "its transactionID was given for other recipients"
    if row.message_id:
        return "it came for a message that is not here"
    return "no message has its transactionID" if receipt.transaction_id else "it has no transactionID"
