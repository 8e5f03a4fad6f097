"""How the worker's process begins and ends."""

import json
import os
import subprocess
import sys

import pytest

_TOLD_TWICE = """
import os, signal, threading
from receiptsvc.cli.worker import set_at_signals

stop = threading.Event()
set_at_signals(stop)
with stop._cond:  # as the main thread does for a moment when it begins or ends to wait
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
print(stop.wait(10))
"""


@pytest.mark.slow
def test_a_signal_at_the_worst_moment_and_one_more_do_not_hang_the_worker() -> None:
    done = subprocess.run([sys.executable, "-c", _TOLD_TWICE], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "True\n"


@pytest.mark.slow
def test_a_worker_whose_database_never_came_says_that_it_stopped_and_not_that_it_started(
    environ: dict[str, str],
) -> None:
    environ = {**os.environ, **environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    command = [sys.executable, "-m", "receiptsvc", "worker"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.terminate()
        actions = [first["action"], *(json.loads(line)["action"] for line in process.stderr)]
    assert actions == ["worker.storage_unavailable", "worker.stopped"]
    assert process.returncode == 0
