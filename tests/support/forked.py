"""Processes that are forked off one that has imported what they need.

A start takes a second of the processor's time, nearly all of it for imports, and the tests start hundreds of processes.
What runs is the same, with its own arguments, environment, session and log. That a process starts by its command is what
tests with the `Stack` of `receiptsvc.demo.processes` show, among them all of `tests/upgrade` and of the demo.
"""

import atexit
import gc
import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from receiptsvc.demo import processes
from receiptsvc.locations import PROJECT
from tests.support.processes import until

# But for what imports prometheus_client, which looks at the environment then: see gunicorn.conf.py.
_IMPORTED = [
    "tests.support.forked",
    *("tests.faults.doomed_sender", "tests.faults.doomed_worker"),
    *("receiptsvc.cli.sandbox", "receiptsvc.cli.worker"),
    *("receiptsvc.intake.group_commit", "receiptsvc.server.wsgi_bridge", "receiptsvc.spool.drainer"),
    *("receiptsvc.web.docs.openapi", "receiptsvc.web.docs.pages"),
    *(
        f"receiptsvc.web.api.{path.stem}"
        for path in sorted((PROJECT / "receiptsvc/web/api").glob("[a-z]*.py"))
        if path.stem != "metrics"
    ),
    *("gunicorn.app.wsgiapp", "gunicorn.workers.ggevent"),
]
_MODULES = {"gunicorn", "receiptsvc"}


def _inherited() -> tuple[object, ...]:
    """What a process has from the one that starts it, and a fork from the one that it is forked off."""
    return os.environ.get("PYTHONPATH"), resource.getrlimit(resource.RLIMIT_NOFILE)


_OWN = _inherited()

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


def run(work: Callable[..., None], *arguments: Any) -> int:
    """Do some work in a process of its own. Returns its exit code; a signal that killed it is negative."""
    process = _context.Process(target=work, args=arguments)
    process.start()
    process.join()
    exit_code = process.exitcode
    assert exit_code is not None
    process.close()
    return exit_code


class Stack(processes.Stack):
    """The same without the start of the processes, where a fork comes to the same."""

    def _spawn(self, command: Sequence[str], log: IO[bytes]) -> processes.Process:
        python, option, module, *_ = command
        is_ours = (python, option) == (sys.executable, "-m") and module in _MODULES and self.project == PROJECT
        if is_ours and _inherited() == _OWN:
            return _Forked(command[2:], self.environ, log.name)
        return super()._spawn(command, log)


class _Forked:
    """As much of a `subprocess.Popen` as a stack needs."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: str) -> None:
        self._arguments = arguments
        # At the end of the tests what should still run is terminated, not waited for.
        self._process = _context.Process(target=_become, args=(arguments, dict(environ), log), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        until("it has a session of its own", self._is_leader)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def _is_leader(self) -> bool:
        with suppress(ProcessLookupError):
            return os.getsid(self.pid) == self.pid
        return True  # it has ended


def _become(arguments: Sequence[str], environ: Mapping[str, str], log: str) -> None:
    """Go on as `python -m` with these arguments does, to the very end of the process."""
    os.setsid()
    gc.freeze()
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    tempfile.tempdir = None
    os.chdir(PROJECT)
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123 - only its descriptor is wanted
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # each is a TextIOWrapper
    sys.argv = list(arguments)
    exit_code = 1
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        exit_code = 0
    except SystemExit as end:  # of a process that gunicorn forked, too
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        else:
            exit_code = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as the interpreter does
        atexit._run_exitfuncs()  # noqa: SLF001 - likewise
        sys.stdout.flush()
        os._exit(exit_code)
