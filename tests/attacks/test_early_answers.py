"""An answer that is given before the request was read to its end reaches a client that goes on sending."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import StartWeb, callback_url
from tests.support.forked import Stack
from tests.support.load import connect, read_answer

MANY_BYTES = 40 * 1024 * 1024  # more than a server drops to keep a connection


@pytest.fixture
def stack(sqlite_url: str, start_web: StartWeb) -> Stack:
    return start_web(sqlite_url)


def post(url: str, size: int, **headers: str) -> int:
    """The status of a POST of so many bytes; the client reads nothing before it has sent them all."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {urlsplit(url).path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{lines}"
    with connect(url) as connection:
        connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
        for _ in range(size // 100_000):
            connection.sendall(bytes(100_000))
        connection.sendall(bytes(size % 100_000))
        answer = read_answer(connection)
        assert answer is not None, "closed without an answer"
        return answer.status


@pytest.mark.slow
def test_a_refused_body_is_answered(stack: Stack) -> None:
    url, key = f"{stack.url}/v1/messages", f"Bearer {stack.api_key}"
    for _ in range(3):
        assert post(url, MANY_BYTES) == 401
        assert post(url, MANY_BYTES, Authorization="Bearer wrong") == 401
        assert post(url, MANY_BYTES, Authorization=key) == 413
        assert post(callback_url(stack), MANY_BYTES) == 413
        assert post(f"{stack.url}/callbacks/receipts/wrong", MANY_BYTES) == 403


@pytest.mark.slow
def test_what_there_is_no_room_for_is_answered(stack: Stack) -> None:
    def send(_: int) -> int:
        return post(f"{stack.url}/v1/messages", 12 * 1024 * 1024, Authorization=f"Bearer {stack.api_key}")

    with ThreadPoolExecutor(16) as clients:
        assert set(clients.map(send, range(16))) <= {422, 503}


@pytest.mark.parametrize("head", [b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET /" + b"a" * 9000])
def test_what_is_not_http_is_answered(stack: Stack, head: bytes) -> None:
    with connect(stack.url) as connection:
        for part in (head, *[bytes(100_000)] * 100):
            connection.sendall(part)
        answer = read_answer(connection)
        assert answer is not None
        assert answer.status in {400, 414}


def test_a_client_that_sends_on_for_seconds_is_answered(stack: Stack) -> None:
    with connect(stack.url) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        for _ in range(12):
            sleep(0.25)
            connection.sendall(bytes(100_000))
        answer = read_answer(connection)
        assert answer is not None
        assert answer.status == 400
