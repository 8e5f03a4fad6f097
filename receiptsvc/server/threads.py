"""Native threads for the event loop: blocking tasks run on them, and greenlets wait for their results.

An error of a task is raised where the task is waited for, and nowhere else: gevent itself would print it, with texts
and all.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import TypeVar

import gevent
from gevent.threadpool import ThreadPool, ThreadResult

from receiptsvc.domain.errors import StorageUnavailable

_MIN_SECONDS = 0.05
_LOW_PRIORITY = 10  # niceness; the loop's thread has 0

Result = TypeVar("Result")


class NativeThreads:
    """A pool of native threads. The loop runs before threads with `is_low_priority`, as far as the system can do it."""

    def __init__(self, threads: int, *, is_low_priority: bool = False) -> None:
        self._pool = ThreadPool(threads)
        self._call = self._call_at_low_priority if is_low_priority else _catch
        self._thread = threading.local()

    def run(self, task: Callable[..., Result], *arguments: object) -> Result:
        """Run a task on one of the threads, wait for its end and return its result. Raises what it raises."""
        outcome: Result | _Raised = self._pool.apply(self._call, (task, *arguments))
        return _unwrap(outcome)

    def _call_at_low_priority(self, task: Callable[..., Result], *arguments: object) -> "Result | _Raised":
        if not hasattr(self._thread, "has_low_priority"):
            self._thread.has_low_priority = True
            with suppress(OSError):  # only Linux takes a thread for a process here
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        return _catch(task, *arguments)


class AbortableThread:
    """One native thread for work that may hang: it runs one task at a time, and the caller can stop waiting.

    `abort` is called on the loop when a task takes too long, to make it end if that is possible. It is called again
    when the next task finds it still hanging: the first call may have come before there was anything to abort.
    """

    def __init__(self, what: str, abort: Callable[[], None] = lambda: None) -> None:
        """`what`: what its tasks wait for, such as `the database`."""
        self._what, self._abort = what, abort
        self._pool = ThreadPool(1)
        self._hanging: ThreadResult | None = None

    def run(self, seconds: float, task: Callable[[], None], *, abort_on_timeout: bool = True) -> None:
        """Run a task, or raise StorageUnavailable after so many seconds. The task may still end later.

        Without `abort_on_timeout` it goes on until the next task has waited for it in vain.
        """
        deadline = monotonic() + max(seconds, _MIN_SECONDS)
        if self._hanging is not None:
            self._hanging.wait(timeout=deadline - monotonic())
            if not self._hanging.ready():
                self._abort()
                raise self._no_answer()
            self._hanging = None
        result = self._pool.spawn(_catch, task)
        result.wait(timeout=max(deadline - monotonic(), _MIN_SECONDS))
        if not result.ready():
            self._hanging = result
            if abort_on_timeout:
                self._abort()
            raise self._no_answer()
        _unwrap(result.get())

    def _no_answer(self) -> StorageUnavailable:
        text = f"{self._what} did not answer in time: see whether it runs and can be reached, and what it is busy with"
        return StorageUnavailable(text, f"no answer of {self._what}")


class EventLoop:
    """The event loop of the thread that makes this object, for native threads that need something done on it."""

    def __init__(self) -> None:
        self._loop = gevent.get_hub().loop

    def run(self, seconds: float, task: Callable[[], Result]) -> Result:
        """Run a task in a greenlet and wait for its result. Raises StorageUnavailable after so many seconds."""
        future: Future[Result | _Raised] = Future()
        self._loop.run_callback_threadsafe(gevent.spawn, lambda: future.set_result(_catch(task)))
        try:
            return _unwrap(future.result(seconds))
        except TimeoutError:
            raise StorageUnavailable("the event loop takes too long") from None


def _catch(task: Callable[..., Result], *arguments: object) -> "Result | _Raised":
    try:
        return task(*arguments)
    except Exception as error:  # noqa: BLE001 - `_unwrap` raises it again where the task is waited for
        return _Raised(error)


class _Raised:
    """An error on its way from a thread to where its task is waited for."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _unwrap(outcome: "Result | _Raised") -> Result:
    if isinstance(outcome, _Raised):
        raise outcome.error
    return outcome
