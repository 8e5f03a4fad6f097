"""Fills a database with messages, to measure how it is read: `python -m benchmarks.seed <DATABASE_URL>`.

The messages are spread evenly over thirty days. Each has 2.5 transitions on average (accepted; half of them sent; a
final status, except one in a hundred, which is still open) and a transactionID; every fiftieth has a reply. Half belong
to conversations of 100 messages (`Conversations` has others), the others to conversations of two. The receipts of the
transitions are kept, and all counts fit, so `verify` finds no fault.
"""

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID, uuid5

import click
import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from receiptsvc.domain import standing
from receiptsvc.domain.conversations import conversation_id
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Effect, Report, Source, Status
from receiptsvc.store.core.db import plain_url
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.messages.hourly_counts import CountedMessage
from tests.support import databases

DAYS = 30
RECEIPTS_PER_MESSAGE = 1.51  # half have two, the others one; one in a hundred of them none, and every fiftieth a reply
ORIGINATORS = ("ACME", None, "447700900999")
TEXT = "Your order is on its way and will be with you between 10 and 12. Reply STOP to hear no more of it."

_BATCH_SIZE = 5_000
_PART_SIZE = 10 * _BATCH_SIZE  # messages that one process copies at a time
_INDEXES = """
    SELECT i.relname, pg_get_indexdef(i.oid) FROM pg_index JOIN pg_class i ON i.oid = indexrelid
    WHERE NOT indisunique AND indrelid = ANY (CAST(%s AS regclass[]))
"""
_NAMESPACE = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
_QUERY = (  # of a receipt, as long as a usual one
    "datetime={}&recipient={}&statusid=1&statusdescription={}&transactionid={}&clientref={}&customer=A1B2C3D4&"
    "description=This+message+has+reached+the+state+that+is+named+above+it"
)
_RECEIPT_NUMBERS = 1 << 40  # ids of receipts are made from numbers after these, those of messages and replies before
_SLOTS = (1, 65)  # of counters: one of a web process, one of a worker
_FINAL = (*[Status.DELIVERED] * 94, *[Status.UNDELIVERED] * 3, Status.EXPIRED, Status.REJECTED, None)
_PARTY_STEP = 7919  # between the numbers of one message and the next

Value = str | int | bytes | None
Row = Sequence[Value]

TABLES: dict[str, tuple[str, ...]] = {
    "messages": (
        "id", "conversation_id", "created_at", "changed_at", "created_by", "origin", "status", "status_at", "conflict",
        "recipient", "text", "originator", "client_ref", "reject_unicode", "include_message_text", "additional_options",
        "message_guid", "transport", "encoding", "segments", "warnings", "transaction_id", "tries", "offered_at",
        "standing", "transition_count",
    ),
    "attempts": (
        "message_id", "number", "transport", "message_guid", "started_at", "ended_at", "outcome", "transaction_id",
    ),
    "message_transactions": ("message_id", "transaction_id", "recipient", "source", "noted_at"),
    "transitions": (
        "message_id", "receipt_id", "source", "status", "effect", "rule", "provider_status_id", "provider_description",
        "occurred_at", "received_at", "recorded_at",
    ),
    "inbox": (
        "id", "channel", "message_id", "received_at", "method", "query", "body",
    ),
    "outcomes": ("receipt_id", "outcome", "processed_at"),
    "replies": (
        "id", "receipt_id", "conversation_id", "message_id", "link", "msgid", "sender", "recipient", "content",
        "client_ref", "received_at", "recorded_at", "fingerprint", "is_conflicting",
    ),
    "conversation_activity": ("id", "first_at", "last_at", "last_from_recipient", "messages", "replies"),
    "hourly_counts": ("hour", "kind", "originator", "label", "slot", "value"),
    "counters": ("name", "slot", "value"),
}  # fmt: skip

Batch = dict[str, list[Row]]  # rows by table
Activity = dict[str, list[tuple[datetime, int]]]  # conversation → times, each with whether a reply came then


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversations:
    """How long the long conversations are: a divisor of 5,000. `has_one_number`: they are with one number each."""

    messages: int = 100
    has_one_number: bool = False


_USUAL = Conversations()


