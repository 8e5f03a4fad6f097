"""Renders what a term finds: messages, replies and receipts by the kind of thing that the term may be.

Also the two lists of replies: all of them, and those among a person's messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from receiptsvc.cli.terminal import display, parking, tables
from receiptsvc.cli.terminal.display import Json, cell, count, format_time, plain
from receiptsvc.cli.terminal.tables import Column

_KINDS = {
    "message": "a message's id",
    "receipt": "a receipt's id",
    "reply": "a reply's id",
    "conversation": "a conversation's id",
    "recipient": "a recipient",
    "recipientEnds": "the last digits of a recipient",
    "nationalNumber": "how a number is written inside a country; its last digits fit",
    "transactionID": "a transactionID",
    "messageGuid": "a messageGuid",
    "clientRef": "a clientRef",
    "clientRefPrefix": "the beginning of a clientRef",
    "parkedReceipts": "named by receipts that fit no message",
    "parkedReceiptsPrefix": "the beginning of a clientRef of receipts that fit no message",
    "batch": "the Idempotency-Key of a batch",
}

_MAX_COUNTED = 20  # messages of one hit, by the service's search


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """What was found by taking a term for one kind of thing. `is_complete`: whether that is all there is of it.

    `total`: how many messages there are, if only some are given.
    """

    kind: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    is_complete: bool = True
    total: int = 0

    @property
    def is_one_message(self) -> bool:
        """Whether a single message is all of it."""
        return len(self.messages) == 1 and not self.replies and not self.receipts


def print_hits(out: Console, term: str, hits: Sequence[Hit], *, more: str) -> None:
    """Each kind with what it found. `more`: what to do where that is not all."""
    for number, hit in enumerate(hits):
        if number:
            out.print()
        kind = _KINDS.get(hit.kind, plain(hit.kind))
        verb = "is" if number == 0 else "is also"
        tables.say(out, Text.assemble((plain(term), "bold"), f" {verb} {kind}: {_describe(hit)}"))
        display.print_messages(out, hit.messages, is_detailed=len(hit.messages) > 1)
        if hit.messages and hit.replies:
            out.print()
        print_replies(out, hit.replies)
        if hit.receipts and (hit.messages or hit.replies):
            out.print()
        parking.print_receipts(out, hit.receipts)
        if not hit.is_complete:
            tables.say(out, more)


def print_replies(out: Console, replies: Sequence[Json]) -> None:
    """Replies, with those marked that end or renew consent."""
    columns = (
        *(Column("id"), Column("receivedAt"), Column("sender"), Column("consent"), Column("content", is_text=True)),
        *(Column("recipient"), Column("clientRef"), Column("messageId")),
    )
    rows = [
        (
            cell(reply.get("id")),
            cell(format_time(reply.get("receivedAt"))),
            cell(reply.get("sender")),
            cell(display.consent(reply), "bold red" if reply.get("isOptOut") else "bold green"),
            cell(reply.get("content")),
            cell(reply.get("recipient")),
            cell(reply.get("clientRef")),
            cell(reply.get("messageId")),
        )
        for reply in replies
    ]
    tables.print_table(out, columns, rows)


def print_history(out: Console, number: str, entries: Sequence[Json], parked: Sequence[Json]) -> None:
    """A person's messages and replies, the newest first, and the receipts that name the number and fit no message."""
    messages = [entry for entry in entries if entry.get("type") == "message"]
    replies = [entry for entry in entries if entry.get("type") == "reply"]
    tables.say(out, Text.assemble((plain(number), "bold"), f": {_describe_all(messages, replies, parked)}"))
    columns = (
        *(Column("at"), Column(""), Column("status"), Column("id"), Column("text", is_text=True)),
        *(Column("originator"), Column("conversation")),
    )
    rows = [
        (
            cell(format_time(entry.get("at"))),
            Text("←", "bold magenta") if entry.get("type") == "reply" else Text("→", "bold cyan"),
            cell(display.consent(entry) or "reply") if entry.get("type") == "reply" else _status(entry),
            cell(entry.get("id")),
            cell(entry.get("content") if entry.get("type") == "reply" else entry.get("text")),
            cell(entry.get("recipient") if entry.get("type") == "reply" else entry.get("originator")),
            cell(entry.get("conversationId")),
        )
        for entry in entries
    ]
    tables.print_table(out, columns, rows)
    if parked:
        out.print()
        tables.say(out, "Receipts that name the number and fit no message:")
        parking.print_receipts(out, parked)


def print_conversations(out: Console, items: Sequence[Json]) -> None:
    """Further conversations of a person, the most recently active first."""
    rows = [
        (
            cell(item.get("id")),
            cell(format_time(item.get("lastActivityAt"))),
            cell(item.get("messages")),
            cell(item.get("replies")),
        )
        for item in items
    ]
    columns = (Column("id"), Column("lastActivityAt"))
    counts = (Column("messages", is_count=True), Column("replies", is_count=True))
    tables.print_table(out, (*columns, *counts), rows)


def _status(entry: Json) -> Text:
    return Text.assemble(display.status(entry.get("status")), (" overdue" if entry.get("overdue") else "", "yellow"))


def _describe(hit: Hit) -> str:
    if hit.total > len(hit.messages):
        bounded = " or more" if hit.total >= _MAX_COUNTED else ""
        first = "some" if hit.kind == "clientRefPrefix" else "the newest"
        parts = [
            f"{hit.total}{bounded} messages; here are {first} {len(hit.messages)}, and `status` lists all",
            count(len(hit.replies), "reply", "replies") if hit.replies else "",
        ]
        return f"{'; '.join(part for part in parts if part)}."
    more = "" if hit.is_complete else ", and more"
    return _describe_all(hit.messages, hit.replies, hit.receipts).removesuffix(".") + f"{more}."


def _describe_all(messages: Sequence[Json], replies: Sequence[Json], receipts: Sequence[Json]) -> str:
    opt_outs = sum(1 for reply in replies if reply.get("isOptOut"))
    parts = [
        display.describe_statuses(messages) if messages else "",
        count(len(replies), "reply", "replies") if replies else "",
        count(opt_outs, "opt-out") if opt_outs else "",
        count(len(receipts), "receipt") if receipts else "",
    ]
    return f"{'; '.join(part for part in parts if part) or 'nothing more'}."
