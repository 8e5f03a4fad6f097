"""The audit's page: who did what, without a number until somebody asks for it."""

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import operator_actions
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.web.ops import lists
from tests.support import rows
from tests.support.reader import Reader
from tests.support.rows import seconds

NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def suppress(database: Database, second: int, reason: str = "asked us") -> None:
    with database.transaction() as session:
        by = Actor(actor="user anna", reason=reason)
        suppressions.add(session, [Pair(NUMBER, f"shop{second}")], by, seconds(second))


def test_who_did_what_is_listed_without_numbers_until_they_are_asked_for(reader: Reader, database: Database) -> None:
    suppress(database, 1, f"asked us from {NUMBER}")
    message = rows.message(NUMBER)
    rows.accept(database, message)
    with database.transaction() as session:
        operator_actions.cancel(session, message.id, Actor(actor="desk", reason="sold out"), seconds(2))
    reader.open("/ops").follow("Audit")
    words_of_all = ("desk", "cancel", "sold out", "user anna", "suppressed", "sign in", "That is all")
    for words in (*words_of_all, "messages to +44 ••• •••123 from shop1"):
        assert words in reader.text
    assert NUMBER not in reader.source
    assert reader.links()[ids.public("msg", message.id)].endswith(f"/messages/{ids.public('msg', message.id)}")
    reader.submit("Show numbers and texts")
    assert f"messages to +{NUMBER} from shop1" in reader.text
    assert "suppression:" not in reader.text
    assert f"asked us from {NUMBER}" in reader.text
    assert "reveal" in reader.open("/ops/audit").text


def test_it_is_narrowed_down_by_an_address_that_holds_nothing_personal(reader: Reader, database: Database) -> None:
    for second in (1, 2):
        suppress(database, second)
    reader.open("/ops/audit").submit("Show these", actor="user anna", until="2026-01-05T12:01")
    assert reader.text.count("user anna suppressed") == 2
    assert "sign in" not in reader.text
    subject = f"suppression:{NUMBER}:shop2"
    assert reader.submit("Show these", subject=subject).text.count("user anna suppressed") == 1
    assert not [address for address in reader.seen if NUMBER in address or "anna" in address]
    assert "no entry fits" in reader.submit("Show these", actor="nobody").text
    reader.follow("Show all")
    assert "sign in" in reader.text


def note(database: Database, actor: str, action: str, second: int) -> None:
    with database.transaction() as session:
        audits.write(session, at=seconds(second), actor=actor, action=action, subject="sending")


def test_people_come_first_and_our_own_processes_are_a_step_away(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAGE_SIZE", 2)
    note(database, "user anna", "resume", 1)
    for number, process in enumerate(("worker", "rebuild", "service") * 9):
        note(database, process, "moved", 2 + number)
    reader.open("/ops/audit")
    assert "user anna resume" in reader.text
    assert "moved" not in reader.text
    reader.follow("All, with our own processes")
    assert reader.path.endswith("/ops/audit?by=all")
    assert "moved" in reader.text
    reader.follow("Look further back")
    assert "worker moved" in reader.text, "the next page is of all too"
    reader.submit("Show numbers and texts")
    assert "worker moved" in reader.text
    reader.follow("By people")
    assert "moved" not in reader.text


def test_a_filter_finds_our_own_processes_where_they_are_asked_for(reader: Reader, database: Database) -> None:
    note(database, "user anna", "resume", 1)
    note(database, "worker", "resume", 2)
    for asked, expected in (
        ({"action": "resume"}, (1, 0)),
        ({"action": "resume", "by": "all"}, (1, 1)),
        ({"actor": "worker"}, (0, 1)),
    ):
        text = reader.open("/ops/audit").submit("Show these", **asked).text
        assert (text.count("user anna resume"), text.count("worker resume")) == expected


def test_it_goes_on_from_page_to_page(reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PAGE_SIZE", 2)
    for second in range(5):
        suppress(database, second)
    reader.open("/ops/audit").submit("Show these", actor="user anna")
    found = reader.text.count("user anna suppressed")
    while "Look further back" in reader.links():
        found += reader.follow("Look further back").text.count("user anna suppressed")
    assert found == 5


def test_what_cant_be_understood_is_said_beside_its_field(reader: Reader) -> None:
    reader.open("/ops/audit").submit("Show these", 422, actor="x" * 300, since="2026-99-01T00:00")
    assert "Length must be between 1 and 200" in reader.text
    assert "There is no such time" in reader.text
