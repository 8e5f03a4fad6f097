"""Which message a receipt or a reply is about, and when a stray receipt is adopted.

Rules in a fixed order, each with the name that a transition or a reply carries. Nothing here guesses: a receipt that
fits no message, or several, is a `NoMatch` that says why. What is loaded to decide by is the caller's business.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

from receiptsvc.domain import gateway_clock, numbers
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Origin, Receipt, Reply
from receiptsvc.domain.references import trim_client_ref
from receiptsvc.domain.statuses import Status

BY_HAND = "matched by hand"
BY_TOKEN = "token"  # noqa: S105 - a rule's name
BY_TRANSACTION = "transactionID and recipient"
BY_LONE_TRANSACTION = "transactionID"
BY_CLIENT_REF = "clientRef and recipient"
BY_SHIFTED_CLOCK = "clientRef and recipient, by a clock of another zone"
BY_ADOPTED_TRANSACTION = "adopted by transactionID and recipient"
BY_ADOPTED_CLIENT_REF = "adopted by clientRef and recipient"

LINK_BY_CLIENT_REF = "clientRef"
LINK_BY_LAST_MESSAGE = "the last message sent to this person from this originator"
LINK_ALONE = "nothing was sent to this person from this originator within the reply window"

UNFITTING = "its time or its transactionID fits no message with its clientRef and recipient"

MAX_CANDIDATES = 50  # that are loaded for one clientRef and recipient, and told of any; there may be more

_MAX_CLOCK_SKEW = timedelta(minutes=5)
_UNANSWERED = "the call that gives its message to the gateway has not been answered"
_IS_SHIFTED = "its time fits its message only if the gateway's clock is not in the zone of the setting"


class Arrived(Protocol):
    """How a receipt came."""

    @property
    def channel(self) -> str: ...
    @property
    def is_unauthenticated(self) -> bool: ...
    @property
    def received_at(self) -> datetime: ...


class KeptReceipt(Arrived, Protocol):
    """How a receipt came, and which message that names. `message_id`: of its URL; `assigned_to`: by an operator."""

    @property
    def message_id(self) -> UUID | None: ...
    @property
    def assigned_to(self) -> UUID | None: ...


class Named(Protocol):
    """What a receipt names."""

    @property
    def recipient(self) -> str | None: ...
    @property
    def transaction_id(self) -> str | None: ...
    @property
    def client_ref(self) -> str | None: ...


class NamedMessage(Protocol):
    """What a message has of what receipts name."""

    @property
    def recipient(self) -> str: ...
    @property
    def transaction_id(self) -> str | None: ...
    @property
    def client_ref(self) -> str | None: ...


class KnownMessage(Protocol):
    """What of a message decides whether a receipt is about it."""

    id: UUID
    recipient: str
    origin: str
    offered_at: datetime | None
    calling_since: datetime | None
    status: str
    transaction_id: str | None


Known = TypeVar("Known", bound=KnownMessage)
Naming: TypeAlias = tuple[str, str]  # a clientRef, and the `numbers.ending` of a recipient


class TransactionLink(NamedTuple):
    """A transactionID of a message. `source`: `answer` if a send's answer gave it, `receipt` if a receipt did."""

    transaction_id: str
    message_id: UUID
    recipient: str
    source: str


class TransactionLinks:
    """What is known of one transactionID. Another system's campaign is one transaction of all its recipients, so a
    receipt is only compared with those that end as its recipient does.
    """

    def __init__(self, links: Iterable[TransactionLink] = ()) -> None:
        self._by_message: dict[UUID, TransactionLink] = {}
        self._by_ending: defaultdict[str, list[TransactionLink]] | None = None  # made when one is looked for in several
        for link in links:
            self.add(link)

    def __len__(self) -> int:
        return len(self._by_message)

    def add(self, link: TransactionLink) -> None:
        """Add the link of a message; a message has one for a transactionID."""
        if link.message_id not in self._by_message:
            self._by_message[link.message_id] = link
            if self._by_ending is not None:
                _group(self._by_ending, link)

    def to(self, recipient: str | None) -> list[TransactionLink]:
        """Those to messages that went to a recipient, however it is written; all of them, if none is named."""
        if recipient is None:
            return list(self._by_message.values())
        if len(self._by_message) == 1:  # nearly always, and it is written as we wrote it
            (link,) = self._by_message.values()
            if link.recipient == recipient:
                return [link]
        if self._by_ending is None:
            self._by_ending = defaultdict(list)
            for link in self._by_message.values():
                _group(self._by_ending, link)
        similar = self._by_ending.get(numbers.ending(recipient), ())
        return [link for link in similar if numbers.is_same(recipient, link.recipient)]