class Story:
    """Makes the messages' rows, oldest first, the same for the same scale, end and length of conversations.

    `counts`: their hourly counts. `received`: how many receipts and replies came.
    """

    def __init__(self, scale: int, end: datetime, conversations: Conversations) -> None:
        self._begin = end - timedelta(days=DAYS)
        self._step = timedelta(days=DAYS) / scale
        self._long = conversations
        self.counts: Counter[hourly_counts.CountKey] = Counter()
        self.received = 0

    def batches(self, numbers: range) -> Iterator[Batch]:
        """The rows of these messages by table, some thousand messages at a time. `numbers`: from a multiple of 100."""
        for start in numbers[::_BATCH_SIZE]:
            batch: Batch = {table: [] for table in TABLES}
            activity: Activity = {}  # no conversation continues in another batch
            for number in range(start, min(start + _BATCH_SIZE, numbers.stop)):
                self._add_message(batch, activity, number)
            for conversation, times in activity.items():
                (first, _), (last, last_from_recipient) = min(times), max(times)
                replies = sum(from_recipient for _, from_recipient in times)
                counts = (len(times) - replies, replies)
                batch["conversation_activity"].append(
                    (conversation, _format_time(first), _format_time(last), last_from_recipient, *counts)
                )
            self.received += len(batch["inbox"])
            yield batch

    def _add_message(self, batch: Batch, activity: Activity, number: int) -> None:
        at = self._begin + number * self._step
        created = _format_time(at)
        message_id = _make_id(at, number)
        conversation_number = number // self._long.messages
        is_long = conversation_number % 2 == 1
        party = conversation_number if is_long and self._long.has_one_number else number
        recipient = str(447700000000 + party * _PARTY_STEP % 1_000_000)
        originator = ORIGINATORS[number % len(ORIGINATORS)]
        client_ref = f"order/{conversation_number}" if is_long else f"order/{number // 2}b"
        conversation = conversation_id(client_ref=client_ref, recipient=None, originator=None).hex
        guid = str(UUID(hex=message_id))
        final = _FINAL[number * 37 % 100]
        delay = timedelta(seconds=2 + (number * 7919 % 1000) ** 2 / 5000)
        transaction_id = str(10_000_000 + number)
        steps: list[tuple[Status, datetime, bool]] = [(Status.ACCEPTED, at, False)]
        if number % 2 or final is None:
            steps.append((Status.SENT, at + delay / 2, True))
        if final is not None:
            steps.append((final, at + delay, True))
        status, status_at, _ = steps[-1]
        batch["messages"].append(
            (message_id, conversation, created, _format_time(status_at), "seed", "own", status.value,
             _format_time(status_at), 0, recipient, TEXT, originator, client_ref, 0, 0, "{}", guid, "soap", "GSM", 1,
             "[]", transaction_id, 1, created, _stand(steps), len(steps))
        )  # fmt: skip
        batch["attempts"].append((message_id, 1, "soap", guid, created, created, "taken", transaction_id))
        batch["message_transactions"].append((message_id, transaction_id, recipient, "answer", created))
        for step, (reported, when, is_receipt) in enumerate(steps):
            time = _format_time(when)
            receipt_id = _make_id(when, _RECEIPT_NUMBERS + 2 * number + step) if is_receipt else None
            if receipt_id is not None:
                query = _QUERY.format(
                    quote(time), recipient, reported.value, transaction_id, quote(client_ref, safe="")
                )
                batch["inbox"].append((receipt_id, "message", message_id, time, "GET", query.encode(), b""))
            batch["transitions"].append(
                (message_id, receipt_id, "gateway" if is_receipt else "ourselves", reported.value, "applied",
                 "its address" if is_receipt else "accepted", "1" if is_receipt else None,
                 reported.value if is_receipt else None, time if is_receipt else None, time, time)
            )  # fmt: skip
            if is_receipt:
                self.counts[hourly_counts.of_receipt(when, Effect.APPLIED)] += 1
                report = Report(Source.GATEWAY, reported, when, when, "1", reported.value)
                self.counts.update(filter(None, [hourly_counts.of_report(report, "its address", Effect.APPLIED)]))
        self.counts.update(hourly_counts.of_message(CountedMessage(at, originator, at, status, status_at, recipient)))
        activity.setdefault(conversation, []).append((at, 0))
        if number % 50 == 0:
            activity[conversation].append((at + 2 * delay, 1))
            to = {"conversation_id": conversation, "message_id": message_id, "sender": recipient}
            self._add_reply(batch, number, at + 2 * delay, to | {"client_ref": client_ref})

    @staticmethod
    def _add_reply(batch: Batch, number: int, at: datetime, to: dict[str, str]) -> None:
        """Add a reply. `to`: the conversation, message, sender and clientRef that it has from its message."""
        time, receipt_id = _format_time(at), _make_id(at, number)
        batch["inbox"].append((receipt_id, "inbound", None, time, "GET", b"content=thanks", b""))
        batch["outcomes"].append((receipt_id, "applied", time))
        batch["replies"].append(
            (receipt_id, receipt_id, to["conversation_id"], to["message_id"], "its clientRef", str(number),
             to["sender"], "447700900999", "thanks", to["client_ref"], time, time,
             uuid5(_NAMESPACE, str(number)).hex, 0)
        )  # fmt: skip


def _stand(steps: Sequence[tuple[Status, datetime, bool]]) -> bytes:
    """What the reports of a message add up to."""
    after = standing.EMPTY
    for status, at, is_receipt in steps:
        report = (
            Report(Source.GATEWAY, status, at, at, "1", status.value)
            if is_receipt
            else Report(Source.OURSELVES, status, at)
        )
        after = standing.join(after, report).standing
    return standing.encode(after)


def seed(url: str, scale: int, on_progress: Callable[[int], object], conversations: Conversations = _USUAL) -> None:
    """Fill a migrated, empty database with `scale` messages. `on_progress` gets the number of each part's messages."""
    end = datetime.now(UTC).replace(microsecond=0)
    fill = _fill_sqlite if url.startswith("sqlite") else _fill_postgresql
    fill(url, scale, end, conversations, on_progress)


