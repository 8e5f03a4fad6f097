"""Event streams over the real server: from process to process, to the end, to slow readers, and many at once."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from receiptsvc.client import ApiError, Event
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import change_feed
from tests.faults.conftest import StartWeb
from tests.faults.test_access_log import lines
from tests.support import rows
from tests.support.forked import Stack
from tests.support.processes import children, resident_megabytes, until

BEGINNING = "000000000000.000"
MANY = 100


def ask(connection: HTTPConnection, stack: Stack, query: str = "", last_event_id: str | None = None) -> None:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    connection.request("GET", f"/v1/events{query}", headers=headers)


@contextmanager
def stream(stack: Stack, query: str = "", last_event_id: str | None = None) -> Iterator[HTTPResponse]:
    """A stream that has begun."""
    connection = HTTPConnection(urlsplit(stack.url).netloc, timeout=20)
    try:
        ask(connection, stack, query, last_event_id)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.readline().startswith(b"retry: ")
        yield answer
    finally:
        connection.close()


def read(answer: HTTPResponse, count: int) -> list[tuple[str, str]]:
    """So many events of a stream: their ids and clientRefs."""
    found: list[tuple[str, str]] = []
    place = ""
    while len(found) < count:
        line = answer.readline().decode()
        assert line, "it ended"
        if line.startswith("id: "):
            place = line[4:].strip()
        elif line.startswith("data: "):
            found.append((place, json.loads(line[6:])["clientRef"]))
    return found


def accept(database_url: str, *client_refs: str) -> None:
    database = Database(database_url)
    rows.accept(database, *(rows.message(client_ref=client_ref) for client_ref in client_refs))
    database.close()


def test_a_stream_goes_on_in_another_process(database_url: str, start_web: StartWeb) -> None:
    first, second = start_web(database_url), start_web(database_url)
    with stream(first) as answer, stream(second) as beside:
        for client_ref in "abc":
            accept(database_url, client_ref)
        seen = read(answer, 2)
        everything = read(beside, 3)
    assert [client_ref for _, client_ref in everything] == ["a", "b", "c"]
    assert seen == everything[:2]
    accept(database_url, "d")
    with stream(second, last_event_id=seen[-1][0]) as answer:
        accept(database_url, "e")
        found = read(answer, 3)
    assert [client_ref for _, client_ref in found] == ["c", "d", "e"]
    assert found[0] == everything[2]


def test_the_client_comes_again_by_itself_and_misses_nothing(database_url: str, start_web: StartWeb) -> None:
    stack = start_web(database_url)
    events: Iterator[Event] = stack.client().events(BEGINNING)
    accept(database_url, "a", "b")
    found = [next(events).data["clientRef"], next(events).data["clientRef"]]
    stack.stop("web")
    accept(database_url, "c")
    stack.start("web")
    accept(database_url, "d")
    event = next(events)
    found += [event.data["clientRef"], next(events).data["clientRef"]]
    assert found == ["a", "b", "c", "d"]
    assert event.kind == "status"
    accept(database_url, "e")
    only = stack.client().events(event.id, clientRef="e")
    assert next(only).data["clientRef"] == "e"


def prune(database_url: str) -> None:
    """Delete all events but the last, as if they were old."""
    database = Database(database_url)
    with database.transaction() as session:
        change_feed.number(session)
        change_feed.prune(session, datetime.now(UTC) + timedelta(days=1), limit=1000)
    database.close()


def test_the_client_is_told_if_events_were_pruned_while_it_was_away(database_url: str, start_web: StartWeb) -> None:
    stack = start_web(database_url)
    events = stack.client().events(BEGINNING)
    accept(database_url, "a")
    assert next(events).data["clientRef"] == "a"
    stack.stop("web")
    for client_ref in "bc":
        accept(database_url, client_ref)
    prune(database_url)
    stack.start("web")
    with pytest.raises(ApiError) as caught:
        next(events)
    assert caught.value.status == 410
    assert "without an id" in caught.value.detail


def test_a_stream_ends_if_events_were_pruned_while_its_process_stood_still(
    database_url: str, start_web: StartWeb
) -> None:
    stack = start_web(database_url, WEB_CONCURRENCY="1")
    [worker] = children(stack.pid("web"))
    with stream(stack) as answer:
        accept(database_url, "a")
        [(place, _)] = read(answer, 1)
        os.kill(worker, signal.SIGSTOP)
        try:
            for client_ref in "bc":
                accept(database_url, client_ref)
            prune(database_url)
        finally:
            os.kill(worker, signal.SIGCONT)
        rest = answer.read().decode()
    assert "data: " not in rest
    assert ": come again" in rest
    with closing(HTTPConnection(urlsplit(stack.url).netloc, timeout=20)) as connection:
        ask(connection, stack, last_event_id=place)
        assert connection.getresponse().status == 410


def test_told_to_stop_it_ends_streams_at_once_and_properly(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    with ExitStack() as open_ones:
        answers = [open_ones.enter_context(stream(stack)) for _ in range(5)]
        began = time.monotonic()
        assert stack.stop("web") == 0, stack.tail("web")
        assert time.monotonic() - began < 5
        for answer in answers:
            last = answer.read().decode()  # to a proper end, or it raises IncompleteRead
            assert last.splitlines()[-1].startswith("retry: ")
    assert lines(stack) == [("GET", "/v1/events", 200)] * 5
    assert "Traceback" not in (stack.folder / "web.log").read_text()


def test_streams_leave_half_of_the_connections_to_others(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url, GUNICORN_CMD_ARGS="--worker-connections=32")
    with ExitStack() as open_ones:
        for _ in range(15):  # the last one of sixteen is out of the reach of a single key
            open_ones.enter_context(stream(stack))
        with closing(HTTPConnection(urlsplit(stack.url).netloc, timeout=20)) as connection:
            ask(connection, stack)
            assert connection.getresponse().status == 503


def test_many_streams_cost_next_to_nothing(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    [worker] = children(stack.pid("web"))

    def threads() -> int:
        return len(list(Path(f"/proc/{worker}/task").iterdir()))

    with stream(stack):  # what the first one makes stays
        accept(sqlite_url, "a")
    before, threads_before = resident_megabytes(worker), threads()
    with ExitStack() as open_ones:
        answers = [open_ones.enter_context(stream(stack, f"?clientRef={serial}")) for serial in range(MANY)]
        accept(sqlite_url, *(str(serial) for serial in range(MANY)))
        assert [read(answer, 1)[0][1] for answer in answers] == [str(serial) for serial in range(MANY)]
        assert resident_megabytes(worker) - before < 0.1 * MANY
        assert threads() <= threads_before + 16  # those that serve Flask
    assert all(line == ("GET", "/v1/events", 200) for line in lines(stack))


def test_who_reads_nothing_is_cut_and_can_go_on_later(postgresql_url: str, start_web: StartWeb) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1")
    [worker] = children(stack.pid("web"))
    refs = [f"{serial:05}{'x' * 50}" for serial in range(15_000)]  # more than the system holds for a connection
    for start in range(0, len(refs), 5000):
        accept(postgresql_url, *refs[start : start + 5000])
    before = resident_megabytes(worker)
    with closing(HTTPConnection(urlsplit(stack.url).netloc, timeout=40)) as connection:
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sock.connect((connection.host, connection.port))
        ask(connection, stack, last_event_id=BEGINNING)
        until("the stream is cut", lambda: lines(stack) == [("GET", "/v1/events", 200)])
        assert resident_megabytes(worker) - before < 40
    assert "Traceback" not in (stack.folder / "web.log").read_text()
    events = stack.client().events(BEGINNING)
    assert [next(events).data["clientRef"] for _ in refs] == refs
