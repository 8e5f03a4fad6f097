"""Renders counts: statistics by period, by country or reason, the numbers that failed most, and what is overdue."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from receiptsvc.cli.terminal import display, tables
from receiptsvc.cli.terminal.display import Json, cell, count, format_time, plain
from receiptsvc.cli.terminal.tables import Cell, Column
from receiptsvc.domain.failures import FAILURES, FailureReason
from receiptsvc.domain.times import describe_duration

_REASONS = {FailureReason.UNSAID.value: "unsaid: the gateway gave no reason"}
_FAILURES = frozenset(status.value for status in FAILURES)
_SILENT = (
    "Many without any receipt mean that the gateway does not call us: see PUBLIC_URL and DYNMARK_CALLBACK_ELEMENT."
)


def print_statistics(out: Console, statistics: Json) -> None:
    """The sum in a sentence, then each period in which something happened."""
    total: Json = statistics.get("total") or {}
    span = _describe_span(statistics)
    tables.say(out, f"{count(int(total.get('messages') or 0), 'message')} accepted {span}{_describe_total(total)}.")
    receipts: Mapping[str, int] | None = total.get("receipts")
    if receipts:
        bounded = " (or more)" if statistics.get("unmatchedIsBounded") else ""
        parts = [f"{number} {plain(word)}{bounded if word == 'unmatched' else ''}" for word, number in receipts.items()]
        tables.say(out, f"Receipts that came then: {', '.join(parts)}.")
    columns = (
        *(Column("start"), Column("messages", is_count=True), Column("delivered", is_count=True)),
        *(Column("rate", is_count=True), Column("p50", is_count=True), Column("p95", is_count=True)),
        *(Column("receipts", is_count=True), Column("others", is_text=True)),
    )
    items: Sequence[Json] = statistics.get("items") or ()
    tables.print_table(out, columns, [_period_row(item) for item in items])


def print_failures(out: Console, failures: Json) -> None:
    """Which numbers failed most."""
    items: Sequence[Json] = failures.get("items") or ()
    span = _describe_span(failures)
    words = {word for item in items for word in item.get("statuses") or {}}
    what = "failed" if not words or words <= _FAILURES else "fits"  # other statuses were asked for
    first = _describe_first(items, "" if what == "failed" else " or ".join(sorted(words))) or f"No number {what}"
    tables.say(out, f"{first} {span} ({count(int(failures.get('messages') or 0), 'message')} read).")
    if failures.get("isBounded"):
        since = format_time(failures.get("countedSince"))
        tables.say(
            out, Text(f"There are too many to read all: only those accepted since {since} are counted.", "yellow")
        )
    number = "failures" if what == "failed" else "messages"
    columns = (Column("recipient"), Column(number, is_count=True), Column("last accepted"))
    rows = [
        (
            cell(item.get("recipient")),
            cell(item.get("failures")),
            cell(format_time(item.get("lastAt"))),
            cell(_describe_counts(item.get("statuses") or {})),
        )
        for item in items
    ]
    tables.print_table(out, (*columns, Column("statuses", is_text=True)), rows)


def _describe_first(items: Sequence[Json], words: str) -> str:
    """The number with the most failures, or that several have as many; empty without any. `words`: other statuses."""
    if not items:
        return ""
    number = int(items[0].get("failures") or 0)
    if len(items) > 1 and items[1].get("failures") == number:
        most = f"have most that are {words}" if words else "failed most"
        return f"Several numbers {most}, {count(number, 'message' if words else 'failure')} each,"
    most = f"has most that are {words}" if words else "failed most"
    return f"{plain(items[0].get('recipient'))} {most}"


def print_breakdown(out: Console, breakdown: Json) -> None:
    """Counts by sender, country, prefix, the gateway's code or class of reason, the most first."""
    items: Sequence[Json] = breakdown.get("items") or ()
    span = _describe_span(breakdown)
    tables.say(out, f"{count(len(items), 'line')} by {plain(breakdown.get('by'))} {span}.")
    if breakdown.get("countedSince"):
        tables.say(out, f"Counted since {format_time(breakdown['countedSince'])} only.")
    if breakdown.get("isBounded"):
        tables.say(out, "There are more; --limit shows them.")
    columns = (
        Column("sender"),
        *(Column("country"), Column("callingCode"), Column("prefix"), Column("providerStatusId")),
        Column("reason", is_text=True),
        *(Column("count", is_count=True), Column("rate", is_count=True), Column("statuses", is_text=True)),
    )
    rows = [
        (
            cell("(own)" if item.get("originator") == "" else item.get("originator")),
            cell(_describe_countries(item.get("countries") or ())),
            cell(item.get("callingCode")),
            cell(item.get("prefix")),
            cell(item.get("providerStatusId")),
            cell(_REASONS.get(str(item.get("reason")), item.get("reason"))),
            cell(item.get("count")),
            _rate(item),
            cell(_describe_counts(item.get("statuses") or {})),
        )
        for item in items
    ]
    tables.print_table(out, columns, rows)


