"""What holds or slows all sending, whichever worker would send: a person's word, refused credentials, a rate.

It stands in one row. Whoever claims messages asks it first, in the same transaction. What holds only one account is
`accounts`' business.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import update
from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core import audits, topics
from receiptsvc.store.core.models import Audit, SendGate
from receiptsvc.store.core.topics import Topic

PAUSED_LONG_AFTER = timedelta(hours=1)

REFUSED = "the gateway refuses our credentials"
SUBJECT = "sending"  # what audits of a pause are about

PROBES = Backoff.doubling(timedelta(seconds=30), timedelta(minutes=5))
_BURST = timedelta(seconds=1)  # of unused rate that may be made up for
_MAX_AHEAD = timedelta(seconds=5)  # of a rate that is used up: only by a clock that was wrong can it be longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """How many messages may be claimed now. `is_probe`: one, to see whether our credentials work again.

    `knows_up_to`: the number of the last suspicion against an account of which a call begun now knows.
    """

    most: int
    is_probe: bool = False
    knows_up_to: int = 0


class GateTimes(NamedTuple):
    """What decides when a message may be claimed: the columns `TIMES`."""

    paused_at: datetime | None
    refused_at: datetime | None
    probe_at: datetime | None
    next_free_at: datetime | None

    def opens_at(self, now: datetime, per_second: float | None) -> datetime | None:
        """When `request` would allow a message, if nothing is changed by then; None: never, for sending is paused."""
        if self.paused_at is not None:
            return None
        if self.refused_at is not None:
            return self.probe_at or now
        if per_second is None:
            return now
        return _used_up_to(self.next_free_at, now, per_second) + timedelta(seconds=1 / per_second)


TIMES = tuple(getattr(SendGate, name) for name in GateTimes._fields)


def read(session: Session) -> SendGate:
    """What restrains sending now."""
    return session.get_one(SendGate, 1)


def hold(session: Session) -> SendGate:
    """The same as it stands now, locked till the commit."""
    session.flush()  # what was written of it in this transaction would be forgotten
    held = read(session)
    session.refresh(held, with_for_update=True)
    return held


def describe(held: SendGate) -> list[str]:
    """Why nothing is sent now, for ops; empty: nothing is in the way."""
    pause = describe_pause(held)
    return [REFUSED] * (held.refused_at is not None) + ([pause] if pause is not None else [])


def describe_pause(held: SendGate) -> str | None:
    """Who has paused sending, for ops; None: it is not paused."""
    return f"sending is paused by {held.paused_by}" if held.paused_at is not None else None


def is_paused_long(held: SendGate, now: datetime) -> bool:
    """Whether sending has been paused for so long that it is a problem. Before that it is somebody's wish."""
    return held.paused_at is not None and now - held.paused_at >= PAUSED_LONG_AFTER


def request(session: Session, now: datetime, most: int, per_second: float | None) -> Allowance:
    """How many messages this transaction may claim, at most `most`. A probe counts as made when it commits."""
    held = read(session)
    known = held.suspicions
    if held.paused_at is not None:
        return Allowance(most=0, knows_up_to=known)
    if held.refused_at is not None:
        takes = _takes_probe(session, held, now)
        return Allowance(most=int(takes), is_probe=takes, knows_up_to=known)
    if per_second is None:
        return Allowance(most=most, knows_up_to=known)
    held = hold(session)  # till the commit, so that no two workers spend the same
    free = int((now - _used_up_to(held.next_free_at, now, per_second)).total_seconds() * per_second)
    return Allowance(most=max(0, min(most, free)), knows_up_to=known)


def spend(session: Session, now: datetime, count: int, per_second: float | None) -> None:
    """Note that so many messages of what `allow` allowed were claimed."""
    if per_second is not None:
        held = read(session)
        held.next_free_at = _used_up_to(held.next_free_at, now, per_second) + timedelta(seconds=count / per_second)


def record_outcome(session: Session, outcomes: Collection[SendOutcome], now: datetime, *, was_probe: bool) -> None:
    """Learn of our credentials from how a call ended. Several calls may learn of one refusal, and it counts once."""
    is_refused, is_taken = SendOutcome.ACCOUNT_REFUSED in outcomes, SendOutcome.TAKEN in outcomes
    if not is_refused and not is_taken:  # a refusal of a message may be our own, made without a call
        return
    if not is_refused and read(session).refused_at is None:
        return
    held = hold(session)
    if is_refused and (held.refused_at is None or was_probe):
        gap = PROBES.following(timedelta(seconds=held.probe_gap_seconds))
        held.refused_at, held.probe_at = held.refused_at or now, now + gap
        held.probe_gap_seconds = round(gap.total_seconds())
        logs.error("send.account_refused", next_probe_seconds=held.probe_gap_seconds)
    elif not is_refused and held.refused_at is not None:
        held.refused_at, held.probe_at, held.probe_gap_seconds = None, None, 0
        logs.info("send.account_works_again")
        topics.mark(session, Topic.MESSAGES)


def next_number(session: Session) -> int:
    """A number above all that were given to suspicions before. The caller holds the row."""
    held = read(session)
    held.suspicions += 1
    return held.suspicions


def pause(session: Session, actor: str, reason: str, now: datetime) -> SendGate:
    """Let no worker claim anything any more. Calls that are being made are not ended."""
    held = hold(session)
    if held.paused_at is None:
        held.paused_at, held.paused_by, held.pause_reason = now, actor, reason
        audits.write(session, at=now, actor=actor, action="pause", subject=SUBJECT, reason=reason)
    return held


def resume(session: Session, actor: str, reason: str | None, now: datetime) -> SendGate:
    """Take a pause back."""
    held = hold(session)
    if held.paused_at is not None:
        held.paused_at = held.paused_by = held.pause_reason = None
        topics.mark(session, Topic.MESSAGES)
        audits.write(session, at=now, actor=actor, action="resume", subject=SUBJECT, reason=reason)
    return held


def read_last_pause(session: Session) -> tuple[Audit, Audit] | None:
    """Who paused last and who resumed then, if nothing has been paused since; None: nobody has, or it is paused."""
    last = audits.read(session, SUBJECT)[-2:]
    pair = (last[0], last[1]) if len(last) == 2 else None
    return pair if pair is not None and [each.action for each in pair] == ["pause", "resume"] else None


def _takes_probe(session: Session, held: SendGate, now: datetime) -> bool:
    if held.probe_at is not None and now < held.probe_at:
        return False
    taken = update(SendGate).where(SendGate.id == 1, SendGate.probe_at == held.probe_at)
    gap = timedelta(seconds=held.probe_gap_seconds)
    return session.scalar(taken.values(probe_at=now + gap).returning(SendGate.id)) is not None


def _used_up_to(next_free_at: datetime | None, now: datetime, per_second: float) -> datetime:
    burst = max(_BURST, timedelta(seconds=1 / per_second))
    if next_free_at is None or next_free_at > now + _MAX_AHEAD:
        return now - burst
    return max(next_free_at, now - burst)