def _group(by_ending: defaultdict[str, list[TransactionLink]], link: TransactionLink) -> None:
    by_ending[numbers.ending(link.recipient)].append(link)


class SentMessage(NamedTuple):
    """What of a message decides whether a reply answers it."""

    id: UUID
    conversation_id: UUID
    originator: str | None
    client_ref: str | None
    created_at: datetime


_NO_LINKS = TransactionLinks()


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The message that a receipt is about, and the rule that found it. `note`: what is odd about it, as a sentence.

    `shift`: by which alone its time fits, in quarters of an hour.
    """

    message_id: UUID
    rule: str
    note: str | None = None
    shift: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NoMatch:
    """Why a receipt has no message. `candidates`: the messages between which nothing decides.

    `if_shifted`: what holds instead unless the gateway's clock is known to be in the zone of the setting.
    """

    outcome: ReceiptOutcome
    reason: str
    candidates: Sequence[UUID] = ()
    if_shifted: "Match | NoMatch | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchContext(Generic[Known]):
    """What is known about a batch of receipts. `messages`: every message that they may be about.

    `by_client_ref`: the messages with a clientRef whose numbers end as that of a receipt does, MAX_CANDIDATES at most.
    """

    messages: Mapping[UUID, Known]
    by_transaction: dict[str, TransactionLinks]
    by_client_ref: Mapping[Naming, Collection[UUID]]

    def learn(self, receipt: Receipt, match: Match) -> None:
        """Add what the next batch would load about this receipt: how receipts are batched must make no difference."""
        if receipt.transaction_id is None:
            return
        message = self.messages[match.message_id]
        links = self.by_transaction.setdefault(receipt.transaction_id, TransactionLinks())
        if message.transaction_id is None:
            message.transaction_id = receipt.transaction_id
        links.add(TransactionLink(receipt.transaction_id, message.id, message.recipient, "receipt"))


def correlate(row: KeptReceipt, receipt: Receipt, context: MatchContext[Known]) -> Match | NoMatch:
    """The message that a receipt is about, by the first rule that fits.

    In order: an operator's assignment, the token of its URL, transactionID and recipient, clientRef and recipient.
    """
    if row.assigned_to is not None and row.assigned_to in context.messages:
        return Match(message_id=row.assigned_to, rule=BY_HAND)
    message = context.messages.get(row.message_id) if row.message_id else None
    links = context.by_transaction.get(receipt.transaction_id or "", _NO_LINKS)
    if message is not None:
        return _match_by_token(message, receipt, links)
    fitting = links.to(receipt.recipient)
    if len({link.message_id for link in fitting}) == 1:
        return Match(
            message_id=fitting[0].message_id, rule=BY_TRANSACTION if receipt.recipient else BY_LONE_TRANSACTION
        )
    if fitting:
        return NoMatch(
            outcome=ReceiptOutcome.UNMATCHED,
            reason=f"its transactionID fits {len(fitting)} messages",
            candidates=[link.message_id for link in fitting[:MAX_CANDIDATES]],
        )
    return _match_by_client_ref(row, receipt, links, context)


def describe_hand(actor: str, reason: str | None) -> str:
    """Who matched a receipt by hand, and why, as the note of its match."""
    return f"{BY_HAND} by {actor}{f': {reason}' if reason else ''}"


def names_other_number(named: str | None, recipient: str) -> bool:
    """Whether a receipt that names this recipient, or none, names another number than the one a message went to."""
    if named is None or numbers.is_same(named, recipient):
        return False
    return numbers.describe_rewriting(named, recipient) is None


def describe_likeness(receipt: Named, message: NamedMessage) -> str:
    """What a message has of what a receipt names, and what speaks against it, such as "same number; no clientRef"."""
    is_other = names_other_number(receipt.recipient, message.recipient)
    client_ref = trim_client_ref(receipt.client_ref)
    named = {"number": receipt.recipient, "clientRef": client_ref, "transactionID": receipt.transaction_id}
    has = {"number": message.recipient, "clientRef": message.client_ref, "transactionID": message.transaction_id}
    words: dict[str, list[str]] = {"same": [], "other": [], "no": []}
    for name in (name for name, value in named.items() if value is not None):
        is_same = not is_other if name == "number" else named[name] == has[name]
        words["same" if is_same else "other" if has[name] is not None else "no"].append(name)
    said = [f"{word} {_enumerate(names)}" for word, names in words.items() if names]
    return "; ".join(said) or "nothing to compare"


def adopt_at(row: Arrived, receipt: Named, after: timedelta | None) -> datetime | None:
    """When an unmatched receipt may be adopted, as one of another system's message; None: never."""
    is_of_another_system = row.channel == Channel.ACCOUNT and not row.is_unauthenticated
    has_reference = receipt.transaction_id or receipt.client_ref
    is_adoptable = is_of_another_system and has_reference and numbers.read(receipt.recipient or "")
    return row.received_at + after if after is not None and is_adoptable else None


