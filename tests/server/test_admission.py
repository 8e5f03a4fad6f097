"""Admission control: bytes count as they arrive, no claim takes budget from others, and there is a minimum rate."""

import socket as blocking
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO

import pytest
from gevent import socket

from receiptsvc.server import admission
from receiptsvc.server.admission import (
    CREDIT_SECONDS,
    MIN_BYTES_PER_SECOND,
    BodyFault,
    BodyRefused,
    ByteBudget,
    IncomingBody,
    read_body,
)


class Clock:
    """The monotonic clock, set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "monotonic", clock)
    return clock


@pytest.fixture
def budget() -> ByteBudget:
    return ByteBudget(1000)


def fault(raised: pytest.ExceptionInfo[BodyRefused]) -> BodyFault:
    return raised.value.fault


def test_a_body_takes_no_budget_before_its_bytes_arrive(budget: ByteBudget) -> None:
    with ExitStack() as opened:
        for number in range(100):
            opened.enter_context(budget.incoming(number))
        last = opened.enter_context(budget.incoming("a"))
        last.count(500)


def test_one_holder_may_use_half_the_budget_and_a_quarter_once_half_is_taken(budget: ByteBudget) -> None:
    with budget.incoming("a") as first, budget.incoming("a") as second:
        first.count(500)
        with pytest.raises(BodyRefused) as raised:
            second.count(1)
        assert fault(raised) is BodyFault.FULL
        with budget.incoming("b") as other:
            other.count(250)
            with pytest.raises(BodyRefused):
                other.count(1)
            with budget.incoming("c") as last:
                last.count(250)
                with budget.incoming("d") as too_many, pytest.raises(BodyRefused):
                    too_many.count(1)


def test_released_bytes_can_be_taken_again(budget: ByteBudget) -> None:
    for _ in range(10):
        with budget.incoming("a") as body:
            body.count(400)
            with pytest.raises(BodyRefused):
                body.count(601)
    with budget.incoming("b") as body:
        body.count(500)


PATTERNS = {
    "nothing comes": ([(CREDIT_SECONDS + 0.1, 1)], BodyFault.SLOW),
    "a byte a second": ([(1.0, 1)] * 11, BodyFault.SLOW),
    "just too slowly": ([(1.0, MIN_BYTES_PER_SECOND * 9 // 10)] * 150, BodyFault.SLOW),
    "at the minimum rate": ([(1.0, MIN_BYTES_PER_SECOND)] * 150, None),
    "at the minimum rate, with stalls": ([(9.0, 9 * MIN_BYTES_PER_SECOND)] * 20, None),
    "much at once, then nothing": ([(0.0, 100 * MIN_BYTES_PER_SECOND), (CREDIT_SECONDS + 0.1, 1)], BodyFault.SLOW),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_body_has_a_minimum_rate_and_some_credit(clock: Clock, pattern: str) -> None:
    steps, expected = PATTERNS[pattern]
    body = IncomingBody(ByteBudget(1 << 30), "a")
    actual = None
    for seconds, size in steps:
        clock.seconds += seconds
        try:
            body.count(size)
        except BodyRefused as refused:
            actual = refused.fault
            break
    assert actual is expected


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, blocking.socket]]:
    ours, theirs = blocking.socketpair()
    with socket.socket(fileno=ours.detach()) as source, theirs:
        yield source, theirs


def test_bytes_that_waited_in_the_socket_while_we_were_late_count(
    clock: Clock, pair: tuple[socket.socket, blocking.socket]
) -> None:
    source, sender = pair
    body = IncomingBody(ByteBudget(1 << 30), "a")
    sender.sendall(b"x" * MIN_BYTES_PER_SECOND * 2)
    clock.seconds += CREDIT_SECONDS + 1
    assert len(body.receive(source, 1 << 20)) == MIN_BYTES_PER_SECOND * 2
    clock.seconds += 2
    with pytest.raises(BodyRefused) as raised:
        body.receive(source, 1 << 20)
    assert fault(raised) is BodyFault.SLOW


@pytest.mark.parametrize(
    ("claimed", "sent", "expected"),
    [("11", b"x" * 11, BodyFault.TOO_LARGE), ("", b"x" * 11, BodyFault.TOO_LARGE), ("9", b"x" * 8, BodyFault.CUT)],
)
def test_a_body_that_is_too_long_or_ends_early_is_refused(
    budget: ByteBudget, claimed: str, sent: bytes, expected: BodyFault
) -> None:
    with budget.incoming("a") as body, pytest.raises(BodyRefused) as raised:
        read_body({"CONTENT_LENGTH": claimed, "wsgi.input": BytesIO(sent)}, body, 10)
    assert fault(raised) is expected
