"""Which message a receipt is about: rules in a fixed order, each with the name that its transition will carry.

Nothing here guesses. A receipt that fits no message, or several, says so and stays in the inbox.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

import phonenumbers
from sqlalchemy.orm import Session

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

_CLOCKS_DIFFER_BY = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The message that a receipt is about, and the rule that says so."""

    message_id: UUID
    rule: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoMatch:
    """A receipt that can't be given to a message, and why. `candidates`: those among which nothing decides."""

    outcome: ReceiptOutcome
    reason: str
    candidates: Sequence[UUID] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchContext:
    """What the store knows about a batch of receipts. `locked`: every message that they may be about."""

    locked: Mapping[UUID, LockedMessage]
    by_transaction: dict[str, list[TransactionLink]]
    by_client_ref: Mapping[str, Sequence[Candidate]]

    def learn(self, receipt: Receipt, found: Match) -> None:
        """Know of a receipt what the next batch will know of it: how receipts are batched makes no difference."""
        if receipt.transaction_id is None:
            return
        message, given = self.locked[found.message_id], self.by_transaction.setdefault(receipt.transaction_id, [])
        if message.transaction_id is None:
            message.transaction_id = receipt.transaction_id
        if all(one.message_id != message.id for one in given):
            given.append(TransactionLink(receipt.transaction_id, message.id, message.recipient, "receipt"))


def look_up(
    session: Session, read: Sequence[tuple[ClaimedReceipt, Receipt]], *, only_look: bool = False
) -> MatchContext:
    """Find every message that these receipts may be about, and lock those, unless you `only_look`."""
    by_transaction: dict[str, list[TransactionLink]] = {}
    for given in transitions.find_transaction_links(
        session, {receipt.transaction_id for _, receipt in read if receipt.transaction_id}
    ):
        by_transaction.setdefault(given.transaction_id, []).append(given)
    wanted = {row.message_id for row, _ in read} | {row.assigned_to for row, _ in read}
    wanted |= {given.message_id for every in by_transaction.values() for given in every}
    # By clientRef only where nothing better is said: a campaign's clientRef may be that of a million messages.
    vague = {
        (receipt.client_ref, receipt.recipient)
        for row, receipt in read
        if row.message_id is None
        and receipt.client_ref
        and receipt.recipient
        and not _fitting(receipt, by_transaction.get(receipt.transaction_id or "", ()))
    }
    by_client_ref = defaultdict(list)
    for candidate in transitions.find_candidates(
        session, {(ref, tail(number)) for ref, number in vague if ref and number}
    ):
        by_client_ref[candidate.client_ref].append(candidate)
        wanted.add(candidate.id)
    return MatchContext(
        locked=transitions.lock_messages(session, {one for one in wanted if one is not None}, only_look=only_look),
        by_transaction=by_transaction,
        by_client_ref=by_client_ref,
    )


def correlate(row: ClaimedReceipt, receipt: Receipt, known: MatchContext) -> Match | NoMatch:
    """The message that a receipt is about, by the first rule that fits."""
    if row.assigned_to is not None and row.assigned_to in known.locked:
        return Match(message_id=row.assigned_to, rule=BY_HAND)
    message = known.locked.get(row.message_id) if row.message_id else None
    given = known.by_transaction.get(receipt.transaction_id, ()) if receipt.transaction_id else ()
    if message is not None:
        return _by_token(message, receipt, given)
    fitting = _fitting(receipt, given)
    if len({one.message_id for one in fitting}) == 1:
        return Match(
            message_id=fitting[0].message_id, rule=BY_TRANSACTION if receipt.recipient else BY_LONE_TRANSACTION
        )
    if fitting:
        return NoMatch(
            outcome=ReceiptOutcome.UNMATCHED,
            reason=f"its transactionID fits {len(fitting)} messages",
            candidates=[one.message_id for one in fitting],
        )
    return _by_client_ref(row, receipt, given, known)


def _fitting(receipt: Receipt, given: Iterable[TransactionLink]) -> list[TransactionLink]:
    return [one for one in given if receipt.recipient is None or same_number(receipt.recipient, one.recipient)]


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


@lru_cache(maxsize=4096)
def _parsed(written: str, region: str | None = None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return None


def _by_token(message: LockedMessage, receipt: Receipt, given: Sequence[TransactionLink]) -> Match | NoMatch:
    if receipt.recipient is not None and not same_number(receipt.recipient, message.recipient):
        return NoMatch(
            outcome=ReceiptOutcome.QUARANTINED, reason="its recipient is not the one of the message it came for"
        )
    answered = [one for one in given if one.source == "answer" and one.recipient == message.recipient]
    if answered and all(one.message_id != message.id for one in answered):
        return NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason="its transactionID was given to another message")
    return Match(message_id=message.id, rule=BY_TOKEN)


def _by_client_ref(
    row: ClaimedReceipt, receipt: Receipt, given: Sequence[TransactionLink], known: MatchContext
) -> Match | NoMatch:
    """By clientRef and recipient: only one message, offered before the receipt's time, with no other transactionID."""
    latest = receipt.occurred_at + _CLOCKS_DIFFER_BY if receipt.occurred_at else row.received_at
    number = receipt.recipient or ""
    client_ref = receipt.client_ref if number and row.message_id is None else None
    alike = known.by_client_ref.get(client_ref, ()) if client_ref else ()
    every = [message for message in map(known.locked.get, (one.id for one in alike)) if message is not None]
    near = [message for message in every if message.recipient.endswith(tail(number))]
    fitting = [
        message
        for message in near
        if (receipt.transaction_id is None or message.transaction_id is None)
        and _was_offered(message, latest)
        and same_number(number, message.recipient)
    ]
    if len(fitting) > 1 or (fitting and len(near) >= transitions.MAX_CANDIDATES):
        count = len(fitting) if len(fitting) > 1 else f"{len(near)} or more"
        reason = f"its clientRef and recipient fit {count} messages"
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=[message.id for message in fitting])
    if not fitting:
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=_why_unmatched(row, receipt, given))
    if receipt.transaction_id is not None and fitting[0].calling_since is not None:
        reason = "the call that gives its message to the gateway has not been answered"
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=[fitting[0].id])
    return Match(message_id=fitting[0].id, rule=BY_CLIENT_REF)


def _was_offered(message: LockedMessage, latest: datetime) -> bool:
    """Whether the gateway can have had a message by then. When other systems sent theirs is not known."""
    if message.origin == Origin.EXTERNAL:
        return True
    # One that is accepted and in no call was offered in vain: if anything of it had gone out, it would be more.
    is_here = message.status == Status.ACCEPTED and message.calling_since is None
    return message.offered_at is not None and message.offered_at <= latest and not is_here


def tail(number: str) -> str:
    """The digits in which two writings of one number can't differ."""
    return "".join(letter for letter in number if letter.isdigit())[-6:]


def _why_unmatched(row: ClaimedReceipt, receipt: Receipt, given: Iterable[TransactionLink]) -> str:
    if given:
        return "its transactionID was given for other recipients"
    if row.message_id:
        return "it came for a message that is not here"
    if receipt.transaction_id:
        return "no message has its transactionID" + (" or its clientRef" if receipt.client_ref else "")
    return "it has no transactionID" + (", and no message has its clientRef" if receipt.client_ref else "")
