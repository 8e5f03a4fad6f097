"""What is measured: a stack of real processes on a PostgreSQL server of its own, and all the bench knows of it.

Only one side's processes run at a time; its server then has no other work. A side is known by its HTTP API, its
environment, /proc and PostgreSQL's statistics, so that the code of another commit can be one.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.e2e import usage
from benchmarks.e2e.postgres import Server, own_server
from benchmarks.e2e.trees import Seeder, Tree
from benchmarks.e2e.waves import Wave, write
from benchmarks.generator import Site
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.store.core.db import plain_url

_SETTINGS = {"WEB_CONCURRENCY": "2"}
_WEB_AND_WORKER = ("web", "worker")


class Side:
    """The service, of whatever commit. `monitor`: our session in its database, which counts for nothing.

    `is_whole`: whether everything is measured of it, or only what a rival is there for.
    """

    is_whole = True

    def __init__(self, tree: Tree, folder: Path, url: str, server: Server, settings: Mapping[str, str]) -> None:
        self.label, self.note, self.url, self.server = tree.label, tree.note, url, server
        self.stack = Stack(folder, url, settings={**_SETTINGS, **settings}, project=tree.folder)
        self.second = Stack(folder / "second", url, settings=self.stack.environ, project=tree.folder)
        self.site = Site(name=tree.label, port=int(self.stack.environ["PORT"]), targets=folder / "targets")
        self._seeder = Seeder(tree.folder, self.stack.environ)
        self._has_second = False
        self.monitor = psycopg.connect(plain_url(url), autocommit=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run web and worker in the block."""
        self.connect()
        try:
            with self.stack:
                self.stack.start(*_WEB_AND_WORKER)
                self.stack.wait_until("the web process", lambda: answers(f"{self.stack.url}/readyz"))
                yield
        finally:
            self.monitor.close()

    def connect(self) -> None:
        """Open `monitor` anew."""
        self.monitor.close()
        self.monitor = psycopg.connect(plain_url(self.url), autocommit=True)

    @contextmanager
    def second_worker(self) -> Iterator[None]:
        """Run one more worker in the block."""
        with self.second:
            self.second.start("worker")
            self._has_second = True
            try:
                yield
            finally:
                self._has_second = False

    def settle(self) -> None:
        """Write everything to disk, so that a turn does not pay for what was before it."""
        self.monitor.execute("CHECKPOINT")
        os.sync()

    def make_wave(self, messages: int, per_message: int) -> Wave:
        """Receipts for new messages."""
        made = self._seeder.make(messages)
        self.monitor.execute("VACUUM (ANALYZE)")
        return write(self.site.targets, made, per_message)

    def pids(self) -> dict[str, list[int]]:
        """The topmost processes of each kind."""
        workers = [self.stack.pid("worker"), *([self.second.pid("worker")] if self._has_second else [])]
        return {"web": [self.stack.pid("web")], "worker": workers, "postgresql": [self.server.pid()]}

    def used(self) -> usage.Usage:
        """What has been used so far."""
        return usage.read(self.pids(), self.monitor)

    def pending(self) -> int:
        """How many receipts that were answered 200 are not processed yet."""
        return int(self.stack.client().ledger()["pending"])

    def is_balanced(self) -> bool:
        """Whether the ledger adds up."""
        return bool(self.stack.client().ledger()["balanced"])

    def close(self) -> None:
        """End what has been started beside the stack."""
        self._seeder.close()


@contextmanager
def open_side(tree: Tree, folder: Path) -> Iterator[Side]:
    """A side with a migrated database on a server of its own; nothing else of it runs yet."""
    with own_server() as server:
        side = Side(tree, folder, server.create("bench"), server, {})
        if not (tree.folder / "receiptsvc" / "cli" / "migrate.py").exists():  # a commit before there was the command
            side.stack.commands["migrations"][1:] = ["-m", "alembic", "upgrade", "head"]
        side.stack.migrate()
        try:
            yield side
        finally:
            side.close()
