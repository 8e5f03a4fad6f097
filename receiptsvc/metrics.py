"""What Prometheus is told of a web process. Numbers and results only: nothing here names a person or an address.

With PROMETHEUS_MULTIPROC_DIR set before this is imported, as gunicorn.conf.py does, every process of a server counts
into files of that folder, and any of them can tell all.
"""

import os
from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_ANSWERS = Histogram(
    "receiptsvc_callback_answer_seconds",
    "How long callbacks took to be answered, by the status of the answer",
    ["status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


@cache
def answers(status: str) -> Histogram:
    """The histogram of the answers with a status, such as `200`. In seconds."""
    return _ANSWERS.labels(status)


def tell() -> bytes:
    """All counts of this server's processes in Prometheus' text form."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return generate_latest(registry)
