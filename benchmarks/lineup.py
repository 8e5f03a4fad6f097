"""Starts all candidates at the same time. They idle until their turn, so each is warm and none starts in a round."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, receipts, servers
from benchmarks.generator import Site
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, free_port
from tests.support import databases

# A candidate's name in results, and in the table. All but the first of each kind are rivals.
NAMES: Mapping[str, str] = {
    "ack_pg": "**receiptsvc, PostgreSQL**, 2 processes",
    "noop_pg": "bare Flask no-op, 2 processes",
    "wsgi_pg": "raw WSGI no-op, 2 processes",
    "orm": "Flask + ORM commit, PostgreSQL, 2 processes",
    "celery": "Flask + Celery + Redis (fsync always), 2 processes",
    "ack_sqlite": "**receiptsvc, SQLite**, 1 process",
    "noop_sqlite": "bare Flask no-op, 1 process",
    "wsgi_sqlite": "raw WSGI no-op, 1 process",
}
OURS = ("ack_pg", "ack_sqlite")
RIVAL_FLAGS = ("--worker-class", "gevent")  # their blocking libraries need monkey-patching, which ours does not
QUEUE = "receipts"  # of the Celery candidate

_MESSAGES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineup:
    """The running candidates. `masters`: the pid of each one's gunicorn master; `urls`: the databases, if any."""

    sites: Mapping[str, Site]
    masters: Mapping[str, int]
    urls: Mapping[str, str]
    redis_port: int

    def web_bytes(self, name: str) -> list[int]:
        """The resident memory of each web process of a candidate."""
        return [machine.resident_bytes(child) for child in machine.children(self.masters[name])]


@contextmanager
def running(folder: Path, server_url: str) -> Iterator[Lineup]:
    """Start all candidates on scratch databases. `folder`: on a disk, for SQLite, Redis and logs."""
    with ExitStack() as contexts:
        urls = {name: contexts.enter_context(databases.scratch_postgresql(server_url)) for name in ("ack_pg", "orm")}
        urls["ack_sqlite"] = f"sqlite:///{folder / 'ack.db'}"
        for url in urls.values():
            databases.migrate(url)
        redis_port = contexts.enter_context(servers.redis(_make_empty(folder / "redis")))
        rival_settings = {
            "BENCH_ORM_URL": urls["orm"],
            "BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "BENCH_QUEUE": QUEUE,
        }
        sites: dict[str, Site] = {}
        masters: dict[str, int] = {}
        for kind, processes in (("pg", "2"), ("sqlite", "1")):
            ours = f"ack_{kind}"
            stack = Stack(folder / ours, urls[ours], settings={"WEB_CONCURRENCY": processes})
            settings = Settings.from_env(stack.environ)
            message_ids = receipts.accept_messages(urls[ours], _MESSAGES)
            targets = receipts.write_targets(folder / f"{kind}.targets", settings, message_ids)
            entries: dict[str, tuple[str, tuple[str, ...]]] = {
                ours: ("wsgi", ()),
                f"noop_{kind}": ("benchmarks.candidates.noop:flask_app", ()),
                f"wsgi_{kind}": ("benchmarks.candidates.noop:wsgi_app", ()),
            }
            if kind == "pg":
                entries["orm"] = ("benchmarks.candidates.orm:app", RIVAL_FLAGS)
                entries["celery"] = ("benchmarks.candidates.queued:app", RIVAL_FLAGS)
            for name, (application, flags) in entries.items():
                port = free_port()
                environ = {**stack.environ, **rival_settings, "PORT": str(port)}
                masters[name] = contexts.enter_context(
                    servers.gunicorn(application, environ, folder / f"{name}.log", flags)
                )
                sites[name] = Site(name=name, port=port, targets=targets)
        yield Lineup(sites=sites, masters=masters, urls=urls, redis_port=redis_port)


def _make_empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
