"""A database full of messages, for measuring how it is read: `python -m benchmarks.seed <DATABASE_URL>`.

Thirty days of them, evenly. Each has 2.5 transitions on average (accepted; half of them sent; a final word, but for one
in a hundred, which is still open), a transactionID, and every fiftieth a reply. Half belong to conversations of 100
messages, the others to conversations of two. The hourly counts are those of the messages; the ledger's counters are
left alone, nobody kept these receipts, so `verify` would find much to say of such a database.
"""

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import click
import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store.core.db import plain_url
from receiptsvc.store.messages import hourly_counts, transitions
from receiptsvc.store.messages.hourly_counts import CountedMessage
from tests.support import databases

DAYS = 30
ORIGINATORS = ("ACME", None, "447700900999")
TEXT = "Your order is on its way and will be with you between 10 and 12. Reply STOP to hear no more of it."

_AT_ONCE = 5_000
_PART = 10 * _AT_ONCE
_INDEXES = """
    SELECT i.relname, pg_get_indexdef(i.oid) FROM pg_index JOIN pg_class i ON i.oid = indexrelid
    WHERE NOT indisunique AND indrelid = ANY (CAST(%s AS regclass[]))
"""
_NAMESPACE = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
_SLOTS = (1, 65)  # one of a web process, one of a worker
_FINAL = (*[Status.DELIVERED] * 94, *[Status.UNDELIVERED] * 3, Status.EXPIRED, Status.REJECTED, None)

Value = str | int | bytes | None
Row = Sequence[Value]

TABLES: dict[str, tuple[str, ...]] = {
    "messages": (
        "id", "conversation_id", "created_at", "changed_at", "created_by", "origin", "status", "status_at", "conflict",
        "recipient", "text", "originator", "client_ref", "reject_unicode", "include_message_text", "additional_options",
        "message_guid", "transport", "encoding", "segments", "warnings", "transaction_id", "tries", "offered_at",
    ),
    "attempts": (
        "message_id", "number", "transport", "message_guid", "started_at", "ended_at", "outcome", "transaction_id",
    ),
    "message_transactions": ("message_id", "transaction_id", "recipient", "source", "noted_at"),
    "transitions": (
        "message_id", "source", "status", "effect", "rule", "provider_status_id", "provider_description",
        "occurred_at", "received_at", "recorded_at",
    ),
    "inbox": (
        "id", "channel", "message_id", "received_at", "method", "query", "body", "outcome", "next_at", "tries",
        "processed_at",
    ),
    "replies": (
        "id", "receipt_id", "conversation_id", "message_id", "link", "msgid", "sender", "recipient", "content",
        "client_ref", "received_at", "recorded_at", "fingerprint", "is_conflicting",
    ),
    "conversation_activity": ("id", "first_at", "last_at", "last_from_recipient"),
    "hourly_counts": ("hour", "kind", "originator", "label", "slot", "value"),
}  # fmt: skip

Batch = dict[str, list[Row]]


class Story:
    """One message after another, oldest first, the same ones for the same scale and end; and what they add up to."""

    def __init__(self, scale: int, end: datetime) -> None:
        self._begin = end - timedelta(days=DAYS)
        self._step = timedelta(days=DAYS) / scale
        self.counts: Counter[hourly_counts.CountKey] = Counter()

    def batches(self, places: range) -> Iterator[Batch]:
        """The rows of these messages by table, some thousand messages at a time. Places begin at a multiple of 100."""
        for start in places[::_AT_ONCE]:
            batch: Batch = {table: [] for table in TABLES}
            spoken: dict[str, list[tuple[datetime, int]]] = {}  # a conversation is whole within its batch
            for place in range(start, min(start + _AT_ONCE, places.stop)):
                self._tell(batch, spoken, place)
            for conversation, said in spoken.items():
                (first, _), (last, last_from_recipient) = min(said), max(said)
                batch["conversation_activity"].append((conversation, _time(first), _time(last), last_from_recipient))
            yield batch

    def _tell(self, batch: Batch, spoken: dict[str, list[tuple[datetime, int]]], place: int) -> None:
        at = self._begin + place * self._step
        created = _time(at)
        message_id = _identifier(at, place)
        recipient = str(447700000000 + place * 7919 % 1_000_000)
        originator = ORIGINATORS[place % len(ORIGINATORS)]
        client_ref = f"order/{place // 100}" if place // 100 % 2 else f"order/{place // 2}b"
        conversation = transitions.conversation_id(client_ref=client_ref, recipient=None, originator=None).hex
        guid = str(UUID(hex=message_id))
        final = _FINAL[place * 37 % 100]
        took = timedelta(seconds=2 + (place * 7919 % 1000) ** 2 / 5000)
        transaction_id = str(10_000_000 + place)
        steps: list[tuple[Status, datetime, bool]] = [(Status.ACCEPTED, at, False)]
        if place % 2 or final is None:
            steps.append((Status.SENT, at + took / 2, True))
        if final is not None:
            steps.append((final, at + took, True))
        status, status_at, _ = steps[-1]
        batch["messages"].append(
            (message_id, conversation, created, _time(status_at), "seed", "own", status.value, _time(status_at), 0,
             recipient, TEXT, originator, client_ref, 0, 0, "{}", guid, "soap", "GSM", 1, "[]", transaction_id, 1,
             created)
        )  # fmt: skip
        batch["attempts"].append((message_id, 1, "soap", guid, created, created, "taken", transaction_id))
        batch["message_transactions"].append((message_id, transaction_id, recipient, "answer", created))
        for word, when, is_told in steps:
            told = _time(when)
            batch["transitions"].append(
                (message_id, "gateway" if is_told else "ourselves", word.value, "applied",
                 "its address" if is_told else "accepted", "1" if is_told else None, word.value if is_told else None,
                 told if is_told else None, told, told)
            )  # fmt: skip
            if is_told:
                self.counts[hourly_counts.of_receipt(when, Effect.APPLIED)] += 1
        self.counts.update(hourly_counts.of_message(CountedMessage(at, originator, at, status, status_at)))
        spoken.setdefault(conversation, []).append((at, 0))
        if place % 50 == 0:
            spoken[conversation].append((at + 2 * took, 1))
            to = {"conversation_id": conversation, "message_id": message_id, "sender": recipient}
            self._reply(batch, place, at + 2 * took, to | {"client_ref": client_ref})

    @staticmethod
    def _reply(batch: Batch, place: int, at: datetime, to: dict[str, str]) -> None:
        told, receipt_id = _time(at), _identifier(at, place)
        batch["inbox"].append(
            (receipt_id, "inbound", None, told, "GET", b"content=thanks", b"", "applied", told, 1, told)
        )
        batch["replies"].append(
            (receipt_id, receipt_id, to["conversation_id"], to["message_id"], "its clientRef", str(place), to["sender"],
             "447700900999", "thanks", to["client_ref"], told, told, uuid5(_NAMESPACE, str(place)).hex, 0)
        )  # fmt: skip


