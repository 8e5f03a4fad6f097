"""Measures what the fast path of callbacks saves: the same service with it, without its half, and without it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import contest, machine, receipts, servers
from benchmarks.generator import Plan, Site
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack
from tests.support import databases

# A form's name in results, its text, and its application. The first is the service as it is.
FORMS: Mapping[str, tuple[str, str]] = {
    "fast_path": ("as it is", "wsgi"),
    "general_request": ("without the fast request", "benchmarks.candidates.general_request"),
    "general_path": ("without the fast path", "tests.support.general_path"),
}

_MESSAGES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One turn of one form. `processor_seconds`: of its web process, for each callback that was answered."""

    per_second: float
    processor_seconds: float


def measure(generator: Path, folder: Path, server_url: str, *, rounds: int, plan: Plan) -> Sequence[dict[str, Turn]]:
    """Load each form in turns: one web process each, on a PostgreSQL database of its own. Form → turn, by round."""
    with ExitStack() as contexts:
        sites: dict[str, Site] = {}
        masters: dict[str, int] = {}
        for name, (_, application) in FORMS.items():
            url = contexts.enter_context(databases.scratch_postgresql(server_url))
            databases.migrate(url)
            stack = Stack(folder / name, url, settings={"WEB_CONCURRENCY": "1"})
            settings = Settings.from_env(stack.environ)
            targets = receipts.write_targets(
                folder / f"{name}.targets", settings, receipts.accept_messages(url, _MESSAGES)
            )
            log = folder / f"{name}.log"
            masters[name] = contexts.enter_context(servers.gunicorn(application, stack.environ, log))
            sites[name] = Site(name=name, port=settings.port, targets=targets)
        contestants = contest.Contest(generator, sites, contest.make_settle(server_url))
        return [_run_round(contestants, masters, plan) for _ in range(rounds)]


def _run_round(contestants: contest.Contest, masters: Mapping[str, int], plan: Plan) -> dict[str, Turn]:
    turns = {}
    for name in contestants.turns(FORMS):
        before = _processor_seconds(masters[name])
        report = contestants.load(name, plan)
        used = _processor_seconds(masters[name]) - before
        turns[name] = Turn(per_second=report.per_second, processor_seconds=used / max(report.ok, 1))
    return turns


def _processor_seconds(master: int) -> float:
    return sum(machine.processor_seconds(child) for child in machine.children(master))
