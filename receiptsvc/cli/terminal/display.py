"""Renders the API's JSON for a terminal: tables, a conversation's timeline, the ledger.

Texts, references and reasons come from outside, so all of them go through `plain` or `words`: none can move the
cursor, change the colours or forge a line. No API calls here.
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

from receiptsvc.domain import meanings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import FINAL, Status

Json = Mapping[str, Any]

_PIPED_WIDTH = 200  # columns without a terminal: enough for every table to keep its ids on one line
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line and paragraph separators
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_OWN_STYLES = {
    Status.ACCEPTED: "dim",
    Status.SEND_UNKNOWN: "yellow",
    Status.DELIVERED: "green",
    Status.EXPIRED: "yellow",
    Status.CANCELLED: "yellow",
}
_STYLES = {status.value: _OWN_STYLES.get(status, "red" if status in FINAL else "cyan") for status in Status}
_RANKS = {status: rank for rank, status in enumerate(_STYLES)}
_MAX_SHOWN_LINES = 8  # line numbers beside one warning
_EFFECTS = {effect.value: f"{effect}: {meaning.means}" for effect, meaning in meanings.EFFECTS.items()}


def console(*, stderr: bool = False) -> Console:
    """A console for this process's output. Without a terminal it is wide and has no colours."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # do not fail on an arrow that the terminal's encoding lacks
    return Console(
        file=stream, width=None if stream.isatty() else _PIPED_WIDTH, highlight=False, markup=False, emoji=False
    )


