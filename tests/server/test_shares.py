"""Shares: so many at once, and so many for one."""

import threading

from receiptsvc.server.admission import Shares


def test_no_holder_takes_the_room_of_the_others() -> None:
    shares = Shares(3, of_one=2)
    assert [shares.take("a"), shares.take("a"), shares.take("a")] == [True, True, False]
    assert [shares.take("b"), shares.take("b"), shares.take("c")] == [True, False, False]
    shares.release("a")
    assert [shares.take("a"), shares.take("c")] == [True, False]


def test_room_is_given_back_at_the_end_of_the_block_and_only_if_it_was_taken() -> None:
    shares = Shares(1, of_one=1)
    with shares.hold("a") as has_room:
        assert has_room
        with shares.hold("b") as is_second:
            assert not is_second
        assert not shares.take("b")
    with shares.hold("b") as has_room:
        assert has_room


def test_whoever_has_patience_gets_the_room_that_is_given_back() -> None:
    shares = Shares(2, of_one=1)
    assert shares.take("a")
    assert not shares.take("a", patience_seconds=0.01)
    giving = threading.Timer(0.05, shares.release, ["a"])
    giving.start()
    with shares.hold("a", patience_seconds=20) as has_room:
        assert has_room
    giving.join()
