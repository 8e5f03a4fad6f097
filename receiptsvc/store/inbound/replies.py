"""Replies: inbound messages, each kept once and linked to the conversation that it belongs to, with the reason."""

from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import blake2b
from uuid import UUID
from zlib import crc32

from sqlalchemy import func, or_, select, text
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import opt_outs
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Reply as Said
from receiptsvc.store.core import bulk, upsert
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import Message, Reply
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import activity, change_feed, transitions
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair

WINDOW = timedelta(days=30)  # later than that, a text from somebody begins a conversation of its own

_PLACES = 256
_KIND = 20_160_112  # our locks among those of others
_LOCK = text(
    "SELECT pg_advisory_xact_lock(CAST(:kind AS integer), place) FROM unnest(CAST(:places AS integer[])) AS place"
)

BY_CLIENT_REF = "clientRef"
BY_LAST_MESSAGE = "the last message sent to this person from this originator"
ALONE = "nothing was sent to this person from this originator within the reply window"


def hold(session: Session, msgids: Collection[str]) -> None:
    """Let nobody else look for these msgids until we have written them. SQLite has one writer at a time anyway.

    Once in a transaction, for all. Some may share a place: PostgreSQL has room for some thousands of locks only.
    """
    if msgids and not is_sqlite(session):
        places = sorted({crc32(msgid.encode()) % _PLACES for msgid in msgids})
        session.execute(_LOCK, {"kind": _KIND, "places": places})


def record(
    session: Session,
    row: ClaimedReceipt,
    said: Said,
    now: datetime,
    opt_out_words: Collection[str] = (),
    *,
    within: timedelta = WINDOW,
) -> tuple[ReceiptOutcome, str | None]:
    """Record a reply once; the outcome of its inbox row, and what should be said of it. The caller holds its msgid.

    `opt_out_words`: folded; one whose whole content is one of them is marked as an opt-out. `within`: how long after a
    message it belongs to that message's conversation, where it has no clientRef.
    """
    sender = said.sender or ""
    answered, link = _answered(session, said, sender, row.received_at - within)
    if answered is not None and link == BY_LAST_MESSAGE:
        conversation = answered.conversation_id
    else:
        conversation = transitions.conversation_id(
            client_ref=said.client_ref, recipient=_digits(sender), originator=_digits(said.recipient or "")
        )
    differing = bool(said.msgid) and session.scalar(
        select(Reply.id).where(Reply.msgid == said.msgid, Reply.fingerprint != _fingerprint(row, said)).limit(1)
    )
    statement = upsert.into(session, Reply).on_conflict_do_nothing(index_elements=["fingerprint"])
    kept = session.scalar(
        statement.returning(Reply.id),
        {
            "id": ids.new(),
            "receipt_id": row.id,
            "conversation_id": conversation,
            "message_id": answered.id if answered is not None else None,
            "link": link,
            "msgid": said.msgid,
            "sender": _digits(sender),
            "recipient": _digits(said.recipient) if said.recipient else None,
            "content": said.content or "",
            "client_ref": said.client_ref,
            "occurred_at": said.occurred_at,
            "received_at": row.received_at,
            "recorded_at": now,
            "fingerprint": _fingerprint(row, said),
            "is_conflicting": bool(differing),
            "is_opt_out": opt_outs.is_opt_out(said.content or "", opt_out_words),
        },
    )
    notes = "; ".join(said.notes) or None
    if kept is None:
        return ReceiptOutcome.DUPLICATE, notes
    activity.touch(session, [conversation], row.received_at, is_reply=True)
    change_feed.record_reply(session, kept, now)
    if differing:
        return ReceiptOutcome.CONFLICTING, "its msgid came before with another content"
    return ReceiptOutcome.APPLIED, notes


def suppress_opt_outs(session: Session, receipt_ids: Collection[UUID], actor: str, now: datetime) -> None:
    """Let nobody write again to who opted out by one of these receipts, under the name that they answered.

    That is the originator of the message that the reply is linked to, and the number that the reply was sent to; if
    neither is known, the account's own.
    """
    if not receipt_ids:
        return
    query = (
        select(Reply.id, Reply.sender, Reply.recipient, Reply.message_id, Message.originator)
        .outerjoin(Message, Message.id == Reply.message_id)
        .where(bulk.among(session, Reply.receipt_id, receipt_ids), Reply.is_opt_out, Reply.sender != "")
        .order_by(Reply.id)
    )
    asked: dict[Pair, UUID] = {}
    for row in session.execute(query):
        names: set[str | None] = {row.originator} if row.message_id is not None else set()
        if row.recipient:
            names.add(_digits(row.recipient))
        for name in names or {None}:
            asked.setdefault(Pair(row.sender, suppressions.fold(name)), row.id)
    suppressions.add(session, asked, Actor(actor=actor, reason="opted out"), now, reply_ids=asked)


def _answered(session: Session, said: Said, sender: str, since: datetime) -> tuple[Message | None, str]:
    """The message that a reply seems to answer, and the reason of its link. `since`: not one from before this."""
    sent = select(Message).where(Message.recipient == _digits(sender))
    sent = sent.order_by(Message.created_at.desc(), Message.id.desc()).limit(1)
    if said.client_ref:
        return session.scalar(sent.where(Message.client_ref == said.client_ref)), BY_CLIENT_REF
    plain = func.replace(Message.originator, "+", "")
    recent = sent.where(
        Message.created_at > since,
        or_(Message.originator.is_(None), plain == _digits(said.recipient or "")),
    )
    message = session.scalar(recent)
    return message, BY_LAST_MESSAGE if message is not None else ALONE


def _digits(number: str) -> str:
    """A number as the gateway writes it: without blanks and a leading plus; a name stays as it is."""
    bare = "".join(number.split()).removeprefix("+")
    return bare.removeprefix("00") if bare.isdigit() else number.strip()


def _fingerprint(row: ClaimedReceipt, said: Said) -> UUID:
    """Equal for what the gateway forwarded twice. A reply without a msgid is never taken for another one."""
    parts = (said.msgid, said.sender or "", said.content or "") if said.msgid else ("", row.id.hex)
    return UUID(bytes=blake2b("\0".join(parts).encode(), digest_size=16).digest())
