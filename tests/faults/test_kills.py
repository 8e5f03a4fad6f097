"""Processes of the web server killed under load: what was answered 200 before is there afterwards."""

import os
import signal
from functools import partial
from pathlib import Path

from tests.faults.conftest import Form, StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost, wait_until_drained
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.postgres import Server
from tests.support.processes import children, is_alive, until


def kill_a_worker(stack: Stack, turn: int) -> None:
    """Kill one of the workers, and wait until there is another in its place."""
    workers = children(stack.pid("web"))
    victim = workers[turn % len(workers)]
    os.kill(victim, signal.SIGKILL)
    until(
        "the master has another worker",
        lambda: victim not in (now := children(stack.pid("web"))) and len(now) == len(workers),
    )


def are_gone(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


def test_killing_a_web_worker_loses_nothing(database_url: str, start_web: StartWeb, form: Form) -> None:
    stack = start_web(database_url)
    with Load(callback_url(stack)) as load:
        for turn in range(form.times):
            load.wait_for(200, times=200)
            kill_a_worker(stack, turn)
        load.wait_for(200, times=200)
    assert load.statuses <= {200, None}
    assert_nothing_lost(database_url, load.kept)


def test_killing_a_web_worker_loses_nothing_of_its_spool(
    server: Server, postgresql_url: str, start_web: StartWeb, form: Form, tmp_path: Path
) -> None:
    stack = start_web(postgresql_url, SPOOL_DIR=str(tmp_path / "spool"))
    with Load(callback_url(stack)) as load:
        load.wait_for(200, times=200)
        server.kill()
        for turn in range(form.times):
            load.wait_for(200, times=20)
            kill_a_worker(stack, turn)
        load.wait_for(200, times=20)
        server.start()
    assert load.statuses <= {200, None}
    stack.start("worker")
    wait_until_drained(tmp_path / "spool")
    assert_nothing_lost(postgresql_url, load.kept)


def test_killing_the_master_loses_nothing(database_url: str, start_web: StartWeb, form: Form) -> None:
    stack = start_web(database_url)
    with Load(callback_url(stack)) as load:
        for _ in range(form.restarts):
            load.wait_for(200, times=200)
            orphans = children(stack.pid("web"))
            os.kill(stack.pid("web"), signal.SIGKILL)
            until("the orphans end by themselves", partial(are_gone, orphans), seconds=15)
            stack.kill("web")
            stack.start("web")
        load.wait_for(200, times=200)
    assert load.statuses <= {200, None}
    assert_nothing_lost(database_url, load.kept)
