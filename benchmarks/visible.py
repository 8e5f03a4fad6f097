"""Measures how long after its 200 the API shows a receipt, while receipts keep coming and a worker processes them."""

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from uuid import UUID

import requests

from benchmarks import receipts
from benchmarks.generator import Plan, Report, Site
from benchmarks.tools import BenchError
from receiptsvc import ids
from receiptsvc.client import Client
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from tests.support import databases

_WATCHERS = 4
_MAX_WATCHED = 4000
_POLL_SECONDS = 0.02
_PAUSE_SECONDS = 0.2  # because the watchers' own calls cost the service as much as receipts do
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`delays`: for each watched receipt, from its 200 to the first API answer that shows it, in seconds."""

    delays: Sequence[float]
    report: Report
    is_balanced: bool


def measure(generator: Path, folder: Path, server_url: str, plan: Plan) -> Outcome:
    """Load two web processes and a worker on a new PostgreSQL database, and watch some of the receipts."""
    api_key = secrets.token_urlsafe(24)
    load_count = int(plan.rate * (plan.warm_seconds + plan.seconds)) + 1
    with databases.scratch_postgresql(server_url) as url:
        stack = Stack(folder / "visible", url, api_key=api_key, settings={"WEB_CONCURRENCY": "2"})
        with stack:
            stack.migrate()
            settings = Settings.from_env(stack.environ)
            message_ids = receipts.accept_messages(url, load_count + _MAX_WATCHED)
            targets = receipts.write_targets(folder / "visible.targets", settings, message_ids[:load_count])
            stack.start("web", "worker")
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            site = Site(name="visible", port=settings.port, targets=targets)
            is_over = Event()
            with ThreadPoolExecutor(_WATCHERS) as threads:
                futures = [
                    threads.submit(_watch, settings, api_key, message_ids[load_count + watcher :: _WATCHERS], is_over)
                    for watcher in range(_WATCHERS)
                ]
                try:
                    report = site.load(generator, plan)
                finally:
                    is_over.set()
                delays = [delay for future in futures for delay in future.result()]
            client = stack.client()
            stack.wait_until("every receipt is processed", lambda: client.ledger()["pending"] == 0)
            return Outcome(delays=delays, report=report, is_balanced=bool(client.ledger()["balanced"]))


def _watch(settings: Settings, api_key: str, message_ids: Sequence[UUID], is_over: Event) -> list[float]:
    """Send a receipt for one message after another, wait until the API shows it, and return the delays in seconds."""
    client, delays = Client(settings.public_url, api_key), list[float]()
    with requests.Session() as gateway:
        for number, message_id in enumerate(message_ids):
            if is_over.is_set():
                break
            path = receipts.path(settings, message_id, number)
            gateway.get(settings.public_url + path, timeout=10).raise_for_status()
            answered_at = monotonic()
            while client.message(ids.public("msg", message_id))["status"] != "delivered":
                if monotonic() > answered_at + _PATIENCE_SECONDS:
                    raise BenchError("a receipt was answered 200 and the API does not show it")
                sleep(_POLL_SECONDS)
            delays.append(monotonic() - answered_at)
            is_over.wait(_PAUSE_SECONDS)
    return delays
