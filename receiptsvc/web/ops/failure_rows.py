"""The lines of the page of failures, on the page and as CSV: how much failed of each part, and how much before."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.orm import Session

from receiptsvc.domain import meanings, numbers, spreadsheets
from receiptsvc.domain.failures import FailureReason
from receiptsvc.domain.statuses import Status
from receiptsvc.store.queries import breakdowns, failed_messages, failures
from receiptsvc.store.queries.breakdowns import Breakdown, Group, Key
from receiptsvc.store.queries.failed_messages import FAILED
from receiptsvc.store.queries.failures import Failures
from receiptsvc.web.http.fields import write_moment

MAX_COUNTS = 200_000  # rows of hourly counts that a page adds up at once
MAX_READ = 3_000  # failed messages, for their numbers

_COMPARED = timedelta(days=8)  # of a longer period the one before would take too long
_MAX_WORDS = 3  # of the gateway, that are shown with a code
_MAX_GROUPS = breakdowns.MAX_LABELS
_MAX_NUMBERS = 50


class Part(StrEnum):
    """What failures are told apart by."""

    REASON = "reason"
    CODE = "code"
    SENDER = "sender"
    COUNTRY = "country"
    PREFIX = "prefix"
    NUMBER = "number"

    @property
    def counts_reports(self) -> bool:
        """Whether reports of failure are counted, and not messages."""
        return self in {Part.REASON, Part.CODE}


_BY = {
    Part.REASON: breakdowns.By.REASON,
    Part.CODE: breakdowns.By.STATUS_ID,
    Part.SENDER: breakdowns.By.ORIGINATOR,
    Part.COUNTRY: breakdowns.By.COUNTRY,
    Part.PREFIX: breakdowns.By.PREFIX,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A part of the failures. `of`: how many messages of it have ended; None: that is not counted.

    `words`: what the gateway wrote lately with a code. `before`, `before_of`: the same of the period before; None: not
    asked.
    """

    key: Key
    failures: int
    of: int | None
    statuses: Mapping[str, int]
    before: int | None = None
    before_of: int | None = None
    words: Sequence[str] = ()

    @property
    def rate(self) -> float | None:
        """Which share of them failed."""
        return self.failures / self.of if self.of else None

    @property
    def before_rate(self) -> float | None:
        """The same in the period before."""
        return self.before / self.before_of if self.before is not None and self.before_of else None

    @property
    def countries(self) -> Sequence[str]:
        """Those of its calling code."""
        return numbers.countries_of(self.key.calling_code or "")

    @property
    def meaning(self) -> str:
        """What its class of reason means."""
        return meanings.FAILURE_REASONS[FailureReason(self.key.reason)].means if self.key.reason else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """The failures of a period. `total`: messages, all parts together; `rows`: the most failures first.

    `all_rows`: how many failures all rows have. `numbers`: by number.
    """

    total: Row
    rows: Sequence[Row] = ()
    all_rows: int = 0
    counted_since: datetime | None = None
    is_compared: bool = False
    numbers: Failures | None = None


def read(session: Session, since: datetime, until: datetime, part: Part) -> Told:
    """The failures of [since, until), both at the start of an hour. Raises TooManyCounts."""
    is_compared = until - since <= _COMPARED
    times = (since - (until - since), since, until)
    senders, senders_before = _read_both(session, breakdowns.By.ORIGINATOR, times, is_compared=is_compared)
    total = _sum_up(senders, senders_before)
    if part is Part.NUMBER:
        statuses = [Status(word) for word in FAILED]
        found = failures.find(session, since, until, statuses, limit=_MAX_NUMBERS, max_read=MAX_READ)
        return Told(total=total, is_compared=is_compared, numbers=found)
    by = _BY[part]
    now, then = senders, senders_before
    if part is not Part.SENDER:
        now, then = _read_both(session, by, times, is_compared=is_compared)
    words = failed_messages.find_words(session, since, until) if part is Part.CODE else {}
    rows = list(_compare(now, then, part, words))
    return Told(
        total=total,
        rows=sorted(rows, key=lambda row: (-row.failures, [each or "" for each in row.key])),
        all_rows=sum(row.failures for row in rows),
        counted_since=now.counted_since,
        is_compared=is_compared,
    )


