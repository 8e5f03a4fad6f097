"""Which connections are closed when there are too many, and which never are."""

import random
from collections.abc import Callable, Hashable
from contextlib import suppress

import pytest
from gevent import socket

from receiptsvc.server.application import UNAUTHENTICATED
from receiptsvc.server.connection import Client
from receiptsvc.server.connections import Connections, capacity

CAPACITY = 64
SHARE = CAPACITY // 8
NEARLY_FULL = CAPACITY - CAPACITY // 8


class Connection(Client):
    """A connection without a socket."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(None, 95.0, lambda _data, _client: None, connections)
        self.was_closed = False
        connections.add(self)

    def hang_up(self, how: int = 0) -> None:  # noqa: ARG002 - there is nothing to shut
        self.was_closed = True


@pytest.fixture
def pool() -> Connections:
    return Connections(CAPACITY)


def connect(pool: Connections, times: int, *credentials: Hashable) -> list[Connection]:
    connections = []
    for _ in range(times):
        connection = Connection(pool)
        for credential in credentials:
            connection.prove(credential)
        connections.append(connection)
    return connections


def count_open(connections: list[Connection]) -> int:
    return sum(not connection.was_closed for connection in connections)


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection: the server's, and the client's."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        return ours, theirs


class Breaks(Exception):
    """An answer breaks off."""


def break_off(client: Client) -> None:
    with suppress(Breaks), client.whole_or_reset():
        client.sendall(b"a part")
        raise Breaks


def evict(client: Client) -> None:
    with client.whole_or_reset():
        client.sendall(b"a part")
        client.evict()


def close_as_gunicorn(client: Client) -> None:
    with suppress(Breaks), client.whole_or_reset():
        client.sendall(b"a part")
        client.shutdown(socket.SHUT_RDWR)
        raise Breaks


@pytest.mark.parametrize("end", [break_off, evict, close_as_gunicorn])
def test_a_part_of_an_answer_without_a_length_ends_with_a_reset(
    end: Callable[[Client], None], pool: Connections
) -> None:
    ours, theirs = open_pair()
    client = Client(ours, 95.0, lambda _data, _client: None, pool)
    pool.add(client)
    with theirs:
        end(client)
        client.close()
        with pytest.raises(ConnectionResetError):
            read_all(theirs)


def test_a_whole_answer_without_a_length_ends_as_usual(pool: Connections) -> None:
    ours, theirs = open_pair()
    client = Client(ours, 95.0, lambda _data, _client: None, pool)
    with theirs:
        with client.whole_or_reset():
            client.sendall(b"all of it")
        client.close()
        assert read_all(theirs) == b"all of it"


def read_all(source: socket.socket) -> bytes:
    return b"".join(iter(lambda: source.recv(1000), b""))


def test_connections_without_a_proof_are_closed_first_the_oldest_first(pool: Connections) -> None:
    silent = connect(pool, NEARLY_FULL)
    assert count_open(silent) == NEARLY_FULL
    proven = connect(pool, 5, "a")
    assert [connection.was_closed for connection in silent[:6]] == [True] * 5 + [False]
    assert count_open(proven) == 5


def test_then_connections_of_a_token_beyond_its_share_are_closed(pool: Connections) -> None:
    leaked = connect(pool, CAPACITY, "a")
    others = [connect(pool, 1, number)[0] for number in range(30)]
    assert count_open(others) == 30
    assert SHARE <= count_open(leaked) == NEARLY_FULL - 30
    assert leaked[0].was_closed
    assert not leaked[-1].was_closed


def test_no_connection_within_its_share_nor_a_router_s_is_ever_closed(pool: Connections) -> None:
    routers = connect(pool, 30, "a", "b")
    within = [connection for name in "cdef" for connection in connect(pool, SHARE, name)]
    connect(pool, 200)
    connect(pool, 200, "leaked")
    assert count_open(routers) == 30
    assert count_open(within) == 4 * SHARE


def test_the_newest_connections_stay_open_when_nearly_all_others_may_not_be_closed(pool: Connections) -> None:
    connect(pool, NEARLY_FULL, "a", "b")
    (newcomer,) = connect(pool, 1)
    assert not newcomer.was_closed
    newcomer.prove("c")
    assert pool.should_close(newcomer)


def test_protected_connections_are_told_to_close_only_when_they_alone_are_too_many(pool: Connections) -> None:
    routers = connect(pool, CAPACITY // 2, "a", "b")
    silent = connect(pool, 200)
    leaked = connect(pool, 200, "leaked")
    assert not pool.should_close(routers[0])
    assert pool.should_close(silent[-1])
    assert pool.should_close(leaked[-1])
    connect(pool, CAPACITY // 3, "c", "d")
    assert pool.should_close(routers[0])


def test_a_connection_whose_request_is_being_answered_is_not_closed(pool: Connections) -> None:
    leaked = connect(pool, CAPACITY, "a")
    for connection in leaked:
        connection.is_working = True
    working = count_open(leaked)
    connect(pool, CAPACITY, "a", "b")
    assert count_open(leaked) == working


def test_an_unauthenticated_callback_makes_no_router_of_a_connection(pool: Connections) -> None:
    (connection,) = connect(pool, 1, "a", UNAUTHENTICATED)
    assert not connection.is_router
    (connection,) = connect(pool, 1, UNAUTHENTICATED, "a")
    assert (connection.is_router, connection.credential) == (False, "a")


def test_the_counts_add_up_after_any_order_of_events() -> None:
    chance = random.Random(7)
    pool = Connections(CAPACITY)
    alive: list[Connection] = []
    for _ in range(20_000):
        act = chance.random()
        if act < 0.4:
            alive.append(Connection(pool))
        elif alive and act < 0.8:
            chance.choice(alive).prove(chance.choice(["a", "a", "a", "b", "c", UNAUTHENTICATED, chance.randrange(9)]))
        elif alive:
            pool.remove(alive.pop(chance.randrange(len(alive))))
        alive = [connection for connection in alive if not connection.was_closed]
        if chance.random() < 0.002:
            while alive:
                pool.remove(alive.pop())
            assert (pool._count, pool._protected) == (0, 0)  # noqa: SLF001 - the counts must not drift
            assert not pool._unproven  # noqa: SLF001
            assert not pool._proven  # noqa: SLF001
            assert not pool._beyond_share  # noqa: SLF001


@pytest.mark.parametrize(
    ("open_files", "listeners", "expected"),
    [(65_536, 1, 4096), (10_000, 1, 4096), (1024, 1, 832), (1024, 2, 416), (256, 1, 64), (64, 1, 16)],
)
def test_the_open_file_limit_bounds_the_connections(open_files: int, listeners: int, expected: int) -> None:
    assert capacity(open_files, 4096, listeners) == expected
