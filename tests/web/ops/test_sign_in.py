"""Who gets in, how often it can be tried, and what ends it."""

import json
import re
from collections.abc import Iterator
from time import monotonic, time

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from receiptsvc import ids, passwords
from receiptsvc.store.access import guesses, users
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, OpsSession
from receiptsvc.web.app import create_app
from tests.support.callers import ALL, SECRETS, make_settings
from tests.support.rows import T0
from tests.web.ops.conftest import OWN

PASSWORD = "correct horse battery"
BY = Actor(actor="test")


@pytest.fixture(scope="module")
def password_hash() -> str:
    return passwords.hash_of(PASSWORD)


@pytest.fixture
def _anna(database: Database, password_hash: str) -> None:
    with database.transaction() as session:
        users.add(session, "anna", password_hash, BY, T0)


has_anna = pytest.mark.usefixtures("_anna")


def sign_in(client: FlaskClient, secret: str, name: str = "", **more: str) -> int:
    return client.post("/ops/sign-in", data={"name": name, "secret": secret, **more}).status_code


def another(database: Database, **settings: str) -> FlaskClient:
    """A browser at another process on the same database."""
    client = create_app(make_settings(**settings), database).test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = OWN["Sec-Fetch-Site"]
    return client


def move(browser: FlaskClient, to: FlaskClient) -> None:
    """Take the cookie along, as a browser does whose requests go to several processes."""
    cookie = browser.get_cookie("receiptsvc-ops")
    assert cookie is not None
    to.set_cookie("receiptsvc-ops", cookie.value)


@has_anna
def test_a_user_signs_in_with_a_password(visitor: FlaskClient) -> None:
    assert sign_in(visitor, PASSWORD, "Anna") == 303
    assert "anna" in visitor.get("/ops").text


@has_anna
@pytest.mark.parametrize("name", ["anna", "nobody", ""])
def test_whatever_is_wrong_is_refused_in_the_same_words(visitor: FlaskClient, name: str) -> None:
    answer = visitor.post("/ops/sign-in", data={"name": name, "secret": "wrong horse battery"})
    assert answer.status_code == 403
    assert "The name, the password or the key is not right" in answer.text
    assert "wrong horse battery" not in answer.text
    assert visitor.get("/ops").status_code == 303


@pytest.mark.parametrize("scope", ["read", "send"])
def test_a_key_without_the_scope_ops_does_not_open_the_page(visitor: FlaskClient, scope: str) -> None:
    assert sign_in(visitor, SECRETS[scope]) == 403


@has_anna
def test_a_disabled_user_is_refused(visitor: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        users.disable(session, "anna", BY, T0)
    assert sign_in(visitor, PASSWORD, "anna") == 403


@has_anna
def test_disabling_a_user_ends_their_sessions_in_every_process(visitor: FlaskClient, database: Database) -> None:
    sign_in(visitor, PASSWORD, "anna")
    other = another(database)
    move(visitor, other)
    assert other.get("/ops").status_code == 200
    with database.transaction() as session:
        users.disable(session, "anna", BY, database.clock.now())
    assert {visitor.get("/ops").status_code, other.get("/ops").status_code} == {303}


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(browser: FlaskClient, database: Database) -> None:
    thief = another(database)
    move(browser, thief)
    assert thief.get("/ops").status_code == 200
    answer = browser.post("/ops/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "../ops/sign-in")
    assert browser.get_cookie("receiptsvc-ops") is None
    assert thief.get("/ops").status_code == 303


def test_one_ends_ones_other_sessions(browser: FlaskClient, database: Database) -> None:
    others = [another(database) for _ in range(3)]
    for each in others:
        assert sign_in(each, SECRETS["ops"]) == 303
    page = browser.get("/ops/sessions").text
    assert page.count("This one") == 1
    first = re.findall(r'value="(ses_\w+)"', page)[0]  # the newest
    assert browser.post("/ops/sessions/end", data={"which": first}).status_code == 303
    assert [each.get("/ops").status_code for each in others] == [200, 200, 303]
    browser.post("/ops/sessions/end", data={"which": "others"})
    assert [each.get("/ops").status_code for each in others] == [303, 303, 303]
    assert browser.get("/ops").status_code == 200


def test_nobody_ends_the_sessions_of_others(browser: FlaskClient, database: Database) -> None:
    other = another(database)
    assert sign_in(other, ALL) == 303
    with database.reading() as session:
        theirs = re.findall(r'value="(ses_\w+)"', other.get("/ops/sessions").text)
        assert not theirs, "each sees only their own"
        (row,) = session.scalars(select(OpsSession).where(OpsSession.who == "key desk"))
    browser.post("/ops/sessions/end", data={"which": ids.public("ses", row.id)})
    browser.post("/ops/sessions/end", data={"which": "others"})
    assert other.get("/ops").status_code == 200
    assert browser.post("/ops/sessions/end", data={"which": "ses_none"}).status_code == 404


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        (f"opser:ops:{SECRETS['ops']}", 200),
        (f"other:ops:{SECRETS['ops']}", 303),  # the name is another's now
        ("opser:ops:another-secret-0123456789", 303),
        (f"opser:read:{SECRETS['ops']}", 303),
        ("reader:read:another-secret-0123456789", 303),
    ],
)
def test_a_session_ends_with_its_key(browser: FlaskClient, database: Database, keys: str, status: int) -> None:
    restarted = another(database, API_KEYS=keys)
    move(browser, restarted)
    assert restarted.get("/ops").status_code == status


