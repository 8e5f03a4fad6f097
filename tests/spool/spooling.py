"""Callbacks for the spool's tests, and separate processes that append to a spool or drain it.

`python -m tests.spool.spooling append FOLDER GROUPS [--seal]` prints the ids of each kept group on a line.
`… drain FOLDER` prints `writing` before each group, waits for a line of input, and then prints the ids of the group.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from receiptsvc import ids
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.locations import PROJECT
from receiptsvc.spool.drainer import drain
from receiptsvc.spool.writer import Spool


def arrival(query: bytes = b"statusid=1", body: bytes = b"") -> Arrival:
    """A callback that has just arrived."""
    return Arrival(
        id=ids.new(),
        channel=Channel.MESSAGE,
        message_id=ids.new(),
        received_at=datetime.now(UTC),
        callback=Callback(method="GET", query=query, content_type=None, body=body),
    )


def arrivals(number: int, *, body: bytes = b"") -> list[Arrival]:
    """Several callbacks that have just arrived."""
    return [arrival(body=body) for _ in range(number)]


def only_file(folder: Path) -> Path:
    """The only spool file in a folder."""
    (path,) = folder.glob("*.spool")
    return path


def drain_all(folder: Path) -> list[Arrival]:
    """Drain the folder. Returns the records in the order in which they were written."""
    written: list[Arrival] = []
    assert drain(folder, written.extend, stop=lambda: False) == len(written)
    return written


def make_strange_files(folder: Path, suffix: str) -> None:
    """What is no file, of names that come before all others."""
    (folder / f"0-folder{suffix}").mkdir()
    (folder / f"0-link{suffix}").symlink_to(folder / f"0-link{suffix}")
    os.mkfifo(folder / f"0-pipe{suffix}")
    with socket.socket(socket.AF_UNIX) as made, chdir(folder):  # a socket's name may not be long
        made.bind(f"0-socket{suffix}")


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """This module as a process with these arguments; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.spool.spooling", *arguments],
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
    """The next line that a process prints; empty if it has ended."""
    assert started.stdout is not None
    return started.stdout.readline().strip()


def uuids(printed: str) -> list[UUID]:
    """The ids on the whole lines of an output. A kill may have cut off the last line."""
    whole_lines = printed[: printed.rfind("\n") + 1]
    return [UUID(text) for text in whole_lines.split()]


def _print(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _append(folder: Path, groups: int, *, seals: bool) -> None:
    spool = Spool(folder)
    for _ in range(groups):
        group = arrivals(20)
        spool.append(group)
        _print(*(callback.id for callback in group))
        if seals:
            spool.seal()


def _drain(folder: Path) -> None:
    def write(group: Sequence[Arrival]) -> None:
        _print("writing")
        sys.stdin.readline()
        _print(*(callback.id for callback in group))

    drain(folder, write, stop=lambda: False)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["append", folder, groups, *seal]:
            _append(Path(folder), int(groups), seals=bool(seal))
        case ["drain", folder]:
            _drain(Path(folder))
