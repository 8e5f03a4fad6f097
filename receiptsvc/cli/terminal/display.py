"""Renders the API's JSON for a terminal: messages, what holds sending, opt-outs, a conversation, the ledger.

Texts, references and reasons come from outside, so all of them go through `plain`, `words` or `cell`: none can move the
cursor, change the colours or forge a line. No API calls here. How rows are laid out is in `tables`; what else the
commands show is beside this module, in `findings`, `explanations`, `parking` and `figures`.
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

from receiptsvc.cli.terminal import tables
from receiptsvc.cli.terminal.tables import Cell, Column
from receiptsvc.domain import meanings, sentences
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.operator_actions import RESOLVED_BY_HAND
from receiptsvc.domain.statuses import FINAL, Status
from receiptsvc.domain.times import describe_duration

Json = Mapping[str, Any]

_PIPED_WIDTH = 1_000_000  # columns without a terminal: no line is broken, so that grep and awk find whole rows
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
_OF_HOLDS = frozenset({"worker_unseen", "gateway_amiss"})  # findings that the lines about what holds sending tell
_OF_WAITING = "messages_late"  # the finding that the line about what waits tells
_MAX_WAITING = 10_000  # messages that the service counts
_MAX_SHOWN_LINES = 8  # line numbers beside one warning
_EFFECTS = {effect.value: f"{effect}: {meaning.means}" for effect, meaning in meanings.EFFECTS.items()}


def console(*, stderr: bool = False) -> Console:
    """A console for this process's output. Without a terminal it breaks no line and has no colours."""
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


def cell(value: object, style: str = "") -> Cell:
    """`value` for a table, or None where there is none."""
    return None if value is None or value == "" else words(value, style)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, such as `1 fault` or `no faults`."""
    return f"1 {noun}" if number == 1 else f"{number or 'no'} {plural or noun + 's'}"


def describe_length(number: int, noun: str, plural: str | None = None, *, is_complete: bool) -> str:
    """How long a list is; of one that is cut, what to do about it."""
    return count(number, noun, plural) if is_complete else f"The newest {number}; --limit shows more"


def print_sent(out: Console, items: Iterable[Json]) -> None:
    """The answer to a submission: one row for each recipient."""
    columns = (
        *(Column("id"), Column("recipient"), Column("status"), Column("segments", is_count=True)),
        Column("warnings", is_text=True),
    )
    rows = [
        (
            cell(item.get("id")),
            cell(item.get("recipient")),
            status(item.get("status")),
            cell(item.get("segments")),
            cell("; ".join(map(str, item.get("warnings") or []))),
        )
        for item in items
    ]
    tables.print_table(out, columns, rows)


def print_draft(out: Console, items: Iterable[Json]) -> None:
    """The cost of a text: one row for each recipient."""
    columns = (
        *(Column("recipient"), Column("encoding"), Column("segments", is_count=True)),
        Column("warnings", is_text=True),
    )
    rows = [
        (
            cell(item.get("recipient")),
            cell(item.get("encoding")),
            cell(item.get("segments")),
            cell("; ".join(map(str, item.get("warnings") or []))),
        )
        for item in items
    ]
    tables.print_table(out, columns, rows)


def print_cost(out: Console, *, messages: int, segments: int, encodings: Mapping[str, int]) -> None:
    """The total cost of many messages."""
    parts = ", ".join(f"{number} in {plain(name)}" for name, number in encodings.items())
    tables.say(out, words(f"{count(messages, 'message')} ({parts}), {count(segments, 'segment')} to pay for."))


def print_texts(out: Console, *, longest: Json, examples: Iterable[Json]) -> None:
    """The longest of many texts and some examples, each with its line in the file."""
    size = (
        f"{count(longest['characters'], 'character')}, {count(longest['segments'], 'segment')} in {longest['encoding']}"
    )
    tables.say(out, words(f"The longest text, of line {longest['line']}, has {size}:"))
    tables.say(out, words(f"  {longest['text']}"))
    tables.say(out, "Examples:")
    for example in examples:
        tables.say(out, words(f"  line {example['line']}: {example['text']}"))


def print_warnings(out: Console, warnings: Iterable[Json]) -> None:
    """The warnings about a file's messages: each `warning`, its number of `messages`, and their `lines`."""
    rows = []
    for warning in warnings:
        lines = [str(line) for line in warning["lines"]]
        shown = ", ".join([*lines[:_MAX_SHOWN_LINES], *["…"] * (len(lines) > _MAX_SHOWN_LINES)])
        rows.append((cell(warning["messages"]), cell(shown), cell(warning["warning"])))
    columns = (Column("messages", is_count=True), Column("lines", is_text=True), Column("warning", is_text=True))
    tables.print_table(out, columns, rows)


