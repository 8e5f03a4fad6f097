"""Processes whose clocks are wrong by an hour work on what is new at once, and say so."""

import re
import sys
from pathlib import Path

import pytest
import requests

from receiptsvc.demo.processes import Stack, answers
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import verification
from tests.support.forms import IS_LONG

HOUR = 3600
# Both wrong at once are wrong by two hours to each other; the long form has each wrong alone as well.
CLOCKS = [(HOUR, -HOUR), (-HOUR, HOUR)] + ([(0, -HOUR), (0, HOUR), (HOUR, 0)] if IS_LONG else [])


def run_with_clock(stack: Stack, name: str, seconds: int) -> None:
    command = stack.commands[name]
    at = command.index("-m")
    skewed = [sys.executable, "-m", "tests.support.skewed", str(seconds), *command[at + 1 :]]
    stack.commands = {**stack.commands, name: skewed}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("web", "worker"), CLOCKS)
def test_what_is_new_is_due_at_once_by_any_clock(tmp_path: Path, postgresql_url: str, web: int, worker: int) -> None:
    with Stack(tmp_path / "stack", postgresql_url, settings={"WEB_CONCURRENCY": "1"}) as stack:
        run_with_clock(stack, "web", web)
        run_with_clock(stack, "worker", worker)
        stack.start("sandbox", "web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        client = stack.client()
        [sent] = client.send([{"recipients": ["447700900001"], "text": "Hello"}])
        stack.wait_until("it is delivered", lambda: client.message(sent["id"])["status"] == "delivered", seconds=15)
        stack.wait_until("the worker is seen", lambda: "worker unseen" not in degraded(stack))
        words = "\n".join(degraded(stack))
        for whose, seconds in (("the web process's", web), ("a worker's", worker)):
            direction = "ahead of" if seconds > 0 else "behind"
            found = re.search(rf"{whose} clock is 3[56][0-9]{{2}} s {direction} the database's", words)
            assert bool(found) == bool(seconds), words
        assert ("worker.clock_differs" in (stack.folder / "worker.log").read_text()) is bool(worker)
    database = Database(postgresql_url)
    assert list(verification.verify(database)) == []
    database.close()


def degraded(stack: Stack) -> list[str]:
    found: list[str] = requests.get(f"{stack.url}/readyz", timeout=5).json().get("degraded", [])
    return found
