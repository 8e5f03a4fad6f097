"""Logs what begins to be wrong and what is over, from one look at the service to the next.

Each worker looks at the whole service; a web process only at whether any worker is at work.
"""

import threading
from collections.abc import Sequence

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.store.health.service_state import Finding

_SECONDS = 15.0  # between two looks for a worker

NO_WORKER = Finding("worker_unseen", "no worker is at work: receipts are kept and wait, and nothing is sent")


class HealthLog:
    """What one process has said to be wrong. For one thread."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def update(self, findings: Sequence[Finding]) -> None:
        """Log each name that is new, with its text, and each that is gone."""
        names = {finding.name for finding in findings}
        for finding in findings:
            if finding.name not in self._known:
                logs.warning("health.degraded", name=finding.name, text=finding.text)
        for name in sorted(self._known - names):
            logs.info("health.recovered", name=name)
        self._known = names


def watch_for_workers(database: Database, stop: threading.Event) -> None:
    """Log when no worker is at work, and when one is again, until `stop`. For a thread of its own."""
    log = HealthLog()
    while not stop.wait(_SECONDS):
        try:
            with database.glance() as connection:
                seen_at = heartbeats.find_last_seen(connection, "worker")
        except StorageUnavailable as error:
            logs.fault("health.not_read", error)
        except Exception as error:  # noqa: BLE001 - a thread that dies unnoticed is worse than one that logs errors
            logs.error("health.not_read", error)
        else:
            logs.over("health.not_read")
            is_missing = heartbeats.is_missing(seen_at, database.clock.now(), database.clock.answers_since)
            log.update([NO_WORKER] if is_missing else [])
