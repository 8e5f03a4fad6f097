"""What Prometheus is told of a web process. Numbers and results only: nothing here names a person or an address.

With PROMETHEUS_MULTIPROC_DIR set, as gunicorn.conf.py does, every process of a server counts into files of that folder,
and any of them can tell all. The file of a process that has ended stays: counts never go back. A gauge that is kept
here would need `multiprocess.mark_process_dead` when a process ends; there is none.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    generate_latest,
    values,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

if os.environ.get(_FOLDER) and values.ValueClass is values.MutexValue:
    # It decided as it was imported, before the folder was named: each process would count for itself, and none tell.
    raise RuntimeError(f"prometheus_client was imported before {_FOLDER} was set")

_ANSWERS = Histogram(
    "receiptsvc_callback_answer_seconds",
    "How long callbacks took to be answered, by the status of the answer",
    ["status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

_CONNECTIONS_CLOSED = Counter(
    "receiptsvc_connections_closed",
    "How many connections were closed to have room for others, by why: unproven or beyond_share",
    ["why"],
)


@cache
def answers(status: str) -> Histogram:
    """The histogram of the answers with a status, such as `200`. In seconds."""
    return _ANSWERS.labels(status)


answers("200")  # so that it is told from the start, and a process's file is whole before anybody looks for it


@cache
def connections_closed(why: str) -> Counter:
    """The counter of the connections that were closed to have room for others: `unproven` or `beyond_share`."""
    return _CONNECTIONS_CLOSED.labels(why)


for _why in ("unproven", "beyond_share"):  # so that both are told from the start
    connections_closed(_why)


class _Present(Collector):
    """Gauges that are not kept anywhere: they are as they are asked for."""

    def __init__(self, now: Mapping[str, tuple[str, float]]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        for name, (description, value) in self._now.items():
            yield GaugeMetricFamily(f"receiptsvc_{name}", description, value=value)


def tell(now: Mapping[str, tuple[str, float]]) -> bytes:
    """All counts of this server's processes in Prometheus' text form.

    `now`: what is so at this moment, whichever process looks: a gauge's name to its description and value.
    """
    present = CollectorRegistry()
    present.register(_Present(now))
    counted = REGISTRY
    if os.environ.get(_FOLDER):
        counted = CollectorRegistry()
        MultiProcessCollector(counted)
    return generate_latest(counted) + generate_latest(present)
