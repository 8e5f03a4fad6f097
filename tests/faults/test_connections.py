"""More connections than a process can hold: whoever brings a right token is answered, and kept while it is idle."""

import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.faults.conftest import StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost
from tests.support.forked import Stack
from tests.support.hostile import Hostile
from tests.support.load import Answer, Load, connect, read_answer, request
from tests.support.processes import unread_bytes, until

OPEN_FILES = 448
NEW = 400
MAX_P99_SECONDS = 1.0
FIRST_SERIAL = 1_000_000  # above those of Load


def logged(stack: Stack, action: str) -> list[dict[str, Any]]:
    """The web process's log lines about an action."""
    lines = [json.loads(line) for line in (stack.folder / "web.log").read_text().splitlines()]
    return [line for line in lines if line["action"] == action]


def connection_capacity(stack: Stack) -> int:
    """How many connections the one web process says that it can hold."""
    (line,) = logged(stack, "web.connections")
    capacity: int = line["capacity"]
    return capacity


def ask(connection: socket.socket, url: str, serial: int) -> Answer | None:
    connection.sendall(request(url, serial, body=b"statusid=1" if serial % 2 else None))
    return read_answer(connection)


def has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.settimeout(40)


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


def test_callbacks_are_answered_among_twice_as_many_hostile_connections_as_it_can_hold(
    sqlite_url: str, start_web: StartWeb
) -> None:
    stack = start_web(sqlite_url, OPEN_FILES, CALLBACK_BUDGET_SECONDS="7")
    capacity = connection_capacity(stack)
    assert OPEN_FILES // 2 <= capacity < OPEN_FILES
    url = callback_url(stack)

    def call(serial: int) -> tuple[Answer | None, float]:
        started = time.monotonic()
        with closing(connect(url)) as connection:
            return ask(connection, callback_url(stack), serial), time.monotonic() - started

    with ExitStack() as opened:
        idle = opened.enter_context(connect(url))
        routers = opened.enter_context(connect(url))
        assert ask(idle, url, FIRST_SERIAL + NEW) == Answer(status=200, says_close=False)
        for serial in range(2):
            assert ask(routers, callback_url(stack), FIRST_SERIAL + NEW + 1 + serial) is not None
        with Hostile(url, 2 * capacity) as hostile, Load(url, connections=8) as load, ThreadPoolExecutor(4) as pool:
            load.wait_for(200, times=1000)
            new = list(pool.map(call, range(FIRST_SERIAL, FIRST_SERIAL + NEW)))
            load.wait_for(200, times=1000)
            assert hostile.opened > 3 * capacity, "nobody had to go"
            assert not has_ended(idle)
            assert not has_ended(routers)
            for connection in (idle, routers):
                assert ask(connection, url, FIRST_SERIAL + NEW + 3 + (connection is idle)) is not None
    assert {answer and answer.status for answer, _ in new} == {200}
    assert load.statuses == {200}
    assert p99([seconds for _, seconds in new]) <= MAX_P99_SECONDS
    assert p99([call.seconds for call in load.calls]) <= MAX_P99_SECONDS
    print(
        "P99",
        p99([s for _, s in new]),
        p99([c.seconds for c in load.calls]),
        max(s for _, s in new),
        load.slowest_seconds,
        hostile.opened,
        len(load.calls),
        time.monotonic(),
    )
    assert_nothing_lost(sqlite_url, load.kept | set(range(FIRST_SERIAL, FIRST_SERIAL + NEW + 5)))
    assert not [line for line in logged(stack, "gunicorn.error") if line["level"] == "error"]


