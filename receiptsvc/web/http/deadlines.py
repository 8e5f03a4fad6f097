"""How long a page waits for the database: work runs on a thread of its own, and the page goes on without it.

A database that is frozen can't be told from one that is slow, and a blocked call to it can't be ended from outside. The
thread ends when the call does. While one is overdue the others wait less, and beyond a number they don't wait at all.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import BoundedSemaphore, Thread
from typing import Any, TypeVar

from receiptsvc.domain.errors import StorageUnavailable

SECONDS = 0.8  # a page answers within a second

_SECONDS_BESIDE = 0.4  # while something is overdue: most likely the database is frozen
_MAX_RUNNING = 16

Result = TypeVar("Result")

_running = BoundedSemaphore(_MAX_RUNNING)
_overdue: set[Future[Any]] = set()


class TooLate(StorageUnavailable):
    """The database has not answered within the time that a page has. What was being done may still happen."""

    kind = "no answer"


def within(seconds: float, task: Callable[[], Result]) -> Result:
    """Run a task and return its result. Raises what it raises, and TooLate."""
    if not _running.acquire(blocking=False):
        raise TooLate("the database does not answer: too much waits for it already")
    future: Future[Result] = Future()
    Thread(target=copy_context().run, args=(_run, future, task), name="ops page", daemon=True).start()
    try:
        return future.result(min(seconds, _SECONDS_BESIDE) if _overdue else seconds)
    except TimeoutError:
        _overdue.add(future)
        future.add_done_callback(_overdue.discard)  # at once, if it is done by now
        raise TooLate("the database has not answered in time: see whether it runs and can be reached") from None


def _run(future: "Future[Result]", task: Callable[[], Result]) -> None:
    try:
        result = task()
    except BaseException as error:  # noqa: BLE001 - who waits for the task must hear of it
        _running.release()
        future.set_exception(error)
    else:
        _running.release()
        future.set_result(result)
