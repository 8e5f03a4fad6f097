"""gunicorn.conf.py: the web process as the Procfile starts it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from receiptsvc.demo.processes import Stack
from receiptsvc.locations import PROJECT
from receiptsvc.web.http.readiness import GAUGES
from tests.faults.conftest import StartWeb, callback_url
from tests.support.processes import children, is_alive, is_frozen, until

NAMES = {
    "receiptsvc_callback_answer_seconds_bucket",
    "receiptsvc_callback_answer_seconds_count",
    "receiptsvc_callback_answer_seconds_sum",
    "receiptsvc_connections_closed_total",
    *(f"receiptsvc_{name}" for name in GAUGES),
    "receiptsvc_spool_age_seconds",
    "receiptsvc_spool_aside_files",
    "receiptsvc_spool_bytes",
    "receiptsvc_spool_records",
}

# What gunicorn takes for its C parser, if it is let. It leaves a trace, and can't read anything.
FAKE_PARSER = """
import pathlib
pathlib.Path(__file__).with_name("was-used").touch()
class LimitRequestLine(Exception):
    pass
"""


@contextmanager
def alone(pid: int, stack: Stack) -> Iterator[None]:
    """Freeze the other web processes while the block lasts, so that this one takes every connection."""
    others = [other for other in children(stack.pid("web")) if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    until("the others are frozen", lambda: all(map(is_frozen, others)))
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def call(stack: Stack, pid: int, times: int) -> None:
    """Send callbacks to this web process, and one with a wrong key."""
    with alone(pid, stack):
        for _ in range(times):
            assert requests.get(f"{callback_url(stack)}?statusid=1", timeout=10).status_code == 200
        assert requests.get(f"{callback_url(stack)}x?statusid=1", timeout=10).status_code == 403


def read_counts(stack: Stack) -> set[tuple[float, float]]:
    """How many callbacks were answered 200 and 403, as each of the web processes reports it."""
    read = set()
    for pid in children(stack.pid("web")):
        with alone(pid, stack):  # one that has just started may say at first that it is busy
            until("it answers", lambda: requests.get(f"{stack.url}/metrics", timeout=30).ok)
            text = requests.get(f"{stack.url}/metrics", timeout=30).text
        counts = dict(
            re.findall(r'^receiptsvc_callback_answer_seconds_count\{status="(\d+)"\} (\S+)$', text, re.MULTILINE)
        )
        read.add((float(counts.get("200", "nan")), float(counts.get("403", 0))))
    return read


def test_every_web_process_reports_the_counts_of_all(postgresql_url: str, start_web: StartWeb) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="2")
    first, second = children(stack.pid("web"))
    assert read_counts(stack) == {(0, 0)}, "reported from the start"
    call(stack, first, 3)
    call(stack, second, 2)
    assert read_counts(stack) == {(5, 2)}

    os.kill(second, signal.SIGKILL)
    until("another process takes its place", lambda: len(set(children(stack.pid("web"))) - {second}) == 2)
    (third,) = set(children(stack.pid("web"))) - {first, second}
    with alone(third, stack):
        assert requests.get(f"{stack.url}/healthz", timeout=30).status_code == 200
    call(stack, third, 1)
    assert read_counts(stack) == {(6, 3)}

    os.kill(stack.pid("web"), signal.SIGHUP)
    until("the processes were replaced", lambda: not is_alive(first) and not is_alive(third))
    until("they are two again", lambda: len(children(stack.pid("web"))) == 2)
    assert read_counts(stack) == {(6, 3)}


def test_a_process_that_would_count_alone_does_not_start(tmp_path: Path) -> None:
    early = f"import os, prometheus_client; os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r}"
    done = subprocess.run(
        [sys.executable, "-c", f"{early}; import receiptsvc.metrics"],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: prometheus_client was imported before PROMETHEUS_MULTIPROC_DIR was set" in done.stderr


def test_every_metric_is_reported(postgresql_url: str, start_web: StartWeb, tmp_path: Path) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="2", SPOOL_DIR=str(tmp_path / "spool"))
    text = requests.get(f"{stack.url}/metrics", timeout=10).text
    assert set(re.findall(r"^(receiptsvc_\w+)", text, re.MULTILINE)) == NAMES


def test_web_processes_share_what_they_import(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url, WEB_CONCURRENCY="2")
    assert list(stack.client().messages()) == []
    for pid in children(stack.pid("web")):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kibibytes = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE)}
        assert kibibytes["Private_Dirty"] < kibibytes["Rss"] / 2


def test_the_folder_of_the_counts_is_removed_with_the_server(
    sqlite_url: str, start_web: StartWeb, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    stack = start_web(sqlite_url, TMPDIR=str(scratch))
    assert [path.name.startswith("receiptsvc-metrics-") for path in scratch.iterdir()] == [True]
    assert stack.stop("web") == 0
    assert list(scratch.iterdir()) == []


def test_the_tested_parser_reads_requests_whatever_else_is_installed(
    sqlite_url: str, start_web: StartWeb, tmp_path: Path
) -> None:
    (tmp_path / "gunicorn_h1c.py").write_text(FAKE_PARSER)
    stack = start_web(sqlite_url, PYTHONPATH=str(tmp_path))
    assert requests.post(callback_url(stack), {"statusid": "1"}, timeout=10).status_code == 200
    assert not (tmp_path / "was-used").exists()
