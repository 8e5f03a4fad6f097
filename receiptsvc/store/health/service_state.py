"""What is silent in a database and should be said: late work, missing receipts, refused keys, receipts for a person.

It is read from the heads of indexes, from kept counts and from small tables, so it costs the same with millions of
rows. Who looks: `/readyz`, `/metrics` and `GET /v1/sending` in web processes, each worker for its log, and `causes`.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, literal_column, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain import problems
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.problems import Kind
from receiptsvc.domain.sentences import agree
from receiptsvc.domain.statuses import Status
from receiptsvc.domain.times import write_time
from receiptsvc.store.core.models import OPEN, RARE_EFFECTS, Heartbeat, InboxRow, Message
from receiptsvc.store.health import heartbeats, minutes
from receiptsvc.store.health.minutes import Growth
from receiptsvc.store.inbox import counters, rejected
from receiptsvc.store.inbox.counters import Ledger
from receiptsvc.store.inbox.rejected import RejectedByKey
from receiptsvc.store.outbound import next_due

RECEIPTS_LATE_AFTER = timedelta(minutes=1)  # a receipt waits for its turn for some tenths of a second
MESSAGES_LATE_AFTER = timedelta(minutes=5)  # a message that is due, while nothing holds sending
NO_RECEIPT_AFTER = timedelta(minutes=30)  # a network's first receipt takes seconds
REFUSED_WITHIN = timedelta(hours=1)
MISROUTED_WITHIN = timedelta(hours=1)

GATEWAY_AMISS = "gateway_amiss"  # the name of a finding

_LOOKED_AT = 200  # of the newest callbacks, for one that is a receipt; and of the messages that wait
_FOR_A_PERSON = (ReceiptOutcome.UNMATCHED, ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD)
_STOPPED = ': see "When receipts stop" in docs/operations.md'
_KEYS = ": see `python -m receiptsvc callback-keys`"
_ROUTES = ': see "Callbacks apart from the API" in docs/operations.md'
_MAX_CODES = 3  # that are named
_CODE = re.compile("[0-9A-Za-z_-]{1,6}")  # no longer ones: what a gateway writes there could be a number

_UNMAPPED = text(f"""
    SELECT provider_status_id FROM transitions
    WHERE ({RARE_EFFECTS}) AND effect = 'unmapped'
    AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.receipt_id = transitions.receipt_id)
    ORDER BY receipt_id DESC LIMIT :most
