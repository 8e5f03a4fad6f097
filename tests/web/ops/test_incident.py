"""While the database is away, whoever was signed in a short time ago sees what the process knows. Nothing else opens."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time

import pytest
from flask.testing import FlaskClient

from receiptsvc.store.access import searches, sessions
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.http import context, deadlines
from receiptsvc.web.ops.pages import PanelLate
from tests.support.callers import SECRETS, make_settings
from tests.support.processes import until
from tests.web.ops.conftest import OWN

AWAY = "postgresql+psycopg://user:hunter2hunter2@127.0.0.1:1/name"
HEADING = "No database"


@pytest.fixture
def away() -> Iterator[Database]:
    database = Database(AWAY)
    yield database
    database.close()


@pytest.fixture
def stranded(browser: FlaskClient, database: Database, away: Database, tmp_path: Path) -> FlaskClient:
    """The browser that is signed in, at a process whose database has gone away after a look at it."""
    settings = make_settings(SPOOL_DIR=str(tmp_path / "spool"))
    app = create_app(settings, database, page_database=away)
    with app.app_context():
        context.readiness().find_degraded(context.now())
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = OWN["Sec-Fetch-Site"]
    cookie = browser.get_cookie("receiptsvc-ops")
    assert cookie is not None
    client.set_cookie("receiptsvc-ops", cookie.value)
    return client


def later(client: FlaskClient, seconds: float) -> None:
    """Let time go by for a process, by its database's clock."""
    with client.application.app_context():
        context.database().clock.measured(monotonic(), time() + seconds)


@pytest.mark.parametrize("path", ["/ops", "/ops/sessions", "/ops/messages/msg_1", "/ops/search/srch_1"])
def test_every_page_says_what_the_process_knows(stranded: FlaskClient, path: str) -> None:
    later(stranded, 120)
    page = stranded.get(path)
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    for words in (HEADING, "nothing listens there", "2 min ago", "worker unseen", "Spool", "Workers that have shown"):
        assert words in page.text, words
    assert "hunter2" not in page.text


def test_it_holds_for_a_quarter_of_an_hour(stranded: FlaskClient) -> None:
    later(stranded, 14 * 60)
    assert HEADING in stranded.get("/ops").text
    later(stranded, 16 * 60)
    page = stranded.get("/ops")
    assert (page.status_code, "Signing in has to wait" in page.text) == (503, True)
    assert page.headers["Refresh"] == "5"
    assert "Try again</a>" in page.text
    assert "<input" not in page.text, "what is typed would be lost"
    assert "Spool" not in page.text
    assert "127.0.0.1" not in page.text, "who asks is not known"


def test_whoever_shows_no_session_learns_nothing(stranded: FlaskClient) -> None:
    stranded.delete_cookie("receiptsvc-ops")
    assert stranded.get("/ops").status_code == 303
    stranded.set_cookie("receiptsvc-ops", "guessed.1767614400.guessed")
    page = stranded.get("/ops")
    assert (page.status_code, "Spool" in page.text) == (303, False), "the database is not asked about it"


def test_nothing_can_be_done_and_nothing_is_said_to_be(stranded: FlaskClient, browser: FlaskClient) -> None:
    page = stranded.post("/ops/sign-out")
    assert (page.status_code, "may have been done or not" in page.text) == (503, True)
    assert browser.get("/ops").status_code == 200, "the session is open"


def test_it_asks_again_by_itself_and_says_since_when(stranded: FlaskClient) -> None:
    page = stranded.get("/ops/sessions")
    assert page.headers["Refresh"] == "5"
    assert "This process has had no answer since" in page.text
    assert '<a href="../ops/sessions">try again</a>' in page.text
    since = re.findall(r'no answer since <time datetime="([^"]+)"', page.text)
    later(stranded, 60)
    again = stranded.get("/ops").text
    assert re.findall(r'no answer since <time datetime="([^"]+)"', again) == since
    assert "60 s ago" in again or "1 min ago" in again


def test_what_was_to_be_done_is_not_asked_for_again(stranded: FlaskClient) -> None:
    page = stranded.post("/ops/sending/pause", data={"reason": "wrong texts"})
    assert page.status_code == 503
    assert "Refresh" not in page.headers
    assert "What you asked for may have been done or not." in page.text
    assert '<a href="../../ops">start page</a>' in page.text


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/ops/search", {"q": "order/7"}),
        ("/ops/messages", {"clientRef": "order/7"}),
        ("/ops/receipts", {"outcome": "dead"}),
        ("/ops/receipts", {"action": "preview"}),
        ("/ops/audit", {"actor": "user anna"}),
        ("/ops/people", {"of": "msg_1"}),
        ("/ops/cancel", {"clientRef": "order/7"}),
        ("/ops/failures/messages", {}),
        ("/ops/messages/msg_1", {"action": "reveal"}),
        ("/ops/problems/prb_1", {"action": "rows"}),
    ],
)
def test_what_only_looks_can_not_have_been_done(stranded: FlaskClient, path: str, form: dict[str, str]) -> None:
    page = stranded.post(path, data=form)
    assert (page.status_code, "may have been done" in page.text) == (503, False)
    assert "Nothing was changed." in page.text
    assert "Refresh" not in page.headers


def test_what_only_looks_and_is_late_can_not_have_been_done(
    browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> None:
        raise PanelLate("the database takes too long")

    monkeypatch.setattr(searches, "save", late)
    page = browser.post("/ops/search", data={"q": "order/7"})
    assert (page.status_code, "may have been done" in page.text) == (503, False)
    assert "The database takes too long. Nothing was changed: go back, and try again." in page.text


def test_a_database_that_answers_others_is_slow_and_not_gone(
    browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(deadlines, "SECONDS", 1.0)
    monkeypatch.setattr(sessions, "list_open", lambda *_: over.wait(20))
    page = browser.get("/ops/sessions")
    over.set()
    assert page.status_code == 503
    assert "<h1>The database is slow</h1>" in page.text
    assert "The database answers, but took longer than a page waits" in page.text
    assert "no answer since" not in page.text
    until("nothing is overdue", lambda: not deadlines._overdue)  # noqa: SLF001 - it is seen nowhere else


def test_signing_in_says_why_it_has_to_wait(away: Database) -> None:
    client = create_app(make_settings(), away).test_client()
    page = client.post("/ops/sign-in", data={"secret": SECRETS["ops"]}, headers=OWN)
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    assert "Refresh" not in page.headers
    assert "the database can&#39;t be used now (unreachable)" in page.text
    assert "Set-Cookie" not in page.headers


def test_it_is_logged_once(stranded: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        stranded.get("/ops")
    assert [record.getMessage() for record in caplog.records].count("ops.database_away") == 1
