"""What people read on a terminal, made from the API's JSON: tables, a conversation's timeline, the ledger.

Texts, references and reasons come from outside, so all of them go through `plain` or `words`: none can move the
cursor, change the colours or forge a line. Asking the API is not done here.
"""

import io
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]

_PIPED_WIDTH = 200  # columns where nobody is looking: enough for every table to keep its ids on one line
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line and paragraph separators
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_STYLES = {
    "accepted": "dim",
    "send_unknown": "yellow",
    "submitted": "cyan",
    "sent": "cyan",
    "delivered": "green",
    "undelivered": "red",
    "expired": "yellow",
    "rejected": "red",
    "failed": "red",
    "cancelled": "yellow",
}
_RANKS = {word: rank for rank, word in enumerate(_STYLES)}
_SHOWN_LINES = 8  # of a file, where it has many of a kind
_EFFECTS = {
    "duplicate": "duplicate: said before",
    "stale": "stale: changed nothing",
    "conflicting": "conflicting: another final word came before",
}
_OUTCOMES = (
    "pending",
    "applied",
    "duplicate",
    "stale",
    "conflicting",
    "unmapped",
    "unmatched",
    "quarantined",
    "dead",
    "dismissed",
)


def console(*, stderr: bool = False) -> Console:
    """A console for this process's output. Where no terminal is, it is wide and without colours."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # an arrow that the terminal's encoding lacks is no reason to fail
    return Console(
        file=stream, width=None if stream.isatty() else _PIPED_WIDTH, highlight=False, markup=False, emoji=False
    )


@contextmanager
def progress(what: str, *, is_shown: bool, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A line on standard error that counts on, if anybody is looking. It is told how many more there are.

    With a `total` it has a bar, of which `done` is full at once.
    """
    columns = (SpinnerColumn(), *([BarColumn()] if total else []), MofNCompleteColumn(), TextColumn(what))
    out = console(stderr=True)
    disabled = not (is_shown and out.is_terminal)
    with Progress(*columns, TimeElapsedColumn(), console=out, disable=disabled, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda more: bar.advance(task, more)


@contextmanager
def live_counts(*, is_shown: bool) -> Iterator[Callable[[Mapping[str, int]], None]]:
    """A table of statuses on standard error that follows what it is told, if anybody is looking."""
    out = console(stderr=True)
    if not (is_shown and out.is_terminal):
        yield lambda _: None
        return
    with Live(console=out, transient=True) as live:
        yield lambda counts: live.update(_counted(counts))


def plain(value: object) -> str:
    """`value` on one line, without any character that a terminal would obey."""
    joined = " ⏎ ".join(str(value).splitlines())
    return "".join("\ufffd" if unicodedata.category(c) in _UNSAFE or c in _TURNING else c for c in joined)


def words(value: object, style: str = "") -> Text:
    """`value` for rich: plain, and never read as markup. None is a dash."""
    return Text("-" if value is None else plain(value), style=style)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Such as `1 fault` or `no faults`."""
    return f"1 {noun}" if number == 1 else f"{number or 'no'} {plural or noun + 's'}"


def print_sent(out: Console, items: Iterable[Json]) -> None:
    """What a submission was answered: one line for each recipient."""
    table = _table("id", "recipient", "status", "segments", "warnings")
    for item in items:
        table.add_row(
            words(item.get("id")),
            words(item.get("recipient")),
            _status(item.get("status")),
            words(item.get("segments")),
            words("; ".join(map(str, item.get("warnings") or []))),
        )
    out.print(table)


def print_draft(out: Console, items: Iterable[Json]) -> None:
    """What a text would cost, a line for each recipient."""
    table = _table("recipient", "encoding", "segments", "warnings")
    for item in items:
        table.add_row(
            words(item.get("recipient")),
            words(item.get("encoding")),
            words(item.get("segments")),
            words("; ".join(map(str, item.get("warnings") or []))),
        )
    out.print(table)


def print_cost(out: Console, *, messages: int, segments: int, encodings: Mapping[str, int]) -> None:
    """What many messages would cost."""
    parts = ", ".join(f"{number} in {plain(name)}" for name, number in encodings.items())
    out.print(words(f"{count(messages, 'message')} ({parts}), {count(segments, 'segment')} to pay for."))


def print_warnings(out: Console, warnings: Iterable[Json]) -> None:
    """What is to be said of a file's messages: each `warning`, of how many `messages`, and in which `lines`."""
    table = _table("messages", "lines", "warning")
    for warned in warnings:
        lines = [str(line) for line in warned["lines"]]
        shown = ", ".join([*lines[:_SHOWN_LINES], *["…"] * (len(lines) > _SHOWN_LINES)])
        table.add_row(words(warned["messages"]), words(shown or None), words(warned["warning"]))
    if table.row_count:
        out.print(table)


def print_counts(out: Console, counts: Mapping[str, int]) -> None:
    """How many messages have which status."""
    out.print(_counted(counts))


def print_messages(out: Console, items: Iterable[Json]) -> None:
    """Messages and where each stands."""
    table = _table("id", "recipient", "clientRef", "status", "statusAt", "transactionID", "conflict")
    for item in items:
        table.add_row(
            words(item.get("id")),
            words(item.get("recipient")),
            words(item.get("clientRef")),
            _status(item.get("status")),
            words(_moment(item.get("statusAt"))),
            words(item.get("transactionID")),
            words("yes", "red") if item.get("conflict") else words("no"),
        )
    out.print(table)


def print_sending(out: Console, state: Json) -> None:
    """Whether messages go out, and what holds them."""
    if state.get("paused"):
        since, who = _moment(state.get("pausedAt")), state.get("pausedBy")
        out.print(words(f"Paused since {since} by {who}: {state.get('reason')}", "bold red"))
    if state.get("accountRefusedAt"):
        since, next_at = _moment(state["accountRefusedAt"]), _moment(state.get("nextProbeAt"))
        line = f"The gateway refuses our credentials since {since}; one message tries them again at {next_at}"
        out.print(words(line, "bold red"))
    accounts: Sequence[Json] = state.get("accounts") or []
    for account in accounts:
        _print_account(out, account)
    if not (state.get("paused") or state.get("accountRefusedAt")):
        out.print("Other messages go out." if accounts else "Messages go out.")
    overdue = int(state.get("overdue") or 0)
    if overdue:
        out.print(words(f"{count(overdue, 'message')} to `resolve`: nobody knows if the gateway took it.", "yellow"))


def _print_account(out: Console, account: Json) -> None:
    """What is amiss with one account; the one without a name is told of elsewhere if it is refused."""
    name, next_at = account.get("name"), _moment(account.get("nextTryAt"))
    called = "our credentials" if name is None else f"the account {name}"
    if account.get("suspectedAt"):
        waiting, since = count(int(account.get("waiting") or 0), "message"), _moment(account["suspectedAt"])
        line = f"The gateway may refuse {called} since {since}: {waiting} wait until another one is taken or refused"
        out.print(words(f"{line}; without another, one of them is tried at {next_at}", "yellow"))
    elif name is not None:
        since = _moment(account.get("refusedAt"))
        out.print(
            words(f"The gateway refuses {called} since {since}; one message tries it again at {next_at}", "bold red")
        )


def print_suppressions(out: Console, items: Iterable[Json]) -> None:
    """Who may not be written to by whom."""
    table = _table("recipient", "originator", "since", "by", "reason")
    for item in items:
        names = ("recipient", "originator", "createdAt", "createdBy", "reason")
        table.add_row(*(words(_moment(item.get(name)) if name == "createdAt" else item.get(name)) for name in names))
    out.print(table)


def print_transitions(out: Console, transitions: Iterable[Json]) -> None:
    """What was recorded of one message, in that order."""
    table = _table("at", "status", "effect", "rule", "what was said")
    for transition in transitions:
        table.add_row(
            words(_moment(transition.get("occurredAt") or transition.get("receivedAt"))),
            _status(transition.get("status")),
            words(transition.get("effect")),
            words(transition.get("rule")),
            words(_reason(transition)),
        )
    out.print(table)


def print_conversation(out: Console, conversation: Json) -> None:
    """A conversation as it went: what was said by whom, what became of it, and how it stands. Times are UTC."""
    name = conversation.get("clientRef") or conversation.get("id")
    out.print(Text.assemble("Conversation ", (plain(name), "bold"), f" with {_parties(conversation)}"))
    timeline: Sequence[Json] = conversation.get("timeline") or []
    sent = [entry.get("id") for entry in timeline if entry.get("type") == "message"]
    numbers = {message_id: f"#{place}" for place, message_id in enumerate(sent, start=1)}
    day = ""
    table = _timeline()
    for entry in timeline:
        date, time = _day_and_time(entry.get("at"))
        if date != day:
            table.add_row(words(date, "bold"))
            day = date
        table.add_row(words(time, "dim"), *_cells(entry, numbers))
    out.print(table)
    out.print()
    out.print(words(_summary(conversation)))


def print_ledger(out: Console, ledger: Json) -> None:
    """What was received and what became of it, and whether the two add up."""
    out.print(Text("\nLedger", "bold"))
    table = _table("outcome", "receipts")
    table.columns[1].justify = "right"
    for name in _OUTCOMES:
        table.add_row(name, words(ledger.get(name)))
    table.add_section()
    table.add_row(words("received", "bold"), words(ledger.get("received"), "bold"))
    out.print(table)
    is_balanced = ledger.get("balanced") is True
    out.print(
        Text.assemble(
            plain(f"{ledger.get('callbacks')} callbacks kept, {ledger.get('refused')} refused; the ledger "),
            ("balances", "green") if is_balanced else ("does not balance", "bold red"),
            ".",
        )
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut short can't be copied
    return table


def _counted(counts: Mapping[str, int]) -> Table:
    table = _table("status", "messages")
    table.columns[1].justify = "right"
    for word in sorted(counts, key=lambda word: _RANKS.get(word, len(_RANKS))):
        table.add_row(_status(word), words(counts[word]))
    return table


def _timeline() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("time", "arrow", "number"):
        table.add_column(column, no_wrap=True)
    table.add_column("what", overflow="fold")
    return table


def _cells(entry: Json, numbers: Mapping[object, str]) -> tuple[Text, Text, Text]:
    """An arrow, the number of the message that it is about, and what happened."""
    match entry.get("type"):
        case "message":
            sender = f" (from {plain(entry['originator'])})" if entry.get("originator") else ""
            to = plain(entry.get("recipient"))
            line = Text.assemble(f"to {to}{sender}: ", (plain(entry.get("text")), "bold"))
            return Text("→", "bold cyan"), words(numbers.get(entry.get("id"))), line
        case "transition":
            reason = _reason(entry)
            line = Text.assemble(_status(entry.get("status")), f": {plain(reason)}" if reason else "")
            effect = str(entry.get("effect"))
            if effect != "applied":
                line.append(f" ({_EFFECTS.get(effect, plain(effect))})", "dim")
            return Text("·", "dim"), words(numbers.get(entry.get("messageId"), "")), line
        case "reply":
            answered = numbers.get(entry.get("messageId"), "")
            line = Text.assemble(f"from {plain(entry.get('sender'))}: ", (plain(entry.get("content")), "bold"))
            if entry.get("conflict"):
                line.append(" (its msgid came before with another content)", "red")
            return Text("←", "bold magenta"), words(answered), line
        case other:
            return Text(" "), Text(""), words(other)


def _status(word: object) -> Text:
    return words("no known word" if word is None else word, _STYLES.get(str(word), ""))


def _reason(transition: Json) -> str:
    """What the gateway said, its code behind it, and our own reason where there is one."""
    said, code = transition.get("providerDescription"), transition.get("providerStatusId")
    parts = [str(said)] if said else []
    if code:
        parts.append(f"[{code}]")
    reason = transition.get("reason")
    return "; ".join(part for part in (" ".join(parts), str(reason or "")) if part)


def _parties(conversation: Json) -> str:
    parties: Sequence[Json] = conversation.get("parties") or []
    return plain(", ".join(str(party.get("number")) for party in parties)) or "nobody"


def _summary(conversation: Json) -> str:
    summary: Json = conversation.get("summary") or {}
    statuses: Mapping[str, object] = summary.get("statuses") or {}
    parts = [
        count(int(summary.get("messages") or 0), "message"),
        ", ".join(f"{number} {word}" for word, number in statuses.items()),
        count(int(summary.get("replies") or 0), "reply", "replies"),
        count(int(summary.get("conflicts") or 0), "conflict"),
    ]
    return "; ".join(part for part in parts if part)


def _moment(value: object) -> str | None:
    return None if value is None else " ".join(_day_and_time(value)) + "Z"


def _day_and_time(value: object) -> tuple[str, str]:
    """A time of the API's in UTC, to the second; what is no time stands as it is."""
    try:
        at = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return "", str(value)
    return at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S")