@contextmanager
def progress(what: str, *, is_shown: bool, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A progress line on standard error, if that is a terminal. Gives the function that adds to its count.

    With a `total` it has a bar, which starts at `done`.
    """
    columns = (SpinnerColumn(), *([BarColumn()] if total else []), MofNCompleteColumn(), TextColumn(what))
    out = console(stderr=True)
    disabled = not (is_shown and out.is_terminal)
    with Progress(*columns, TimeElapsedColumn(), console=out, disable=disabled, transient=True) as progress_line:
        task = progress_line.add_task(what, total=total, completed=done)
        yield lambda count: progress_line.advance(task, count)


@contextmanager
def live_counts(*, is_shown: bool) -> Iterator[Callable[[Mapping[str, int]], None]]:
    """A table of statuses on standard error, if that is a terminal. Gives the function that updates its counts."""
    out = console(stderr=True)
    if not (is_shown and out.is_terminal):
        yield lambda _: None
        return
    with Live(console=out, transient=True) as live:
        yield lambda counts: live.update(_counts_table(counts))


def plain(value: object) -> str:
    """`value` on one line, without any character that controls a terminal."""
    joined = " ⏎ ".join(str(value).splitlines())
    return "".join("\ufffd" if unicodedata.category(c) in _UNSAFE or c in _BIDI_CONTROLS else c for c in joined)


def words(value: object, style: str = "") -> Text:
    """`value` for rich: plain, and never read as markup. None is a dash."""
    return Text("-" if value is None else plain(value), style=style)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, such as `1 fault` or `no faults`."""
    return f"1 {noun}" if number == 1 else f"{number or 'no'} {plural or noun + 's'}"


def print_sent(out: Console, items: Iterable[Json]) -> None:
    """The answer to a submission: one line for each recipient."""
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
    """The cost of a text: one line for each recipient."""
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
    """The total cost of many messages."""
    parts = ", ".join(f"{number} in {plain(name)}" for name, number in encodings.items())
    out.print(words(f"{count(messages, 'message')} ({parts}), {count(segments, 'segment')} to pay for."))


def print_texts(out: Console, *, longest: Json, examples: Iterable[Json]) -> None:
    """The longest of many texts and some examples, each with its line in the file."""
    size = (
        f"{count(longest['characters'], 'character')}, {count(longest['segments'], 'segment')} in {longest['encoding']}"
    )
    out.print(words(f"The longest text, of line {longest['line']}, has {size}:"))
    out.print(words(f"  {longest['text']}"))
    out.print("Examples:")
    for example in examples:
        out.print(words(f"  line {example['line']}: {example['text']}"))


def print_warnings(out: Console, warnings: Iterable[Json]) -> None:
    """The warnings about a file's messages: each `warning`, its number of `messages`, and their `lines`."""
    table = _table("messages", "lines", "warning")
    for warning in warnings:
        lines = [str(line) for line in warning["lines"]]
        shown = ", ".join([*lines[:_MAX_SHOWN_LINES], *["…"] * (len(lines) > _MAX_SHOWN_LINES)])
        table.add_row(words(warning["messages"]), words(shown or None), words(warning["warning"]))
    if table.row_count:
        out.print(table)


def print_counts(out: Console, counts: Mapping[str, int]) -> None:
    """How many messages have which status."""
    out.print(_counts_table(counts))


def print_messages(out: Console, items: Iterable[Json]) -> None:
    """Messages with their statuses."""
    table = _table("id", "recipient", "clientRef", "status", "statusAt", "transactionID", "conflict")
    for item in items:
        table.add_row(
            words(item.get("id")),
            words(item.get("recipient")),
            words(item.get("clientRef")),
            _status(item.get("status")),
            words(_format_time(item.get("statusAt"))),
            words(item.get("transactionID")),
            words("yes", "red") if item.get("conflict") else words("no"),
        )
    out.print(table)


def print_sending(out: Console, state: Json) -> None:
    """Whether messages go out, and what holds them."""
    if state.get("paused"):
        since, who = _format_time(state.get("pausedAt")), state.get("pausedBy")
        out.print(words(f"Paused since {since} by {who}: {state.get('reason')}", "bold red"))
    if state.get("accountRefusedAt"):
        since, next_at = _format_time(state["accountRefusedAt"]), _format_time(state.get("nextProbeAt"))
        line = f"The gateway refuses our credentials since {since}; one message tries them again at {next_at}"
        out.print(words(line, "bold red"))
    accounts: Sequence[Json] = state.get("accounts") or []
    for account in accounts:
        _print_account(out, account)
    if not (state.get("paused") or state.get("accountRefusedAt") or state.get("workers") == 0):
        out.print("Other messages go out." if accounts else "Messages go out.")
    overdue = int(state.get("overdue") or 0)
    if overdue:
        out.print(words(f"{count(overdue, 'message')} to `resolve`: nobody knows if the gateway took it.", "yellow"))
    for line in state.get("degraded") or ():
        out.print(words(f"{line[:1].upper()}{line[1:]}.", "yellow"))


def _print_account(out: Console, account: Json) -> None:
    """What is amiss with one account; the one without a name is told of elsewhere if it is refused."""
    name, next_at = account.get("name"), _format_time(account.get("nextTryAt"))
    called = "our credentials" if name is None else f"the account {name}"
    if account.get("suspectedAt"):
        waiting, since = count(int(account.get("waiting") or 0), "message"), _format_time(account["suspectedAt"])
        line = f"The gateway may refuse {called} since {since}: {waiting} wait until another one is taken or refused"
        alone = f"; without another, one of them is tried at {next_at}" if account.get("nextTryAt") else ""
        out.print(words(line + alone, "yellow"))
    elif name is not None:
        since = _format_time(account.get("refusedAt"))
        out.print(
            words(f"The gateway refuses {called} since {since}; one message tries it again at {next_at}", "bold red")
        )


def print_suppressions(out: Console, items: Iterable[Json]) -> None:
    """Suppressions: recipient, originator, since when, by whom and why, and what the gateway is still to send."""
    table = _table("recipient", "originator", "since", "by", "reason", "scheduled")
    for item in items:
        table.add_row(
            words(item.get("recipient")),
            words(item.get("originator")),
            words(_format_time(item.get("createdAt"))),
            words(item.get("createdBy")),
            words(item.get("reason")),
            words(", ".join(item.get("scheduledMessages") or ())),
        )
    out.print(table)


def print_transitions(out: Console, message: Json) -> None:
    """One message's transitions, in the order recorded, and how many are not shown."""
    transitions: Sequence[Json] = message.get("transitions") or []
    table = _table("at", "status", "effect", "rule", "report")
    for transition in transitions:
        table.add_row(
            words(_format_time(transition.get("occurredAt") or transition.get("receivedAt"))),
            _status(transition.get("status")),
            words(transition.get("effect")),
            words(transition.get("rule")),
            words(_reason(transition)),
        )
    out.print(table)
    left_out = (message.get("transitionCount") or 0) - len(transitions)
    if left_out > 0:
        out.print(plain(f"{count(left_out, 'transition')} more: GET /v1/messages/{message.get('id')}/transitions"))


def print_conversation(out: Console, conversation: Json) -> None:
    """A conversation's timeline (times are UTC), and its summary."""
    name = conversation.get("clientRef") or conversation.get("id")
    out.print(Text.assemble("Conversation ", (plain(name), "bold"), f" with {_describe_parties(conversation)}"))
    timeline: Sequence[Json] = conversation.get("timeline") or []
    message_ids = [entry.get("id") for entry in timeline if entry.get("type") == "message"]
    numbers = {message_id: f"#{number}" for number, message_id in enumerate(message_ids, start=1)}
    last_date = ""
    table = _timeline_table()
    for entry in timeline:
        date, time = _split_time(entry.get("at"))
        if date != last_date:
            table.add_row(words(date, "bold"))
            last_date = date
        table.add_row(words(time, "dim"), *_timeline_cells(entry, numbers))
    out.print(table)
    out.print()
    out.print(words(_describe_summary(conversation)))


def print_ledger(out: Console, ledger: Json) -> None:
    """The ledger: receipts by outcome, and whether it balances."""
    out.print(Text("\nLedger", "bold"))
    table = _table("outcome", "receipts")
    table.columns[1].justify = "right"
    for outcome in ReceiptOutcome:
        table.add_row(outcome.value, words(ledger.get(outcome.value)))
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


def _counts_table(counts: Mapping[str, int]) -> Table:
    table = _table("status", "messages")
    table.columns[1].justify = "right"
    for status in sorted(counts, key=lambda status: _RANKS.get(status, len(_RANKS))):
        table.add_row(_status(status), words(counts[status]))
    return table


def _timeline_table() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("time", "arrow", "number"):
        table.add_column(column, no_wrap=True)
    table.add_column("what", overflow="fold")
    return table


def _timeline_cells(entry: Json, numbers: Mapping[object, str]) -> tuple[Text, Text, Text]:
    """An entry's arrow, the number of its message, and its text. `numbers`: by message id."""
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
            line = Text.assemble(f"from {plain(entry.get('sender'))}: ", (plain(entry.get("content")), "bold"))
            if entry.get("conflict"):
                line.append(" (its msgid came before with other content)", "red")
            return Text("←", "bold magenta"), words(numbers.get(entry.get("messageId"), "")), line
        case other:
            return Text(" "), Text(""), words(other)


def _status(status: object) -> Text:
    return words("no known status" if status is None else status, _STYLES.get(str(status), ""))


def _reason(transition: Json) -> str:
    """The gateway's description with its code in brackets, and our own reason; empty if there is none of them."""
    description, code = transition.get("providerDescription"), transition.get("providerStatusId")
    parts = [str(description)] if description else []
    if code:
        parts.append(f"[{code}]")
    reason = transition.get("reason")
    return "; ".join(part for part in (" ".join(parts), str(reason or "")) if part)


def _describe_parties(conversation: Json) -> str:
    parties: Sequence[Json] = conversation.get("parties") or []
    return plain(", ".join(str(party.get("number")) for party in parties)) or "nobody"


def _describe_summary(conversation: Json) -> str:
    summary: Json = conversation.get("summary") or {}
    statuses: Mapping[str, object] = summary.get("statuses") or {}
    parts = [
        count(int(summary.get("messages") or 0), "message"),
        ", ".join(f"{number} {status}" for status, number in statuses.items()),
        count(int(summary.get("replies") or 0), "reply", "replies"),
        count(int(summary.get("conflicts") or 0), "conflict"),
    ]
    return "; ".join(part for part in parts if part)


def _format_time(value: object) -> str | None:
    return None if value is None else " ".join(_split_time(value)) + "Z"


def _split_time(value: object) -> tuple[str, str]:
    """Date and time of one of the API's times, in UTC, to the second. Anything else: an empty date, and the value."""
    try:
        at = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return "", str(value)
    return at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S")
