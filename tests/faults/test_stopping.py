"""SIGTERM under load: whoever was heard is answered, and told that the connection ends."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

from receiptsvc.demo.processes import is_free
from tests.faults.conftest import StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost
from tests.support.forked import Stack
from tests.support.load import Answer, Load, connect, read_answers, request
from tests.support.postgres import Server
from tests.support.processes import unread_bytes, until

CONNECTIONS = 32
LAST_ANSWERS = [Answer(status=200, says_close=True)] * CONNECTIONS


def send(url: str, parts: list[bytes]) -> list[socket.socket]:
    """One connection for each part, all of them read by the server."""
    connections = [connect(url) for _ in parts]
    for connection, part in zip(connections, parts, strict=True):
        connection.sendall(part)
    port = connections[0].getpeername()[1]
    until("the server has read what was sent", lambda: unread_bytes(port) == 0)
    return connections


def wait_until_it_stops(stack: Stack) -> None:
    until("the server listens no more", lambda: is_free(int(stack.environ["PORT"])))


def stop(stack: Stack) -> None:
    """End the web process as a deployment does. It ends by itself, well, and in time."""
    stopping = time.monotonic()
    assert stack.stop("web") == 0, stack.tail("web")
    assert time.monotonic() - stopping < 25


def test_told_to_stop_it_answers_requests_that_have_begun(database_url: str, start_web: StartWeb) -> None:
    stack = start_web(database_url, CALLBACK_BUDGET_SECONDS="9")
    url = callback_url(stack)
    whole = [request(url, serial, body=b"x" * 1000 if serial % 2 else None) for serial in range(CONNECTIONS)]
    cut = [40 if serial % 4 < 2 else len(one) - 10 for serial, one in enumerate(whole)]
    connections = send(url, [one[:place] for one, place in zip(whole, cut, strict=True)])

    def finish() -> list[Answer | None]:
        wait_until_it_stops(stack)
        for connection, one, place in zip(connections, whole, cut, strict=True):
            connection.sendall(one[place:])
        return read_answers(connections)

    with ThreadPoolExecutor() as pool:
        finishing = pool.submit(finish)
        stop(stack)
    assert finishing.result() == LAST_ANSWERS
    assert_nothing_lost(database_url, range(CONNECTIONS))


def test_told_to_stop_it_answers_requests_that_wait_for_the_database(
    server: Server, postgresql_url: str, start_web: StartWeb
) -> None:
    budget_seconds = 9
    stack = start_web(postgresql_url, CALLBACK_BUDGET_SECONDS=str(budget_seconds))
    url = callback_url(stack)
    with ThreadPoolExecutor() as pool:
        with server.frozen():
            began = time.monotonic()
            connections = send(url, [request(url, serial) for serial in range(CONNECTIONS)])
            stopping = pool.submit(stop, stack)
            wait_until_it_stops(stack)
            frozen_seconds = time.monotonic() - began
        answers = read_answers(connections)
    stopping.result()
    if frozen_seconds < budget_seconds - 1:
        assert answers == LAST_ANSWERS, f"frozen for {frozen_seconds:.1f} s\n{stack.tail('web')}"
        assert_nothing_lost(postgresql_url, range(CONNECTIONS))
    else:  # a machine so slow that the budget may have ended first
        assert {answer and (answer.status, answer.says_close) for answer in answers} <= {(200, True), (503, True)}


def test_told_to_stop_under_load_it_drops_nothing_that_it_has_read(database_url: str, start_web: StartWeb) -> None:
    stack = start_web(database_url, CALLBACK_BUDGET_SECONDS="9")
    with Load(callback_url(stack), connections=CONNECTIONS) as load:
        load.wait_for(200, times=500)
        stop(stack)
    assert load.statuses <= {200, None}
    assert not [call for call in load.calls if call.answer is None and call.was_read]
    assert_nothing_lost(database_url, load.kept)
