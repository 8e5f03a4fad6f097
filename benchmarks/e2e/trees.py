"""The code that is measured: this tree, and that of another commit, in a temporary git worktree."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from benchmarks.tools import BenchError, need
from receiptsvc.locations import PROJECT

_SEEDER = Path(__file__).parent / "seeder.py"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A folder of code, how the results call it, and what else there is to say of it."""

    folder: Path
    label: str
    note: str = ""


OURS = Tree(folder=PROJECT, label="**receiptsvc**")


@contextmanager
def checked_out(ref: str) -> Iterator[Tree]:
    """The tree of a commit, in a worktree that is removed afterwards. Raises BenchError if there is no such commit."""
    commit, _, subject = _git("log", "-1", "--format=%h %s", ref).partition(" ")
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-tree-") as parent:
        folder = Path(parent) / "tree"
        _git("worktree", "add", "--detach", str(folder), ref)
        try:
            yield Tree(folder=folder, label=f"commit {commit}", note=f"“{subject}”; ")
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> str:
    completed = subprocess.run(
        [need("git", "git"), "-C", str(PROJECT), *arguments], capture_output=True, text=True, check=False
    )
    if completed.returncode:
        raise BenchError(f"git {' '.join(arguments)}: {completed.stderr.strip()}")
    return completed.stdout.strip()


@dataclass(frozen=True, slots=True)
class Target:
    """A message that receipts are about, and the path of its callback URL."""

    message_id: UUID
    path: str
    number: int  # of the messages of one seeder: its clientRef and its recipient's last digits


class Seeder:
    """Accepts messages by a measured tree's own code, in a process that idles between two requests."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._made = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SEEDER)],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate()  # the end of its input ends it

    def make(self, count: int) -> list[Target]:
        """Accept `count` messages. Raises BenchError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - for the type checker
        assert stdout is not None  # noqa: S101
        stdin.write(f"{count}\n")
        stdin.flush()
        targets: list[Target] = []
        for line in stdout:
            message_id, _, path = line.strip().partition(" ")
            if not path:
                break
            targets.append(Target(UUID(message_id), path, self._made + len(targets)))
        self._made += len(targets)
        if len(targets) != count:
            raise BenchError(f"{count} messages were wanted, {len(targets)} were accepted")
        return targets