def print_counts(out: Console, counts: Mapping[str, int]) -> None:
    """How many messages have which status."""
    out.print(_counts_table(counts))


def print_messages(out: Console, items: Iterable[Json], *, is_detailed: bool = False) -> None:
    """Messages with their statuses. `is_detailed`: with what tells several to one person apart."""
    columns = ("id", "recipient", "status", "statusAt", "clientRef", "transactionID", "conflict")
    further = (Column("createdAt"), Column("originator"), Column("text", is_text=True)) if is_detailed else ()
    rows = [
        (
            cell(item.get("id")),
            cell(item.get("recipient")),
            status(item.get("status")),
            cell(format_time(item.get("statusAt"))),
            cell(item.get("clientRef")),
            cell(item.get("transactionID")),
            cell("yes" if item.get("conflict") else None, "red"),
            *(
                [cell(format_time(item.get("createdAt"))), cell(item.get("originator")), cell(item.get("text"))]
                if is_detailed
                else ()
            ),
        )
        for item in items
    ]
    tables.print_table(out, [*(Column(name) for name in columns), *further], rows)


def print_message(out: Console, message: Json) -> None:
    """One message: what it is, and its row."""
    tables.say(out, describe_message(message))
    print_messages(out, [message])


def print_sending(out: Console, state: Json) -> None:
    """Whether messages go out, what holds them, and what waits: the gravest first."""
    _print_holds(out, state)
    accounts: Sequence[Json] = state.get("accounts") or []
    for account in accounts:
        _print_account(out, account)
    if not is_held(state):
        tables.say(out, "Other messages go out." if accounts else "Messages go out.")
    shown = _OF_HOLDS
    waiting = int(state.get("waiting") or 0)
    if waiting and (is_held(state) or accounts):
        tables.say(out, f"{_count_waiting(waiting)}, the oldest {age(state.get('waitingSince'))}.")
        shown |= {_OF_WAITING}
    overdue = int(state.get("overdue") or 0)
    if overdue:
        line = f"{count(overdue, 'message')} to `resolve`, which lists them: nobody knows if the gateway took it."
        tables.say(out, words(line, "yellow"))
    for finding in state.get("findings") or ():
        if finding.get("name") not in shown:
            text = str(finding.get("text"))
            tables.say(out, words(sentences.end(f"{text[:1].upper()}{text[1:]}"), "yellow"))
    _print_last_pause(out, state.get("lastPause"))


def _print_holds(out: Console, state: Json) -> None:
    """What keeps every message from going out, the gravest first."""
    if state.get("canSend") is False:
        line = "Nothing goes out: the service has no gateway account. Set DYNMARK_USERNAME and DYNMARK_PASSWORD."
        tables.say(out, words(line, "bold red"))
    if state.get("workers") == 0:
        seen = f" (last seen {format_time(state['workerSeenAt'])})" if state.get("workerSeenAt") else ""
        line = f"Nothing goes out: no worker is at work{seen}. Start it; its log says why it ended."
        tables.say(out, words(line, "bold red"))
    for fault in state.get("gatewayFaults") or ():
        since = format_time(fault.get("since"))
        what = sentences.end(str(fault.get("fault")))
        line = f"Nothing goes out since {since}: {what} Check DYNMARK_SOAP_URL, network, proxy, firewall."
        tables.say(out, words(line, "bold red"))
    if state.get("paused"):
        since, who = format_time(state.get("pausedAt")), state.get("pausedBy")
        tables.say(out, words(f"Paused since {since} by {who}: {state.get('reason')}", "bold red"))
    if state.get("accountRefusedAt"):
        since, next_at = format_time(state["accountRefusedAt"]), format_time(state.get("nextProbeAt"))
        line = f"The gateway refuses our credentials since {since}; one message tries them again at {next_at}"
        tables.say(out, words(line, "bold red"))


