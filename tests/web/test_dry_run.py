"""POST /v1/messages?dryRun=true answers what would be sent, and keeps nothing."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.web.app import create_app
from tests.support import rows
from tests.support.callers import client_of, make_settings

pytestmark = pytest.mark.on_postgresql  # nothing here is the database's

GOOD: dict[str, Any] = {"recipients": ["447700900000"], "text": "hello"}
OF_A_MESSAGE = {"id", "status", "transactionID", "createdAt", "statusAt", "changedAt", "conflict", "url"}


def post(client: FlaskClient, *given: object, query: str = "?dryRun=true") -> Any:
    return client.post(f"/v1/messages{query}", json={"messages": list(given)})


def kept(database: Database) -> dict[str, int]:
    with database.reading() as session:
        tables = Base.metadata.tables.values()
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def test_it_answers_what_sending_answers_and_keeps_nothing(client: FlaskClient, database: Database) -> None:
    given = (
        GOOD | {"recipients": ["+44 7700 900000", "447700900001", "447700900000"], "clientRef": "order/1"},
        GOOD | {"text": "it\u2019s " * 20, "originator": "ACME"},
    )
    before = kept(database)
    dry = post(client, *given)
    assert dry.status_code == 200
    assert kept(database) == before
    sent = post(client, *given, query="")
    assert sent.status_code == 202
    assert dry.json["messages"] == [
        {name: value for name, value in item.items() if name not in OF_A_MESSAGE} for item in sent.json["messages"]
    ]
    first, _, dear = dry.json["messages"]
    assert "given 2 times" in first["warnings"][0]
    assert (dear["encoding"], dear["segments"], len(dear["unicodeCharacters"])) == ("UTF-16", 2, 1)
    assert dry.json["warnings"] == []


def test_every_fault_is_reported_as_when_sending(client: FlaskClient, database: Database) -> None:
    assert post(client, GOOD | {"messageGuid": "guid-1"}, query="").status_code == 202
    with database.transaction() as session:
        suppressions.add(session, [Pair("447700900001", "")], Actor(actor="test"), rows.T0)
    for given in (
        (GOOD | {"text": "", "recipients": ["x"]}, GOOD | {"a": 1}),
        (GOOD, GOOD | {"messageGuid": "guid-1"}),
        (GOOD, GOOD | {"recipients": ["447700900000", "447700900001"]}),
    ):
        dry, sent = post(client, *given), post(client, *given, query="")
        assert dry.status_code == sent.status_code
        assert dry.json == sent.json
        assert dry.json["errors"]


@pytest.mark.parametrize(
    "query", ["?dryRun=yes", "?dryRun=", "?dryRun=True", "?dryrun=true", "?dryRun=true&dryRun=true"]
)
def test_an_unclear_dry_run_parameter_is_refused(client: FlaskClient, database: Database, query: str) -> None:
    before = kept(database)
    answer = post(client, GOOD, query=query)
    assert answer.status_code == 422
    assert "dryrun" in next(iter(answer.json["errors"])).lower()
    assert kept(database) == before


def test_it_needs_no_account(desk_database: Database) -> None:
    client = client_of(create_app(make_settings(DYNMARK_USERNAME="", DYNMARK_PASSWORD=""), desk_database))
    assert post(client, GOOD).status_code == 200
    assert post(client, GOOD, query="").status_code == 503
