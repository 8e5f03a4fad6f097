"""A browser at the ops page, without a server in between."""

import threading
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from receiptsvc.store.core import time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.web.app import create_app
from receiptsvc.web.http import deadlines
from receiptsvc.web.http.readiness import ReadinessProbe
from receiptsvc.web.ops import board
from tests.support.callers import SECRETS, make_settings

OWN = {"Sec-Fetch-Site": "same-origin"}  # what a browser adds to a request that a page of ours makes


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine be slow, and have no look at the database outlive its test. Some tests are about both."""
    monkeypatch.setattr(deadlines, "SECONDS", 60.0)
    monkeypatch.setattr(board, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(time_limits, "PANEL", TimeLimits(lock=30, statement=30, idle=30))
    monkeypatch.setattr(ReadinessProbe, "look_soon", lambda *_: None)


@pytest.fixture
def visitor(database: Database) -> Iterator[FlaskClient]:
    """A browser in which nobody has signed in, on each database engine."""
    client = create_app(make_settings(), database).test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = OWN["Sec-Fetch-Site"]
    yield client
    for thread in threading.enumerate():
        if thread.name == board.THREAD:  # it reads for the first page, and must not outlive the database
            thread.join()


@pytest.fixture
def browser(visitor: FlaskClient) -> FlaskClient:
    """A browser in which the ops key has signed in, as `key opser`."""
    assert visitor.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    return visitor