@has_anna
def test_a_name_is_tried_only_so_often_in_all_processes(
    visitor: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(passwords, "is_right", lambda password, _: looked_at.append(password))
    both = [visitor, another(database)]
    statuses = [sign_in(client, f"guess {n}", "anna") for n in range(guesses.MAX_OF_ONE) for client in both]
    assert len(looked_at) == statuses.count(403) == guesses.MAX_OF_ONE
    answer = visitor.post("/ops/sign-in", data={"name": "anna", "secret": PASSWORD})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "120")
    assert "Wait 2 minutes" in answer.text
    assert sign_in(visitor, SECRETS["ops"]) == 303, "others get in meanwhile"


@has_anna
def test_whoever_has_a_key_gets_in_however_often_names_and_keys_are_tried(
    visitor: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "is_right", lambda *_: False)
    for number in range(guesses.MAX_OF_ALL):
        assert sign_in(visitor, "guess", f"name{number}") == sign_in(visitor, f"a key {number}") == 403
    assert sign_in(visitor, "guess", "one-more") == 429
    assert sign_in(visitor, SECRETS["ops"]) == 303


def test_after_the_sign_in_one_is_where_one_wanted_to_be(visitor: FlaskClient) -> None:
    asked = visitor.get("/ops/messages/msg_1?cursor=abc")
    assert asked.headers["Location"] == "../../ops/sign-in?to=messages/msg_1"
    answer = visitor.post("/ops/sign-in", data={"secret": SECRETS["ops"], "to": "messages/msg_1"})
    assert answer.headers["Location"] == "../ops/messages/msg_1"


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "../docs", "/docs", "a//b", "\\evil", "a?b", "a\r\nb", "x" * 300],
)
def test_nobody_is_sent_elsewhere_after_the_sign_in(visitor: FlaskClient, target: str) -> None:
    answer = visitor.post("/ops/sign-in", data={"secret": SECRETS["ops"], "to": target})
    assert answer.headers["Location"] == "../ops"


@pytest.mark.usefixtures("browser")
def test_each_sign_in_is_audited(database: Database) -> None:
    with database.reading() as session:
        (audit,) = session.scalars(select(Audit))
    assert (audit.actor, audit.action) == ("key opser", "sign in")
    assert audit.subject.startswith("ses_")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level("INFO"):
        yield caplog


@has_anna
def test_no_secret_is_in_the_log(visitor: FlaskClient, logged: pytest.LogCaptureFixture) -> None:
    sign_in(visitor, "wrong horse battery", "anna")
    sign_in(visitor, PASSWORD, "anna")
    cookie = visitor.get_cookie("receiptsvc-ops")
    assert cookie is not None
    said = json.dumps([vars(record) for record in logged.records], default=str)
    session_secret, _, mac = cookie.value.split(".")
    for secret in (PASSWORD, "wrong horse", session_secret, mac):
        assert secret not in said
    assert {"ops.signed_in", "ops.sign_in_refused"} <= {record.getMessage() for record in logged.records}


def test_a_session_in_use_is_noted_once_a_minute(browser: FlaskClient, database: Database) -> None:
    def seen_at() -> list[float]:
        with database.reading() as session:
            return [row.seen_at.timestamp() for row in session.scalars(select(OpsSession))]

    first = seen_at()
    assert "Set-Cookie" not in browser.get("/ops").headers
    assert seen_at() == first
    database.clock.measured(monotonic(), time() + 90)  # a minute and a half later, by the database's clock
    database.clock.measured = lambda *_: None  # type: ignore[method-assign]
    assert "Set-Cookie" in browser.get("/ops").headers
    assert seen_at() > first