def find_answered(reply: Reply, sent: Iterable[SentMessage], since: datetime) -> tuple[SentMessage | None, str]:
    """The message that a reply seems to answer, and the reason of its link. `since`: no older message by number.

    `sent`: messages to its sender, the newest first.
    """
    if reply.client_ref:
        return next((each for each in sent if each.client_ref == reply.client_ref), None), LINK_BY_CLIENT_REF
    originator = numbers.fold_originator(reply.recipient)
    for each in sent:
        is_of_originator = each.originator is None or numbers.fold_originator(each.originator) == originator
        if each.created_at > since and is_of_originator:
            return each, LINK_BY_LAST_MESSAGE
    return None, LINK_ALONE


def _enumerate(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _match_by_token(message: KnownMessage, receipt: Receipt, links: TransactionLinks) -> Match | NoMatch:
    """The message whose URL the receipt came to, unless its recipient or its transactionID contradicts that."""
    note = None
    if receipt.recipient is not None and not numbers.is_same(receipt.recipient, message.recipient):
        note = numbers.describe_rewriting(receipt.recipient, message.recipient)
        if note is None:
            return NoMatch(
                outcome=ReceiptOutcome.QUARANTINED, reason="its recipient is not the one of the message it came for"
            )
    answered = [link for link in links.to(message.recipient) if link.source == "answer"]
    if answered and all(link.message_id != message.id for link in answered):
        return NoMatch(outcome=ReceiptOutcome.QUARANTINED, reason="its transactionID was given to another message")
    return Match(message_id=message.id, rule=BY_TOKEN, note=note)


def _match_by_client_ref(
    row: KeptReceipt, receipt: Receipt, links: TransactionLinks, context: MatchContext[Known]
) -> Match | NoMatch:
    """By clientRef and recipient: the only message offered before the receipt's time with no other transactionID."""
    latest = receipt.occurred_at + _MAX_CLOCK_SKEW if receipt.occurred_at else row.received_at
    number = receipt.recipient or ""
    client_ref = receipt.client_ref if number and row.message_id is None else None
    candidates = context.by_client_ref.get((client_ref, numbers.ending(number)), ()) if client_ref else ()
    similar = [message for message in map(context.messages.get, candidates) if message is not None]
    fitting = [
        message
        for message in similar
        if (receipt.transaction_id is None or message.transaction_id is None)
        and _was_offered(message, latest)
        and _has(number, message)
    ]
    if len(fitting) > 1 or (fitting and len(similar) >= MAX_CANDIDATES):
        count = len(fitting) if len(fitting) > 1 else f"{len(similar)} or more"
        reason = f"its clientRef and recipient fit {count} messages"
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=[message.id for message in fitting])
    if not fitting:
        shifted = None if links else _match_by_shifted_clock(row, receipt, similar)
        has_message = any(_has(number, each) for each in similar)
        return NoMatch(
            outcome=ReceiptOutcome.UNMATCHED,
            reason=_explain_no_match(row, receipt, links, has_message=has_message, shifted=shifted),
            if_shifted=shifted,
        )
    if receipt.transaction_id is not None and fitting[0].calling_since is not None:
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=_UNANSWERED, candidates=[fitting[0].id])
    return Match(message_id=fitting[0].id, rule=BY_CLIENT_REF)


