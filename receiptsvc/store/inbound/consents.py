"""Follows what replies ask for: an opt-out suppresses a person for the sender that they answered, an opt-in lifts it.

All words of a person to a sender are weighed together (`domain.opt_outs.is_refused`), so the order in which replies
arrive does not matter. What a person here has changed by hand holds: no opt-in lifts a suppression made by hand, and
what was recorded before a person allowed messages again is settled.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select, text
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import opt_outs
from receiptsvc.store.core import bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import WORDS, Message, Reply
from receiptsvc.store.inbound.replies import RecordedReply
from receiptsvc.store.outbound import suppressions, withdrawal
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.outbound.withdrawal import Withdrawal


class Word(NamedTuple):
    """An opt-out or opt-in. `recorded_at`: None while it is being recorded."""

    reply_id: UUID
    is_opt_out: bool
    occurred_at: datetime | None
    recorded_at: datetime | None


Words: TypeAlias = Mapping[Pair, Collection[Word]]  # of people, by the sender that they answer


class Verdict(NamedTuple):
    """Which pairs are to be suppressed and which not, each with the reply that is the reason."""

    refused: Mapping[Pair, UUID]
    allowed: Mapping[Pair, UUID]


class Change(NamedTuple):
    """What following a verdict changes."""

    suppressed: Collection[Pair]
    allowed_again: Collection[Pair]


def follow(session: Session, receipt_ids: Collection[UUID], actor: str, now: datetime) -> None:
    """Do what the words among the replies of these receipts ask for, which this transaction has recorded."""
    if not receipt_ids:
        return
    new = _read(session, bulk.among(session, Reply.receipt_id, receipt_ids))
    if new:
        suppressions.lock(session, {pair.recipient for pair in new})
        being_recorded = {pair: [word._replace(recorded_at=None) for word in words] for pair, words in new.items()}
        apply(session, weigh(session, being_recorded), actor, now)


def find_refused(session: Session, number: str) -> Mapping[Pair, UUID]:
    """Which senders a person's words refuse, each with the reply that is the reason."""
    return weigh(session, _read(session, Reply.sender == number)).refused


def weigh(session: Session, given: Words) -> Verdict:
    """What all words of these pairs come to: those given, and all others that are stored."""
    stored = _read(session, bulk.among(session, Reply.sender, {pair.recipient for pair in given})) if given else {}
    allowed_at = suppressions.allowed_at(session, given.keys())
    refused: dict[Pair, UUID] = {}
    allowed: dict[Pair, UUID] = {}
    for pair, of_pair in given.items():
        words = {word.reply_id: word for word in (*stored.get(pair, ()), *of_pair)}.values()
        outs = [word for word in words if word.is_opt_out and not _is_settled(word, allowed_at.get(pair))]
        ins = [word for word in words if not word.is_opt_out]
        if opt_outs.is_refused((word.occurred_at for word in outs), (word.occurred_at for word in ins)):
            refused[pair] = min(word.reply_id for word in outs)
        elif ins:
            allowed[pair] = max(word.reply_id for word in ins)
    return Verdict(refused, allowed)


def find_change(session: Session, verdict: Verdict) -> Change:
    """What following this verdict would change."""
    suppressed = suppressions.find(session, {pair.recipient for pair in verdict.refused})
    return Change(verdict.refused.keys() - suppressed, suppressions.find_liftable(session, verdict.allowed.keys()))


def repair(session: Session, replies: Iterable[RecordedReply], actor: str | None, now: datetime) -> Change:
    """Do what the words among these recorded replies ask for and is not done. Without an `actor` only find it.

    Unlike new words, those that were recorded before a person allowed messages again count no more.
    """
    words = _words_of(replies)
    if actor is not None:
        suppressions.lock(session, {pair.recipient for pair in words})
    verdict = weigh(session, words)
    change = find_change(session, verdict)
    if actor is None or not (change.suppressed or change.allowed_again):
        return change
    missed = Verdict(
        {pair: verdict.refused[pair] for pair in change.suppressed},
        {pair: verdict.allowed[pair] for pair in change.allowed_again},
    )
    return apply(session, missed, actor, now)


def apply(session: Session, verdict: Verdict, actor: str, now: datetime) -> Change:
    """Suppress who refuses, allow who does not, and withdraw what is not to go out any more.

    The caller holds the lock of the people. A suppression that was made by hand stays.
    """
    change = Change(
        suppressions.opt_out(session, verdict.refused, Actor(actor=actor, reason="opted out"), now),
        suppressions.opt_in(session, verdict.allowed, Actor(actor=actor, reason="opted in"), now),
    )
    for pair, done in withdrawal.withdraw_all(session, verdict.refused.keys(), now).items():
        suppressions.note_withdrawal(session, pair, Actor(actor=actor, reason="opted out"), now, **_public(done))
    return change


def _public(done: Withdrawal) -> dict[str, list[str]]:
    return {
        name: [ids.public("msg", message_id) for message_id in sorted(getattr(done, name))]
        for name in ("cancelled", "unrepeated", "scheduled")
    }


def _is_settled(word: Word, allowed_at: datetime | None) -> bool:
    """Whether a person has allowed messages again after an opt-out was recorded."""
    return allowed_at is not None and word.recorded_at is not None and word.recorded_at < allowed_at


def _read(session: Session, condition: ColumnElement[bool]) -> dict[Pair, list[Word]]:
    query = (
        select(
            *(Reply.id, Reply.sender, Reply.recipient, Reply.message_id, Message.originator),
            *(Reply.is_opt_out, Reply.is_opt_in, Reply.occurred_at, Reply.recorded_at),
        )
        .outerjoin(Message, Message.id == Reply.message_id)
        .where(condition, text(f"({WORDS})"))
    )
    # Sorted here: where a page reads along indexes in their order, the database would read all replies for it.
    return _words_of(sorted(session.execute(query), key=attrgetter("id")))


def _words_of(replies: Iterable[RecordedReply | Row[Any]]) -> dict[Pair, list[Word]]:
    """The words among these replies, by the pairs that they are about."""
    found: defaultdict[Pair, list[Word]] = defaultdict(list)
    for reply in replies:
        if reply.sender and (reply.is_opt_out or reply.is_opt_in):
            word = Word(reply.id, reply.is_opt_out, reply.occurred_at, reply.recorded_at)
            linked = [] if reply.message_id is None else [reply.originator]
            for answered in opt_outs.answered_senders(reply.recipient, linked):
                found[Pair(reply.sender, answered)].append(word)
    return found
