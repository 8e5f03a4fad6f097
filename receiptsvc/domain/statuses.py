"""The statuses of a message, and the fold that turns its reports into its status. What each means: see `meanings`.

Nothing here looks at a clock or at the order of arrival: `fold` sees a set of reports. Only `classify` knows what was
recorded before, and only to name the effect of a report.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from receiptsvc.domain.times import to_micros


class Status(StrEnum):
    """The status of a message, in rank order."""

    ACCEPTED = "accepted"
    SEND_UNKNOWN = "send_unknown"
    SUBMITTED = "submitted"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


PROGRESS = (Status.ACCEPTED, Status.SEND_UNKNOWN, Status.SUBMITTED, Status.SENT)
FINAL = frozenset(Status) - frozenset(PROGRESS)
GATEWAY_STATUSES = frozenset({Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.EXPIRED, Status.REJECTED})
UNSETTLED = frozenset({Status.ACCEPTED, Status.SEND_UNKNOWN})  # the gateway is not known to have it
RESOLUTIONS = (Status.SUBMITTED, Status.DELIVERED, Status.UNDELIVERED, Status.FAILED)  # of a send_unknown, by hand

# What stands for a status in stored rows of the change feed. Letters may be added, never changed.
LETTERS: Mapping[Status, bytes] = {
    Status.ACCEPTED: b"a",
    Status.SEND_UNKNOWN: b"u",
    Status.SUBMITTED: b"m",
    Status.SENT: b"s",
    Status.DELIVERED: b"d",
    Status.UNDELIVERED: b"n",
    Status.EXPIRED: b"e",
    Status.REJECTED: b"r",
    Status.FAILED: b"f",
    Status.CANCELLED: b"c",
}

# Of the gateway's final statuses with the same provider time the greater wins; the same holds among our own.
_WEIGHT = {
    Status.DELIVERED: 4,
    Status.UNDELIVERED: 3,
    Status.EXPIRED: 2,
    Status.REJECTED: 1,
    Status.FAILED: 3,
    Status.CANCELLED: 1,
}

Strength: TypeAlias = tuple[bool, bool, int, int, bytes, int]


class Source(StrEnum):
    """Who made a report."""

    GATEWAY = "gateway"
    OURSELVES = "ourselves"


class Effect(StrEnum):
    """What a report did when it was recorded. It never changes afterwards."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    CONFLICTING = "conflicting"
    UNMAPPED = "unmapped"


class Report(NamedTuple):  # a tuple: the worker makes thousands every second
    """One report about a message, by the gateway or by ourselves. Times are aware."""

    source: Source
    status: Status | None  # None: the status map does not know the gateway's code
    received_at: datetime  # when it reached us, or when we took our own step
    occurred_at: datetime | None = None  # the gateway's own time
    provider_status_id: str | None = None
    provider_description: str | None = None

    @property
    def at(self) -> datetime:
        """The provider's time, or without one the time of receipt."""
        return self.occurred_at or self.received_at

    @property
    def content(self) -> tuple[str | None, str | None, datetime | None]:
        """Equal for two reports of the gateway that are duplicates."""
        return self.provider_status_id, self.provider_description, self.occurred_at


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The fold of a message's reports."""

    status: Status
    status_at: datetime
    conflict: bool


def fold(reports: Iterable[Report]) -> State:
    """The status of `reports` (at least one with a status), whatever their order and number.

    Any status of the gateway beats every final status of our own. Below final the highest rank wins, with the time of
    the earliest report of that rank. Among final statuses `_strength` decides.
    """
    mapped = [report for report in reports if report.status is not None]
    gateway = [report for report in mapped if report.source is Source.GATEWAY]
    finals = [report for report in (gateway or mapped) if report.status in FINAL]
    conflict = len({report.status for report in gateway if report.status in FINAL}) > 1
    if len(finals) == 1:
        winner = finals[0]
    elif finals:
        winner = max(finals, key=_strength)
    else:
        progress = [report for report in mapped if report.status in PROGRESS]
        winner = min(progress, key=lambda report: (-PROGRESS.index(_status(report)), report.at))
    return State(status=_status(winner), status_at=winner.at, conflict=conflict)


def classify(report: Report, earlier: Sequence[Report]) -> tuple[Effect, State]:
    """The effect of `report` on a message with `earlier` reports (never empty), and the state of the message after it.

    This is the definition. `domain.standing` says the same without looking at every earlier report.
    """
    after = fold([*earlier, report])
    if report.status is None:
        return Effect.UNMAPPED, after
    if report.source is Source.GATEWAY:
        gateway = [other for other in earlier if other.source is Source.GATEWAY]
        if any(other.content == report.content for other in gateway):
            return Effect.DUPLICATE, after
        if report.status in FINAL and any(
            other.status in FINAL and other.status is not report.status for other in gateway
        ):
            return Effect.CONFLICTING, after
    changed = after.status is not fold(earlier).status
    return Effect.APPLIED if changed else Effect.STALE, after


def _status(report: Report) -> Status:
    if report.status is None:
        raise ValueError("a report without a status has no place in the fold")
    return report.status


def _strength(report: Report) -> Strength:
    occurred = None if report.occurred_at is None else to_micros(report.occurred_at)
    return strength_of(_status(report), occurred, to_micros(report.received_at), digest_of(report))


def strength_of(status: Status, occurred: int | None, received: int, digest: bytes) -> Strength:
    """The sort key of final reports, the greatest wins: by content alone, never by our clock. Times in microseconds.

    Delivered wins; then a report with a provider time; then the later time; then undelivered, expired, rejected; then a
    digest of the content. The last element only chooses among reports of equal content: the one received first.
    """
    return status is Status.DELIVERED, occurred is not None, occurred or 0, _WEIGHT[status], digest, -received


def digest_of(report: Report) -> bytes:
    """12 bytes that are equal for reports of equal content."""
    status_id, description, occurred_at = report.content
    content = (status_id, description, None if occurred_at is None else to_micros(occurred_at))
    return blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=12).digest()
