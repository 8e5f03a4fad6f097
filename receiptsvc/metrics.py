"""The Prometheus metrics of a web process. Numbers and results only: no label names a person or an address.

With PROMETHEUS_MULTIPROC_DIR set, as gunicorn.conf.py does, every process of a server counts into files of that folder,
and any process can report all counts. The file of a process that has ended stays, so that counts never decrease. If the
disk has no room for its files, a process counts in memory alone, and is missing in the report.

A gauge that is stored here would need `multiprocess.mark_process_dead` when a process ends; there is none.
"""

import os
from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

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
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from receiptsvc import logs

CONTENT_TYPE = CONTENT_TYPE_LATEST

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

if os.environ.get(_FOLDER) and values.ValueClass is values.MutexValue:
    # It chose its storage at its import, without the folder: each process would count alone and report only its own.
    raise RuntimeError(f"prometheus_client was imported before {_FOLDER} was set")

_FILE_BYTES = 64 * 1024  # how large prometheus_client makes a file


class _ReservedCounts(MmapedDict):
    """The counts of a process in a file that has its room on the disk before they are written.

    They are written to memory that stands for the file: where the disk has no room for a page, the system kills the
    process (SIGBUS).
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if read_mode or _reserve(Path(filename)):
            super().__init__(filename, read_mode)
            return
        descriptor = os.memfd_create("counts")
        try:
            super().__init__(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def _reserve(path: Path) -> bool:
    if not hasattr(os, "posix_fallocate"):
        return True
    try:
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # an empty one can't be reported
        logs.warning("web.counts_not_shared", error=error.strerror)
        return False
    return True


values.MmapedDict = _ReservedCounts  # type: ignore[attr-defined]

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


answers("200")  # reported from the start, and the process's file is complete before the first scrape


@cache
def connections_closed(reason: str) -> Counter:
    """The counter of the connections that were closed to have room for others: `unproven` or `beyond_share`."""
    return _CONNECTIONS_CLOSED.labels(reason)


for _reason in ("unproven", "beyond_share"):  # reported from the start
    connections_closed(_reason)


def count_answers() -> Mapping[str, int]:
    """How many callbacks this process has answered, by the status of the answer."""
    samples = [sample for metric in _ANSWERS.collect() for sample in metric.samples if sample.name.endswith("_count")]
    return {sample.labels["status"]: int(sample.value) for sample in samples}


def count_durations() -> Mapping[float, int]:
    """How many callbacks this process has answered, by how long that took: in seconds, each up to a class's end."""
    within: Counts[float] = Counts()
    for metric in _ANSWERS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                within[float(sample.labels["le"])] += int(sample.value)
    counts, before = {}, 0
    for longest, count in sorted(within.items()):
        counts[longest], before = count - before, count
    return counts


class _GaugeCollector(Collector):
    """Gauges that are stored nowhere: their values are given for each report."""

    def __init__(self, gauges: Mapping[str, tuple[str, float]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for name, (description, value) in self._gauges.items():
            yield GaugeMetricFamily(f"receiptsvc_{name}", description, value=value)


def render(gauges: Mapping[str, tuple[str, float]]) -> bytes:
    """All counts of this server's processes in Prometheus' text form.

    `gauges`: current values that are the same in every process: a gauge's name to its description and value.
    """
    current = CollectorRegistry()
    current.register(_GaugeCollector(gauges))
    counts = REGISTRY
    if os.environ.get(_FOLDER):
        counts = CollectorRegistry()
        MultiProcessCollector(counts)
    return generate_latest(counts) + generate_latest(current)
