"""Records replies: each inbound message once, linked to a conversation, with the reason of the link."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import conversations, correlation, numbers, opt_outs
from receiptsvc.domain.correlation import SentMessage
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.domain.messages import Reply as InboundReply
from receiptsvc.store.core import audits, bulk, locks
from receiptsvc.store.core.locks import Lock
from receiptsvc.store.core.models import RECIPIENT_END, InboxRow, Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import callbacks
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import activity, change_feed

WINDOW = timedelta(days=30)  # after that, a reply no longer belongs to the last message

CORRECTED = (  # of a recorded reply, where something was missed
    *("sender", "recipient", "conversation_id", "message_id", "link"),
    *("occurred_at", "is_opt_out", "is_opt_in"),
)

_MAX_RECENT = 1_000  # messages to one person
_MAX_SCANNED = 10_000  # messages to numbers with the same last digits
_MAX_SIMILAR = 50
_MAX_CLOCK_SKEW = timedelta(minutes=1)  # between the hosts that accept messages and those that take replies


def lock_msgids(session: Session, msgids: Collection[str]) -> None:
    """Lock these msgids until the caller's commit, so that no other transaction records them.

    Call it once in a transaction, for all.
    """
    locks.take(session, Lock.MSGIDS, msgids)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyRules:
    """What decides which message a reply answers, and whether it is an opt-out or opt-in.

    `window`: how long after a message a reply without a clientRef belongs to that message's conversation.
    `opt_out_words`, `opt_in_words`: as `opt_outs.normalise` gives them.
    """

    window: timedelta = WINDOW
    opt_out_words: frozenset[str] = frozenset()
    opt_in_words: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a reply is taken for: the columns of it that are not as they came."""

    sender: str
    recipient: str | None
    conversation_id: UUID
    message_id: UUID | None
    link: str
    is_opt_out: bool
    is_opt_in: bool


_NO_WORDS = ReplyRules()


def read(session: Session, reply: InboundReply, received_at: datetime, rules: ReplyRules) -> tuple[Reading, str | None]:
    """Find whose reply it is, which message it answers of those accepted before it came, and what it asks for.

    Also gives the originator of that message.
    """
    written = numbers.sender(reply.sender or "")
    sender = numbers.fold(written)
    answered, link = _find_answered(session, reply, sender, received_at, rules)
    if answered is None:
        known = numbers.identify_sender(written, _find_similar(session, sender))
        if known is not None and known != sender:
            sender = known
            answered, link = _find_answered(session, reply, sender, received_at, rules)
    recipient = numbers.fold(reply.recipient or "")
    if answered is not None and link == correlation.LINK_BY_LAST_MESSAGE:
        conversation_id = answered.conversation_id
    else:
        conversation_id = conversations.conversation_id(
            client_ref=reply.client_ref, recipient=sender, originator=recipient
        )
    originator = answered.originator if answered is not None else None
    senders = opt_outs.answered_senders(recipient, [] if answered is None else [originator])
    is_opt_out, is_opt_in = _read_words(reply, rules, senders)
    reading = Reading(
        sender=sender,
        recipient=recipient or None,
        conversation_id=conversation_id,
        message_id=answered.id if answered is not None else None,
        link=link,
        is_opt_out=is_opt_out,
        is_opt_in=is_opt_in,
    )
    return reading, originator


class RecordedReply(NamedTuple):
    """A reply as it was recorded, and the callback that brought it. `originator`: of the message it is linked to."""

    id: UUID
    conversation_id: UUID
    message_id: UUID | None
    link: str
    sender: str
    recipient: str | None
    occurred_at: datetime | None
    received_at: datetime
    recorded_at: datetime
    is_opt_out: bool
    is_opt_in: bool
    originator: str | None
    callback: Callback