def seed(url: str, scale: int, say: Callable[[int], object]) -> None:
    """Fill a migrated, empty database with so many messages. `say` is told how many more there are, now and then."""
    end = datetime.now(UTC).replace(microsecond=0)
    fill = _fill_sqlite if url.startswith("sqlite") else _fill_postgresql
    fill(url, scale, end, say)


def _sums(counts: Counter[hourly_counts.CountKey]) -> list[Row]:
    """The hourly counts."""
    rows: list[Row] = []
    for key, count in counts.items():
        rows.append((_time(key.hour), *key[1:], _SLOTS[key.kind != hourly_counts.MESSAGES], count))
        if key.kind == hourly_counts.MESSAGES:  # as it is after a worker has moved them on from accepted
            rows.append((_time(key.hour), *key[1:], _SLOTS[1], 0))
    for hour in {key.hour for key in counts}:  # how often they were changed, which a reader looks at first
        rows += [(_time(hour), hourly_counts.CHANGES, "", "", slot, 100) for slot in _SLOTS]
    return rows


def _fill_postgresql(url: str, scale: int, end: datetime, say: Callable[[int], object]) -> None:
    """By COPY, from as many processes as there are processors; indexes are built when all rows are there.

    At the end it is vacuumed and analysed, as it is after a while of work.
    """
    counts: Counter[hourly_counts.CountKey] = Counter()
    with psycopg.connect(plain_url(url), autocommit=True) as connection, ProcessPoolExecutor() as others:
        indexes = connection.execute(_INDEXES, [list(TABLES)]).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        parts = [range(start, min(start + _PART, scale)) for start in range(0, scale, _PART)]
        copies = [others.submit(_copy_part, url, scale, end, part) for part in parts]
        for copied in as_completed(copies):
            part, counted = copied.result()
            counts.update(counted)
            say(len(part))
        _copy(connection, "hourly_counts", _sums(counts))
        connection.execute("SET maintenance_work_mem = '1GB'")
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _copy_part(url: str, scale: int, end: datetime, part: range) -> tuple[range, Counter[hourly_counts.CountKey]]:
    """Copy some of the messages; gives what they add up to."""
    story = Story(scale, end)
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET session_replication_role = replica")  # no looking up of foreign keys
        connection.execute("SET TIME ZONE 'UTC'")
        for batch in story.batches(part):
            for table, rows in batch.items():
                _copy(connection, table, rows)
    return part, story.counts


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[Row]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, TABLES[table]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with connection.cursor().copy(statement) as copy:
        copy.write("".join([_line(row) for row in rows]))


def _fill_sqlite(url: str, scale: int, end: datetime, say: Callable[[int], object]) -> None:
    """By INSERT, all of it in one transaction."""
    story = Story(scale, end)
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        connection.execute("PRAGMA synchronous = OFF")

        def write(table: str, rows: Sequence[Row]) -> None:
            marks = ", ".join("?" * len(TABLES[table]))
            connection.executemany(f"INSERT INTO {table} ({', '.join(TABLES[table])}) VALUES ({marks})", rows)  # noqa: S608 - our own names

        for batch in story.batches(range(scale)):
            for table, rows in batch.items():
                write(table, rows)
            say(len(batch["messages"]))
        write("hourly_counts", _sums(story.counts))
        connection.commit()
        connection.execute("ANALYZE")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _line(row: Row) -> str:
    return "\t".join([value if type(value) is str else _copied(value) for value in row]) + "\n"


def _copied(value: Value) -> str:
    if value is None:
        return "\\N"
    return value.decode() if isinstance(value, bytes) else str(value)


def _time(at: datetime) -> str:
    """As both databases read it, and as SQLite keeps it."""
    return at.isoformat(" ", "microseconds")[:26]  # it is UTC


def _identifier(at: datetime, place: int) -> str:
    """A UUIDv7 of that time, the same for the same place."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{(milliseconds << 80) | (7 << 76) | (2 << 62) | place:032x}"


@click.command()
@click.argument("url")
@click.option("--scale", type=click.IntRange(100), default=1_000_000, help="How many messages (1,000,000).")
def main(url: str, scale: int) -> None:
    """Fill the empty database at URL, a scratch one: it is migrated first."""
    databases.migrate(url)
    with click.progressbar(length=scale, label=f"{scale:,} messages", file=sys.stderr) as bar:
        seed(url, scale, bar.update)


if __name__ == "__main__":
    main()
