"""Finds the message that a receipt is about: rules in a fixed order, each with the name that its transition carries.

Nothing here guesses. A receipt that fits no message, or several, is a `NoMatch` that says why.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Origin, Receipt
from receiptsvc.domain.statuses import Status
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import Candidate, LockedMessage, TransactionLink

BY_HAND = "matched by hand"
BY_TOKEN = "token"  # noqa: S105 - a rule's name
BY_TRANSACTION = "transactionID and recipient"
BY_LONE_TRANSACTION = "transactionID"
BY_CLIENT_REF = "clientRef and recipient"

_MAX_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The message that a receipt is about, and the rule that found it."""

    message_id: UUID
    rule: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoMatch:
    """Why a receipt has no message. `candidates`: the messages between which nothing decides."""

    outcome: ReceiptOutcome
    reason: str
    candidates: Sequence[UUID] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchContext:
    """What the store knows about a batch of receipts. `locked`: every message that they may be about."""

    locked: Mapping[UUID, LockedMessage]
    by_transaction: dict[str, list[TransactionLink]]
    by_client_ref: Mapping[str, Sequence[Candidate]]

    def learn(self, receipt: Receipt, match: Match) -> None:
        """Add what the next batch would load about this receipt: how receipts are batched must make no difference."""
        if receipt.transaction_id is None:
            return
        message, links = self.locked[match.message_id], self.by_transaction.setdefault(receipt.transaction_id, [])
        if message.transaction_id is None:
            message.transaction_id = receipt.transaction_id
        if all(link.message_id != message.id for link in links):
            links.append(TransactionLink(receipt.transaction_id, message.id, message.recipient, "receipt"))


def load_context(
    session: Session, receipts: Sequence[tuple[ClaimedReceipt, Receipt]], *, locks_messages: bool = True
) -> MatchContext:
    """Load every message that these receipts may be about, and lock them unless the caller only looks."""
    by_transaction: dict[str, list[TransactionLink]] = {}
    for link in transitions.find_transaction_links(
        session, {receipt.transaction_id for _, receipt in receipts if receipt.transaction_id}
    ):
        by_transaction.setdefault(link.transaction_id, []).append(link)
    message_ids = {row.message_id for row, _ in receipts} | {row.assigned_to for row, _ in receipts}
    message_ids |= {link.message_id for links in by_transaction.values() for link in links}
    # By clientRef only where nothing better is known: a campaign's million messages may share one clientRef.
    references = {
        (receipt.client_ref, numbers.ending(receipt.recipient))
        for row, receipt in receipts
        if row.message_id is None
        and receipt.client_ref
        and receipt.recipient
        and numbers.ending(receipt.recipient)
        and not _links_of_recipient(receipt, by_transaction.get(receipt.transaction_id or "", ()))
    }
    by_client_ref = defaultdict(list)
    for candidate in transitions.find_candidates(session, references):
        by_client_ref[candidate.client_ref].append(candidate)
        message_ids.add(candidate.id)
    return MatchContext(
        locked=transitions.lock_messages(
            session, {message_id for message_id in message_ids if message_id is not None}, takes_lock=locks_messages
        ),
        by_transaction=by_transaction,
        by_client_ref=by_client_ref,
    )


def correlate(row: ClaimedReceipt, receipt: Receipt, context: MatchContext) -> Match | NoMatch:
    """The message that a receipt is about, by the first rule that fits.

    In order: an operator's assignment, the token of its URL, transactionID and recipient, clientRef and recipient.
    """
    if row.assigned_to is not None and row.assigned_to in context.locked:
        return Match(message_id=row.assigned_to, rule=BY_HAND)
    message = context.locked.get(row.message_id) if row.message_id else None
    links = context.by_transaction.get(receipt.transaction_id, ()) if receipt.transaction_id else ()
    if message is not None:
        return _match_by_token(message, receipt, links)
    fitting = _links_of_recipient(receipt, links)
    if len({link.message_id for link in fitting}) == 1:
        return Match(
            message_id=fitting[0].message_id, rule=BY_TRANSACTION if receipt.recipient else BY_LONE_TRANSACTION
        )
    if fitting:
        return NoMatch(
            outcome=ReceiptOutcome.UNMATCHED,
            reason=f"its transactionID fits {len(fitting)} messages",
            candidates=[link.message_id for link in fitting],
        )
    return _match_by_client_ref(row, receipt, links, context)


