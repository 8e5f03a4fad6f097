"""Messages that another system on the same account sent: known here by their receipts alone.

A receipt that comes to the static address and fits no message waits first, since one of ours may yet fit. Then
(`domain.correlation` says when) it is adopted: a message of origin `external` is made for it, by transactionID and
recipient, else by clientRef and recipient.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import conversations, numbers
from receiptsvc.domain.correlation import BY_ADOPTED_CLIENT_REF, BY_ADOPTED_TRANSACTION, Match
from receiptsvc.domain.messages import NewMessage, Receipt
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import transitions


def adopt(
    session: Session, receipts: Sequence[tuple[ClaimedReceipt, Receipt]], now: datetime
) -> tuple[list[tuple[ClaimedReceipt, Receipt, Match]], list[ClaimedReceipt]]:
    """Make messages for these receipts, one for all that share a reference; the matches, and the ambiguous rows.

    An ambiguous row shares one reference with a message that was just made, but not the one that decides: the next
    batch correlates it by the ordinary rules. The caller holds the parking locks of all references.
    """
    messages: dict[tuple[str | None, str | None, str], NewMessage] = {}
    used: set[tuple[str, str | None, str]] = set()
    adopted: list[tuple[ClaimedReceipt, Receipt, Match]] = []
    ambiguous: list[ClaimedReceipt] = []
    for row, receipt in receipts:
        number = numbers.fold(receipt.recipient or "")
        key = (receipt.transaction_id, None if receipt.transaction_id else receipt.client_ref, number)
        references = {
            (kind, reference, numbers.ending(number))
            for kind, reference in (("transaction", receipt.transaction_id), ("clientRef", receipt.client_ref))
            if reference
        }
        if key not in messages:
            if references & used:
                ambiguous.append(row)
                continue
            messages[key] = _make_message(receipt, number)
        used |= references
        rule = BY_ADOPTED_TRANSACTION if receipt.transaction_id else BY_ADOPTED_CLIENT_REF
        adopted.append((row, receipt, Match(message_id=messages[key].id, rule=rule)))
    transitions.accept_external(session, list(messages.values()), now)
    return adopted, ambiguous


def _make_message(receipt: Receipt, number: str) -> NewMessage:
    message_id: UUID = ids.new()
    return NewMessage(
        id=message_id,
        conversation_id=conversations.conversation_id(client_ref=receipt.client_ref, recipient=number, originator=None),
        created_by="gateway",
        recipient=number,
        text="",
        client_ref=receipt.client_ref,
        message_guid=message_id.hex,  # never sent
        transport="none",
        encoding="unknown",
        segments=0,
    )