def find_recorded(
    session: Session, *, limit: int, after: UUID | None = None, is_locked: bool = False
) -> Page[RecordedReply, UUID]:
    """The next replies in the order of ids, fewer than `limit` where their callbacks are long.

    `is_locked`: till the commit, so that they can be corrected.
    """
    own = [getattr(Reply, name) for name in RecordedReply._fields[:-2]]
    query = (
        select(*own, Message.originator, InboxRow.id, callbacks.size_of(InboxRow))
        .join(InboxRow, InboxRow.id == Reply.receipt_id)
        .outerjoin(Message, Message.id == Reply.message_id)
    )
    if after is not None:
        query = query.where(Reply.id > after)
    if is_locked:
        query = query.with_for_update(of=Reply)
    rows = session.execute(query.order_by(Reply.id).limit(limit + 1)).all()
    page = callbacks.cut_to_size(rows, limit, lambda row: row[0])
    kept = callbacks.load(session, {carrier_id for *_, carrier_id, _ in page.items})
    recorded = [
        RecordedReply._make([*columns, kept[carrier_id]])
        for *columns, carrier_id, _ in page.items
        if carrier_id in kept
    ]
    return Page(items=recorded, next=page.next)


def read_again(session: Session, recorded: RecordedReply, reply: InboundReply, rules: ReplyRules) -> RecordedReply:
    """A recorded reply with what was missed of it: its sender, link, time or word. What was found before stays.

    `reply`: what its callback says by today's reader.
    """
    if recorded.occurred_at is None:
        recorded = recorded._replace(occurred_at=reply.occurred_at)
    if recorded.message_id is not None:
        senders = opt_outs.answered_senders(recorded.recipient, [recorded.originator])
        is_opt_out, is_opt_in = _read_words(reply, rules, senders)
    else:
        found, originator = read(session, reply, recorded.received_at, rules)
        is_opt_out, is_opt_in = found.is_opt_out, found.is_opt_in
        if found.message_id is not None or found.sender != recorded.sender:
            recorded = recorded._replace(
                sender=found.sender,
                recipient=found.recipient,
                conversation_id=found.conversation_id,
                message_id=found.message_id,
                link=found.link,
                originator=originator,
            )
    if recorded.is_opt_out or recorded.is_opt_in:
        return recorded
    return recorded._replace(is_opt_out=is_opt_out, is_opt_in=is_opt_in)


def correct(
    session: Session, changed: Sequence[tuple[RecordedReply, RecordedReply]], actor: str, now: datetime
) -> None:
    """Put replies right, each as it was recorded and as it is read now, and write an audit of each."""
    rows = [
        {"id": after.id}
        | {name: getattr(after, name) for name in CORRECTED if getattr(after, name) != getattr(before, name)}
        for before, after in changed
    ]
    bulk.update_all(session, Reply, "id", rows)
    moved = [pair for pair in changed if pair[0].conversation_id != pair[1].conversation_id]
    activity.repair(session, {reply.conversation_id for pair in moved for reply in pair})
    for row in rows:
        audits.write(
            session,
            at=now,
            actor=actor,
            action="read again",
            subject=ids.public("rpl", row["id"]),
            details={"changed": sorted(row.keys() - {"id"})},
        )


