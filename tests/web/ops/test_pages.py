"""What holds for every page of /ops."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from flask import render_template_string
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from receiptsvc.domain.errors import Refused, StatementTimeout
from receiptsvc.store.access import sessions
from receiptsvc.store.core import time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.store.health import heartbeats
from receiptsvc.store.queries.statistics import TooManyCounts
from receiptsvc.web.app import create_app
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.ops import display, failure_rows, pages, static_files
from receiptsvc.web.ops.pages import PanelLate
from tests.support import rows
from tests.support.callers import ALL, SECRETS, bearer, make_settings

POLICY = {
    "default-src 'none'",
    *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
}
TEMPLATES = Path(pages.__file__).parent / "templates" / "ops"
MAX_FIRST_LOAD = 60 * 1024

ONE = text("SELECT 1")
ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i < 0")


def test_the_rows_of_each_table_stack_on_a_narrow_screen() -> None:
    for template in sorted(TEMPLATES.glob("*.html")):
        if template.name != "chart.html":  # numbers by many statuses, which are compared along lines
            tables = re.findall("<table[^>]*>", template.read_text())
            assert set(tables) <= {'<table class="stacked">'}, template.name


def test_an_address_without_a_page_says_so(browser: FlaskClient) -> None:
    answer = browser.get("/ops/no/such/page")
    assert answer.status_code == 404
    assert "<title>No such page · receiptsvc</title>" in answer.text
    assert "<h1>No such page</h1>" in answer.text
    assert "was not done" not in answer.text


def test_what_only_looks_like_a_time_is_text() -> None:
    said = display.timed(
        "at 2026-01-05T12:00:00Z: <b> 0000-00-00T00:00:00Z, ٢٠٢٦-٠١-٠٥T12:00:00Z, 2026-11-31T00:00:00Z"
    )
    assert said.count("<time ") == 1
    assert said.endswith("&lt;b&gt; 0000-00-00T00:00:00Z, ٢٠٢٦-٠١-٠٥T12:00:00Z, 2026-11-31T00:00:00Z")


def test_all_times_are_written_in_one_way() -> None:
    for template in sorted(TEMPLATES.glob("*.html")):
        source = template.read_text()
        assert "strftime" not in source, template.name
        assert "<time" not in source, template.name
    time = (
        '<time datetime="2026-01-05T12:00:05.000Z" title="2026-01-05 12:00:05.000 UTC">05 Jan 2026 12:00:05 UTC</time>'
    )
    assert display.when(rows.seconds(5)) == time
    assert display.timed("<b> since 2026-01-05T12:00:05Z: &") == f"&lt;b&gt; since {time}: &amp;"


def test_what_is_wrong_tells_its_times_as_all_pages_do(browser: FlaskClient, database: Database) -> None:
    now = database.clock.now()
    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now, gateway_fault="no connection", gateway_fault_at=rows.seconds(5))
    text = browser.get("/ops").text
    assert "calls to the gateway fail since <time" in text.partition('id="numbers"')[0]


def test_a_page_leads_to_the_sign_in_and_back(visitor: FlaskClient) -> None:
    answer = visitor.get("/ops")
    assert (answer.status_code, answer.headers["Location"]) == (303, "ops/sign-in")
    assert visitor.get("/ops/no/such").headers["Location"] == "../../ops/sign-in?to=no/such"


def test_whoever_is_not_signed_in_changes_nothing(visitor: FlaskClient) -> None:
    answer = visitor.post("/ops/sign-out")
    assert (answer.status_code, "not signed in" in answer.text) == (403, True)


def test_an_api_key_opens_no_page(visitor: FlaskClient) -> None:
    assert visitor.get("/ops", headers=bearer(ALL)).status_code == 303


def test_a_session_opens_no_address_of_the_api(browser: FlaskClient) -> None:
    assert browser.get("/v1/ledger").status_code == 401


@pytest.mark.parametrize("path", ["/ops", "/ops/sign-in", "/ops/sessions", "/ops/nothing"])
def test_every_page_has_its_headers(browser: FlaskClient, path: str) -> None:
    page = browser.get(path)
    assert page.mimetype == "text/html"
    assert {part.strip() for part in page.headers["Content-Security-Policy"].split(";")} == POLICY
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in page.headers, "its length could give a secret away"
    for unsafe in ("style=", "<style", "onclick", "javascript:", "<script>", "http://", "https://"):
        assert unsafe not in page.text


def test_what_is_no_page_says_so(browser: FlaskClient) -> None:
    answer = browser.get("/ops/nothing")
    assert (answer.status_code, "nothing at this address" in answer.text) == (404, True)


def test_the_first_load_is_small(browser: FlaskClient) -> None:
    names = ("htmx.min.js", "icon.svg", "ops.css", "ops.js")
    sizes = [len(browser.get(f"/ops/static/{name}", headers={"Accept-Encoding": "gzip"}).data) for name in names]
    assert len(browser.get("/ops").data) + sum(sizes) <= MAX_FIRST_LOAD
    assert len(static_files.read("ops.css").content) <= 8 * 1024


def test_files_are_named_by_their_content_and_stay(visitor: FlaskClient) -> None:
    page = visitor.get("/ops/sign-in").text
    assert f"../ops/static/ops.css?v={static_files.read('ops.css').digest}" in page
    answer = visitor.get("/ops/static/ops.css")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert visitor.get("/ops/static/../pages.py").status_code in {303, 404}
    assert visitor.get("/ops/static/none.css").status_code == 404


@pytest.mark.on_postgresql
def test_the_page_can_be_left_out(database: Database) -> None:
    client = create_app(make_settings(OPS_PAGE="off"), database).test_client()
    assert client.get("/ops").status_code == 404
    assert client.get("/ops/sign-in").status_code == 404


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Refused("it has left the house"), 409, "it has left the house"),
        (Problem(422, "Not so.", errors={"reason": ["is missing"]}), 422, "reason: is missing"),
        (RuntimeError("447700900123"), 500, "it has been noted"),
        (PanelLate("late"), 503, "fills in by itself"),
    ],
)
def test_an_error_is_a_page_in_words(
    browser: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(sessions, "list_open", lambda *_: fail())
    answer = browser.get("/ops/sessions")
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert "447700900123" not in answer.text


def test_a_part_of_a_page_that_takes_too_long_is_late(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(time_limits, "PANEL", TimeLimits(lock=0.2, statement=0.2, idle=5))
        with browser.application.app_context(), pytest.raises(PanelLate) as caught, pages.reading() as session:
            session.execute(ENDLESS)
    assert isinstance(caught.value.__cause__, StatementTimeout)
    with browser.application.app_context(), pages.reading() as session:
        assert session.scalar(ONE) == 1, "its connection is as it was before"


def test_a_part_that_is_late_for_want_of_a_connection_is_late(database_url: str, database: Database) -> None:
    few = Database(database_url, pool_size=1, busy_seconds=0.1)
    app = create_app(make_settings(), database, page_database=few)
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with few.reading() as session:
            session.scalar(ONE)
            ready.set()
            over.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(20)
    with app.app_context(), pytest.raises(PanelLate), pages.reading() as session:
        session.scalar(ONE)
    over.set()
    holder.join()
    few.close()


def test_who_has_something_long_under_way_is_told_so_and_others_are_not(browser: FlaskClient) -> None:
    with browser.application.app_context():
        under_way = context.long_reads()
    choice = {"action": "preview", "which": "all", "do": "retry"}
    for mine, status in (("key opser", 503), ("key other", 200)):
        assert under_way.take(mine)
        for path in ("/ops/failures", "/ops/failures.csv", "/ops/codes"):
            assert browser.get(path).status_code == status, path
        late = browser.post("/ops/receipts", data=choice)
        assert late.status_code == (503 if status == 503 else 422)  # nothing is there to be chosen
        assert ("takes too long now" in late.text) == (status == 503)
        assert browser.post("/ops/cancel", data={"clientRef": "none"}).status_code == status
        assert browser.get("/ops/messages").status_code == 200
        under_way.release(mine)


def test_a_page_opens_while_another_one_reads_much(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = Database(database_url, pool_size=1, busy_seconds=0.1)
    browser = create_app(make_settings(), database, page_database=single).test_client()
    browser.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    assert browser.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    reading, over = threading.Event(), threading.Event()

    def read(session: Session, *_: object) -> None:
        session.scalar(ONE)
        reading.set()
        over.wait(20)
        raise TooManyCounts

    monkeypatch.setattr(failure_rows, "read", read)
    other = browser.application.test_client()
    other.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    other.post("/ops/sign-in", data={"secret": SECRETS["ops"]})
    reader = threading.Thread(target=browser.get, args=["/ops/failures"])
    reader.start()
    assert reading.wait(20)
    assert other.get("/ops/messages").status_code == 200
    over.set()
    reader.join()
    single.close()


def test_a_page_that_says_nothing_for_the_audit_reveals_nothing(browser: FlaskClient) -> None:
    asked = browser.application.test_request_context("/ops/messages", method="POST", data={"action": "reveal"})
    with asked:
        pages.render("missing.html", 404, why="-")
        assert render_template_string("{{ '447700900123' | number }}") == "+44 ••• •••123"


@pytest.mark.slow
def test_the_web_process_loads_nothing_that_sends() -> None:
    code = "import receiptsvc.web.app, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "receiptsvc.web.ops.site" in loaded
    assert not {"zeep", "lxml", "requests"} & set(loaded)


def test_the_navigation_says_on_which_page_one_is(browser: FlaskClient) -> None:
    for path, words in pages.NAVIGATION:
        page = browser.get(f"/ops/{path}".rstrip("/")).text
        assert page.count('aria-current="page"') == 1
        assert f'aria-current="page">{words}</a>' in page
