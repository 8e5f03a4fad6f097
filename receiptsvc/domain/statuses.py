"""The status words, what each means, and the one fold that turns a message's reports into its status.

Nothing here looks at a clock or at the order of arrival: `fold` sees a set of reports. `judge` is the one function
that knows "before", and only to name what a report did.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple


class Status(StrEnum):
    """What we believe of a message, in rank order."""

    ACCEPTED = "accepted"  # recorded here
    SEND_UNKNOWN = "send_unknown"  # the gateway's answer was lost
    SUBMITTED = "submitted"  # the gateway took it
    SENT = "sent"  # handed to a network
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"  # too old to deliver, or never sent because validUntil had gone by
    REJECTED = "rejected"
    FAILED = "failed"  # the gateway refused the submission
    CANCELLED = "cancelled"  # never given to the gateway


PROGRESS = (Status.ACCEPTED, Status.SEND_UNKNOWN, Status.SUBMITTED, Status.SENT)
FINAL = frozenset(Status) - frozenset(PROGRESS)
GATEWAY_WORDS = frozenset({Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.EXPIRED, Status.REJECTED})
UNSETTLED = frozenset({Status.ACCEPTED, Status.SEND_UNKNOWN})  # it is not known that the gateway has it

# Among the gateway's final words at the same provider time the greater wins; likewise among our own.
_WEIGHT = {
    Status.DELIVERED: 4,
    Status.UNDELIVERED: 3,
    Status.EXPIRED: 2,
    Status.REJECTED: 1,
    Status.FAILED: 3,
    Status.CANCELLED: 1,
}
_NO_TIME = datetime.min.replace(tzinfo=UTC)


class Source(StrEnum):
    """Who made a report."""

    GATEWAY = "gateway"
    OURSELVES = "ourselves"


class Effect(StrEnum):
    """What a report did when it was recorded, and ever after."""

    APPLIED = "applied"  # it changed the status
    DUPLICATE = "duplicate"  # the gateway had said just that before
    STALE = "stale"  # it left the status as it was
    CONFLICTING = "conflicting"  # the gateway had given another final word before
    UNMAPPED = "unmapped"  # no word is known for its code


class Report(NamedTuple):  # a tuple: the worker makes thousands a second
    """One thing that was said of a message, by the gateway or by ourselves. Times are aware."""

    source: Source
    status: Status | None  # None: no word is known for the gateway's code
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
        """What makes two reports of the gateway the same one, said twice."""
        return self.provider_status_id, self.provider_description, self.occurred_at


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What a message's reports add up to."""

    status: Status
    status_at: datetime
    conflict: bool


def fold(reports: Iterable[Report]) -> State:
    """The status that `reports` (at least one with a word) add up to, whatever their order and number.

    Any word of the gateway beats every final word of our own. Below final the highest rank counts, from the
    earliest report of that rank. Among final words see `_strength`.
    """
    spoken = [report for report in reports if report.status is not None]
    gateway = [report for report in spoken if report.source is Source.GATEWAY]
    finals = [report for report in (gateway or spoken) if report.status in FINAL]
    conflict = len({report.status for report in gateway if report.status in FINAL}) > 1
    if len(finals) == 1:
        winner = finals[0]
    elif finals:
        winner = max(finals, key=_strength)
    else:
        progress = [report for report in spoken if report.status in PROGRESS]
        winner = min(progress, key=lambda report: (-PROGRESS.index(_status(report)), report.at))
    return State(status=_status(winner), status_at=winner.at, conflict=conflict)


def classify(report: Report, earlier: Sequence[Report], before: Status | None = None) -> tuple[Effect, State]:
    """What `report` does to a message of which `earlier` (never empty) was recorded before, and what it then is.

    `before`: the status that `earlier` adds up to, for those who know it.
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
    changed = after.status is not (before or fold(earlier).status)
    return Effect.APPLIED if changed else Effect.STALE, after


def _status(report: Report) -> Status:
    if report.status is None:
        raise ValueError("a report without a word has no place in the fold")
    return report.status


def _strength(report: Report) -> tuple[bool, bool, datetime, int, bytes, float]:
    """The fixed order of final reports: content alone, never our clock.

    Delivered first; then one with a provider time; then the later; then undelivered, expired, rejected; then a digest.
    The last place only picks among reports of equal content: the one that was here first.
    """
    digest = blake2b(repr(report.content).encode(), digest_size=16).digest()
    return (
        report.status is Status.DELIVERED,
        report.occurred_at is not None,
        (report.occurred_at or _NO_TIME).astimezone(UTC),
        _WEIGHT[_status(report)],
        digest,
        -report.received_at.timestamp(),
    )