def _links_of_recipient(receipt: Receipt, links: Iterable[TransactionLink]) -> list[TransactionLink]:
    """The links to messages that went to the receipt's recipient; all of them, if it names none."""
    return [link for link in links if receipt.recipient is None or numbers.is_same(receipt.recipient, link.recipient)]


def _match_by_token(message: LockedMessage, receipt: Receipt, links: Sequence[TransactionLink]) -> Match | NoMatch:
    """The message whose URL the receipt came to, unless its recipient or its transactionID contradicts that."""
    if receipt.recipient is not None and not numbers.is_same(receipt.recipient, message.recipient):
        return NoMatch(
            outcome=ReceiptOutcome.QUARANTINED, reason="its recipient is not the one of the message it came for"
        )
    answered = [link for link in links if link.source == "answer" and link.recipient == message.recipient]
    if answered and all(link.message_id != message.id for link in answered):
        return NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason="its transactionID was given to another message")
    return Match(message_id=message.id, rule=BY_TOKEN)


def _match_by_client_ref(
    row: ClaimedReceipt, receipt: Receipt, links: Sequence[TransactionLink], context: MatchContext
) -> Match | NoMatch:
    """By clientRef and recipient: the only message offered before the receipt's time with no other transactionID."""
    latest = receipt.occurred_at + _MAX_CLOCK_SKEW if receipt.occurred_at else row.received_at
    number = receipt.recipient or ""
    client_ref = receipt.client_ref if number and row.message_id is None else None
    candidates = context.by_client_ref.get(client_ref, ()) if client_ref else ()
    messages = [message for message in map(context.locked.get, (each.id for each in candidates)) if message is not None]
    similar = [message for message in messages if message.recipient.endswith(numbers.ending(number))]
    fitting = [
        message
        for message in similar
        if (receipt.transaction_id is None or message.transaction_id is None)
        and _was_offered(message, latest)
        and numbers.is_same(number, message.recipient)
    ]
    if len(fitting) > 1 or (fitting and len(similar) >= transitions.MAX_CANDIDATES):
        count = len(fitting) if len(fitting) > 1 else f"{len(similar)} or more"
        reason = f"its clientRef and recipient fit {count} messages"
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=[message.id for message in fitting])
    if not fitting:
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=_explain_no_match(row, receipt, links))
    if receipt.transaction_id is not None and fitting[0].calling_since is not None:
        reason = "the call that gives its message to the gateway has not been answered"
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=[fitting[0].id])
    return Match(message_id=fitting[0].id, rule=BY_CLIENT_REF)


def _was_offered(message: LockedMessage, latest: datetime) -> bool:
    """Whether the gateway can have had a message by then. Other systems' send times are unknown, so theirs can."""
    if message.origin == Origin.EXTERNAL:
        return True
    # An accepted message that is in no call was not sent: had any byte gone out, its status would be higher.
    is_unsent = message.status == Status.ACCEPTED and message.calling_since is None
    return message.offered_at is not None and message.offered_at <= latest and not is_unsent


def _explain_no_match(row: ClaimedReceipt, receipt: Receipt, links: Iterable[TransactionLink]) -> str:
    if links:
        return "its transactionID was given for other recipients"
    if row.message_id:
        return "it came for a message that is not here"
    if receipt.transaction_id:
        return "no message has its transactionID" + (" or its clientRef" if receipt.client_ref else "")
    return "it has no transactionID" + (", and no message has its clientRef" if receipt.client_ref else "")