def print_overdue(out: Console, overdue: Json) -> None:
    """How many messages should have ended, by status and age, and which are the oldest."""
    statuses: Sequence[Json] = overdue.get("statuses") or ()
    after = describe_duration(int(overdue.get("olderThan") or 0))
    ages = [age for waiting in statuses for age in waiting.get("ages") or ()]
    if not count_overdue(overdue):
        tables.say(out, f"Nothing is overdue: no message has waited {after} for its final report.")
        return
    number = _at_least(count_overdue(overdue), is_exact=all(age.get("isExact") for age in ages))
    noun = "message has" if number == "1" else "messages have"
    tables.say(out, Text(f"{number} {noun} waited {after} or longer for a final report.", "bold yellow"))
    silent: Json = overdue.get("withoutReceipt") or {}
    if silent.get("atLeast"):
        quantity = _at_least(int(silent["atLeast"]), is_exact=bool(silent.get("isExact")))
        tables.say(
            out, f"{quantity} of them without any receipt, such as {_list_ids(silent.get('examples'))}. {_SILENT}"
        )
    rows = [
        (
            display.status(waiting.get("status")),
            cell(_describe_age(age)),
            cell(_at_least(int(age.get("atLeast") or 0), is_exact=bool(age.get("isExact")))),
        )
        for waiting in statuses
        for age in waiting.get("ages") or ()
        if age.get("atLeast")
    ]
    tables.print_table(out, (Column("status"), Column("waits for"), Column("messages", is_count=True)), rows)
    for waiting in statuses:
        if waiting.get("oldest"):
            tables.say(
                out,
                Text.assemble(
                    "Oldest ", display.status(waiting.get("status")), f": {_list_ids(waiting.get('oldest'))}"
                ),
            )


def count_overdue(overdue: Json) -> int:
    """How many messages are overdue, at least."""
    statuses: Sequence[Json] = overdue.get("statuses") or ()
    return sum(int(age.get("atLeast") or 0) for waiting in statuses for age in waiting.get("ages") or ())


def _describe_total(total: Json) -> str:
    statuses: Mapping[str, int] = total.get("statuses") or {}
    rate, delays = total.get("deliveryRate"), total.get("secondsToDelivery")
    parts = [
        f": {_describe_counts(statuses)}" if statuses else "",
        f"; {rate:.1%} of those with a final status were delivered" if rate is not None else "",
        f", half of them within {delays['p50']:g} s" if delays else "",
    ]
    return "".join(parts)


def _describe_span(answer: Json) -> str:
    """From when until when was counted: the end of an hour that has not ended is now."""
    until = str(answer.get("until"))
    is_over = until <= datetime.now(UTC).isoformat()
    return f"from {format_time(answer.get('since'))} {f'to {format_time(until)}' if is_over else 'until now'}"


def _period_row(item: Json) -> tuple[Cell, ...]:
    statuses: Mapping[str, int] = item.get("statuses") or {}
    delays, receipts = item.get("secondsToDelivery") or {}, item.get("receipts")
    return (
        cell(format_time(item.get("start"))),
        cell(item.get("messages")),
        cell(statuses.get("delivered", 0)),
        _rate(item),
        cell(_seconds(delays.get("p50"))),
        cell(_seconds(delays.get("p95"))),
        cell(sum(receipts.values()) if receipts is not None else None),
        cell(_describe_counts({word: number for word, number in statuses.items() if word != "delivered"})),
    )


def _describe_countries(countries: Sequence[str]) -> str:
    """The main country of a calling code, and whether others share it."""
    return plain(f"{countries[0]} and others" if len(countries) > 1 else "".join(countries))


def _rate(item: Json) -> Cell:
    rate = item.get("deliveryRate")
    return cell(f"{rate:.1%}" if rate is not None else None)


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:g} s"


def _describe_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {plain(word)}" for word, number in counts.items())


def _describe_age(age: Json) -> str:
    begin, end = describe_duration(int(age.get("olderThanSeconds") or 0)), age.get("youngerThanSeconds")
    return f"{begin} or longer" if end is None else f"{begin} to {describe_duration(int(end))}"


def _at_least(number: int, *, is_exact: bool) -> str:
    return f"{number}" if is_exact else f"{number} or more"


def _list_ids(ids: Sequence[str] | None) -> str:
    return plain(", ".join(ids or ()))
