"""A PostgreSQL server of the bench's own, which can be restarted at once, as after a crash."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from receiptsvc.store.core.db import plain_url
from tests.support import databases

_RESTART_SECONDS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server. `programs`: the folder with pg_ctl."""

    url: str
    data: Path
    programs: Path

    def create(self, name: str) -> str:
        """Create a database, which lives as long as the server. Returns its URL in SQLAlchemy's form."""
        with psycopg.connect(plain_url(self.url), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made = make_url(self.url).set(drivername="postgresql+psycopg", database=name)
        return made.render_as_string(hide_password=False)

    def vacuum_by_hand(self) -> None:
        """Let no autovacuum begin by itself."""
        with psycopg.connect(plain_url(self.url), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")

    def pid(self) -> int:
        """The postmaster's pid."""
        return int((self.data / "postmaster.pid").read_text().partition("\n")[0])

    def control(self, command: str, mode: str) -> None:
        """Run pg_ctl with `stop` or `restart`, in a mode such as `immediate`, and wait for it."""
        subprocess.run(
            [self.programs / "pg_ctl", "-w", "-D", self.data, "-m", mode, command],
            user=self.data.stat().st_uid if os.geteuid() == 0 else None,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_RESTART_SECONDS,
            check=True,
        )


@contextmanager
def own_server() -> Iterator[Server]:
    """Run an embedded server in the block."""
    with databases.embedded_postgresql() as url:
        with psycopg.connect(plain_url(url)) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        data = Path(str(row[0] if row else ""))
        first_pid = int((data / "postmaster.pid").read_text().partition("\n")[0])
        server = Server(url=url, data=data, programs=Path(f"/proc/{first_pid}/exe").resolve().parent)
        try:
            yield server
        finally:
            if server.pid() != first_pid:  # the library stops only what it started itself
                server.control("stop", "fast")
