"""Many messages on their way to the service: checked as a whole, offered in chunks, followed to their last receipts.

It waits out what passes by itself. What is said of it on the screen is not its business.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

from receiptsvc.cli.send_file.parser import Fault, InvalidFile, Row, locate, locate_warning
from receiptsvc.cli.send_file.state import Job
from receiptsvc.client import ApiError, Client, Json, Unreachable
from receiptsvc.domain.statuses import FINAL

Progress = TypeVar("Progress")

MAX_MESSAGES = 250  # in one chunk: what one call to the gateway holds
MAX_BYTES = 1024 * 1024  # of a chunk's JSON, unless a single message has more

CHECK_PATIENCE_SECONDS = 20.0  # nothing is lost if it ends early
SEND_PATIENCE_SECONDS = 300.0
NOT_KNOWN = "not known"
_FIRST_GAP_SECONDS, _MAX_GAP_SECONDS = 0.5, 30.0
_REFUSED = frozenset({409, 422})


@dataclass(kw_only=True, slots=True)
class Warned:
    """How many messages a warning is about, and in which lines they stand, as far as that is clear."""

    messages: int = 0
    lines: list[int] = field(default_factory=list)


class Warnings(dict[str, Warned]):
    """What was warned of."""

    def note(self, text: str, line: int | None) -> None:
        """Count a warning about one message."""
        warned = self.setdefault(text, Warned())
        warned.messages += 1
        if line is not None and line not in warned.lines[-1:]:
            warned.lines.append(line)

    def note_left_out(self, rows: Sequence[Row], answer: Json) -> None:
        """Count whom the service left out of some rows."""
        for said in answer.get("warnings") or []:
            line, text = locate_warning(rows, str(said))
            self.note(text, line)


@dataclass(kw_only=True, slots=True)
class Cost:
    """What messages would cost."""

    messages: int = 0  # one for each recipient
    segments: int = 0
    encodings: Counter[str] = field(default_factory=Counter)
    warnings: Warnings = field(default_factory=Warnings)

    def add(self, rows: Sequence[Row], answer: Json) -> None:
        """Count what a dry run made of some rows: an item for each recipient, in their order."""
        items = answer["messages"]
        lines: list[int | None] = [row.line for row in rows for _ in range(_weight(row))]
        if len(lines) != len(items):  # somebody stood twice in a row, or was left out: whose the items are is not clear
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
    """What was taken now: the items by their ids, and who was left out."""

    items: dict[str, Json] = field(default_factory=dict)
    warnings: Warnings = field(default_factory=Warnings)


def chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in their order, in pieces that make one request each."""
    chunk: list[Row] = []
    recipients = size = 0
    for row in rows:
        weight, length = _weight(row), len(json.dumps(row.message))
        if chunk and (recipients + weight > MAX_MESSAGES or size + length > MAX_BYTES):
            yield chunk
            chunk, recipients, size = [], 0, 0
        chunk.append(row)
        recipients, size = recipients + weight, size + length
    if chunk:
        yield chunk


def check(client: Client, rows: Sequence[Row], on_progress: Callable[[int], object]) -> Cost:
    """What the rows would cost. Nothing is sent. Raises Faulty with the faults of all rows, ApiError or Unreachable."""
    cost = Cost()
    faults: list[Fault] = []
    for chunk in chunks(rows):
        try:
            answer = _patiently(partial(client.submit, _bodies(chunk), dry_run=True), CHECK_PATIENCE_SECONDS)
        except ApiError as error:
            found = _faults(error, chunk)
            if not found:
                raise
            faults += found
        else:
            cost.add(chunk, answer)
        on_progress(len(chunk))
    if faults:
        raise InvalidFile(faults)
    return cost


def send(client: Client, rows: Sequence[Row], job: Job, on_progress: Callable[[int], object]) -> Sent:
    """Offer what the service has not taken of a job's rows, each chunk by the same name however often.

    Raises Faulty if a chunk is refused: of it and of what comes after
    it nothing was sent. Raises ApiError, Unreachable or StateError if it goes on no further for now.
    """
    sent = Sent()
    waiting = iter(rows)
    for place, chunk in enumerate(job.chunks):
        these = list(islice(waiting, chunk.messages))
        if chunk.ids is not None:
            continue
        if not chunk.is_begun:
            chunk.is_begun = True
            job.save()
        try:
            answer = _patiently(partial(client.submit, _bodies(these), job.key(place)), SEND_PATIENCE_SECONDS)
        except ApiError as error:
            found = _faults(error, these)
            if not found:
                raise
            chunk.is_begun = False
            job.save()
            raise InvalidFile(found) from error
        items = {str(item["id"]): item for item in answer["messages"]}
        chunk.ids = list(items)
        job.save()
        sent.items |= items
        sent.warnings.note_left_out(these, answer)
        on_progress(chunk.messages)
    return sent


def follow(
    client: Client, items: dict[str, Json], *, seconds: float, on_change: Callable[[Counter[str]], object]
) -> bool:
    """Keep messages, by their ids, up to date until all are final, or for so long; whether all are.

    Raises ApiError if the service refuses to tell.
    """
    deadline = time.monotonic() + seconds
    gap = _FIRST_GAP_SECONDS
    while unsettled := [message_id for message_id, item in items.items() if item.get("status") not in FINAL]:
        on_change(count(items))
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(gap, left))
        began = time.monotonic()
        try:
            refresh(client, items, unsettled)
        except (ApiError, Unreachable) as error:
            if not error.retry_helps:
                raise
        # The more there is to look up, the less often.
        gap = min(max(gap, 5 * (time.monotonic() - began)), _MAX_GAP_SECONDS)
    on_change(count(items))
    return True


def refresh(client: Client, items: dict[str, Json], message_ids: Sequence[str]) -> None:
    """Look up some of the messages. Raises ApiError or Unreachable."""
    for item in client.lookup(message_ids):
        items[str(item["id"])] = item


def count(items: Mapping[str, Json]) -> Counter[str]:
    """How many messages have which status; of those that were not looked up it is `not known`."""
    return Counter(str(item.get("status", NOT_KNOWN)) for item in items.values())


def _patiently(call: Callable[[], Progress], seconds: float) -> Progress:
    """What a call gives that may be repeated without harm. Raises ApiError or Unreachable if it fails for so long."""
    deadline = time.monotonic() + seconds
    gap = _FIRST_GAP_SECONDS
    while True:
        try:
            return call()
        except (ApiError, Unreachable) as error:
            asked = error.retry_after_seconds if isinstance(error, ApiError) else None
            pause = max(gap * random.uniform(0.8, 1.2), asked or 0)  # noqa: S311 - not a secret
            if not error.retry_helps or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        gap = min(2 * gap, _MAX_GAP_SECONDS)


def _weight(row: Row) -> int:
    """How many recipients a row has."""
    listed = row.message.get("recipients")
    return len(listed) if isinstance(listed, list) else 1


def _bodies(rows: Sequence[Row]) -> list[Json]:
    return [row.message for row in rows]


def _faults(error: ApiError, rows: Sequence[Row]) -> list[Fault]:
    """The faults of messages that a refusal tells of, if they are why it refused."""
    found = locate(rows, error.errors) if error.status in _REFUSED and not error.retry_helps else []
    return found if all(fault.line for fault in found) else []
