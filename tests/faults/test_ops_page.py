"""The ops page while the database is frozen or gone: it answers within a second, and says what the process knows."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import psycopg
import pytest
import requests

from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, local_session
from receiptsvc.store.core.db import plain_url
from tests.faults.conftest import Form, StartWeb
from tests.support import browser as chromium
from tests.support.postgres import Server
from tests.support.processes import until

MAX_SECONDS = 1.0
OWN = {"Sec-Fetch-Site": "same-origin"}
PEOPLE = 6
IS_AWAY = "!document.querySelector('#away').hidden"


@pytest.fixture
def stack(start_web: StartWeb, postgresql_url: str) -> Stack:
    return start_web(postgresql_url, WEB_CONCURRENCY="1")


@pytest.fixture
def browser(stack: Stack) -> Iterator[requests.Session]:
    """A browser in which the ops key has signed in."""
    with local_session() as session:
        session.headers.update(OWN)
        assert sign_in(stack, session).status_code == 200
        assert session.get(f"{stack.url}/ops", timeout=10).status_code == 200
        yield session


def sign_in(stack: Stack, session: requests.Session) -> requests.Response:
    key = next(key for key in Settings.from_env(stack.environ).api_keys if "ops" in key.scopes)
    return session.post(f"{stack.url}/ops/sign-in", data={"secret": key.secret}, timeout=10)


def ask(browser: requests.Session, url: str) -> tuple[float, str]:
    began = monotonic()
    page = browser.get(url, timeout=30)
    return monotonic() - began, page.text


def is_back(stack: Stack, browser: requests.Session) -> bool:
    return browser.get(f"{stack.url}/ops", timeout=30).status_code == 200


def test_while_the_database_is_frozen_the_page_answers_within_a_second(
    server: Server, stack: Stack, browser: requests.Session, form: Form
) -> None:
    with server.frozen():
        for path in ("/ops", "/ops/sessions", "/ops/messages/msg_1"):
            seconds, page = ask(browser, f"{stack.url}{path}")
            assert seconds < MAX_SECONDS + form.slack_seconds
            assert "No database" in page
            assert re.search(r"\d+ s ago, at", page), "the last look has its age"
        with ThreadPoolExecutor(PEOPLE) as pool:
            asked = list(pool.map(lambda _: ask(browser, f"{stack.url}/ops"), range(3 * PEOPLE)))
        assert max(seconds for seconds, _ in asked) < MAX_SECONDS + form.slack_seconds
        with local_session() as stranger:
            stranger.headers.update(OWN)
            began = monotonic()
            refused = sign_in(stack, stranger)
        assert monotonic() - began < MAX_SECONDS + form.slack_seconds
        assert (refused.status_code, "Signing in has to wait" in refused.text) == (503, True)
    until("the page is back", lambda: is_back(stack, browser))


def test_while_the_database_is_gone_the_page_says_so(
    server: Server, stack: Stack, browser: requests.Session, form: Form
) -> None:
    server.kill()
    seconds, page = ask(browser, f"{stack.url}/ops")
    assert seconds < MAX_SECONDS + form.slack_seconds
    assert "No database" in page
    server.start()
    until("the page is back", lambda: is_back(stack, browser))


@pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium: apt-get install chromium")
def test_a_page_that_is_open_says_that_it_has_no_answer_and_goes_on_with_the_database(
    server: Server, stack: Stack, form: Form, tmp_path: Path
) -> None:
    [sent] = stack.client().send([{"recipients": ["447700900123"], "text": "Hello"}])
    with chromium.started(tmp_path / "browser") as tab:
        tab.open(f"{stack.url}/ops/sign-in")
        tab.fill("#secret", stack.api_key)
        tab.follow("document.querySelector('form.fields').requestSubmit()")

        def looks_well() -> bool:
            tab.open(f"{stack.url}/ops/messages/{sent['id']}")
            return bool(tab.run("document.querySelector('.verdict') !== null"))

        until("the page is not late", looks_well)
        assert tab.run(IS_AWAY) is False
        with server.frozen():
            until("the page says so", lambda: tab.run(IS_AWAY))
            assert tab.run("document.querySelector('.verdict') !== null"), "what it showed stays"
        until("it says so no more", lambda: not tab.run(IS_AWAY), seconds=60)
        with server.frozen():
            began = monotonic()
            tab.follow("document.querySelector('.brand').click()")
            assert monotonic() - began < MAX_SECONDS + form.slack_seconds
            assert tab.run("document.querySelector('h1').textContent") == "No database"
        until("the page is back", looks_well)


IS_LIVE = "document.querySelector('#live').innerText.startsWith('Live: read at')"
IS_NOT_LIVE = "document.querySelector('#live').innerText.startsWith('Not live since')"


@pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium: apt-get install chromium")
def test_the_first_page_says_since_when_it_is_not_live(server: Server, stack: Stack, tmp_path: Path) -> None:
    with chromium.started(tmp_path / "browser") as tab:
        tab.open(f"{stack.url}/ops/sign-in")
        tab.fill("#secret", stack.api_key)
        tab.follow("document.querySelector('form.fields').requestSubmit()")
        until("it is live", lambda: tab.run(IS_LIVE))
        tab.run("document.body.dataset.loaded = 'once'")
        stack.client().send([{"recipients": ["447700900123"], "text": "Hello"}])
        waiting = "document.querySelector('#numbers').innerText.includes('1 to go out, the first for')"
        until("the message is told", lambda: tab.run(waiting))
        with server.frozen():
            until("it says that the database is silent", lambda: tab.run(IS_NOT_LIVE))
            until("the line says so", lambda: "not answered in time" in tab.run("line()"))
            assert tab.run(waiting), "what it showed stays"
        until("it is live again", lambda: tab.run(IS_LIVE), seconds=60)
        stack.stop("web")
        until("it says that nothing comes", lambda: tab.run(IS_NOT_LIVE))
        until("it says so aloud", lambda: "Not live since" in tab.run("document.querySelector('#said').textContent"))
        stack.start("web")
        until("it is live again", lambda: tab.run(IS_LIVE), seconds=60)
        assert tab.run("document.body.dataset.loaded") == "once"
        tab.run("fetch('/ops/sign-out', { method: 'POST', redirect: 'manual' }).then(() => 0)")
        until("the stream has ended with the session", lambda: tab.run(IS_NOT_LIVE))
        assert tab.run(IS_NOT_LIVE)


def test_two_web_processes_tell_the_same(start_web: StartWeb, postgresql_url: str) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="2")
    stack.client().send([{"recipients": [f"44770090000{number}"], "text": "Hello"} for number in range(3)])

    def tell() -> set[str]:
        """What is told over connections of their own, each to one of the processes."""
        told = set()
        for _ in range(12):
            with local_session() as session:
                session.headers.update(OWN)
                session.cookies.update(cookies)
                page = session.get(f"{stack.url}/ops", timeout=10).text
            found = re.search(r"<dt>Waiting</dt><dd>(\d+)", page), re.search(r"<dt>Web</dt><dd>(\d+) of release", page)
            told.add("; ".join(each[1] if each else "none" for each in found))
        return told

    with local_session() as session:
        session.headers.update(OWN)
        assert sign_in(stack, session).status_code == 200
        cookies = session.cookies.get_dict()
        until("both tell the same", lambda: tell() == {"3; 2"})
    assert count_shown(postgresql_url) == 2
    assert stack.stop("web") == 0
    assert count_shown(postgresql_url) == 0, "they have left"


def count_shown(url: str) -> int:
    """How many web processes the database knows."""
    with psycopg.connect(plain_url(url)) as connection:
        row = connection.execute("SELECT count(*) FROM heartbeats WHERE process LIKE 'web:%'").fetchone()
    assert row is not None
    return int(row[0])
