"""The real API on a free port, a runner of commands, and receipts and replies to change what they show."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Protocol
from urllib.parse import urlencode
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url, select
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from receiptsvc import ids
from receiptsvc.cli.main import commands
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import Channel
from receiptsvc.dynmark.readers import open_reader
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.web.app import create_app
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from tests.support import rows
from tests.support.rows import T0

KEY = "the-key-of-the-tests"
_FILE = "cli.db"

READER = "a-key-that-may-only-read"
OPERATOR = "a-key-that-may-not-read-messages"
WAITS = "What was accepted waits: no worker is at work. `sending` says more.\n"  # the tests have none


class Run(Protocol):
    """Runs a command line."""

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Result: ...


class Interference:
    """WSGI middleware that notes each address that is asked.

    It can answer a request to send instead of the API, before or after the API has handled it.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self.addresses: list[str] = []  # of all requests, with their queries
        self.before: Callable[[], WSGIApplication | None] = lambda: None  # may answer instead of the service
        self.after: Callable[[], WSGIApplication | None] = lambda: None  # may replace the service's answer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.addresses.append(environ["REQUEST_URI"])
        if environ["PATH_INFO"] != "/v1/messages" or "dryRun" in environ["QUERY_STRING"]:
            return self._app(environ, start_response)
        instead = self.before()
        if instead is not None:
            return instead(environ, start_response)
        answer = Response.from_app(self._app, environ)
        return (self.after() or answer)(environ, start_response)


@dataclass(frozen=True, slots=True)
class Service:
    """The API and its database."""

    url: str
    settings: Settings
    database: Database
    interference: Interference

    @property
    def database_name(self) -> str:
        """What the commands call its database."""
        return f"the SQLite file {make_url(self.settings.database_url).database}"

    def accept(self, text: str, recipient: str = "447700900001", **fields: object) -> str:
        """Accept a message at T0, and return its public id."""
        (message_id,) = rows.accept(self.database, rows.message(recipient, text, **fields))
        return ids.public("msg", message_id)

    def report(self, message: str, **fields: str) -> None:
        """Keep and process a receipt for a message."""
        rows.keep(self.database, urlencode(fields), message_id=ids.parse("msg", message))
        self._process()

    def reply(self, **fields: str) -> None:
        """Keep and process a reply."""
        self.keep(Channel.INBOUND, **fields)

    def keep(self, channel: Channel, **fields: str) -> None:
        """Keep and process a callback that names no message by its address."""
        rows.keep(self.database, urlencode(fields), channel=channel)
        self._process()

    def texts(self) -> list[str]:
        """The texts of all messages, in the order of acceptance."""
        with self.database.reading() as session:
            return list(session.scalars(select(Message.text).order_by(Message.id)))

    def ids(self) -> list[str]:
        """The public ids of all messages, in the order of acceptance."""
        with self.database.reading() as session:
            return [
                ids.public("msg", message_id) for message_id in session.scalars(select(Message.id).order_by(Message.id))
            ]

    def originator_of(self, message: str) -> str | None:
        message_id = ids.parse("msg", message)
        assert message_id is not None
        with self.database.reading() as session:
            return session.get_one(Message, message_id).originator

    def _process(self) -> None:
        assert process(self.database, ReceiptRules.of(self.settings, open_reader(self.settings)), T0, 10) == 1


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of a service on a new SQLite file, in this process's environment too."""
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path / _FILE}",
        "PUBLIC_URL": "http://receipts.example",
        "CALLBACK_KEYS": "k1:a-secret-that-signs-urls",
        "API_KEYS": f"all:ops+read+send:{KEY},reader:read:{READER},operator:ops:{OPERATOR}",
        "DYNMARK_SOAP_URL": "http://127.0.0.1:9/",
        "DYNMARK_USERNAME": "account",
        "DYNMARK_PASSWORD": "password",
        "RECEIPTSVC_API_KEY": KEY,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for name in ("FORCE_COLOR", "COLUMNS", "DYNO", "RECEIPTSVC_URL"):
        monkeypatch.delenv(name, raising=False)
    return settings


@pytest.fixture
def service(
    environ: dict[str, str], sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """The API, and the environment in which the commands find it."""
    settings = Settings.from_env(environ)
    shutil.copy(sqlite_template, tmp_path / _FILE)
    database = Database(settings.database_url)
    interference = Interference(create_app(settings, database))
    server = make_server("127.0.0.1", 0, interference, threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("RECEIPTSVC_URL", url)
    try:
        yield Service(url, settings, database, interference)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        database.close()


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """Runs a command line in this process; `environ` is in force."""
    assert environ

    def run_command(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(commands, arguments, input=stdin, prog_name="receiptsvc", catch_exceptions=False)

    return run_command
