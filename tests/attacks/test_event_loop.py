"""What costs the event loop far more than its sender: nobody else's callback waits for it."""

import gzip
import threading
from urllib.parse import urlsplit

import pytest

from receiptsvc.demo.processes import Stack
from tests.faults.conftest import StartWeb, callback_url
from tests.support.load import connect, read_answer, request
from tests.support.processes import children, thread_seconds

STRANGER = "/callbacks/receipts/wrong"
MANY_PARAMETERS = "/callbacks/receipts?key=&" + 1900 * "a=%&"
CHUNKED = "Transfer-Encoding: chunked\r\n"
TINY_CHUNKS = 100_000 * b"1\r\na\r\n" + b"0\r\n\r\n"
PACKED = gzip.compress(99 * gzip.compress(b"") + gzip.compress(bytes(1_000_000), compresslevel=0))
TIMES = 40

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(sqlite_url: str, start_web: StartWeb) -> Stack:
    return start_web(sqlite_url)


def write(path: str, headers: str = "", body: bytes = b"") -> bytes:
    method = "POST" if headers else "GET"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + body


def with_length(body: bytes, headers: str = "") -> tuple[str, bytes]:
    return f"{headers}Content-Length: {len(body)}\r\n", body


def ask(stack: Stack, data: bytes, times: int = 1) -> tuple[set[int | None], float]:
    """The statuses that so many requests are answered with, one a connection; and what one costs the loop, in seconds."""
    [worker] = children(stack.pid("web"))
    statuses, before = set[int | None](), thread_seconds(worker)
    for _ in range(times):
        with connect(stack.url) as connection:
            connection.sendall(data)
            answer = read_answer(connection)
            statuses.add(answer.status if answer else None)
            while connection.recv(65_536):  # until the server has done with what it did not read
                pass
    return statuses, (thread_seconds(worker) - before) / times


def test_parameters_without_end_cost_a_few_times_what_other_wrong_addresses_do(stack: Stack) -> None:
    close = "Connection: close\r\n"
    plain, plain_seconds = ask(stack, write(f"{STRANGER}?{len(MANY_PARAMETERS) * 'a'}", close), TIMES)
    many, many_seconds = ask(stack, write(MANY_PARAMETERS, close), TIMES)
    assert (plain, many) == ({403}, {403})
    assert many_seconds < 8 * plain_seconds


def test_a_body_is_unpacked_beside_the_loop(stack: Stack) -> None:
    path, close = urlsplit(callback_url(stack)).path, "Connection: close\r\n"
    plain, plain_seconds = ask(stack, write(path, *with_length(PACKED, close)), TIMES)
    packed, packed_seconds = ask(stack, write(path, *with_length(PACKED, f"{close}Content-Encoding: gzip\r\n")), TIMES)
    assert (plain, packed) == ({200}, {200})
    assert packed_seconds < 5 * plain_seconds


def test_the_chunks_of_a_body_that_nobody_wants_are_not_parsed(stack: Stack) -> None:
    for path, refused in ((STRANGER, 403), ("/v1/messages", 401)):
        statuses, seconds = ask(stack, write(path, CHUNKED, TINY_CHUNKS), 5)
        assert statuses == {refused}
        assert seconds < 0.1


def test_a_body_of_tiny_chunks_is_refused_before_it_has_cost_much_and_a_callback_s_is_kept(stack: Stack) -> None:
    path, key = urlsplit(callback_url(stack)).path, f"Authorization: Bearer {stack.api_key}\r\n"
    json = "Content-Type: application/json\r\n"
    close = "Connection: close\r\n"
    assert ask(stack, write(path, CHUNKED + close, TINY_CHUNKS))[0] == {200}, "its content refuses no callback"
    assert ask(stack, write(path, CHUNKED, 3 * TINY_CHUNKS[:-5]))[0] == {413}, "longer than any may be on the wire"
    assert ask(stack, write("/v1/messages", CHUNKED + key + json, TINY_CHUNKS))[0] == {413}
    few = 5_000 * b"1\r\na\r\n" + b"0\r\n\r\n"
    large = 128 * (b"2000\r\n" + 0x2000 * b"a" + b"\r\n") + b"0\r\n\r\n"
    assert ask(stack, write(path, CHUNKED + close, few))[0] == {200}
    assert ask(stack, write(path, CHUNKED + close, large))[0] == {200}


def test_others_have_their_turn_between_requests_that_come_in_one_piece(stack: Stack) -> None:
    started, ended = threading.Event(), threading.Event()

    def read_all() -> None:
        while flood.recv(1_000_000):
            started.set()
        ended.set()

    with connect(stack.url) as flood:
        threads = [
            threading.Thread(target=read_all),
            threading.Thread(
                target=flood.sendall, args=(10_000 * write(STRANGER) + write("/", "Connection: close\r\n"),)
            ),
        ]
        for thread in threads:
            thread.start()
        assert started.wait(30)
        with connect(stack.url) as other:
            other.sendall(request(callback_url(stack), 1))
            answer = read_answer(other)
        has_ended = ended.is_set()
        for thread in threads:
            thread.join()
    assert answer is not None
    assert answer.status == 200
    assert not has_ended, "its answer waited for all of the others"
