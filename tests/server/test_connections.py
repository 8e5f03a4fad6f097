"""Which connections go when there are too many, and that those that may not go never do."""

import random
from collections.abc import Hashable

import pytest

from receiptsvc.server.application import UNAUTHENTICATED
from receiptsvc.server.connection import Client
from receiptsvc.server.connections import Connections, capacity

MOST = 64
SHARE = MOST // 8
NEARLY_FULL = MOST - MOST // 8


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
    return Connections(MOST)


def opened(pool: Connections, times: int, *credentials: Hashable) -> list[Connection]:
    connections = []
    for _ in range(times):
        connection = Connection(pool)
        for credential in credentials:
            connection.prove(credential)
        connections.append(connection)
    return connections


def kept(connections: list[Connection]) -> int:
    return sum(not connection.was_closed for connection in connections)


def test_those_that_proved_nothing_go_first_and_the_oldest_of_them(pool: Connections) -> None:
    silent = opened(pool, NEARLY_FULL)
    assert kept(silent) == NEARLY_FULL
    proven = opened(pool, 5, "a")
    assert [connection.was_closed for connection in silent[:6]] == [True] * 5 + [False]
    assert kept(proven) == 5


def test_then_those_of_one_token_beyond_its_share(pool: Connections) -> None:
    leaked = opened(pool, MOST, "a")
    others = [opened(pool, 1, number)[0] for number in range(30)]
    assert kept(others) == 30
    assert SHARE <= kept(leaked) == NEARLY_FULL - 30
    assert leaked[0].was_closed
    assert not leaked[-1].was_closed


def test_within_a_share_and_a_router_s_none_is_ever_closed(pool: Connections) -> None:
    routers = opened(pool, 30, "a", "b")
    within = [connection for name in "cdef" for connection in opened(pool, SHARE, name)]
    opened(pool, 200)
    opened(pool, 200, "leaked")
    assert kept(routers) == 30
    assert kept(within) == 4 * SHARE


def test_newcomers_have_their_say_when_nearly_all_others_may_not_be_closed(pool: Connections) -> None:
    opened(pool, NEARLY_FULL, "a", "b")
    (newcomer,) = opened(pool, 1)
    assert not newcomer.was_closed
    newcomer.prove("c")
    assert pool.is_wanted_back(newcomer)


def test_only_when_they_alone_are_many_are_those_that_stay_told_to_close(pool: Connections) -> None:
    routers = opened(pool, MOST // 2, "a", "b")
    silent = opened(pool, 200)
    leaked = opened(pool, 200, "leaked")
    assert not pool.is_wanted_back(routers[0])
    assert pool.is_wanted_back(silent[-1])
    assert pool.is_wanted_back(leaked[-1])
    opened(pool, MOST // 3, "c", "d")
    assert pool.is_wanted_back(routers[0])


def test_a_request_that_is_being_worked_on_is_not_cut(pool: Connections) -> None:
    leaked = opened(pool, MOST, "a")
    for connection in leaked:
        connection.is_working = True
    working = kept(leaked)
    opened(pool, MOST, "a", "b")
    assert kept(leaked) == working


def test_without_a_right_key_all_together_are_one_and_prove_nothing_more(pool: Connections) -> None:
    (connection,) = opened(pool, 1, "a", UNAUTHENTICATED)
    assert not connection.is_router
    (connection,) = opened(pool, 1, UNAUTHENTICATED, "a")
    assert (connection.is_router, connection.credential) == (False, "a")


def test_whatever_happens_the_counts_add_up() -> None:
    chance = random.Random(7)
    pool = Connections(MOST)
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
            assert (pool._count, pool._protected) == (0, 0)  # noqa: SLF001 - what must not drift
            assert not pool._unproven  # noqa: SLF001
            assert not pool._proven  # noqa: SLF001
            assert not pool._beyond_share  # noqa: SLF001


@pytest.mark.parametrize(
    ("open_files", "listeners", "expected"),
    [(65_536, 1, 4096), (10_000, 1, 4096), (1024, 1, 832), (1024, 2, 416), (256, 1, 64), (64, 1, 16)],
)
def test_as_many_connections_fit_as_there_are_files_for(open_files: int, listeners: int, expected: int) -> None:
    assert capacity(open_files, 4096, listeners) == expected
