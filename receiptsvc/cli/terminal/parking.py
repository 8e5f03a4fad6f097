"""Renders receipts as operators see them: the ledger's rows, and one receipt as it came."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from receiptsvc.cli.terminal import display, tables
from receiptsvc.cli.terminal.display import Json, cell, format_time, plain
from receiptsvc.cli.terminal.tables import Column
from receiptsvc.domain import meanings, sentences
from receiptsvc.domain.correlation import BY_HAND
from receiptsvc.domain.inbox import ReceiptOutcome

_OUTCOME_STYLES = {
    ReceiptOutcome.UNMAPPED: "yellow",
    ReceiptOutcome.UNMATCHED: "yellow",
    ReceiptOutcome.QUARANTINED: "red",
    ReceiptOutcome.DEAD: "red",
}
_NAMED = ("recipient", "transactionID", "clientRef", "providerStatusId", "providerDescription", "keyId")


def print_receipts(out: Console, items: Sequence[Json]) -> None:
    """Receipts with their outcomes, and what those name that fit no message."""
    columns = (
        *(Column("id"), Column("outcome"), Column("receivedAt"), Column("recipient"), Column("transactionID")),
        *(Column("clientRef"), Column("adoptAt"), Column("providerStatusId")),
        Column("providerDescription", is_text=True),
        *(Column("keyId"), Column("messageId"), Column("reason", is_text=True)),
    )
    rows = [
        (
            cell(item.get("id")),
            _outcome(item),
            cell(format_time(item.get("receivedAt"))),
            cell(item.get("recipient")),
            cell(item.get("transactionID")),
            cell(item.get("clientRef")),
            cell(format_time(item.get("adoptAt"))),
            cell(item.get("providerStatusId")),
            cell(item.get("providerDescription")),
            cell(item.get("keyId")),
            cell(item.get("messageId")),
            cell(item.get("reason")),
        )
        for item in items
    ]
    tables.print_table(out, columns, rows)


def print_receipt(out: Console, receipt: Json) -> None:
    """What became of one receipt and what to do about it; what it said; what was done to it."""
    tables.say(out, describe_receipt(receipt))
    if receipt.get("outcome") == ReceiptOutcome.UNMATCHED.value:
        first = next(iter(receipt.get("candidates") or ()), "MESSAGE")
        tables.say(out, plain(f"By hand: receipts match {receipt.get('id')} {first}"))
    out.print()
    candidates = ", ".join(receipt.get("candidates") or ())
    tables.print_fields(
        out,
        [
            ("received", cell(format_time(receipt.get("receivedAt")))),
            ("processed", cell(format_time(receipt.get("processedAt")))),
            ("next look", cell(format_time(receipt.get("lookAt")))),
            ("another system's at", cell(format_time(receipt.get("adoptAt")))),
            ("failed tries", cell(receipt.get("tries") or None)),
            ("channel", cell(receipt.get("channel"))),
            ("message", cell(receipt.get("messageId"))),
            ("candidates", cell(candidates)),
            ("first of its callback", cell(receipt.get("callbackId"))),
            *_named_fields(receipt),
            ("method", cell(receipt.get("method"))),
            ("query", cell(receipt.get("query"))),
            ("body", cell(receipt.get("body"))),
            ("Content-Type", cell(receipt.get("contentType"))),
            ("Content-Encoding", cell(receipt.get("contentEncoding"))),
        ],
    )
    if receipt.get("transition"):
        out.print()
        tables.say(out, "It was recorded so:")
        display.print_transitions(out, {"transitions": [receipt["transition"]]})
    audits: Sequence[Json] = receipt.get("audits") or ()
    if audits:
        out.print()
        tables.say(out, "What was done to it:")
        _print_audits(out, audits)


def describe_receipt(receipt: Json) -> Text:
    """What became of a receipt, why, and what an operator does about it."""
    outcome = next((each for each in ReceiptOutcome if each.value == receipt.get("outcome")), None)
    meaning = meanings.OUTCOMES.get(outcome) if outcome is not None else None
    text = Text.assemble(plain(receipt.get("id")), " is ", _outcome(receipt))
    if meaning is not None:
        text.append(f": {meaning.means}.")
    if outcome is ReceiptOutcome.UNMAPPED:  # its reason is what else is odd about it
        text.append(_describe_mapping(receipt))
        return text
    if receipt.get("reason"):
        text.append(f" Reason: {sentences.end(plain(receipt['reason']))}")
    text.append(_describe_adoption(receipt))
    action = meanings.action_for(outcome, receipt.get("reason")) if outcome is not None else "nothing"
    if action != "nothing":
        text.append(f" To do: {action}.")
    return text


def describe_adoptions(receipts: Sequence[Json]) -> str:
    """How many receipts fit no message, and when each of some is taken for another system's; empty without any."""
    parked = [receipt for receipt in receipts if receipt.get("outcome") == ReceiptOutcome.UNMATCHED.value]
    lines = [f"{display.count(len(parked), 'receipt')} that fit{'s' * (len(parked) == 1)} no message:"] * bool(parked)
    return "\n".join([*lines, *(f"  {plain(each.get('id'))}.{_describe_adoption(each)}" for each in parked)])


def _named_fields(receipt: Json) -> list[tuple[str, tables.Cell]]:
    """What a receipt names. Beside what its message has, unless the two fit: a person's match need not."""
    message, rule = receipt.get("message"), (receipt.get("transition") or {}).get("rule", BY_HAND)
    is_compared = bool(message) and rule == BY_HAND
    compared = ("recipient", "transactionID", "clientRef") if is_compared else ()
    sides = [("the receipt names", receipt), ("the message has", message or {})] if is_compared else []
    found = [
        (side, cell(", ".join(f"{name} {named[name]}" for name in compared if named.get(name))))
        for side, named in sides
    ]
    return found + [(name, cell(receipt.get(name))) for name in _NAMED if name not in compared]


def _describe_mapping(receipt: Json) -> str:
    """What gives an unmapped receipt a meaning."""
    setting = json.dumps({str(receipt.get("providerStatusId") or "its code"): "undelivered"})
    return plain(
        f" To do: set STATUS_MAP={setting}, or what it means, for the worker and this shell; restart the worker; then "
        "run `python -m receiptsvc rebuild --apply`."
    )


def _describe_adoption(receipt: Json) -> str:
    """When a receipt that fits no message is taken for another system's, as a sentence; empty for any other."""
    if receipt.get("outcome") != ReceiptOutcome.UNMATCHED.value or "adoptAt" not in receipt:
        return ""
    if receipt["adoptAt"] is None:
        return " It is never taken for another system's."
    return f" Unless a message fits before, it is taken for another system's at {format_time(receipt['adoptAt'])}."


def _outcome(receipt: Json) -> Text:
    word = receipt.get("outcome")
    style = next((style for outcome, style in _OUTCOME_STYLES.items() if outcome.value == word), "")
    return display.words(word, style)


def _print_audits(out: Console, audits: Sequence[Json]) -> None:
    rows = [
        (
            cell(format_time(audit.get("at"))),
            cell(audit.get("action")),
            cell(audit.get("actor")),
            cell(audit.get("reason")),
            cell(", ".join(f"{name}: {value}" for name, value in (audit.get("details") or {}).items() if value)),
        )
        for audit in audits
    ]
    columns = (Column("at"), Column("action"), Column("by"))
    tables.print_table(out, (*columns, Column("reason", is_text=True), Column("details", is_text=True)), rows)
