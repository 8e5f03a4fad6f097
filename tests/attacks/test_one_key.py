"""One Idempotency-Key by twenty clients at once, some of which die in the middle: one set of messages, one SMS each."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import requests
from sqlalchemy import func, select

from receiptsvc.demo.processes import answers
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.health import verification
from tests.support.forked import Stack
from tests.support.load import connect
from tests.support.processes import until

CLIENTS = 20
BODY = {"messages": [{"recipients": [f"4477009{n:05}" for n in range(100)], "text": "Hello", "clientRef": "once"}]}
CONTENT = json.dumps(BODY).encode()


@pytest.mark.slow
@pytest.mark.on_postgresql
def test_one_key_by_many_clients_makes_one_set_of_messages(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    with Stack(tmp_path / "stack", database_url, sandbox_flags=["--ignore-numbers"]) as stack:
        stack.start("sandbox", "web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        together = Barrier(CLIENTS)
        with ThreadPoolExecutor(CLIENTS) as clients:
            told = list(clients.map(lambda number: ask(stack, number, together), range(CLIENTS)))
        sets = [found for found in told if found is not None]
        assert len(sets) == CLIENTS - 6
        assert len(set(sets)) == 1
        client = stack.client()
        until("all are delivered", lambda: len(list(client.messages(status="delivered", limit="500"))) == 100)
        report = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
    assert (report["messageGuids"], report["doubles"], report["lookalikes"]) == (100, 0, 0)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 100
    assert list(verification.verify(database)) == []


def ask(stack: Stack, number: int, together: Barrier) -> tuple[str, ...] | None:
    """The ids that a client gets in the end. Six of them die: with half a body sent, or before they read the answer."""
    headers = {"Authorization": f"Bearer {stack.api_key}", "Idempotency-Key": "one", "Content-Type": "application/json"}
    together.wait()
    if number < 6:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection = connect(stack.url)
        connection.sendall(
            f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(CONTENT)}\r\n\r\n".encode()
            + (CONTENT if number % 2 else CONTENT[: len(CONTENT) // 2])
        )
        connection.close()
        return None
    found = list[tuple[str, ...]]()

    def is_answered() -> bool:
        answer = requests.post(f"{stack.url}/v1/messages", data=CONTENT, headers=headers, timeout=30)
        assert answer.status_code in {202, 409, 503}
        if answer.status_code == 202:
            found.append(tuple(item["id"] for item in answer.json()["messages"]))
        return bool(found)

    until("it is answered", is_answered)
    return found[0]
