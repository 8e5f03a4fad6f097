"""The API over real HTTP servers: how they pass on addresses."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from werkzeug.serving import make_server

from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support import databases, rows
from tests.support.callers import ALL, bearer, make_settings

pytestmark = pytest.mark.slow

CLIENT_REFS = [
    "a/b",
    "a//b",
    "/a",
    "//",
    "..",
    ".",
    "a/../b",
    "a?b#c",
    "100%",
    "%2F",
    "a b+c",
    "\u00e9\U0001f600",
    "a\nb",
]

GUNICORN = """
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support.callers import make_settings
application = create_app(make_settings(), Database({url!r}))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with a conversation for each clientRef."""
    url = f"sqlite:///{tmp_path_factory.mktemp('servers') / 'test.db'}"
    databases.migrate(url)
    database = Database(url)
    rows.accept(database, *(rows.message(client_ref=client_ref) for client_ref in CLIENT_REFS))
    database.close()
    return url


@pytest.fixture(scope="module")
def werkzeug_port(url: str) -> Iterator[int]:
    database = Database(url)
    server = make_server("127.0.0.1", 0, create_app(make_settings(), database), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
    database.close()


@pytest.fixture(scope="module")
def gunicorn_port(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("gunicorn")  # without the project's own settings for gunicorn
    (folder / "served.py").write_text(GUNICORN.format(url=url))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.set_inheritable(True)
        with subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--no-control-socket", "--bind", f"fd://{listener.fileno()}", "served"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        ) as process:
            yield listener.getsockname()[1]  # a call made before the server is there waits in the socket's queue
            process.terminate()


@pytest.fixture(params=["werkzeug", "gunicorn"])
def port(request: pytest.FixtureRequest) -> int:
    found: int = request.getfixturevalue(f"{request.param}_port")
    return found


def call(port: int, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, object]:
    """Call with exactly this address, without a client that would normalise it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, body, bearer(ALL) | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


@pytest.mark.parametrize("client_ref", CLIENT_REFS)
def test_any_client_ref_can_be_part_of_the_address(port: int, client_ref: str) -> None:
    status, read = call(port, "GET", f"/v1/conversations/{quote(client_ref, safe='')}")
    assert status == 200
    assert isinstance(read, dict)
    assert read["clientRef"] == client_ref


def test_dots_need_not_be_percent_encoded(port: int) -> None:
    assert call(port, "GET", "/v1/conversations/..")[0] == 200


def test_a_posted_message_can_be_read(port: int) -> None:
    body = json.dumps({"messages": [{"recipients": ["+44 7700 900123"], "text": "caf\u00e9"}]}).encode()
    status, accepted = call(port, "POST", "/v1/messages", body, **{"Content-Type": "application/json"})
    assert status == 202
    assert isinstance(accepted, dict)
    status, read = call(port, "GET", f"/v1/messages/{accepted['messages'][0]['id']}")
    assert (status, isinstance(read, dict) and read["text"]) == (200, "caf\u00e9")


def test_a_head_has_no_body(port: int) -> None:
    assert call(port, "HEAD", "/healthz") == (200, None)