def record(
    session: Session, row: ClaimedReceipt, reply: InboundReply, now: datetime, rules: ReplyRules = _NO_WORDS
) -> tuple[ReceiptOutcome, str | None]:
    """Record a reply once; the outcome and the reason for its inbox row. The caller holds the lock of its msgid."""
    reading, _ = read(session, reply, row.received_at, rules)
    fingerprint = _fingerprint(row, reply)
    has_twin = bool(reply.msgid) and session.scalar(  # the same msgid with another content
        select(Reply.id).where(Reply.msgid == reply.msgid, Reply.fingerprint != fingerprint).limit(1)
    )
    statement = bulk.upsert(session, Reply).on_conflict_do_nothing(index_elements=["fingerprint"])
    reply_id = session.scalar(
        statement.returning(Reply.id),
        {
            **asdict(reading),
            "id": ids.new(),
            "receipt_id": row.id,
            "msgid": reply.msgid,
            "content": reply.content or "",
            "client_ref": reply.client_ref,
            "occurred_at": reply.occurred_at,
            "received_at": row.received_at,
            "recorded_at": now,
            "fingerprint": fingerprint,
            "is_conflicting": bool(has_twin),
        },
    )
    notes = "; ".join(reply.notes) or None
    if reply_id is None:
        return ReceiptOutcome.DUPLICATE, notes
    activity.touch(session, [reading.conversation_id], row.received_at, is_reply=True)
    change_feed.record_reply(session, reply_id, now)
    if has_twin:
        return ReceiptOutcome.CONFLICTING, "its msgid came before with another content"
    return ReceiptOutcome.APPLIED, notes


def _read_words(reply: InboundReply, rules: ReplyRules, senders: Collection[str]) -> tuple[bool, bool]:
    """Whether a reply is an opt-out, and whether an opt-in. `senders`: those that it answers."""
    content = reply.content or ""
    is_opt_out = opt_outs.is_word(content, rules.opt_out_words, senders)
    return is_opt_out, not is_opt_out and opt_outs.is_word(content, rules.opt_in_words, senders)


def _find_answered(
    session: Session, reply: InboundReply, sender: str, received_at: datetime, rules: ReplyRules
) -> tuple[SentMessage | None, str]:
    """See `correlation.find_answered`. Reads the newest message with the reply's clientRef, else of each originator."""
    since, until = received_at - rules.window, received_at + _MAX_CLOCK_SKEW
    newest_first = (Message.created_at.desc(), Message.id.desc())
    sent = select(*(getattr(Message, name) for name in SentMessage._fields)).where(
        Message.recipient == sender, Message.created_at <= until
    )
    if reply.client_ref:
        query = sent.where(Message.client_ref == reply.client_ref).order_by(*newest_first).limit(1)
    else:
        recent = sent.where(Message.created_at > since).order_by(*newest_first).limit(_MAX_RECENT).subquery()
        order = (recent.c.created_at.desc(), recent.c.id.desc())
        place = func.row_number().over(partition_by=recent.c.originator, order_by=order).label("place")
        placed = select(recent, place).subquery()
        query = select(*(placed.c[name] for name in SentMessage._fields)).where(placed.c.place == 1)
        query = query.order_by(placed.c.created_at.desc(), placed.c.id.desc())
    return correlation.find_answered(reply, [SentMessage._make(row) for row in session.execute(query)], since)


def _find_similar(session: Session, sender: str) -> Sequence[str]:
    """The recipients whose number ends as the sender's does: of these a national writing may be one.

    Among the newest ten thousand messages to such; none if they are too many to decide between.
    """
    ending = numbers.ending(sender)
    if len(sender) < numbers.MIN_DIGITS or not ending:
        return ()
    newest = (
        select(Message.recipient)
        .where(literal_column(RECIPIENT_END) == ending[-numbers.INDEXED_DIGITS :])
        .order_by(Message.created_at.desc(), Message.id.desc())
        .limit(_MAX_SCANNED)
        .subquery()
    )
    query = select(newest.c.recipient).where(newest.c.recipient.endswith(ending)).distinct().limit(_MAX_SIMILAR)
    similar = session.scalars(query).all()
    return similar if len(similar) < _MAX_SIMILAR else ()


def _fingerprint(row: ClaimedReceipt, reply: InboundReply) -> UUID:
    """Equal for a reply that was forwarded twice. A reply without a msgid never equals another one."""
    parts = (reply.msgid, numbers.fold(reply.sender or ""), reply.content or "") if reply.msgid else ("", row.id.hex)
    return UUID(bytes=blake2b("\0".join(parts).encode(), digest_size=16).digest())
