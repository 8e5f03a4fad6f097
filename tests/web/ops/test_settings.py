"""The page of the settings: everything is named, and no secret is on it in any form."""

import hashlib
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from receiptsvc import __version__, config, tokens
from receiptsvc.key_uses import KeyUses
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.core import schema
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.store.inbox import rejected
from receiptsvc.store.inbox.rejected import RejectedCallback
from receiptsvc.web.app import create_app
from receiptsvc.web.ops import effective
from tests.support.callers import ALL, SECRETS, make_settings
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.web.ops.conftest import OWN

NUMBER = "447700900123"
HIDDEN = {
    "CALLBACK_KEYS": "new:callback-secret-0123,old:older-callback-secret",
    "DATABASE_LISTEN_URL": "postgresql://joe:listen-pass%40word@db.example/receipts?options=pg-option-secret",
    "DYNMARK_USERNAME": "gateway-user-name",
    "DYNMARK_PASSWORD": "gateway-pass-word",
    "DYNMARK_SOAP_URL": "http://127.0.0.1:1/soap?token=soap-url-secret",
    "DYNMARK_WSDL": "http://127.0.0.1:1/wsdl?token=wsdl-secret",
    "SEND_ONLY_TO": NUMBER,
    "SPOOL_DIR": "/var/spool/receipts",
    "SCHEDULED_BY": "service",
    "STATUS_MAP": '{"77": "delivered"}',
    "CALLBACK_UNKNOWN_NAME": "unknown-value-secret",
}
SETTINGS = make_settings(**HIDDEN)


@pytest.fixture
def reader(database: Database) -> Reader:
    client = create_app(SETTINGS, database).test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = OWN["Sec-Fetch-Site"]
    assert client.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    return Reader(client)


def test_no_secret_is_on_the_page_in_any_form(reader: Reader) -> None:
    keys = SETTINGS.callback_keys
    static = [tokens.static_urls(make_settings(CALLBACK_KEYS=f"{key.kid}:{key.secret}")) for key in keys]
    secrets = [
        *(key.secret for key in keys),
        *(part.rpartition("/")[2] for urls in static for part in (urls.receipts, urls.inbound)),
        *SECRETS.values(),
        ALL,
        *("listen-pass", "joe", "pg-option-secret", "gateway-user-name", "gateway-pass-word"),
        *("soap-url-secret", "wsdl-secret", "unknown-value-secret", NUMBER, NUMBER[2:]),
    ]
    source = reader.open("/ops").follow("Settings").source
    for secret in secrets:
        for form in (secret, quote(secret), secret[:12], hashlib.sha256(secret.encode()).hexdigest()[:12]):
            assert form not in source, form
        assert f"{len(secret)} characters" not in source


def test_every_setting_is_named_with_what_it_means(reader: Reader) -> None:
    lines = effective.list_settings(SETTINGS)
    assert [line.name for line in lines] == list(dict.fromkeys(line.name for line in lines))
    assert {line.name for line in lines} == config.NAMES
    assert all(line.value and line.means for line in lines)
    reader.open("/ops/settings")
    values = {line.name: line.value for line in lines}
    assert values["SCHEDULED_BY"] == "service"
    assert values["STATUS_MAP"] == '{"77": "delivered"}'
    assert values["DATABASE_LISTEN_URL"] == "PostgreSQL, receipts at db.example"
    assert values["DYNMARK_SOAP_URL"] == "http://127.0.0.1:1/soap"
    assert values["DYNMARK_PASSWORD"] == values["API_KEYS"] == "set"
    assert values["SEND_ONLY_TO"] == "only 1 numbers or beginnings of numbers"
    for line in lines:
        assert f"{line.name} {line.value}" in reader.spaced
    assert "CALLBACK_UNKNOWN_NAME" in reader.spaced


def test_addresses_are_cut_and_it_is_said_what_prints_them_whole(reader: Reader) -> None:
    reader.open("/ops/settings")
    for address in ("/callbacks/receipts/…", "/callbacks/inbound/…"):
        assert f"http://127.0.0.1:8000{address}" in reader.spaced
    assert "python -m receiptsvc urls prints whole" in reader.spaced


def test_keys_are_listed_with_when_they_were_last_used(reader: Reader, database: Database) -> None:
    reader.open("/ops/settings")
    assert "new signs and verifies never since that is noted" in reader.spaced
    assert "old verifies never since that is noted" in reader.spaced
    assert "opser ops never since that is noted" in reader.spaced
    assert "desk ops, read, send" in reader.spaced
    uses = KeyUses()
    uses.note(Kind.API, "opser")
    uses.note(Kind.CALLBACK, "old")
    uses.write(database)
    refused = RejectedCallback(received_at=seconds(0), method="GET", address="/", kid="gone", query=b"")
    with database.transaction() as session:
        rejected.add(session, [refused])
    reader.open("/ops/settings")
    assert "new signs and verifies never" in reader.spaced
    assert "old verifies never" not in reader.spaced
    assert "opser ops never" not in reader.spaced
    assert "gone 1 05 Jan 2026 12:00:00 UTC not listed" in reader.spaced


def test_signing_in_and_calling_the_api_are_uses_of_a_key(database: Database) -> None:
    uses = KeyUses()
    client = create_app(SETTINGS, database, uses=uses).test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = OWN["Sec-Fetch-Site"]
    client.post("/ops/sign-in", data={"secret": SECRETS["ops"]})
    assert uses.write(database) == [(Kind.API, "opser")]
    for secret, status in ((SECRETS["read"], 200), (SECRETS["send"], 403), ("wrong", 401)):
        answer = client.get("/v1/messages", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == status
    assert uses.write(database) == [(Kind.API, "reader")], "one that was refused was not used"


def test_versions_and_connections_are_told(reader: Reader, database: Database) -> None:
    reader.open("/ops/settings")
    assert f"receiptsvc {__version__}" in reader.spaced
    assert f"Migration {schema.REVISION}, the newest of this release" in reader.spaced
    product = "SQLite 3." if database.is_sqlite else "PostgreSQL "
    assert f"Database {product}" in reader.spaced
    if database.is_sqlite:
        assert "none is counted" in reader.spaced
    else:
        assert "1 set of processes is alive and may open 18" in reader.spaced
        assert "the API and commands" in reader.spaced
        assert "for callbacks alone" not in reader.spaced
        with database.transaction() as session:
            heartbeats.beat(session, "web:callbacks:here:1", database.clock.now())
        reader.open("/ops/settings")
        assert "1 set of processes is alive and may open 22" in reader.spaced
        assert "web: for callbacks alone 1 4 " in reader.spaced


def test_it_is_for_who_is_signed_in_alone(visitor: FlaskClient) -> None:
    answer = visitor.get("/ops/settings")
    assert (answer.status_code, answer.headers["Location"]) == (303, "../ops/sign-in?to=settings")
