"""A request with an Idempotency-Key is done once, however often and concurrently it is sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from time import monotonic, time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.clock import Clock
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import IdempotencyKey, Message
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import idempotency
from receiptsvc.store.outbound.idempotency import Claim, OtherRequest, StillRunning
from receiptsvc.web.app import create_app
from tests.support import rows, stories
from tests.support.callers import SECRETS, client_of, make_settings
from tests.support.processes import until
from tests.support.rows import seconds

GOOD: dict[str, Any] = {"recipients": ["447700900000"], "text": "hello"}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def post(client: FlaskClient, *given: object, key: str = "key-1", query: str = "") -> Any:
    return client.post(f"/v1/messages{query}", json={"messages": list(given)}, headers={"Idempotency-Key": key})


def count(database: Database, model: type[Message | IdempotencyKey] = Message) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def is_replay(answer: Any) -> bool:
    return bool(answer.status_code == 202 and answer.headers.get("Idempotency-Replayed") == "true")


def test_a_repeat_gives_the_same_messages_with_their_present_statuses(client: FlaskClient, database: Database) -> None:
    several = GOOD | {"recipients": ["447700900002", "447700900000", "447700900001"]}
    first = post(client, several, GOOD)
    assert first.status_code == 202
    assert "Idempotency-Replayed" not in first.headers
    told = first.json["messages"]
    changed = ids.parse("msg", told[1]["id"])
    assert changed is not None
    stories.report(database, changed, Status.DELIVERED, seconds(3))
    other_order = {"messages": [dict(reversed(several.items())), GOOD]}
    answer: Any = client.post(
        "/v1/messages",
        data=json.dumps(other_order, indent=1),
        content_type="application/json",
        headers={"Idempotency-Key": "key-1"},
    )
    assert is_replay(answer)
    again = answer.json["messages"]
    assert [item["id"] for item in again] == [item["id"] for item in told]
    assert [item["status"] for item in again] == ["accepted", "delivered", "accepted", "accepted"]
    assert [again[0], again[2], again[3]] == [told[0], told[2], told[3]]
    assert count(database) == 4


def test_another_body_under_the_same_key_is_refused(client: FlaskClient, database: Database) -> None:
    post(client, GOOD)
    for other in (GOOD | {"text": "Hello"}, GOOD | {"recipients": ["447700900001"]}, GOOD | {"clientRef": None}):
        answer = post(client, other)
        assert answer.status_code == 422
        assert list(answer.json["errors"]) == ["Idempotency-Key"]
    assert post(client, GOOD, GOOD).status_code == 422
    assert count(database) == 1


def test_an_idempotency_key_belongs_to_an_api_key(client: FlaskClient, database: Database) -> None:
    other = client_of(client.application, SECRETS["send"])
    assert not is_replay(post(client, GOOD))
    assert not is_replay(post(other, GOOD))
    assert is_replay(post(client, GOOD))
    assert count(database) == 2


def test_without_a_key_every_request_is_a_new_one(client: FlaskClient, database: Database) -> None:
    for _ in range(2):
        assert client.post("/v1/messages", json={"messages": [GOOD]}).status_code == 202
    assert (count(database), count(database, IdempotencyKey)) == (2, 0)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "tab\there", "\x7f"])
def test_a_malformed_key_is_refused_by_its_header(desk: FlaskClient, key: str) -> None:
    answer = post(desk, GOOD, key=key)
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["Idempotency-Key"]


def test_any_visible_ascii_key_is_accepted(client: FlaskClient) -> None:
    for key in ("x" * 255, "!", "".join(map(chr, range(0x21, 0x7F)))):
        assert not is_replay(post(client, GOOD, key=key))
        assert is_replay(post(client, GOOD, key=key))


@pytest.mark.parametrize("body", [b"[" * 900 + b"]" * 900, b'{"messages": 5}', b"5", b"{", b""])
def test_a_malformed_body_leaves_its_key_free(client: FlaskClient, body: bytes) -> None:
    headers = {"Idempotency-Key": "key-1"}
    assert client.post("/v1/messages", data=body, content_type="application/json", headers=headers).status_code == 422
    assert post(client, GOOD).status_code == 202


def test_a_request_that_failed_frees_its_key(client: FlaskClient, database: Database) -> None:
    assert post(client, GOOD | {"messageGuid": "guid-1"}, key="other").status_code == 202
    for faulty, status in ((GOOD | {"text": ""}, 422), (GOOD | {"messageGuid": "guid-1"}, 409)):
        assert post(client, faulty).status_code == status
        assert count(database, IdempotencyKey) == 1
    answer = post(client, GOOD)
    assert answer.status_code == 202
    assert not is_replay(answer)


def test_a_dry_run_does_not_use_its_key(client: FlaskClient, database: Database) -> None:
    assert post(client, GOOD, query="?dryRun=true").status_code == 200
    assert count(database, IdempotencyKey) == 0
    assert not is_replay(post(client, GOOD, query="?dryRun=false"))
    assert post(client, GOOD | {"text": "else"}, query="?dryRun=true").status_code == 200


def test_a_repeat_is_not_validated_again(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_then = GOOD | {"validUntil": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    assert post(client, until_then).status_code == 202
    database.clock.measured(monotonic(), time() + 7200)  # two hours later, by the database's clock
    monkeypatch.setattr(Clock, "measured", lambda *_: None)
    assert post(client, until_then, key="key-2").status_code == 422
    assert is_replay(post(client, until_then))


@pytest.mark.parametrize(("age", "status"), [(0, 409), (58, 409), (61, 202)])
def test_a_claim_without_messages_is_running_and_after_a_minute_dead(
    client: FlaskClient, database: Database, age: float, status: int
) -> None:
    assert post(client, GOOD).status_code == 202
    with database.transaction() as session:  # as if its process had died before it accepted anything
        row = session.get_one(IdempotencyKey, ("desk", "key-1"))
        claim = Claim(
            api_key="desk", key="key-2", digest=row.digest, begun_at=datetime.now(UTC) - timedelta(seconds=age)
        )
        assert idempotency.begin(session, claim) is None
    answer = post(client, GOOD, key="key-2")
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status == 409)
    if status == 202:
        assert is_replay(post(client, GOOD, key="key-2"))
        assert count(database) == 2


def make_claim(at: float, digest: bytes = b"digest") -> Claim:
    return Claim(api_key="desk", key="key-1", digest=digest, begun_at=seconds(at))


def test_a_request_that_counted_as_dead_can_no_longer_accept_messages(database: Database) -> None:
    slow, quick = make_claim(0), make_claim(60)
    message = rows.message()
    with database.transaction() as session:
        assert idempotency.begin(session, slow) is None
    with database.transaction() as session, pytest.raises(StillRunning):
        idempotency.begin(session, make_claim(59.9))
    with database.transaction() as session, pytest.raises(OtherRequest):
        idempotency.begin(session, make_claim(59.9, b"another"))
    with database.transaction() as session:
        assert idempotency.begin(session, quick) is None

    def accept_as(claim: Claim) -> None:
        with database.transaction() as session:
            transitions.accept(session, [message], seconds(61))
            idempotency.finish(session, claim, [message.id])

    with pytest.raises(StillRunning):
        accept_as(slow)
    assert count(database) == 0
    with database.transaction() as session:
        idempotency.free(session, slow)  # it is no longer its to free
    accept_as(quick)
    with database.transaction() as session:
        idempotency.free(session, quick)  # nor is what was done
    with database.transaction() as session:
        assert idempotency.begin(session, make_claim(10_000)) == [ids.public("msg", message.id)]
        with pytest.raises(OtherRequest):
            idempotency.begin(session, make_claim(10_000, b"another"))


def at_once(app: Flask, given: dict[str, Any], number: int) -> list[Any]:
    answers: list[Any] = []
    barrier = Barrier(number)

    def send() -> None:
        client = client_of(app)
        barrier.wait()
        answers.append(post(client, given))

    threads = [Thread(target=send) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_eight_concurrent_requests_one_is_done(client: FlaskClient, database: Database) -> None:
    given = GOOD | {"recipients": [str(447700900000 + n) for n in range(50)]}
    answers = at_once(client.application, given, 8)
    assert len(answers) == 8
    done = [answer for answer in answers if answer.status_code == 202]
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len([answer for answer in done if not is_replay(answer)]) == 1
    assert len({tuple(item["id"] for item in answer.json["messages"]) for answer in done}) == 1
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 409)
    assert (count(database), count(database, IdempotencyKey)) == (50, 1)
    assert is_replay(post(client, given))


class Undo(Exception):
    """Rolls a transaction back."""


@contextmanager
def guid_taken(database: Database, guid: str) -> Iterator[None]:
    """Make every request that accepts a message with this guid wait during the block; then the guid is free again."""
    try:
        with database.transaction() as session:
            transitions.accept(session, [rows.message(message_guid=guid)], rows.T0)
            yield
            raise Undo
    except Undo:
        pass


def test_while_the_first_request_runs_a_repeat_is_409_with_retry_after(postgresql_database: Database) -> None:
    database = postgresql_database
    app = create_app(make_settings(), database)
    given = GOOD | {"messageGuid": "guid-1"}
    answers: list[Any] = []
    first = Thread(target=lambda: answers.append(post(client_of(app), given)))

    def is_accepting() -> bool:
        with database.reading() as session:
            return bool(session.scalar(text(WAITING)))

    with guid_taken(database, "guid-1"):
        first.start()
        until("the first waits", is_accepting)
        answer = post(client_of(app), given)
        assert answer.status_code == 409
        assert int(answer.headers["Retry-After"]) > 0
    first.join()
    assert answers[0].status_code == 202
    assert is_replay(post(client_of(app), given))
    assert count(database) == 1