def test_one_token_s_connections_beyond_its_share_make_room_and_a_router_s_never_do(
    sqlite_url: str, start_web: StartWeb
) -> None:
    stack = start_web(sqlite_url, OPEN_FILES, CALLBACK_BUDGET_SECONDS="7")
    capacity, leaked = connection_capacity(stack), callback_url(stack)
    share = capacity // 8
    with ExitStack() as opened:

        def open_and_ask(serial: int, *urls: str) -> tuple[socket.socket, Answer | None]:
            connection, answer = opened.enter_context(connect(leaked)), None
            for times, url in enumerate(urls):
                if answer is None or not answer.says_close:
                    answer = ask(connection, url, serial + times)
            return connection, answer

        of_one = [open_and_ask(serial, leaked)[0] for serial in range(capacity)]
        of_routers = [
            open_and_ask(1000 + 2 * serial, callback_url(stack), callback_url(stack)) for serial in range(capacity // 4)
        ]

        def left() -> int:
            return sum(not has_ended(connection) for connection in of_one)

        until("the others had room", lambda: left() <= capacity - len(of_routers))
        assert share <= left()
        more = [
            open_and_ask(2000 + 2 * serial, callback_url(stack), callback_url(stack)) for serial in range(capacity // 2)
        ]
        assert share <= left()
        answers = {answer for _, answer in (*of_routers, *more)}
        assert answers == {Answer(status=200, says_close=False), Answer(status=200, says_close=True)}
        told = {connection for connection, answer in (*of_routers, *more) if answer and answer.says_close}
        until("those that were told are closed", lambda: all(map(has_ended, told)))
        assert not [one for one, _ in (*of_routers, *more) if one not in told and has_ended(one)]
        last = [open_and_ask(4000 + serial, callback_url(stack))[1] for serial in range(capacity // 4)]
        assert {answer and answer.status for answer in last} == {200}
        until("it is logged", lambda: bool(logged(stack, "web.connections_closed")))
        assert logged(stack, "web.connections_closed")[0]["beyond_share"] > 0


CLAIM = "Content-Length: 16777216\r\n\r\n["
HEAD = "POST /v1/messages HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
DRIP_SECONDS = 0.2


class Dripping:
    """Requests that never end, each on a connection of its own, which send a byte now and then while the block lasts."""

    def __init__(self, url: str, beginnings: list[bytes]) -> None:
        self.connections = [connect(url) for _ in beginnings]
        for connection, beginning in zip(self.connections, beginnings, strict=True):
            connection.sendall(beginning)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Dripping":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self.connections:
            connection.close()

    def _run(self) -> None:
        while not self._stop.wait(DRIP_SECONDS):
            for connection in self.connections:
                with suppress(OSError):
                    connection.send(b" ")


def send_messages(stack: Stack, times: int) -> set[int]:
    """The statuses of so many valid requests with a body, each of which is kept nowhere."""
    body = {"messages": [{"recipients": ["447700900000"], "text": "Hello"}]}
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with requests.Session() as session:
        return {
            session.post(f"{stack.url}/v1/messages?dryRun=true", json=body, headers=headers, timeout=10).status_code
            for _ in range(times)
        }


def test_without_a_key_a_body_is_not_read_and_takes_no_room(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    slow = [f"{HEAD}{key}{CLAIM}".encode() for key in ["", "Authorization: Bearer wrong\r\n"] * 10]
    with Dripping(stack.url, slow) as dripping:
        assert send_messages(stack, 100) <= {200, 202}
        answers = [connection.recv(65536) for connection in dripping.connections]
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 401 UNAUTHORIZED"}
    assert all(b"application/problem+json" in answer for answer in answers)
    with closing(connect(stack.url)) as connection:
        connection.sendall(f"{HEAD}Expect: 100-continue\r\n{CLAIM[:-1]}".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 "), "it is not told to send its body"
    for headers, status in ((25, b"401"), (45, b"431")):
        with closing(connect(stack.url)) as connection:
            long = "".join(f"X-{number}: {'x' * 1000}\r\n" for number in range(headers))
            connection.sendall(f"{HEAD}{long}\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 %b " % status), "a head has its limit"
    with requests.Session() as session:  # an answer that is given early is not lost while the body is still sent
        for _ in range(3):
            assert session.post(f"{stack.url}/v1/messages", data=b" " * 16_000_000, timeout=10).status_code == 401


def test_a_claim_takes_no_room_with_a_key_either(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url, CALLBACK_BUDGET_SECONDS="7")
    with_key = f"{HEAD}Authorization: Bearer {stack.api_key}\r\n{CLAIM}".encode()
    leaked = (
        f"POST {urlsplit(callback_url(stack)).path} HTTP/1.1\r\nHost: r\r\nContent-Length: 1048576\r\n\r\n".encode()
    )
    with Dripping(stack.url, [with_key] * 10 + [leaked] * 70):
        assert send_messages(stack, 100) <= {200, 202}
        with closing(connect(stack.url)) as connection:
            answers = [ask(connection, callback_url(stack), 2 * serial + 1) for serial in range(100)]
    assert {answer and answer.status for answer in answers} == {200}


def test_one_token_s_bytes_leave_room_for_the_others(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url, CALLBACK_BUDGET_SECONDS="7")
    mebibyte = 1024 * 1024
    path = urlsplit(callback_url(stack)).path
    leaked = f"POST {path} HTTP/1.1\r\nHost: r\r\nContent-Length: {mebibyte}\r\n\r\n".encode() + b"x" * (mebibyte - 1)
    with ExitStack() as opened:
        unfinished = [opened.enter_context(connect(stack.url)) for _ in range(40)]
        for connection in unfinished:
            with suppress(ConnectionError):  # there is no room for it
                connection.sendall(leaked)
        until("all has been read", lambda: unread_bytes(int(stack.environ["PORT"])) == 0)
        with closing(connect(stack.url)) as connection:
            connection.sendall(request(callback_url(stack), 1, body=b"x" * mebibyte))
            assert read_answer(connection) == Answer(status=200, says_close=False)
        refused = [connection for connection in unfinished if select.select([connection], [], [], 0)[0]]
        assert 8 <= len(refused) < 40
        for connection in unfinished:
            if connection not in refused:
                connection.sendall(b"x")
                assert read_answer(connection) == Answer(status=200, says_close=False)
    assert_nothing_lost(sqlite_url, [1])