""")  # noqa: S608 - our own words


class Finding(NamedTuple):
    """Something that is not as it should be. `name`: of its kind; it stays the same while the text changes.

    `public`: what is said to whoever shows no operator's key; None: the text. `has_stopped`: it does no harm any more.
    `is_meant`: somebody wants it so, and it is no problem.
    """

    name: str
    text: str
    public: str | None = None
    has_stopped: bool = False
    is_meant: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """The workers `alive`. `seen_at`: when one was last; `is_missing`: none is at work, nor just restarted."""

    alive: Sequence[Heartbeat]
    seen_at: datetime | None
    is_missing: bool

    @property
    def gateway_faults(self) -> Sequence[tuple[str, datetime]]:
        """What the workers' calls show to be wrong with the gateway, and since when; each fault once."""
        first: dict[str, datetime] = {}
        for worker in self.alive:
            if worker.gateway_fault is not None and worker.gateway_fault_at is not None:
                since = first.get(worker.gateway_fault, worker.gateway_fault_at)
                first[worker.gateway_fault] = min(since, worker.gateway_fault_at)
        return list(first.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceState:
    """How the service does, `at` one moment. Durations are in seconds.

    `no_receipt_since`: when the last receipt came, if messages have waited for theirs since then for long; `is_silent`:
    whether they do. `refused`: callbacks of the last hour that claim a key which is not listed; `refused_for_listed`:
    which claim one that is, but with another secret. `misrouted`: callbacks of the last hour that came to a web process
    whose role does not expect them; None: there are none. `unmapped_codes`: some codes of the newest receipts that are
    unmapped, the most frequent first.
    """

    at: datetime
    workers: Workers
    receipts_late_seconds: float
    messages_late_seconds: float
    is_silent: bool
    no_receipt_since: datetime | None
    refused: Sequence[RejectedByKey]
    refused_for_listed: Sequence[RejectedByKey]
    misrouted: Growth | None
    ledger: Ledger
    unmapped_codes: Sequence[str]

    @property
    def are_receipts_late(self) -> bool:
        """Whether receipts wait for longer than they should."""
        return self.receipts_late_seconds > RECEIPTS_LATE_AFTER.total_seconds()

    @property
    def are_messages_late(self) -> bool:
        """Whether messages wait for longer than they should, though nothing holds sending."""
        return self.messages_late_seconds > MESSAGES_LATE_AFTER.total_seconds()


def read(
    session: Session, now: datetime, *, listed_kids: Collection[str], answers_since: datetime | None = None
) -> ServiceState:
    """How the service does. `listed_kids`: of CALLBACK_KEYS. `answers_since`: of the database's clock."""
    due = next_due.find_late(session.connection(), now)
    last_receipt_at = _find_last_receipt(session)
    is_silent = _waits_any(session, last_receipt_at, now - NO_RECEIPT_AFTER)
    refused = [entry for entry in rejected.count_by_kid(session, now - REFUSED_WITHIN) if entry.kid is not None]
    ledger = counters.read(session)
    return ServiceState(
        at=now,
        workers=read_workers(session, now, answers_since),
        receipts_late_seconds=_late(due.receipt_at, now),
        messages_late_seconds=_late(due.message_at, now),
        is_silent=is_silent,
        no_receipt_since=last_receipt_at if is_silent else None,
        refused=[entry for entry in refused if entry.kid not in listed_kids],
        refused_for_listed=[entry for entry in refused if entry.kid in listed_kids],
        misrouted=minutes.find_growth(session, counters.MISROUTED, ledger.misrouted, now, MISROUTED_WITHIN),
        ledger=ledger,
        unmapped_codes=find_unmapped_codes(session) if ledger.outcomes[ReceiptOutcome.UNMAPPED] > 0 else [],
    )


def read_workers(session: Session, now: datetime, answers_since: datetime | None = None) -> Workers:
    """Which workers are at work. `answers_since`: of the database's clock."""
    seen_at = heartbeats.find_last_seen(session, "worker")
    return Workers(
        alive=heartbeats.find_alive(session, "worker", now),
        seen_at=seen_at,
        is_missing=heartbeats.is_missing(seen_at, now, answers_since),
    )


def describe(state: ServiceState) -> list[Finding]:
    """What of it is not as it should be, for operators."""
    found = [
        Finding(GATEWAY_AMISS, f"calls to the gateway fail since {write_time(since)}: {fault}")
        for fault, since in state.workers.gateway_faults
    ]
    if state.are_receipts_late:
        waited = _in_words(state.receipts_late_seconds)
        found.append(Finding("receipts_late", f"receipts wait to be worked on, the first one for {waited}"))
    if state.are_messages_late:
        waited = _in_words(state.messages_late_seconds)
        found.append(Finding("messages_late", f"messages wait to be sent, the first one for {waited}"))
    if state.is_silent:
        since = f"since {write_time(state.no_receipt_since)}" if state.no_receipt_since else "ever"
        found.append(
            Finding("no_receipts", f"no receipt has come {since}, although messages wait for theirs{_STOPPED}")
        )
    if state.refused:
        kids = ", ".join(f"{entry.kid} ({entry.callbacks})" for entry in state.refused[:3])
        last_at = max(entry.last_at for entry in state.refused)
        has_stopped = problems.has_stopped(Kind.CALLBACKS_REFUSED, last_at, state.at)
        are, last = ("were", f", the last one at {write_time(last_at)}, none since") if has_stopped else ("are", "")
        public = f"callbacks {are} refused for a key that is not listed"
        text = f"{public}: {kids} in the last hour{last}{_KEYS}"
        found.append(Finding("callbacks_refused", text, public, has_stopped))
    if state.misrouted is not None:
        callbacks = agree(state.misrouted.count, "callback", "callbacks")
        public = f"misrouted: {callbacks} since {write_time(state.misrouted.first_at)}"
        found.append(Finding("callbacks_misrouted", f"{public}, kept by processes with WEB_ROLE=api{_ROUTES}", public))
    counts = [
        f"{state.ledger.outcomes[outcome]} {outcome.value}"
        for outcome in _FOR_A_PERSON
        if state.ledger.outcomes[outcome] > 0
    ]
    if counts:
        found.append(Finding("receipts_for_a_person", f"receipts need a person: {', '.join(counts)}"))
    unmapped = state.ledger.outcomes[ReceiptOutcome.UNMAPPED]
    if unmapped > 0:
        public = f"receipts have a code without a meaning: {unmapped} unmapped"
        codes = f" (code {', '.join(state.unmapped_codes)}): name it in STATUS_MAP" if state.unmapped_codes else ""
        found.append(Finding("receipts_unmapped", f"{public}{codes}", public))
    return found


def find_unmapped_codes(session: Session) -> list[str]:
    """Some codes of the newest receipts that are unmapped, the most frequent first; none that may be a number."""
    codes = session.scalars(_UNMAPPED, {"most": _LOOKED_AT}).all()
    counts = Counter(code for code in codes if code is not None and _CODE.fullmatch(code))
    return [code for code, _ in counts.most_common(_MAX_CODES)]


def _find_last_receipt(session: Session) -> datetime | None:
    """When the newest receipt came. If the newest callbacks are all replies: when the oldest of those did."""
    newest = select(InboxRow.channel, InboxRow.received_at).order_by(InboxRow.id.desc()).limit(_LOOKED_AT).subquery()
    is_receipt = newest.c.channel != Channel.INBOUND.value
    last_receipt_at, first_at = session.execute(
        select(func.max(newest.c.received_at).filter(is_receipt), func.min(newest.c.received_at))
    ).one()
    found: datetime | None = last_receipt_at or first_at
    return found


def _waits_any(session: Session, since: datetime | None, until: datetime) -> bool:
    """Whether a message of a time after `since` was taken by the gateway before `until`, and has no receipt.

    Some of the first are looked at: what was held up for long was taken late. The conditions of the indexes are written
    out literally: SQLite compares them word by word.
    """
    for at, is_scheduled in ((Message.created_at, False), (Message.deliver_after, True)):
        query = select(Message.status_at).where(
            text(OPEN),
            Message.status == literal_column(f"'{Status.SUBMITTED.value}'"),
            Message.deliver_after.is_not(None) if is_scheduled else Message.deliver_after.is_(None),
            at < until,
        )
        if since is not None:
            query = query.where(at > since)
        if any(taken_at < until for taken_at in session.scalars(query.order_by(at).limit(_LOOKED_AT))):
            return True
    return False


def _late(due_at: datetime | None, now: datetime) -> float:
    return max(0.0, (now - due_at).total_seconds()) if due_at is not None else 0.0


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
