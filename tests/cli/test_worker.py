"""How the worker's process begins and ends."""

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
