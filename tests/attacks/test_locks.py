"""Rows that somebody else has locked hold up nobody who does not want them, and nobody without an end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from receiptsvc.client import ApiError, Client
from receiptsvc.store.core.db import plain_url
from tests.faults.conftest import StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost
from tests.support.load import Load

WRITER, READER = "writer-key-0123456789", "reader-key-0123456789"
KEYS = f"writer:send+read+ops:{WRITER},reader:read:{READER}"
CLIENTS = 32


@pytest.mark.slow
def test_locked_rows_hold_up_only_those_who_want_them(postgresql_url: str, start_web: StartWeb) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1", API_KEYS=KEYS)
    sent = Client(stack.url, WRITER).send([{"recipients": ["447700900001"], "text": "Hello"}])[0]["id"]
    refused, took, ended = list[ApiError](), list[float](), threading.Event()

    def cancel(_: int) -> None:
        client = Client(stack.url, WRITER)
        while not ended.is_set():
            try:
                client.cancel(sent)
            except ApiError as error:
                refused.append(error)

    def read() -> None:
        client = Client(stack.url, READER)
        while not ended.is_set():
            began = time.monotonic()
            client.message(sent)
            took.append(time.monotonic() - began)
            ended.wait(0.05)  # the others want the processor too

    with (
        psycopg.connect(plain_url(postgresql_url)) as other,
        Load(callback_url(stack), connections=4, pause_seconds=0.02) as load,
        ThreadPoolExecutor(CLIENTS + 1) as clients,
    ):
        other.execute("SELECT id FROM messages FOR UPDATE")
        for number in range(CLIENTS):
            clients.submit(cancel, number)
        reading = clients.submit(read)
        load.wait_for(200, times=300)
        stack.wait_until("the locked row is refused to many", lambda: len(refused) >= CLIENTS)
        ended.set()
        reading.result()
    assert {error.status for error in refused} == {503}
    assert all(error.retry_after_seconds for error in refused)
    assert len(took) > 3
    assert max(took) <= 5, "on a machine that may be busy"
    assert load.statuses == {200}
    assert_nothing_lost(postgresql_url, load.kept)
