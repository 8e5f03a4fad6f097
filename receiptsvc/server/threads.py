"""Native threads for the event loop: where whatever may block is done, how the loop waits for it, and the way back.

What a task raises is raised where it is waited for, and nowhere else: gevent itself would print it, texts and all.
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
_NICENESS = 10  # of threads that give way: the loop's has 0

Result = TypeVar("Result")


class NativeThreads:
    """Some native threads. If it `gives_way`, the system lets the loop run before them."""

    def __init__(self, threads: int, *, gives_way: bool = False) -> None:
        self._pool = ThreadPool(threads)
        self._do = self._politely if gives_way else _caught
        self._thread = threading.local()

    def do(self, task: Callable[..., Result], *arguments: object) -> Result:
        """Do a task on one of them, and wait for its end."""
        ended: Result | _Raised = self._pool.apply(self._do, (task, *arguments))
        return _outcome(ended)

    def _politely(self, task: Callable[..., Result], *arguments: object) -> "Result | _Raised":
        if not hasattr(self._thread, "is_nice"):
            self._thread.is_nice = True
            with suppress(OSError):  # only Linux takes a thread for a process here
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        return _caught(task, *arguments)


class AbortableThread:
    """One native thread for work that may hang: one task at a time, and whoever waits for it can give up.

    `give_up` is called on the loop when that happens, to make the task end if that is possible, and again when the next
    one finds it hanging still: it may not have come to what can be given up before.
    """

    def __init__(self, give_up: Callable[[], None] = lambda: None) -> None:
        self._give_up = give_up
        self._pool = ThreadPool(1)
        self._hanging: ThreadResult | None = None

    def do(self, seconds: float, task: Callable[[], None], *, is_patient: bool = False) -> None:
        """Do a task, or raise StorageUnavailable after so many seconds. It may still be done later.

        `is_patient`: leave it to go on until the next task has waited for it in vain.
        """
        deadline = monotonic() + max(seconds, _MIN_SECONDS)
        if self._hanging is not None:
            self._hanging.wait(timeout=deadline - monotonic())
            if not self._hanging.ready():
                self._give_up()
                raise StorageUnavailable("an earlier write still hangs")
            self._hanging = None
        doing = self._pool.spawn(_caught, task)
        doing.wait(timeout=max(deadline - monotonic(), _MIN_SECONDS))
        if not doing.ready():
            self._hanging = doing
            if not is_patient:
                self._give_up()
            raise StorageUnavailable("it took too long")
        _outcome(doing.get())


class Loop:
    """The event loop of the thread that makes this, for native threads that need something done there."""

    def __init__(self) -> None:
        self._loop = gevent.get_hub().loop

    def do(self, seconds: float, task: Callable[[], Result]) -> Result:
        """Do a task in a greenlet and wait for its end. Raises StorageUnavailable after so many seconds."""
        ended: Future[Result | _Raised] = Future()
        self._loop.run_callback_threadsafe(gevent.spawn, lambda: ended.set_result(_caught(task)))
        try:
            return _outcome(ended.result(seconds))
        except TimeoutError:
            raise StorageUnavailable("the event loop takes too long") from None


def _caught(task: Callable[..., Result], *arguments: object) -> "Result | _Raised":
    try:
        return task(*arguments)
    except Exception as error:  # noqa: BLE001 - raised again by whoever waits
        return _Raised(error)


class _Raised:
    """An error on its way from a thread to whoever waits."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _outcome(ended: "Result | _Raised") -> Result:
    if isinstance(ended, _Raised):
        raise ended.error
    return ended
