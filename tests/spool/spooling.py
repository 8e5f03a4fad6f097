"""Callbacks for the spool's tests, and processes of their own that append to a spool or drain it.

`python -m tests.spool.spooling append FOLDER GROUPS [--seal]` prints the ids of each group that was kept, a line a
group. `… drain FOLDER` says `writing` before its first group, waits for a line, and then prints the ids it was handed.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from receiptsvc import ids
from receiptsvc.config import PROJECT
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.spool.drain import drain
from receiptsvc.spool.writer import Spool


def arrival(query: bytes = b"statusid=1", body: bytes = b"") -> Arrival:
    """A callback that just came."""
    return Arrival(
        id=ids.new(),
        channel=Channel.MESSAGE,
        message_id=ids.new(),
        received_at=datetime.now(UTC),
        callback=Callback(method="GET", query=query, content_type=None, body=body),
    )


def arrivals(number: int, *, body: bytes = b"") -> list[Arrival]:
    """Several of them."""
    return [arrival(body=body) for _ in range(number)]


def only_file(folder: Path) -> Path:
    """The one spool file there is."""
    (path,) = folder.glob("*.spool")
    return path


def drained(folder: Path) -> list[Arrival]:
    """What draining the folder hands over, in order."""
    taken: list[Arrival] = []
    assert drain(folder, taken.extend, stop=lambda: False) == len(taken)
    return taken


@contextmanager
def process(*words: str) -> Iterator["subprocess.Popen[str]"]:
    """This module as a process with these arguments; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.spool.spooling", *words],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def line(started: "subprocess.Popen[str]") -> str:
    """The next line that a process prints; empty if it ended."""
    assert started.stdout is not None
    return started.stdout.readline().strip()


def uuids(printed: str) -> list[UUID]:
    """The ids on the whole lines among what was printed. The last may have been cut off when the process was killed."""
    whole = printed[: printed.rfind("\n") + 1]
    return [UUID(word) for word in whole.split()]


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _append(folder: Path, groups: int, *, seals: bool) -> None:
    spool = Spool(folder)
    for _ in range(groups):
        group = arrivals(20)
        spool.append(group)
        _say(*(each.id for each in group))
        if seals:
            spool.seal()


def _drain(folder: Path) -> None:
    def write(group: Sequence[Arrival]) -> None:
        _say("writing")
        sys.stdin.readline()
        _say(*(each.id for each in group))

    drain(folder, write, stop=lambda: False)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["append", folder, groups, *seal]:
            _append(Path(folder), int(groups), seals=bool(seal))
        case ["drain", folder]:
            _drain(Path(folder))
