"""Two workers on one SQLite file: the second waits, and takes over as soon as the first was killed."""

from pathlib import Path

import pytest

from receiptsvc.demo.processes import answers
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import verification
from tests.support.forked import Stack
from tests.support.processes import until


@pytest.mark.slow
def test_a_second_worker_takes_nothing_until_the_first_has_gone(tmp_path: Path, sqlite_url: str) -> None:
    with Stack(tmp_path / "stack", sqlite_url) as stack, Stack(tmp_path / "second", sqlite_url) as second:
        second.environ = stack.environ
        stack.start("sandbox", "web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        client = stack.client()
        second.start("worker")
        sent = client.send([{"recipients": [f"4477008{n:05}" for n in range(10)], "text": "Hello"}])
        until("all are delivered", lambda: len(list(client.messages(status="delivered"))) == len(sent))
        assert "send.called" not in second.tail("worker")
        stack.kill("worker")
        more = client.send([{"recipients": [f"4477007{n:05}" for n in range(10)], "text": "Hello"}])
        until("the second goes on", lambda: len(list(client.messages(status="delivered"))) == len(sent) + len(more))
        assert "send.called" in second.tail("worker")
    database = Database(sqlite_url)
    assert list(verification.verify(database)) == []
    database.close()
