"""Liveness and readiness."""

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from receiptsvc import ids, metrics
from receiptsvc.config import Settings
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow
from receiptsvc.store.health import heartbeats
from receiptsvc.store.health.heartbeats import UNSEEN_AFTER
from receiptsvc.store.inbox import rejected
from receiptsvc.store.inbox.rejected import RejectedCallback
from receiptsvc.store.outbound import send_gate
from receiptsvc.web.app import create_app
from receiptsvc.web.http import context, readiness
from tests.support import rows
from tests.support.callers import SECRETS, bearer, client_of, make_settings
from tests.support.time_slices import drop_all


def ready(database: Database, settings: Settings | None = None) -> tuple[int, Any]:
    answer = create_app(settings or make_settings(), database).test_client().get("/readyz")
    return answer.status_code, answer.json


def beat(database: Database, process: str = "worker:1", *, ago: float = 0) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, process, database.clock.now() - ago * UNSEEN_AFTER)


def test_with_a_live_worker_and_an_account_it_is_ok(database: Database) -> None:
    beat(database)
    assert ready(database) == (200, {"status": "ok", "degraded": []})


def test_the_probe_stores_no_callback(database: Database) -> None:
    ready(database)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(InboxRow)) == 0


def test_what_does_not_hinder_callbacks_is_degraded_and_200(database: Database) -> None:
    settings = make_settings(DYNMARK_USERNAME="", DYNMARK_PASSWORD="")
    beat(database, ago=2.5)
    beat(database, "web:1")
    degraded = {"status": "degraded", "degraded": ["worker unseen", "sending not configured"]}
    assert ready(database, settings) == (200, degraded)


def test_a_sender_that_crowds_the_queue_is_named_by_our_id(database: Database) -> None:
    beat(database)
    loud, quiet = rows.accept(database, rows.message(), rows.message(), now=database.clock.now())
    now = database.clock.now()
    crowd = [rows.arrival("statusid=1", message_id=loud, now=now) for _ in range(1200)]
    with database.transaction() as session:
        rows.insert_arrivals(session, [rows.arrival("statusid=1", message_id=quiet, now=now), *crowd[:900]])
    assert ready(database) == (200, {"status": "ok", "degraded": []})
    with database.transaction() as session:
        rows.insert_arrivals(session, crowd[900:])
    said = f"the receipts of {ids.public('msg', loud)} crowd the queue: 1200 or more of one sender wait"
    assert ready(database) == (200, {"status": "degraded", "degraded": [said]})
    metrics_text = create_app(make_settings(), database).test_client().get("/metrics").text
    assert "receiptsvc_receipts_of_one_sender 1200.0" in metrics_text


def test_what_holds_sending_is_degraded(database: Database) -> None:
    beat(database)
    with database.transaction() as session:
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, database.clock.now(), was_probe=False)
        send_gate.pause(session, "anna", "wrong texts", database.clock.now())
    degraded = ["the gateway refuses our credentials", "sending is paused by anna"]
    assert ready(database) == (200, {"status": "degraded", "degraded": degraded})


def test_names_of_settings_and_keys_are_told_to_operators_alone(database: Database) -> None:
    beat(database)
    app = create_app(make_settings(DYNMARK_URL="x"), database)
    now = database.clock.now()
    refused = RejectedCallback(
        received_at=now, method="GET", address="/callbacks/inbound/<token>", kid="old", query=b""
    )
    with database.transaction() as session:
        rejected.add(session, [refused])
    for secret in (None, "a-key-that-is-not-known", SECRETS["read"]):
        answer = app.test_client().get("/readyz", headers=bearer(secret) if secret else {})
        said = ["callbacks are refused for a key that is not listed", "unknown settings"]
        assert (answer.status_code, answer.json) == (200, {"status": "degraded", "degraded": said})
    told: Any = app.test_client().get("/readyz", headers=bearer(SECRETS["ops"])).json
    assert told["degraded"] == [
        "callbacks are refused for a key that is not listed: old (1) in the last hour: see `python -m receiptsvc "
        "callback-keys`",
        "unknown settings: DYNMARK_URL: see .env.example",
    ]
    assert "receiptsvc_settings_unknown 1.0" in app.test_client().get("/metrics").text
    assert client_of(app).get("/v1/sending").json["callbacksRefused"] == 1  # type: ignore[index]


def test_every_gauge_is_reported_with_its_help(database: Database) -> None:
    told = create_app(make_settings(), database).test_client().get("/metrics").text
    for name, description in readiness.GAUGES.items():
        assert f"# HELP receiptsvc_{name} {description}\n" in told
        assert f"\nreceiptsvc_{name} " in told


def test_a_database_that_became_newer_is_named(database: Database) -> None:
    beat(database)
    for oldest, said in (("0001", []), ("0098", ["newer than this release"])):
        with database.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '0099'"))
            session.execute(text("UPDATE schema_compatibility SET oldest_revision = :oldest"), {"oldest": oldest})
        assert ready(database)[1]["degraded"] == said


def test_a_missing_time_slice_of_next_month_is_degraded(postgresql_database: Database) -> None:
    drop_all(postgresql_database)
    beat(postgresql_database)
    degraded = ["no time slice for next month's receipts"]
    assert ready(postgresql_database) == (200, {"status": "degraded", "degraded": degraded})


def test_without_the_tables_it_is_not_ready(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    assert ready(database) == (503, {"status": "unavailable", "degraded": ["storage", "no tables"]})
    database.close()


def test_without_the_database_it_is_alive_but_not_ready() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    assert ready(database)[0] == 503
    answer = create_app(make_settings(), database).test_client().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_a_database_that_hangs_is_503_within_the_time_limit(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiptsvc.web.http.readiness.MAX_WAIT_SECONDS", 0.05)
    database = Database(database_url, pool_size=1)
    app = create_app(make_settings(), database)
    with database.transaction() as session:  # holds the only connection
        session.execute(select(1))
        for _ in range(2):
            assert app.test_client().get("/readyz").status_code == 503
    with app.app_context():
        monkeypatch.setattr("receiptsvc.web.http.readiness.MAX_WAIT_SECONDS", 5)
        assert [each.text for each in context.readiness().find_degraded(context.now())] == ["worker unseen"]
    database.close()


def test_metrics_need_no_key_and_have_prometheus_text_format(client: FlaskClient) -> None:
    metrics.answers("200").observe(0.003)
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    assert 'receiptsvc_callback_answer_seconds_bucket{le="0.005",status="200"}' in answer.text