def is_held(state: Json) -> bool:
    """Whether nothing goes out: no account, no worker, no gateway, a pause, or refused credentials."""
    return bool(
        state.get("canSend") is False
        or state.get("workers") == 0
        or state.get("gatewayFaults")
        or state.get("paused")
        or state.get("accountRefusedAt")
    )


def is_amiss(state: Json) -> bool:
    """Whether anything about sending is not as it should be."""
    return bool(is_held(state) or state.get("accounts") or state.get("overdue") or state.get("findings"))


def _count_waiting(number: int) -> str:
    bounded = "or more " if number >= _MAX_WAITING else ""
    return "1 message waits" if number == 1 else f"{number} {bounded}messages wait"


def _print_last_pause(out: Console, pause: Json | None) -> None:
    """Who resumed last, and what had been paused why."""
    if pause:
        why = f" ({pause['resumeReason']})" if pause.get("resumeReason") else ""
        line = f"Resumed {format_time(pause.get('resumedAt'))} by {pause.get('resumedBy')}{why}; had been paused since "
        line += f"{format_time(pause.get('pausedAt'))} by {pause.get('pausedBy')}: {pause.get('reason')}"
        tables.say(out, words(line, "dim"))


def _print_account(out: Console, account: Json) -> None:
    """What is amiss with one account; the one without a name is told of elsewhere if it is refused."""
    name, next_at = account.get("name"), format_time(account.get("nextTryAt"))
    called = "our credentials" if name is None else f"the account {name}"
    if account.get("suspectedAt"):
        waiting, since = int(account.get("waiting") or 0), format_time(account["suspectedAt"])
        wait = f"{count(waiting, 'message')} {'waits' if waiting == 1 else 'wait'}"
        line = f"The gateway may refuse {called} since {since}: {wait} until another one is taken or refused"
        alone = f"; without another, one of them is tried at {next_at}" if account.get("nextTryAt") else ""
        tables.say(out, words(line + alone, "yellow"))
    elif name is not None:
        since = format_time(account.get("refusedAt"))
        tables.say(
            out,
            words(f"The gateway refuses {called} since {since}; one message tries it again at {next_at}", "bold red"),
        )


def print_suppressions(out: Console, items: Iterable[Json]) -> None:
    """Suppressions: recipient, originator, since when, by whom and why, and what the gateway is still to send."""
    columns = (
        *(Column("recipient"), Column("originator"), Column("since"), Column("by"), Column("reason", is_text=True)),
        Column("scheduled", is_text=True),
    )
    rows = [
        (
            cell(item.get("recipient")),
            cell(item.get("originator")),
            cell(format_time(item.get("createdAt"))),
            cell(item.get("createdBy")),
            cell(item.get("reason")),
            cell(", ".join(item.get("scheduledMessages") or ())),
        )
        for item in items
    ]
    tables.print_table(out, columns, rows)


def print_transitions(out: Console, message: Json) -> None:
    """One message's transitions, in the order recorded, and how many are not shown."""
    transitions: Sequence[Json] = message.get("transitions") or []
    columns = (Column("at"), Column("status"), Column("effect"), Column("rule", is_text=True))
    rows = [
        (
            cell(format_time(transition.get("occurredAt") or transition.get("receivedAt"))),
            status(transition.get("status")),
            cell(transition.get("effect")),
            cell(transition.get("rule")),
            cell(reason(transition)),
        )
        for transition in transitions
    ]
    tables.print_table(out, (*columns, Column("report", is_text=True)), rows)
    left_out = (message.get("transitionCount") or 0) - len(transitions)
    if left_out > 0:
        tables.say(
            out, plain(f"{count(left_out, 'transition')} more: GET /v1/messages/{message.get('id')}/transitions")
        )


