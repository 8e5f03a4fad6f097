"""At any width nothing that is copied is broken: ids, numbers, statuses, times."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from receiptsvc.cli.terminal import display, explanations, figures, findings, parking, tables
from receiptsvc.cli.terminal.findings import Hit
from receiptsvc.cli.terminal.tables import Column

PIPE = 1_000_000
MESSAGE_ID, RECEIPT_ID = "msg_01h45ytscbebyvny4gc8cr8ma2", "rcp_01h45ytscbebyvny4gc8cr8ma3"
REPLY_ID, CONVERSATION_ID = "rpl_01h45ytscbebyvny4gc8cr8ma4", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb"
NUMBER, SECOND_NUMBER, TRANSACTION, REFERENCE = "447700900000123", "447700900000124", "18446744073709551615", "order-77"
STATUS, TIME, SHOWN_TIME = "send_unknown", "2026-01-05T12:00:09.310000Z", "2026-01-05T12:00:09Z"
TEXT = " ".join(f"word{number}" for number in range(60))

MESSAGE = {
    "id": MESSAGE_ID,
    "recipient": NUMBER,
    "clientRef": REFERENCE,
    "status": STATUS,
    "statusAt": TIME,
    "createdAt": TIME,
    "transactionID": TRANSACTION,
    "conflict": True,
    "segments": 12,
    "encoding": "GSM",
    "warnings": [TEXT],
}
TRANSITION = {
    "status": STATUS,
    "effect": "conflicting",
    "rule": "clientRef and recipient, by a clock of another zone",
    "providerDescription": TEXT,
    "providerStatusId": "4711",
    "occurredAt": TIME,
    "receiptId": RECEIPT_ID,
}
REPLY = {
    "id": REPLY_ID,
    "receivedAt": TIME,
    "sender": NUMBER,
    "recipient": SECOND_NUMBER,
    "content": TEXT,
    "clientRef": REFERENCE,
    "messageId": MESSAGE_ID,
    "isOptOut": True,
}
RECEIPT = {
    "id": RECEIPT_ID,
    "outcome": "quarantined",
    "reason": TEXT,
    "receivedAt": TIME,
    "processedAt": TIME,
    "messageId": MESSAGE_ID,
    "recipient": NUMBER,
    "transactionID": TRANSACTION,
    "clientRef": REFERENCE,
    "providerStatusId": "4711",
    "query": "&".join(f"parameter{index}=44770090000{index}" for index in range(9)) + "&" + "Delivered" * 30,
    "body": '{"recipient":"447700900000999","statusid":4,' + TEXT + "}",
    "transition": TRANSITION,
    "audits": [{"at": TIME, "action": "matched", "actor": "desk", "reason": TEXT, "details": {"from": "unmatched"}}],
}
TIMELINE: list[dict[str, Any]] = [
    {"type": "message", "at": TIME, "id": MESSAGE_ID, "recipient": NUMBER, "originator": "SHOP", "text": TEXT}
    | {"status": STATUS, "overdue": True, "waitingSeconds": 7300, "conversationId": CONVERSATION_ID},
    {"type": "transition", "at": TIME, "messageId": MESSAGE_ID, **TRANSITION},
    {"type": "reply", "at": TIME, "conversationId": CONVERSATION_ID, **REPLY},
]
EXPLANATION = {
    **MESSAGE,
    "because": f"The gateway reported {STATUS} at {SHOWN_TIME} by its own clock. {TEXT}",
    "waitingSeconds": 7300,
    "overdue": True,
    "reports": [{**TRANSITION, "isWinner": True, "why": TEXT}],
    "attempts": [
        {"number": 1, "transport": "soap", "startedAt": TIME, "outcome": "unclear", "transactionID": TRANSACTION}
        | {"returnCode": "3", "returnDescription": TEXT}
    ],
    "delays": {"acceptedToOffered": 0.2, "submittedToFinal": 3.6},
}
COUNT = {
    "messages": 1200,
    "statuses": {"delivered": 1000, STATUS: 200},
    "deliveryRate": 0.983,
    "secondsToDelivery": {"p50": 4.177, "p95": 17.449, "p99": 89.302},
    "receipts": {"applied": 230, "duplicate": 4},
}
OVERDUE = {
    "olderThan": 3600,
    "statuses": [
        {"status": STATUS, "oldest": [MESSAGE_ID, MESSAGE_ID.replace("ma2", "ma5")]}
        | {"ages": [{"olderThanSeconds": 3600, "youngerThanSeconds": None, "atLeast": 1000, "isExact": False}]}
    ],
    "withoutReceipt": {"atLeast": 3, "isExact": True, "examples": [MESSAGE_ID]},
}
HIT = Hit(kind="recipient", messages=[MESSAGE], replies=[REPLY], receipts=[RECEIPT])
FAILURE = {"recipient": NUMBER, "failures": 7, "lastAt": TIME, "statuses": {STATUS: 7}}
BREAKDOWN = {"countries": ["GB"], "callingCode": "44", "prefix": "7700", "count": 12, "statuses": {STATUS: 12}}

# What is shown, and all that must stand in it unbroken.
SHOWN: dict[str, tuple[Callable[[Console], None], set[str]]] = {
    "sent": (lambda out: display.print_sent(out, [MESSAGE]), {MESSAGE_ID, NUMBER, STATUS, "12"}),
    "draft": (lambda out: display.print_draft(out, [MESSAGE]), {NUMBER, "GSM", "12"}),
    "messages": (
        lambda out: display.print_messages(out, [MESSAGE, {**MESSAGE, "recipient": SECOND_NUMBER}]),
        {MESSAGE_ID, NUMBER, SECOND_NUMBER, STATUS, SHOWN_TIME, TRANSACTION, REFERENCE},
    ),
    "message": (lambda out: display.print_message(out, MESSAGE), {MESSAGE_ID, NUMBER, STATUS, SHOWN_TIME, TRANSACTION}),
    "transitions": (
        lambda out: display.print_transitions(out, {"transitions": [TRANSITION]}),
        {STATUS, SHOWN_TIME, "conflicting", "4711)"},
    ),
    "suppressions": (
        lambda out: display.print_suppressions(
            out,
            [
                {"recipient": NUMBER, "createdAt": TIME, "createdBy": "desk", "reason": TEXT},
                {"recipient": SECOND_NUMBER, "scheduledMessages": [MESSAGE_ID, MESSAGE_ID]},
            ],
        ),
        {NUMBER, SECOND_NUMBER, SHOWN_TIME, MESSAGE_ID},
    ),
    "conversation": (
        lambda out: display.print_conversation(
            out, {"clientRef": REFERENCE, "parties": [{"number": NUMBER}] * 5, "timeline": TIMELINE}
        ),
        {NUMBER, STATUS, REFERENCE, "12:00:09", "4711)", "#1"},
    ),
    "receipts": (
        lambda out: parking.print_receipts(out, [RECEIPT]),
        {RECEIPT_ID, MESSAGE_ID, NUMBER, TRANSACTION, REFERENCE, SHOWN_TIME, "quarantined", "4711"},
    ),
    "receipt": (
        lambda out: parking.print_receipt(out, RECEIPT),
        {RECEIPT_ID, MESSAGE_ID, NUMBER, TRANSACTION, SHOWN_TIME, "quarantined", STATUS, "matched"}
        | {*(f"parameter{index}=44770090000{index}" for index in range(9)), '"recipient":"447700900000999"'},
    ),
    "findings": (
        lambda out: findings.print_hits(out, NUMBER, [HIT], more=""),
        {MESSAGE_ID, REPLY_ID, RECEIPT_ID, NUMBER, SECOND_NUMBER, STATUS, SHOWN_TIME, TRANSACTION, "opt-out"},
    ),
    "history": (
        lambda out: findings.print_history(out, NUMBER, [TIMELINE[0], TIMELINE[2]], [RECEIPT]),
        {MESSAGE_ID, REPLY_ID, RECEIPT_ID, CONVERSATION_ID, SHOWN_TIME, SECOND_NUMBER, "opt-out"},
    ),
    "conversations": (
        lambda out: findings.print_conversations(
            out, [{"id": CONVERSATION_ID, "lastActivityAt": TIME, "messages": 3, "replies": 4}]
        ),
        {CONVERSATION_ID, SHOWN_TIME, "3", "4"},
    ),
    "explanation": (
        lambda out: explanations.print_explanation(out, EXPLANATION, MESSAGE),
        {MESSAGE_ID, RECEIPT_ID, NUMBER, STATUS, SHOWN_TIME, TRANSACTION, "conflicting"},
    ),
    "statistics": (
        lambda out: figures.print_statistics(
            out, {"since": TIME, "until": TIME, "total": COUNT, "items": [{**COUNT, "start": TIME}]}
        ),
        {SHOWN_TIME, STATUS, "1200", "98.3%", "17.449"},
    ),
    "failures": (
        lambda out: figures.print_failures(
            out,
            {"since": TIME, "until": TIME, "messages": 9, "isBounded": True, "countedSince": TIME, "items": [FAILURE]},
        ),
        {NUMBER, SHOWN_TIME, STATUS, "7"},
    ),
    "breakdown": (
        lambda out: figures.print_breakdown(out, {"by": "country", "since": TIME, "until": TIME, "items": [BREAKDOWN]}),
        {"44", "7700", "12", STATUS, SHOWN_TIME},
    ),
    "overdue": (lambda out: figures.print_overdue(out, OVERDUE), {MESSAGE_ID, STATUS, "1000 or more"}),
    "ledger": (lambda out: display.print_ledger(out, {"received": 123456, "balanced": True}), {"123456", "received"}),
}


def show(name: str, width: int) -> list[str]:
    """The lines of what is shown at this width."""
    printed = io.StringIO()
    SHOWN[name][0](Console(file=printed, width=width, highlight=False, markup=False))
    return printed.getvalue().splitlines()


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("width", [60, 80, 120, PIPE])
def test_what_is_copied_is_never_broken_and_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    lines = show(name, width)
    for whole in SHOWN[name][1]:
        assert any(re.search(rf"(?<![\w.]){re.escape(whole)}(?![\w])", line) for line in lines), whole
    assert max(cell_len(line) for line in lines) <= width
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("name", SHOWN)
def test_a_very_narrow_terminal_breaks_nothing_either(name: str) -> None:
    lines = show(name, 34)
    for whole in SHOWN[name][1]:
        assert any(whole in line for line in lines), whole


def test_what_does_not_fit_is_told_beneath_its_row() -> None:
    assert show("messages", PIPE)[0].split() == [
        *("id", "recipient", "status", "statusAt", "clientRef", "transactionID", "conflict")
    ]
    assert show("messages", 80)[:4] == [
        "id                              recipient        status",
        f"{MESSAGE_ID}  {NUMBER}  {STATUS}",
        f"  statusAt: {SHOWN_TIME}  clientRef: {REFERENCE}",
        f"  transactionID: {TRANSACTION}  conflict: yes",
    ]
    assert show("messages", 60)[:5] == [
        "id                              recipient",
        f"{MESSAGE_ID}  {NUMBER}",
        f"  status: {STATUS}  statusAt: {SHOWN_TIME}",
        f"  clientRef: {REFERENCE}  transactionID: {TRANSACTION}",
        "  conflict: yes",
    ]


def test_without_a_terminal_a_row_is_a_line() -> None:
    assert len(show("receipts", PIPE)) == 2
    assert len(show("transitions", PIPE)) == 2


def test_running_text_is_wrapped_between_words_and_aligned() -> None:
    lines = show("transitions", 80)
    start = lines[0].index("rule")
    assert lines[1][start:] == "clientRef and recipient, by a"
    assert lines[2] == " " * start + "clock of another zone"
    assert lines[3].startswith("  report: word0 word1 ")
    assert lines[4].startswith("    word")
    assert " ".join(" ".join(lines).split()).count(TEXT) == 1


def test_wide_characters_are_measured_by_their_width() -> None:
    printed = io.StringIO()
    rows = [(Text("漢字"), Text("漢字かな" * 30)), (Text("ab"), Text("x"))]
    tables.print_table(
        Console(file=printed, width=60, highlight=False), [Column("name"), Column("text", is_text=True)], rows
    )
    lines = printed.getvalue().splitlines()
    assert lines[0] == "name  text"
    assert lines[-1] == "ab    x"
    assert max(cell_len(line) for line in lines) <= 60


def test_columns_without_a_value_and_tables_without_rows_are_left_out() -> None:
    printed = io.StringIO()
    out = Console(file=printed, width=60, highlight=False)
    tables.print_table(out, [Column("a"), Column("b"), Column("n", is_count=True)], [(Text("1"), None, Text("10"))] * 2)
    tables.print_table(out, [Column("a")], [])
    tables.print_fields(out, [("name", Text("value")), ("empty", None)])
    assert printed.getvalue() == "a   n\n1  10\n1  10\nname: value\n"
