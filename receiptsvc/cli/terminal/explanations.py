"""Renders why a message has its status: the deciding report, the others, the tries to send it, the delays."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from receiptsvc.cli.terminal import display, tables
from receiptsvc.cli.terminal.display import Json, cell, count, format_time, plain
from receiptsvc.cli.terminal.tables import Column
from receiptsvc.domain.times import describe_duration

_DELAYS = {
    "acceptedToOffered": "accepted to offered",
    "offeredToSubmitted": "offered to submitted",
    "submittedToFinal": "submitted to final",
    "providerToReceived": "from the gateway's time on the last receipt to its arrival",
}


def print_explanation(out: Console, explanation: Json, message: Json) -> None:
    """The status and why it is so, in sentences; then what they rest on. `message`: the same one, from a list."""
    tables.say(out, display.describe_message({**message, **explanation}))
    tables.say(out, describe_age(explanation))
    tables.say(out, display.words(explanation.get("because")))
    if explanation.get("conflict"):
        tables.say(out, Text("The gateway's reports hold more than one final word.", "red"))
    out.print()
    _print_reports(out, explanation)
    attempts: Sequence[Json] = explanation.get("attempts") or ()
    if attempts:
        out.print()
        tables.say(out, "Tries to give it to the gateway:")
        _print_attempts(out, attempts)
    answered = {attempt.get("transactionID") for attempt in attempts}
    others = [
        str(given.get("transactionID"))
        for given in explanation.get("transactions") or ()
        if given.get("transactionID") not in answered
    ]
    if others:
        tables.say(out, plain(f"TransactionIDs that receipts gave it: {', '.join(others)}"))
    delays = explanation.get("delays") or {}
    known = [f"{words} {delays[name]:.1f} s" for name, words in _DELAYS.items() if delays.get(name) is not None]
    if known:
        out.print()
        tables.say(out, f"Delays: {'; '.join(known)}.")


def describe_age(explanation: Json) -> Text:
    """When a message was accepted, how long it waits for its final report, and whether that is overdue."""
    accepted, waiting = explanation.get("createdAt"), explanation.get("waitingSeconds")
    ago = display.age(accepted)
    text = Text(f"It was accepted {ago} ago ({format_time(accepted)})" if ago else "")
    if waiting is not None:
        text.append(f"{'; it' if ago else 'It'} has waited {describe_duration(float(waiting))} for its final report")
    if explanation.get("overdue"):
        text.append(": overdue", "bold yellow")
    return text.append(".") if text else text


def _print_reports(out: Console, explanation: Json) -> None:
    reports: Sequence[Json] = explanation.get("reports") or ()
    columns = (
        *(Column("at"), Column("status"), Column("effect"), Column("decides"), Column("report", is_text=True)),
        *(Column("why", is_text=True), Column("supersededAt"), Column("receiptId")),
    )
    rows = [
        (
            cell(format_time(report.get("occurredAt") or report.get("receivedAt"))),
            display.status(report.get("status")),
            cell(report.get("effect")),
            cell("yes" if report.get("isWinner") else None, "bold"),
            cell(display.reason(report)),
            cell(report.get("why")),
            cell(format_time(report.get("supersededAt"))),
            cell(report.get("receiptId")),
        )
        for report in reports
    ]
    tables.print_table(out, columns, rows)
    left_out = (explanation.get("transitionCount") or 0) - len(reports)
    if left_out > 0:
        tables.say(out, f"{count(left_out, 'report')} more.")


def _print_attempts(out: Console, attempts: Sequence[Json]) -> None:
    columns = (
        *(Column("number", is_count=True), Column("startedAt"), Column("outcome"), Column("transactionID")),
        *(Column("transport"), Column("answer", is_text=True)),
    )
    rows = [
        (
            cell(attempt.get("number")),
            cell(format_time(attempt.get("startedAt"))),
            cell(attempt.get("outcome") or "under way"),
            cell(attempt.get("transactionID")),
            cell(attempt.get("transport")),
            cell(_describe_answer(attempt)),
        )
        for attempt in attempts
    ]
    tables.print_table(out, columns, rows)


def _describe_answer(attempt: Json) -> str:
    """The gateway's code in brackets and its words."""
    code = attempt.get("returnCode")
    parts = (f"[{code}]" if code else "", attempt.get("returnDescription"), attempt.get("returnDetail"))
    return " ".join(str(part) for part in parts if part)