def print_conversation(out: Console, conversation: Json) -> None:
    """A conversation's summary, and its timeline (times are UTC)."""
    name = conversation.get("clientRef") or conversation.get("id")
    tables.say(out, Text.assemble("Conversation ", (plain(name), "bold"), f" with {_describe_parties(conversation)}"))
    timeline: Sequence[Json] = conversation.get("timeline") or []
    tables.say(out, words(_describe_summary(conversation, timeline)))
    message_ids = [entry.get("id") for entry in timeline if entry.get("type") == "message"]
    numbers = {message_id: f"#{number}" for number, message_id in enumerate(message_ids, start=1)}
    width = len(f"#{len(numbers)}")
    last_date = ""
    for entry in timeline:
        date, time = _split_time(entry.get("at"))
        if date != last_date:
            tables.say(out, words(date, "bold"))
            last_date = date
        arrow, number, text = _describe_entry(entry, numbers)
        tables.print_timeline_entry(out, ((words(time, "dim"), 8), (arrow, 1), (number, width)), text)


def print_ledger(out: Console, ledger: Json) -> None:
    """Whether the ledger balances, and its receipts by outcome."""
    is_balanced = ledger.get("balanced") is True
    tables.say(
        out,
        Text.assemble(
            plain(f"{ledger.get('callbacks')} callbacks kept, {ledger.get('refused')} refused; the ledger "),
            ("balances", "green") if is_balanced else ("does not balance", "bold red"),
            ".",
        ),
    )
    rows = [(words(outcome.value), cell(ledger.get(outcome.value))) for outcome in ReceiptOutcome]
    rows.append((words("received", "bold"), cell(ledger.get("received"), "bold")))
    tables.print_table(out, (Column("outcome"), Column("receipts", is_count=True)), rows)


def describe_message(message: Json) -> Text:
    """What became of a message, in a sentence."""
    to = f" to {plain(message['recipient'])}" if message.get("recipient") else ""
    return Text.assemble(
        plain(message.get("id")),
        to,
        " is ",
        status(message.get("status")),
        f" (since {format_time(message['statusAt'])})" if message.get("statusAt") else "",
        _describe_resolution(message) or _describe_meaning(message.get("status")),
    )


def describe_statuses(items: Iterable[Json]) -> str:
    """How many messages there are, and how many of them have which status."""
    statuses = [str(item.get("status")) for item in items]
    parts = [f"{statuses.count(status)} {plain(status)}" for status in sorted(set(statuses), key=_rank)]
    return "; ".join([count(len(statuses), "message"), ", ".join(parts)] if parts else [count(0, "message")])


def status(word: object) -> Text:
    """A status, or what there is in place of one."""
    return words("no known status" if word is None else word, _STYLES.get(str(word), ""))


def consent(reply: Json) -> str:
    """How a reply is marked that ends or renews consent; empty for any other."""
    return "opt-out" if reply.get("isOptOut") else "opt-in" if reply.get("isOptIn") else ""


def reason(transition: Json) -> str:
    """The gateway's description with its code, and our own reason; empty if there is none of them."""
    description, code = transition.get("providerDescription"), transition.get("providerStatusId")
    parts = [str(description)] if description else []
    if code:
        parts.append(f"(code {code})" if description else f"code {code}")
    reason = transition.get("reason")
    return "; ".join(part for part in (" ".join(parts), str(reason or "")) if part)


