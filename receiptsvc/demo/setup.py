"""Where the demo runs: its folder, its database, and the processes on it. Scratch, or kept from run to run."""

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from receiptsvc.config import DATA, Settings
from receiptsvc.demo.processes import Stack, free_port, is_free
from receiptsvc.demo.story import DemoFailed
from receiptsvc.worker import single_instance

WEB_PORT, SANDBOX_PORT = 8000, 9100

_SLOWLY = ("--delay-ms", "150", "--late-seconds", "3")  # a message is sent again before its receipts come


def make_stack(folder: Path, url: str, *, stay: bool) -> Stack:
    if not stay:
        return Stack(folder, url, sandbox_flags=_SLOWLY)
    desk = Settings.from_env({})  # its keys in the data folder, which the command line finds by itself
    web, sandbox = (port if is_free(port) else free_port() for port in (WEB_PORT, SANDBOX_PORT))
    if desk.is_sqlite:
        _refuse_second(desk.database_url)
    now = str(int(time.time()))
    signing = ",".join(f"{key.kid}:{key.secret}" for key in desk.callback_keys)
    return Stack(
        folder,
        url,
        ports=(web, sandbox),
        api_key=desk.api_keys[0].secret,
        settings={"CALLBACK_KEYS": signing},
        # Its ids go on where an earlier run's ended: the kept data knows those.
        sandbox_flags=(*_SLOWLY, "--transaction-start", now, "--msgid-start", now),
    )


def _refuse_second(database_url: str) -> None:
    """Raise DemoFailed if a worker is at work on the desk's database."""
    Path(make_url(database_url).database or "").parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = single_instance.lock_worker(database_url, patience_seconds=0, stop=threading.Event())
    except single_instance.WorkerAlreadyRunning:
        raise DemoFailed("it is up already: end the other one first") from None
    if lock is not None:
        lock.close()


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    """Where the logs go."""
    if keep:
        yield DATA / "logs"
    else:
        with tempfile.TemporaryDirectory(prefix="receiptsvc-demo-") as folder:
            yield Path(folder)


@contextmanager
def database(*, keep: bool) -> Iterator[str]:
    """A scratch SQLite file, or a scratch schema in the PostgreSQL that DATABASE_URL names; `keep`: always the same."""
    given = os.environ.get("DATABASE_URL", "").strip()
    if given.startswith(("postgres://", "postgresql")):
        with _schema(given, keep=keep) as url:
            yield url
    elif keep:
        yield Settings.from_env({}).database_url
    else:
        with tempfile.TemporaryDirectory(prefix="receiptsvc-demo-") as folder:
            yield f"sqlite:///{folder}/demo.db"


@contextmanager
def _schema(given: str, *, keep: bool) -> Iterator[str]:
    url = make_url(given.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql")
    name = "receiptsvc_run" if keep else f"receiptsvc_demo_{secrets.token_hex(6)}"
    try:
        admin = psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise DemoFailed("the PostgreSQL that DATABASE_URL names can't be reached") from error
    with admin:
        admin.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
        try:
            scratch = url.update_query_dict({"options": f"-csearch_path={name}"})
            yield scratch.render_as_string(hide_password=False)
        finally:
            if not keep:
                admin.execute(f'DROP SCHEMA "{name}" CASCADE')
