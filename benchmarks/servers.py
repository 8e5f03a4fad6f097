"""Starts and stops the servers that are measured. All run under the service's own gunicorn configuration."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import requests

from benchmarks.tools import BenchError, need
from receiptsvc.demo.processes import free_port
from receiptsvc.locations import PROJECT

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


@contextmanager
def gunicorn(application: str, environ: Mapping[str, str], log: Path, flags: Sequence[str] = ()) -> Iterator[int]:
    """Run an application under the service's gunicorn.conf.py, on the PORT of `environ`. Gives the master's pid.

    `flags` override the configuration. Raises BenchError if it does not come up.
    """
    command = [sys.executable, "-m", "gunicorn", application, *flags]
    url = f"http://127.0.0.1:{environ['PORT']}/healthz"
    with _running(command, environ, log, lambda: _answers(url)) as pid:
        yield pid


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Run a Redis that appends each write to a file in `folder` and fsyncs it before it answers. Gives its port."""
    program, port = need("redis-server", "redis-server"), free_port()
    flags = ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    command = [program, "--port", str(port), "--dir", str(folder), *flags]
    with _running(command, os.environ, folder / "redis.log", lambda: ask_redis(port, "PING") == "PONG"):
        if ask_redis(port, "CONFIG", "GET", "appendfsync").split()[-1] != "always":
            raise BenchError("Redis does not sync each write")
        yield port


def ask_redis(port: int, *words: str) -> str:
    """The answer of this machine's Redis to one command; empty if it does not answer."""
    command = [need("redis-cli", "redis-tools"), "-p", str(port), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _answers(url: str) -> bool:
    """Whether an application answers. Any status below 500 will do: most of them have no /healthz."""
    try:
        return requests.get(url, timeout=2).status_code < 500
    except requests.RequestException:
        return False


@contextmanager
def _running(
    command: Sequence[str], environ: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[int]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = monotonic() + _READY_SECONDS
        while not is_ready():
            if process.poll() is not None or monotonic() > deadline:
                raise BenchError(f"{' '.join(command)} did not come up:\n{log.read_text(errors='replace')[-2000:]}")
            sleep(_POLL_SECONDS)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