def age(value: object) -> str | None:
    """How long ago one of the API's times is, by this machine's clock; None for anything else."""
    try:
        at = datetime.fromisoformat(str(value))
        return describe_duration((datetime.now(UTC) - at).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def format_time(value: object) -> str | None:
    """One of the API's times, in UTC, to the second, as options take it; None without one."""
    if value is None:
        return None
    date, time = _split_time(value)
    return f"{date}T{time}Z" if date else plain(time)


def _counts_table(counts: Mapping[str, int]) -> Table:
    table = Table("status", box=None, pad_edge=False, header_style="bold")
    table.add_column("messages", justify="right")
    for word in sorted(counts, key=_rank):
        table.add_row(status(word), words(counts[word]))
    return table


def _rank(word: str) -> int:
    return _RANKS.get(word, len(_RANKS))


def _describe_meaning(word: object) -> str:
    meaning = next((meaning for known, meaning in meanings.STATUSES.items() if known.value == word), None)
    return f": {meaning.means}." if meaning else "."


def _describe_resolution(message: Json) -> str:
    """That a person settled it so, and why; empty if the gateway reported it too, or its history is not given."""
    history: Sequence[Json] = message.get("transitions") or message.get("reports") or ()
    same = [each for each in history if each.get("status") == message.get("status") and not each.get("supersededAt")]
    if not same or any(each.get("rule") != RESOLVED_BY_HAND for each in same):
        return ""
    return f": {_describe_settling(plain(same[-1].get('reason')))}."


def _describe_settling(reason: str) -> str:
    return f"a person settled it so ({reason})"


def _describe_entry(entry: Json, numbers: Mapping[object, str]) -> tuple[Text, Text, Text]:
    """An entry's arrow, the number of its message, and its text. `numbers`: by message id."""
    match entry.get("type"):
        case "message":
            sender = f" (from {plain(entry['originator'])})" if entry.get("originator") else ""
            to = plain(entry.get("recipient"))
            line = Text.assemble(f"to {to}{sender}: ", (plain(entry.get("text")), "bold"))
            if entry.get("overdue"):
                waited = describe_duration(float(entry.get("waitingSeconds") or 0))
                line.append(f" (overdue: {plain(entry.get('status'))}, without a final report for {waited})", "yellow")
            return Text("→", "bold cyan"), words(numbers.get(entry.get("id"), "")), line
        case "transition":
            why = reason(entry)
            if entry.get("rule") == RESOLVED_BY_HAND:
                why = _describe_settling(why)
            line = Text.assemble(status(entry.get("status")), f": {plain(why)}" if why else "")
            effect = str(entry.get("effect"))
            if effect != "applied":
                line.append(f" ({_EFFECTS.get(effect, plain(effect))})", "dim")
            return Text("·", "dim"), words(numbers.get(entry.get("messageId"), "")), line
        case "reply":
            line = Text.assemble(f"from {plain(entry.get('sender'))}: ", (plain(entry.get("content")), "bold"))
            if consent(entry):
                line.append(f" ({consent(entry)})", "bold red" if entry.get("isOptOut") else "bold green")
            if entry.get("conflict"):
                line.append(" (its msgid came before with other content)", "red")
            return Text("←", "bold magenta"), words(numbers.get(entry.get("messageId"), "")), line
        case other:
            return Text(" "), Text(""), words(other)


def _describe_parties(conversation: Json) -> str:
    parties: Sequence[Json] = conversation.get("parties") or []
    return plain(", ".join(str(party.get("number")) for party in parties)) or "nobody"


def _describe_summary(conversation: Json, timeline: Iterable[Json]) -> str:
    summary: Json = conversation.get("summary") or {}
    statuses: Mapping[str, object] = summary.get("statuses") or {}
    entries = list(timeline)
    overdue = sum(1 for entry in entries if entry.get("overdue"))
    opt_outs = sum(1 for entry in entries if entry.get("isOptOut"))
    last = age(summary.get("lastActivityAt"))
    parts = [
        count(int(summary.get("messages") or 0), "message"),
        ", ".join(f"{number} {status}" for status, number in statuses.items()),
        f"{overdue} overdue" if overdue else "",
        count(int(summary.get("replies") or 0), "reply", "replies"),
        count(opt_outs, "opt-out") if opt_outs else "",
        count(int(summary.get("conflicts") or 0), "conflict"),
        f"last activity {last} ago" if last else "",
    ]
    return "; ".join(part for part in parts if part)


def _split_time(value: object) -> tuple[str, str]:
    """Date and time of one of the API's times, in UTC, to the second. Anything else: an empty date, and the value."""
    try:
        at = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return "", str(value)
    return at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S")
