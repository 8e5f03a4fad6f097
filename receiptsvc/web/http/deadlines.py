"""How long a page waits for the database: work runs on a thread of its own, and the page goes on without it.

A database that is frozen can't be told from one that is slow, and a blocked call to it can't be ended from outside. The
thread ends when the call does. While somebody's is overdue their others wait less, and everybody's while those of two
are. Beyond a number they don't wait at all; one person has at most half of that.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import Any, TypeVar

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.server.admission import Shares

SECONDS = 0.8  # a page answers within a second

_SECONDS_BESIDE = 0.4  # while much is overdue: most likely the database is frozen
_MAX_RUNNING = 16

Result = TypeVar("Result")

_running = Shares(_MAX_RUNNING, of_one=_MAX_RUNNING // 2)
_overdue: dict[Future[Any], Hashable] = {}  # for whom


class TooLate(StorageUnavailable):
    """The database has not answered within the time that a page has. What was being done may still happen."""

    kind = "no answer"


class TooMuchWaits(TooLate):
    """So much waits for the database that nothing more is asked of it. Nothing was done."""


def within(seconds: float, task: Callable[[], Result], holder: Hashable = None) -> Result:
    """Run a task and return its result. `holder`: for whom; None: for strangers. Raises what it raises, and TooLate."""
    if not _running.take(holder):
        raise TooMuchWaits("too much waits for the database already")
    future: Future[Result] = Future()
    Thread(target=copy_context().run, args=(_run, future, task, holder), name="ops page", daemon=True).start()
    try:
        return future.result(min(seconds, _SECONDS_BESIDE) if _is_much_overdue(holder) else seconds)
    except TimeoutError:
        _overdue[future] = holder
        future.add_done_callback(lambda done: _overdue.pop(done, None))  # at once, if it is done by now
        raise TooLate("the database has not answered in time: see whether it runs and can be reached") from None


def _is_much_overdue(holder: Hashable) -> bool:
    """Whether something of this holder, or of two others, is overdue: one alone may have asked for too much."""
    holders = set(_overdue.copy().values())
    return holder in holders or len(holders) > 1


def _run(future: "Future[Result]", task: Callable[[], Result], holder: Hashable) -> None:
    try:
        result = task()
    except BaseException as error:  # noqa: BLE001 - who waits for the task must hear of it
        _running.release(holder)
        future.set_exception(error)
    else:
        _running.release(holder)
        future.set_result(result)
