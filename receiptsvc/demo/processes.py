"""Starts and stops the real processes on this machine: web, worker and sandbox, on free ports, with logs in files.

Used by the demo, the tests and the benchmarks. Of the environment only what `_INHERITED` names is passed on, so that
nothing started here can ever reach a real person, gateway or database.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

import requests

from receiptsvc import private_files
from receiptsvc.client import Client
from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.locations import PROJECT, WEB_COMMAND

_READY_SECONDS = 60.0
_STOP_SECONDS = 25.0
_POLL_SECONDS = 0.05, 0.2  # soon, and after some seconds: what is asked costs those who are waited for their time
_PORTS = range(20_000, 32_000)  # below those that machines give to whoever connects
_TAIL_CHARACTERS = 2000  # of a log, and the beginning of the line that they begin in
# No settings of ours or of gunicorn, no proxies, no certificates, nothing of a hosting.
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|TMPDIR|TMP|TEMP|SYSTEMROOT|VIRTUAL_ENV"
    r"|LD_LIBRARY_PATH|DYLD_[A-Z_]+|PYTHON[A-Z0-9]+"
)
_INHERITED_WITH_POSTGRESQL = re.compile(r"PG[A-Z]+")  # they complete the URL of the one that DATABASE_URL names


class StackError(ReceiptsvcError):
    """A process did not start, ended by itself, or did not do in time what was awaited."""


class Process(Protocol):
    """What is asked of a running process: a `subprocess.Popen`, or what does the same."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Stack:
    """The processes `web`, `worker` and `sandbox`. Start them by name; a with block stops them all.

    `ports`: of web and sandbox; `settings`: override those that the stack makes. `api_key` has every scope.
    `open_files`: how many files the web process may have open at most. `commands`: what is run, by name. `project`: the
    folder of the code that is run.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        ports: tuple[int, int] | None = None,
        api_key: str | None = None,
        settings: Mapping[str, str] | None = None,
        sandbox_flags: Sequence[str] = (),
        open_files: int | None = None,
        project: Path = PROJECT,
    ) -> None:
        self.folder, self.project, self.database_url = folder, project, database_url
        web, sandbox = ports or (free_port(), free_port())
        self.url, self.sandbox_url = f"http://127.0.0.1:{web}", f"http://127.0.0.1:{sandbox}"
        self.api_key = api_key or secrets.token_urlsafe(24)
        defaults = {
            "DATABASE_URL": database_url,
            "PORT": str(web),
            "PUBLIC_URL": self.url,
            "CALLBACK_KEYS": secrets.token_urlsafe(24),
            "API_KEYS": f"demo:send+read+ops:{self.api_key}",
            "DYNMARK_USERNAME": "sandbox",
            "DYNMARK_PASSWORD": secrets.token_urlsafe(12),
            "DYNMARK_SOAP_URL": f"{self.sandbox_url}/WebServices/MessagingServicesWS.asmx",
            "DYNMARK_REST_URL": f"{self.sandbox_url}/webapi/message/send",
            "DYNMARK_TIMEOUT_SECONDS": "5",
            "RESEND_AFTER_SECONDS": "1",
            "SENDS_PER_SECOND": "100000",
        }
        self.environ = {**_inherited(database_url), **defaults, **(settings or {}), "PYTHONUNBUFFERED": "1"}
        python = sys.executable
        self.commands: Mapping[str, list[str]] = {
            "migrations": [python, "-m", "receiptsvc", "migrate"],
            "sandbox": [python, "-m", "receiptsvc", "sandbox", "--port", str(sandbox), *sandbox_flags],
            "web": [*_limited(open_files), *WEB_COMMAND],
            "worker": [python, "-m", "receiptsvc", "worker"],
        }
        self._running: dict[str, Process] = {}
        self._interrupted_by: int | None = None  # a signal's number
        private_files.make_folder(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in ("worker", "web", "sandbox"):
            if name in self._running:
                self.stop(name)

    def migrate(self) -> None:
        """Migrate the database to the newest revision. Raises StackError."""
        with self._log("migrations").open("ab") as log:
            completed = subprocess.run(
                self.commands["migrations"],
                cwd=self.project,
                env=self.environ,
                stdout=log,
                stderr=log,
                check=False,
            )
        if completed.returncode:
            raise StackError(f"the migrations failed:\n{self.tail('migrations')}")

    def start(self, *names: str) -> None:
        """Start processes by name, each with its log in the stack's folder."""
        for name in names:
            with self._log(name).open("ab") as log:
                self._running[name] = self._spawn(self.commands[name], log)

    def start_all(self) -> None:
        """Migrate, start all processes, and wait until web and sandbox answer. Raises StackError."""
        self.migrate()
        self.start("sandbox", "web", "worker")
        self.wait_until("the sandbox", lambda: answers(f"{self.sandbox_url}/sandbox/report"))
        self.wait_until("the web process", lambda: answers(f"{self.url}/readyz"))

    def stop(self, name: str) -> int:
        """Stop a process with SIGTERM, as a deployment does, and return its exit code. One that hangs is killed."""
        process = self._running.pop(name)
        process.terminate()
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # children that it may have left

    def kill(self, name: str) -> None:
        """Kill a process and its children at once with SIGKILL."""
        process = self._running.pop(name)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def pid(self, name: str) -> int:
        """The process id of a running process."""
        return self._running[name].pid

    def wait_until(self, what: str, is_so: Callable[[], bool], *, seconds: float = _READY_SECONDS) -> None:
        """Poll until `is_so()`. Raises StackError after `seconds`, or as soon as a process has ended by itself.

        Raises SystemExit once `interrupt` was called.
        """
        began = time.monotonic()
        while not is_so():
            if self._interrupted_by is not None:
                sys.exit(128 + self._interrupted_by)
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise StackError(f"{name} ended with exit code {process.returncode}:\n{self.tail(name)}")
            waited = time.monotonic() - began
            if waited > seconds:
                raise StackError(f"{what}: not within {seconds:g} s; logs are in {self.folder}")
            time.sleep(sorted((*_POLL_SECONDS, waited / 20))[1])

    def interrupt(self, signal_number: int) -> None:
        """End `wait_until` at its next poll. For signal handlers: raising in one could lose a process being started."""
        self._interrupted_by = signal_number

    def client(self) -> Client:
        """A client of this stack's API with every scope."""
        return Client(self.url, self.api_key)

    def tail(self, name: str) -> str:
        """The last lines of a process's log, each of them whole."""
        path = self._log(name)
        text = path.read_text(errors="replace") if path.exists() else ""
        return text[text.rfind("\n", 0, max(0, len(text) - _TAIL_CHARACTERS)) + 1 :]

    def _spawn(self, command: Sequence[str], log: IO[bytes]) -> Process:
        return subprocess.Popen(
            command, cwd=self.project, env=self.environ, stdout=log, stderr=log, start_new_session=True
        )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def _limited(open_files: int | None) -> list[str]:
    """What has to stand before a command for this limit."""
    return [] if open_files is None else ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(open_files)]


def _inherited(database_url: str) -> dict[str, str]:
    """What the processes take from this one's environment."""
    is_postgresql = database_url.startswith("postgres")
    return {
        name: value
        for name, value in os.environ.items()
        if _INHERITED.fullmatch(name) or (is_postgresql and _INHERITED_WITH_POSTGRESQL.fullmatch(name))
    }


def local_session() -> requests.Session:
    """A session for this machine: the environment's proxies and ~/.netrc are not asked."""
    session = requests.Session()
    session.trust_env = False
    return session


def answers(url: str) -> bool:
    """Whether a URL answers 200 now."""
    try:
        with local_session() as session:
            return session.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


def free_port() -> int:
    """A free TCP port of this machine: none that it gives to others by itself while nothing listens there yet."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_free(port: int) -> bool:
    """Whether a TCP port of this machine is free."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