def _count_rows(counts: Counter[hourly_counts.CountKey]) -> list[Row]:
    """The rows of the hourly counts."""
    rows: list[Row] = []
    for key, count in counts.items():
        rows.append((_format_time(key.hour), *key[1:], _SLOTS[key.kind != hourly_counts.MESSAGES], count))
        if key.kind == hourly_counts.MESSAGES:  # as a worker leaves it after moving them on from accepted
            rows.append((_format_time(key.hour), *key[1:], _SLOTS[1], 0))
    for hour in {key.hour for key in counts}:  # the number of changes, which readers check first
        rows += [(_format_time(hour), hourly_counts.CHANGES, "", "", slot, 100) for slot in _SLOTS]
    return rows


def _ledger_rows(received: int) -> list[Row]:
    """The rows of the ledger's counters, each callback being one receipt that was applied."""
    return [(name, _SLOTS[0], received) for name in (counters.RECEIVED, counters.CALLBACKS, ReceiptOutcome.APPLIED)]


def _fill_postgresql(
    url: str, scale: int, end: datetime, conversations: Conversations, on_progress: Callable[[int], object]
) -> None:
    """Fill by COPY from one process a processor; indexes are built after all rows are there.

    At the end the tables are vacuumed and analysed, as they would be after a while of work.
    """
    counts: Counter[hourly_counts.CountKey] = Counter()
    received = 0
    with psycopg.connect(plain_url(url), autocommit=True) as connection, ProcessPoolExecutor() as executor:
        indexes = connection.execute(_INDEXES, [list(TABLES)]).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        parts = [range(start, min(start + _PART_SIZE, scale)) for start in range(0, scale, _PART_SIZE)]
        futures = [executor.submit(_copy_part, url, Story(scale, end, conversations), part) for part in parts]
        for future in as_completed(futures):
            part, part_counts, part_received = future.result()
            counts.update(part_counts)
            received += part_received
            on_progress(len(part))
        _copy(connection, "hourly_counts", _count_rows(counts))
        _copy(connection, "counters", _ledger_rows(received))
        connection.execute("SET maintenance_work_mem = '1GB'")
        for _, definition in indexes:
            connection.execute(definition.replace(" ON ONLY ", " ON "))  # of each time slice too
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _copy_part(url: str, story: Story, part: range) -> tuple[range, Counter[hourly_counts.CountKey], int]:
    """Copy some of the messages, and return their hourly counts, and how many receipts came."""
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET session_replication_role = replica")  # do not check foreign keys
        connection.execute("SET TIME ZONE 'UTC'")
        for batch in story.batches(part):
            for table, rows in batch.items():
                _copy(connection, table, rows)
    return part, story.counts, story.received


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[Row]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, TABLES[table]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with connection.cursor().copy(statement) as copy:
        copy.write("".join([_copy_line(row) for row in rows]))


def _fill_sqlite(
    url: str, scale: int, end: datetime, conversations: Conversations, on_progress: Callable[[int], object]
) -> None:
    """Fill by INSERT, in one transaction."""
    story = Story(scale, end, conversations)
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        connection.execute("PRAGMA synchronous = OFF")

        def write(table: str, rows: Sequence[Row]) -> None:
            placeholders = ", ".join("?" * len(TABLES[table]))
            statement = f"INSERT INTO {table} ({', '.join(TABLES[table])}) VALUES ({placeholders})"  # noqa: S608 - our own names
            connection.executemany(statement, rows)

        for batch in story.batches(range(scale)):
            for table, rows in batch.items():
                write(table, rows)
            on_progress(len(batch["messages"]))
        write("hourly_counts", _count_rows(story.counts))
        write("counters", _ledger_rows(story.received))
        connection.commit()
        connection.execute("ANALYZE")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _copy_line(row: Row) -> str:
    return "\t".join([value if type(value) is str else _copy_value(value) for value in row]) + "\n"


def _copy_value(value: Value) -> str:
    if value is None:
        return "\\N"
    return f"\\\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _format_time(at: datetime) -> str:
    """A UTC time in the form that both databases read and SQLite stores."""
    return at.isoformat(" ", "microseconds")[:26]


def _make_id(at: datetime, number: int) -> str:
    """A UUIDv7 of this time, the same for the same number."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{(milliseconds << 80) | (7 << 76) | (2 << 62) | number:032x}"


def fill(url: str, scale: int, conversations: Conversations = _USUAL, *, label: str = "") -> None:
    """Migrate and fill an empty database, with a bar that tells how far that is. `label`: what stands before it."""
    databases.migrate(url)
    with click.progressbar(length=scale, label=f"{label}{scale:,} messages", file=sys.stderr) as bar:
        seed(url, scale, bar.update, conversations)


@click.command()
@click.argument("url")
@click.option("--scale", type=click.IntRange(100), default=1_000_000, help="How many messages (1,000,000).")
def main(url: str, scale: int) -> None:
    """Migrate and fill the empty scratch database at URL."""
    fill(url, scale)


if __name__ == "__main__":
    main()