def count(session: Session, since: datetime, until: datetime) -> int:
    """How many messages failed of those accepted in [since, until). Raises TooManyCounts."""
    return _failed(breakdowns.read(session, since, until, _BY[Part.SENDER], limit=1, max_counts=MAX_COUNTS).statuses)


def write_csv(told: Told, part: Part, *, is_revealed: bool) -> Iterator[str]:
    """The lines of a CSV file with all rows."""
    if told.numbers is not None:
        yield spreadsheets.write_row(("recipient", "failures", *FAILED, "lastAt"))
        for each in told.numbers.items:
            shown = each.recipient if is_revealed else numbers.mask(each.recipient)
            counts = (each.statuses.get(Status(word), 0) for word in FAILED)
            yield spreadsheets.write_row((shown, each.failures, *counts, write_moment(each.last_at)))
        return
    names = _COLUMNS[part]
    yield spreadsheets.write_row((*names, "failures", "share", "of", "rate", "failuresBefore", "rateBefore", *FAILED))
    for row in told.rows:
        key = {"countries": " ".join(row.countries), "words": "; ".join(row.words), **row.key._asdict()}
        texts = [key[_FIELDS.get(name, name)] for name in names]
        if part is Part.CODE and not is_revealed:
            texts = [numbers.hide_all(text or "") for text in texts]
        rates = [None if rate is None else round(rate, 6) for rate in (row.rate, row.before_rate)]
        share = round(row.failures / told.all_rows, 6) if told.all_rows else None
        counts = (row.statuses.get(word, 0) for word in FAILED)
        yield spreadsheets.write_row((*texts, row.failures, share, row.of, rates[0], row.before, rates[1], *counts))


_COLUMNS: Mapping[Part, Sequence[str]] = {
    Part.REASON: ("reason",),
    Part.CODE: ("providerStatusId", "words"),
    Part.SENDER: ("originator",),
    Part.COUNTRY: ("callingCode", "countries"),
    Part.PREFIX: ("callingCode", "countries", "prefix"),
}
_FIELDS = {"providerStatusId": "status_id", "callingCode": "calling_code"}  # of `Key`


def _read_both(
    session: Session, by: breakdowns.By, times: tuple[datetime, datetime, datetime], *, is_compared: bool
) -> tuple[Breakdown, Breakdown | None]:
    """A breakdown of a period, and of the one before it. `times`: when that begins, and the period begins and ends."""
    before, since, until = times
    now = breakdowns.read(session, since, until, by, limit=_MAX_GROUPS, max_counts=MAX_COUNTS)
    if not is_compared:
        return now, None
    return now, breakdowns.read(session, before, since, by, limit=_MAX_GROUPS, max_counts=MAX_COUNTS)


def _sum_up(now: Breakdown, then: Breakdown | None) -> Row:
    return Row(
        key=Key(),
        failures=_failed(now.statuses),
        of=sum(now.statuses.values()),
        statuses=now.statuses,
        before=_failed(then.statuses) if then is not None else None,
        before_of=sum(then.statuses.values()) if then is not None else None,
    )


def _compare(now: Breakdown, then: Breakdown | None, part: Part, words: Mapping[str, Counter[str]]) -> Iterator[Row]:
    """A row for each group in which something failed, now or before."""
    earlier = {group.key: group for group in then.items} if then is not None else {}
    has_all = part in {Part.SENDER, Part.COUNTRY}  # of the others only failures are counted
    groups: dict[Key, Group | None] = {**dict.fromkeys(earlier), **{group.key: group for group in now.items}}
    for key, group in groups.items():
        before = earlier.get(key)
        count = group.failures if group is not None else 0
        if not count and not (before is not None and before.failures):
            continue
        said = words.get(key.status_id or "", Counter[str]())
        yield Row(
            key=key,
            failures=count,
            of=(group.count if group is not None else 0) if has_all else None,
            statuses=group.statuses if group is not None else {},
            before=None if then is None else before.failures if before is not None else 0,
            before_of=before.count if has_all and before is not None else None,
            words=[word for word, _ in said.most_common(_MAX_WORDS)],
        )


def _failed(statuses: Mapping[str, int]) -> int:
    return sum(statuses.get(word, 0) for word in FAILED)
