"""Sets up the demo: its folder, its database and its processes, scratch or kept from run to run."""

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

from receiptsvc import private_files
from receiptsvc.demo import kept
from receiptsvc.demo.processes import Stack, free_port, is_free
from receiptsvc.demo.story import DemoFailed
from receiptsvc.locations import DATA
from receiptsvc.store.core import database_faults
from receiptsvc.worker import single_instance

SANDBOX_PORT = 9100

_LISTENING = {"LISTEN_ADDRESS": "127.0.0.1"}  # the keys are in a file, or shown, but no other machine has a use for it

_SLOW_RECEIPTS = ("--delay-ms", "150", "--late-seconds", "3")  # so that a message is repeated before its receipts come


def make_stack(folder: Path, url: str, *, stay: bool) -> Stack:
    """The demo's processes, not started yet. `stay`: with the keys in the data folder, and on the port PORT.

    Raises DemoFailed if another run with `stay` is up on the same SQLite file, the database is a real service's, or the
    port is taken: other commands look for the service there, so another one is not chosen.
    """
    if not stay:
        return Stack(folder, url, settings=_LISTENING, sandbox_flags=_SLOW_RECEIPTS)
    settings = kept.settings()
    if settings.is_sqlite:
        _refuse_second_run(settings.database_url)
    kept.refuse_foreign(settings.database_url)
    if not is_free(settings.port):
        raise DemoFailed(
            f"port {settings.port} is taken by another program: stop that one, or name a free port in PORT, for "
            "this and for the other commands"
        )
    sandbox = SANDBOX_PORT if is_free(SANDBOX_PORT) else free_port()
    now = str(int(time.time()))
    callback_keys = ",".join(f"{key.kid}:{key.secret}" for key in settings.callback_keys)
    return Stack(
        folder,
        url,
        ports=(settings.port, sandbox),
        api_key=settings.api_keys[0].secret,
        settings={**_LISTENING, "CALLBACK_KEYS": callback_keys},
        # Ids must be above those of earlier runs, which the kept data has.
        sandbox_flags=(*_SLOW_RECEIPTS, "--transaction-start", now, "--msgid-start", now),
    )


def _refuse_second_run(database_url: str) -> None:
    """Raise DemoFailed if a worker is running on this database."""
    private_files.make_folder(Path(make_url(database_url).database or "").parent)
    try:
        lock = single_instance.lock_worker(database_url, patience_seconds=0, stop=threading.Event())
    except single_instance.WorkerAlreadyRunning:
        raise DemoFailed("it is running already: stop the other one first") from None
    if lock is not None:
        lock.close()


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    """The folder of the logs."""
    if keep:
        yield DATA / "logs"
    else:
        with tempfile.TemporaryDirectory(prefix="receiptsvc-demo-") as folder:
            yield Path(folder)


@contextmanager
def database(*, keep: bool) -> Iterator[str]:
    """A scratch SQLite file, or a scratch schema in the PostgreSQL that DATABASE_URL names; `keep`: see `kept`."""
    database_url = os.environ.get("DATABASE_URL", "").strip()
    if keep:
        yield kept.settings().database_url
    elif database_url.startswith(("postgres://", "postgresql")):
        with _schema(database_url) as url:
            yield url
    else:
        with tempfile.TemporaryDirectory(prefix="receiptsvc-demo-") as folder:
            yield f"sqlite:///{folder}/demo.db"


@contextmanager
def _schema(database_url: str) -> Iterator[str]:
    url = make_url(database_url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql")
    name = f"receiptsvc_demo_{secrets.token_hex(6)}"
    try:
        admin = psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise DemoFailed(database_faults.explain(error, url.render_as_string(hide_password=False))) from error
    with admin:
        admin.execute(f'CREATE SCHEMA "{name}"')
        try:
            scratch = url.update_query_dict({"options": f"-csearch_path={name}"})
            yield scratch.render_as_string(hide_password=False)
        finally:
            admin.execute(f'DROP SCHEMA "{name}" CASCADE')
