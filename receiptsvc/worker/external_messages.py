"""Messages that another system on the same account sent: known here by their receipts alone.

A receipt that comes to the static address and fits nothing of ours waits a while, since ours may yet fit; then a
message is made for it, of origin `external`, by transactionID and recipient, else by clientRef and recipient.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Receipt
from receiptsvc.store.core.models import Message
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import transitions
from receiptsvc.worker.correlation import Match, tail

BY_TRANSACTION = "adopted by transactionID and recipient"
BY_CLIENT_REF = "adopted by clientRef and recipient"


def due_at(row: ClaimedReceipt, receipt: Receipt, after: timedelta | None) -> datetime | None:
    """When a receipt that fits nothing may be adopted; None: never."""
    is_adoptable = row.channel == Channel.ACCOUNT and not row.is_unauthenticated and _number(receipt)
    says_which = receipt.transaction_id or receipt.client_ref
    return row.received_at + after if after is not None and is_adoptable and says_which else None


def adopt(
    session: Session, strays: Sequence[tuple[ClaimedReceipt, Receipt]], now: datetime
) -> tuple[list[tuple[ClaimedReceipt, Receipt, Match]], list[ClaimedReceipt]]:
    """Make the messages of these receipts, one for all that speak of the same. The caller holds what they speak of.

    Gives too those that may be about a message just made, though they don't say so outright: they are for the next
    batch, where the ordinary rules decide.
    """
    made: dict[tuple[str | None, str | None, str], Message] = {}
    spoken_of: set[tuple[str, str | None, str]] = set()
    found: list[tuple[ClaimedReceipt, Receipt, Match]] = []
    later: list[ClaimedReceipt] = []
    for row, receipt in strays:
        number = _number(receipt)
        key = (receipt.transaction_id, None if receipt.transaction_id else receipt.client_ref, number)
        names = {
            (kind, name, tail(number))
            for kind, name in (("transaction", receipt.transaction_id), ("clientRef", receipt.client_ref))
            if name
        }
        if key not in made:
            if names & spoken_of:
                later.append(row)
                continue
            made[key] = _message(receipt, number)
        spoken_of |= names
        rule = BY_TRANSACTION if receipt.transaction_id else BY_CLIENT_REF
        found.append((row, receipt, Match(message_id=made[key].id, rule=rule)))
    transitions.accept_external(session, list(made.values()), now)
    return found, later


def _message(receipt: Receipt, number: str) -> Message:
    message_id: UUID = ids.new()
    return Message(
        id=message_id,
        conversation_id=transitions.conversation_id(client_ref=receipt.client_ref, recipient=number, originator=None),
        created_by="gateway",
        recipient=number,
        text="",
        originator=None,
        client_ref=receipt.client_ref,
        reject_unicode=False,
        include_message_text=False,
        additional_options={},
        message_guid=message_id.hex,  # nobody ever offers it
        transport="none",
        encoding="unknown",
        segments=0,
        warnings=[],
    )


def _number(receipt: Receipt) -> str:
    """The recipient as we write numbers: digits only, as far as that can be known without the country."""
    digits = "".join(letter for letter in receipt.recipient or "" if letter in "0123456789")
    return digits.removeprefix("00")
