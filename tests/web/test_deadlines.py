"""A page waits so long for what it asks, and no longer."""

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from time import monotonic

import pytest

from receiptsvc.server.admission import Shares
from receiptsvc.web.http import deadlines
from receiptsvc.web.http.deadlines import TooLate, within
from tests.support.processes import until

NAME: ContextVar[str] = ContextVar("name")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What blocks a task until the end of the test; the tasks have ended before what a test replaced is put back."""
    assert monkeypatch
    event = threading.Event()
    yield event
    thaw(event)


def thaw(event: threading.Event) -> None:
    """Let what is blocked end, and wait for that."""
    event.set()
    until("no task hangs", lambda: not deadlines._overdue)  # noqa: SLF001 - they are seen nowhere else


def blocked(until: threading.Event) -> None:
    until.wait(60)


def test_a_task_gives_its_result_or_raises_what_it_raises() -> None:
    assert within(20, lambda: 7) == 7
    with pytest.raises(LookupError, match="not there"):
        within(20, lambda: dict[str, int]()["not there"])


def test_a_task_sees_the_request_that_it_is_of() -> None:
    NAME.set("of the request")
    assert within(20, NAME.get) == "of the request"


def test_a_task_that_hangs_is_left_alone(frozen: threading.Event) -> None:
    began = monotonic()
    with pytest.raises(TooLate):
        within(0.05, lambda: blocked(frozen))
    assert monotonic() - began < 10


def test_while_one_hangs_the_others_wait_less(frozen: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_SECONDS_BESIDE", 0.05)
    with pytest.raises(TooLate):
        within(0.05, lambda: blocked(frozen))
    with pytest.raises(TooLate):
        within(3600, lambda: blocked(frozen))
    thaw(frozen)
    assert within(20, lambda: 7) == 7


def test_what_hangs_of_one_person_hurries_nobody_else(frozen: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_SECONDS_BESIDE", 0.05)

    def is_hurried(holder: str) -> bool:
        try:
            within(20, lambda: threading.Event().wait(0.2), holder)
        except TooLate:
            return True
        return False

    with pytest.raises(TooLate):
        within(0.05, lambda: blocked(frozen), "a")
    assert [is_hurried(holder) for holder in ("a", "b")] == [True, False]
    with pytest.raises(TooLate):
        within(0.05, lambda: blocked(frozen), "b")
    assert is_hurried("c")


def test_only_so_many_hang(frozen: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_running", Shares(2, of_one=2))
    for _ in range(2):
        with pytest.raises(TooLate, match="in time"):
            within(0.05, lambda: blocked(frozen))
    with pytest.raises(TooLate, match="too much waits"):
        within(3600, lambda: blocked(frozen))


def test_what_hangs_of_one_person_leaves_room_to_others(
    frozen: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "_running", Shares(4, of_one=2))
    monkeypatch.setattr(deadlines, "_SECONDS_BESIDE", 20)
    for _ in range(2):
        with pytest.raises(TooLate, match="in time"):
            within(0.05, lambda: blocked(frozen), "greedy")
    with pytest.raises(TooLate, match="too much waits"):
        within(3600, lambda: blocked(frozen), "greedy")
    assert within(20, lambda: 7, "other") == within(20, lambda: 7) == 7
