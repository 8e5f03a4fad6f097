"""The usual stack as a side: Flask, Celery, Redis and the ORM, doing the whole job on a PostgreSQL of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import servers
from benchmarks.e2e import trees, usage
from benchmarks.e2e.postgres import Server, own_server
from benchmarks.e2e.sides import Side
from benchmarks.e2e.trees import Tree
from benchmarks.lineup import RIVAL_FLAGS

_CODE = "benchmarks.candidates.tasks"
_PROCESSES = "2"  # one a core, of web and worker each
_WORKER_FLAGS = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")


class CelerySide(Side):
    """Flask + Celery + Redis + ORM. Its tables are the service's, but it keeps no counters."""

    is_whole = False

    def __init__(self, folder: Path, url: str, server: Server, redis_port: int) -> None:
        tree = Tree(folder=trees.OURS.folder, label="Flask + Celery + Redis + ORM")
        super().__init__(tree, folder, url, server, {"BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"})
        python = sys.executable
        self.stack.commands = {
            **self.stack.commands,
            "web": [python, "-m", "gunicorn", f"{_CODE}:app", *RIVAL_FLAGS],
            "worker": [python, "-m", "celery", "-A", f"{_CODE}:queue", "worker", "-c", _PROCESSES, *_WORKER_FLAGS],
        }
        info = servers.ask_redis(redis_port, "INFO", "server").splitlines()
        self._redis = next(int(line.partition(":")[2]) for line in info if line.startswith("process_id:"))

    def pids(self) -> dict[str, list[int]]:
        """The topmost processes of each kind; Redis is one of its own."""
        return {**super().pids(), "redis": [self._redis]}

    def pending(self) -> int:
        """How many callbacks that were answered 200 have no row yet."""
        return len(self.site.acknowledged) - usage.read_int(self.monitor, "SELECT count(*) FROM inbox")

    def is_balanced(self) -> bool:
        """It keeps no ledger: every callback is looked up in the end, as of the others."""
        return True


@contextmanager
def open_rival(folder: Path) -> Iterator[CelerySide]:
    """A side with Redis and a migrated database; nothing else of it runs yet."""
    data = folder / "redis"
    data.mkdir(parents=True)
    with own_server() as server, servers.redis(data) as redis_port:
        side = CelerySide(folder, server.create("bench"), server, redis_port)
        side.stack.migrate()
        try:
            yield side
        finally:
            side.close()