def _match_by_shifted_clock(
    row: KeptReceipt, receipt: Receipt, similar: Sequence[KnownMessage]
) -> Match | NoMatch | None:
    """The same, if the gateway's clock is in another zone than the setting says; None: no shift makes any fit.

    `similar`: the messages with its clientRef and the end of its number. Only if one in all has both is it meant.
    """
    occurred_at, number = receipt.occurred_at, receipt.recipient or ""
    if occurred_at is None or not receipt.is_local_time:
        return None
    having = [message for message in similar if _has(number, message)]
    fitting = {
        message.id: shifts
        for message in having
        if (receipt.transaction_id is None or message.transaction_id is None)
        and message.offered_at is not None
        and not _is_unsent(message)
        and (shifts := gateway_clock.find_shifts(occurred_at, message.offered_at, row.received_at))
    }
    if not fitting:
        return None
    candidates = list(fitting)
    if len(having) > 1 or len(similar) >= MAX_CANDIDATES:
        count = f"{len(similar)} or more" if len(similar) >= MAX_CANDIDATES else len(having)
        reason = f"{count} messages have its clientRef and recipient, and its time fits none but by another zone"
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=reason, candidates=candidates)
    [message] = having
    if receipt.transaction_id is not None and message.calling_since is not None:
        return NoMatch(outcome=ReceiptOutcome.UNMATCHED, reason=_UNANSWERED, candidates=candidates)
    shifts = fitting[message.id]
    shift = shifts[0] if len(shifts) == 1 else None
    return Match(message_id=message.id, rule=BY_SHIFTED_CLOCK, note=_IS_SHIFTED, shift=shift)


def _has(number: str, message: KnownMessage) -> bool:
    return numbers.is_same(number, message.recipient)


def _was_offered(message: KnownMessage, latest: datetime) -> bool:
    """Whether the gateway can have had a message by then. Other systems' send times are unknown, so theirs can."""
    if message.origin == Origin.EXTERNAL:
        return True
    return message.offered_at is not None and message.offered_at <= latest and not _is_unsent(message)


def _is_unsent(message: KnownMessage) -> bool:
    """An accepted message that is in no call was not sent: had any byte gone out, its status would be higher."""
    return message.status == Status.ACCEPTED and message.calling_since is None


def _explain_no_match(
    row: KeptReceipt,
    receipt: Receipt,
    links: TransactionLinks,
    *,
    has_message: bool,
    shifted: Match | NoMatch | None,
) -> str:
    """`has_message`: a message has its clientRef and recipient, and something else speaks against it.

    `shifted`: what holds unless the gateway's clock is known to be in the zone of the setting; this is for where it is.
    """
    if links:
        return "its transactionID was given for other recipients"
    if row.message_id:
        return "it came for a message that is not here"
    if isinstance(shifted, Match) and shifted.shift:
        return gateway_clock.write_hint(shifted.shift)
    if has_message:
        return UNFITTING
    by_transaction = "no message has its transactionID" if receipt.transaction_id else "it has no transactionID"
    beside = "no message has its clientRef and recipient" if receipt.recipient else "it names no recipient"
    return f"{by_transaction}, and {beside}" if receipt.client_ref else by_transaction
