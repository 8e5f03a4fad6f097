"""Sends many messages over the API: checks all of them, submits them in chunks, and follows their statuses.

It retries what may pass by itself. Output is in `command`, reading the file in `parser`, the resume state in `state`.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TypeVar

from receiptsvc.cli.send_file.faults import Fault, InvalidFile, Notice
from receiptsvc.cli.send_file.parser import locate, locate_warning
from receiptsvc.cli.send_file.rows import Row
from receiptsvc.cli.send_file.state import Job
from receiptsvc.client import ApiError, Client, Json, Unreachable
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.statuses import FINAL

Answer = TypeVar("Answer")

MAX_MESSAGES = 250  # in one chunk: what one call to the gateway holds
MAX_BYTES = 1024 * 1024  # of a chunk's JSON, unless a single message has more

CHECK_PATIENCE_SECONDS = 20.0  # for retries; a check can be given up early, because nothing is sent
SEND_PATIENCE_SECONDS = 300.0
NOT_KNOWN = "not known"
_GAPS = Backoff.doubling(timedelta(seconds=0.5), timedelta(seconds=30))
_REFUSED = frozenset({409, 422})


@dataclass(kw_only=True, slots=True)
class Affected:
    """How many messages a warning is about, and their lines in the file, as far as those are known."""

    messages: int = 0
    lines: list[int] = field(default_factory=list)


class Warnings(dict[str, Affected]):
    """The service's warnings by text."""

    def note(self, text: str, line: int | None) -> None:
        """Count a warning about one message."""
        affected = self.setdefault(text, Affected())
        affected.messages += 1
        if line is not None and line not in affected.lines[-1:]:
            affected.lines.append(line)

    def note_file(self, notices: Sequence[Notice]) -> None:
        """Count what was noticed in the file itself."""
        for notice in notices:
            affected = self.setdefault(notice.text, Affected())
            affected.messages += len(notice.lines)
            affected.lines += notice.lines

    def note_left_out(self, rows: Sequence[Row], answer: Json) -> None:
        """Count the recipients that the service left out of some rows."""
        for warning in answer.get("warnings") or []:
            line, text = locate_warning(rows, str(warning))
            self.note(text, line)


@dataclass(kw_only=True, slots=True)
class Cost:
    """What messages would cost, with the service's warnings."""

    messages: int = 0  # one for each recipient
    segments: int = 0
    encodings: Counter[str] = field(default_factory=Counter)
    warnings: Warnings = field(default_factory=Warnings)

    def add(self, rows: Sequence[Row], answer: Json) -> None:
        """Add the answer to a dry run of some rows: an item for each recipient, in their order."""
        items = answer["messages"]
        lines: list[int | None] = [row.line for row in rows for _ in range(_count_recipients(row))]
        if len(lines) != len(items):  # a row repeats a recipient, or one was left out: the items' lines are not known
            lines = [None] * len(items)
        for line, item in zip(lines, items, strict=True):
            self.messages += 1
            self.segments += int(item.get("segments") or 0)
            self.encodings[str(item.get("encoding"))] += 1
            for text in map(str, item.get("warnings") or []):
                self.warnings.note(text, line)
        self.warnings.note_left_out(rows, answer)


@dataclass(kw_only=True, slots=True)
class Sent:
    """What this run submitted: the items by id, and warnings about recipients that were left out."""

    items: dict[str, Json] = field(default_factory=dict)
    warnings: Warnings = field(default_factory=Warnings)


def chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in their order, in chunks of one request each."""
    chunk: list[Row] = []
    recipients = size = 0
    for row in rows:
        row_recipients, row_size = _count_recipients(row), len(json.dumps(row.message))
        if chunk and (recipients + row_recipients > MAX_MESSAGES or size + row_size > MAX_BYTES):
            yield chunk
            chunk, recipients, size = [], 0, 0
        chunk.append(row)
        recipients, size = recipients + row_recipients, size + row_size
    if chunk:
        yield chunk


def check(client: Client, rows: Sequence[Row], on_progress: Callable[[int], object]) -> Cost:
    """Dry-run all rows; nothing is sent. `on_progress` gets the number of rows that each request checked.

    Raises InvalidFile with the faults of all rows, ApiError or Unreachable.
    """
    cost = Cost()
    faults: list[Fault] = []
    for chunk in chunks(rows):
        try:
            answer = _retry(partial(client.submit, _messages(chunk), dry_run=True), CHECK_PATIENCE_SECONDS)
        except ApiError as error:
            chunk_faults = _locate_faults(error, chunk)
            if not chunk_faults:
                raise
            faults += chunk_faults
        else:
            cost.add(chunk, answer)
        on_progress(len(chunk))
    if faults:
        raise InvalidFile(faults)
    return cost


def send(client: Client, rows: Sequence[Row], job: Job, on_progress: Callable[[int], object]) -> Sent:
    """Submit the chunks that the service has not taken yet, each with its own Idempotency-Key, the same on every run.

    Raises InvalidFile if a chunk is refused: neither it nor any later chunk was sent. Raises ApiError, Unreachable or
    StateError if sending can't continue now.
    """
    sent = Sent()
    remaining = iter(rows)
    for index, chunk in enumerate(job.chunks):
        chunk_rows = list(islice(remaining, chunk.messages))
        if chunk.ids is not None:
            continue
        if not chunk.is_begun:
            chunk.is_begun = True
            job.save()
        try:
            answer = _retry(partial(client.submit, _messages(chunk_rows), job.key(index)), SEND_PATIENCE_SECONDS)
        except ApiError as error:
            faults = _locate_faults(error, chunk_rows)
            if not faults:
                raise
            chunk.is_begun = False
            job.save()
            raise InvalidFile(faults) from error
        items = {str(item["id"]): item for item in answer["messages"]}
        chunk.ids = list(items)
        job.save()
        sent.items |= items
        sent.warnings.note_left_out(chunk_rows, answer)
        on_progress(chunk.messages)
    return sent


def follow(
    client: Client, items: dict[str, Json], *, seconds: float, on_change: Callable[[Counter[str]], object]
) -> bool:
    """Update `items` (messages by id) until all are final or `seconds` have passed. Returns whether all are final.

    Raises ApiError if the service refuses a lookup.
    """
    deadline = time.monotonic() + seconds
    gap = _GAPS.gaps[0].total_seconds()
    while unsettled := [message_id for message_id, item in items.items() if item.get("status") not in FINAL]:
        on_change(count(items))
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(gap, remaining))
        started = time.monotonic()
        try:
            refresh(client, items, unsettled)
        except (ApiError, Unreachable) as error:
            if not error.retry_helps:
                raise
        # The longer a lookup takes, the longer the pause.
        gap = min(max(gap, 5 * (time.monotonic() - started)), _GAPS.gaps[-1].total_seconds())
    on_change(count(items))
    return True


def refresh(client: Client, items: dict[str, Json], message_ids: Sequence[str]) -> None:
    """Update these messages in `items` (by id). Raises ApiError or Unreachable."""
    for item in client.lookup(message_ids):
        items[str(item["id"])] = item


def count(items: Mapping[str, Json]) -> Counter[str]:
    """How many messages have which status; those that were not looked up count as `not known`."""
    return Counter(str(item.get("status", NOT_KNOWN)) for item in items.values())


def _retry(call: Callable[[], Answer], seconds: float) -> Answer:
    """Call an idempotent function until it succeeds. Raises ApiError or Unreachable after `seconds` of failures."""
    deadline = time.monotonic() + seconds
    tries = 0
    while True:
        try:
            return call()
        except (ApiError, Unreachable) as error:
            retry_after = error.retry_after_seconds if isinstance(error, ApiError) else None
            gap = _GAPS.gap(tries).total_seconds() * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
            pause = max(gap, retry_after or 0)
            if not error.retry_helps or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        tries += 1


def _count_recipients(row: Row) -> int:
    recipients = row.message.get("recipients")
    return len(recipients) if isinstance(recipients, list) else 1


def _messages(rows: Sequence[Row]) -> list[Json]:
    return [row.message for row in rows]


def _locate_faults(error: ApiError, rows: Sequence[Row]) -> list[Fault]:
    """The faults of single messages in an error; empty if it has another cause."""
    faults = locate(rows, error.errors) if error.status in _REFUSED and not error.retry_helps else []
    return faults if all(fault.line for fault in faults) else []
