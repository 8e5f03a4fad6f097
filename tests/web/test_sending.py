"""POST /v1/messages: what is accepted, what is refused, and that a refused request stores nothing."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from flask import jsonify
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from receiptsvc import ids
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.messages import transitions
from receiptsvc.web.app import create_app
from receiptsvc.web.base import installation_of
from receiptsvc.web.schemas.base import SchemaContext
from receiptsvc.web.schemas.messages import Accepted, UnicodeCharacter
from receiptsvc.web.schemas.submissions import NewMessage
from tests.support import rows
from tests.support.callers import client_of, make_settings
from tests.support.forms import examples

GOOD: dict[str, Any] = {"recipients": ["447700900000"], "text": "hello"}
LONDON = {"countryIsoCode": "GBR"}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def is_somebody_waiting(database: Database) -> bool:
    with database.reading() as session:  # a new one each time: a transaction sees one state of the server's activity
        return bool(session.scalar(text(WAITING)))


def post(client: FlaskClient, *given: object) -> Any:
    return client.post("/v1/messages", json={"messages": list(given)})


def soon(**gap: float) -> str:
    return (datetime.now(UTC) + timedelta(**gap)).isoformat()


def test_each_recipient_becomes_a_message_of_its_own(client: FlaskClient, database: Database) -> None:
    answer = post(
        client,
        GOOD | {"recipients": ["+44 7700 900000", "+33 6 12 34 56 78"], "clientRef": "order/1", "originator": "ACME"},
        {"recipients": ["447700900001"], "text": "\u20ac" * 81},
    )
    assert answer.status_code == 202
    assert "Location" not in answer.headers
    first, _, third = answer.json["messages"]
    assert list(first) == [
        "id", "recipient", "clientRef", "originator", "status", "transactionID", "encoding", "segments", "warnings",
        "unicodeCharacters", "createdAt", "statusAt", "conflict", "changedAt", "url",
    ]  # fmt: skip
    assert [item["recipient"] for item in answer.json["messages"]] == ["447700900000", "33612345678", "447700900001"]
    assert first["status"] == "accepted"
    assert first["transactionID"] is None
    assert first["createdAt"].endswith("Z")
    assert (first["clientRef"], first["originator"]) == ("order/1", "ACME")
    assert first["url"] == f"http://127.0.0.1:8000/v1/messages/{first['id']}"
    assert (third["encoding"], third["segments"], third["warnings"]) == ("GSM", 2, [])
    with database.reading() as session:
        rows = session.scalars(select(Message).order_by(Message.id)).all()
        steps = session.scalars(select(Transition.status)).all()
    assert [ids.public("msg", row.id) for row in rows] == [item["id"] for item in answer.json["messages"]]
    assert {row.created_by for row in rows} == {"desk"}
    assert len({row.message_guid for row in rows}) == 3
    assert rows[0].conversation_id == rows[1].conversation_id != rows[2].conversation_id
    assert steps == ["accepted"] * 3
    read: Any = client.get(first["url"])
    assert read.json["id"] == first["id"]


def test_one_fault_refuses_the_whole_request(client: FlaskClient, database: Database) -> None:
    answer = post(client, GOOD, GOOD | {"recipients": ["447700900001", "12"]})
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["messages[1].recipients[1]"]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 0


def test_every_fault_is_reported_by_its_path(desk: FlaskClient) -> None:
    answer = post(desk, {"recipients": ["x", 7], "originator": "?"}, 5, {"recipients": [], "text": ""}, GOOD | {"a": 1})
    assert answer.status_code == 422
    assert set(answer.json["errors"]) == {
        "messages[0].recipients[0]",
        "messages[0].recipients[1]",
        "messages[0].text",
        "messages[0].originator",
        "messages[1]",
        "messages[2].recipients",
        "messages[2].text",
        "messages[3].a",
    }


@pytest.mark.parametrize(
    ("written", "more", "digits"),
    [
        ("447700900000", {}, "447700900000"),
        ("+447700900000", {}, "447700900000"),
        ("00447700900000", {}, "447700900000"),
        (" +44 (0)7700-900.000 ", {}, "447700900000"),
        ("+44\u00a07700\u2011900000", {}, "447700900000"),
        ("07700900000", LONDON, "447700900000"),
        ("7700 900000", LONDON, "447700900000"),
        ("447700900000", LONDON, "447700900000"),
        ("0033612345678", LONDON, "33612345678"),
        ("+33612345678", LONDON, "33612345678"),
        ("(555) 555-0100", {"countryIsoCode": "USA"}, "15555550100"),
        ("+39 06 1234 5678", {}, "390612345678"),
    ],
)
def test_a_number_in_any_usual_writing_is_taken(
    desk: FlaskClient, written: str, more: dict[str, str], digits: str
) -> None:
    answer = post(desk, GOOD | {"recipients": [written]} | more)
    assert answer.status_code == 202
    assert [item["recipient"] for item in answer.json["messages"]] == [digits]


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "+",
        "++44",
        "44770",
        "07700900000",
        "4477009000001",
        "+999123456789",
        "4" * 400,
        "0800FLOWERS",
        "+447700900000x12",
        "tel:+447700900000",
    ],
)
def test_an_impossible_number_is_refused_without_quoting_it(desk: FlaskClient, written: str) -> None:
    answer = post(desk, GOOD | {"recipients": [written]})
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["messages[0].recipients[0]"]
    assert len(written) < 5 or written not in answer.get_data(as_text=True)


def test_a_recipient_given_twice_gets_one_message_and_the_sender_a_warning(desk: FlaskClient) -> None:
    answer = post(desk, GOOD | {"recipients": ["447700900000", "447700900001", "+44 7700 900000"]})
    first, second = answer.json["messages"]
    assert "given 2 times" in first["warnings"][0]
    assert second["warnings"] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipients", "447700900000"),
        ("recipients", None),
        ("text", 5),
        ("text", None),
        ("text", ""),
        ("text", "x" * 10_001),
        ("text", "nul\x00"),
        ("text", "bell\x07"),
        ("text", "half \ud83d pair"),
        ("text", "\ufffe"),
        ("originator", "1"),
        ("originator", "1" * 16),
        ("originator", "abcdefghijkl"),
        ("originator", "Caf\u00e9"),
        ("originator", "ACME\n"),
        ("originator", 12345),
        ("clientRef", "x" * 65),
        ("clientRef", ""),
        ("clientRef", "a\x00b"),
        ("clientRef", "\udc00"),
        ("validUntil", "2026-01-31"),
        ("validUntil", "2999-01-31T09:30:00"),
        ("validUntil", "2999-02-30T09:30:00Z"),
        ("validUntil", "2999-01-31T09:30:00+25:00"),
        ("validUntil", "9999-12-31T23:59:59-14:00"),
        ("validUntil", "0001-01-01T00:00:00+14:00"),
        ("validUntil", "2020-01-31T09:30:00Z"),
        ("validUntil", 1769850000),
        ("deliverAfter", "tomorrow"),
        ("countryIsoCode", "GB"),
        ("countryIsoCode", "gbr"),
        ("countryIsoCode", ["GBR"]),
        ("rejectUnicode", "true"),
        ("rejectUnicode", 1),
        ("rejectUnicode", None),
        ("includeMessageText", 0),
        ("filterSetName", ""),
        ("impersonateUserName", {"a": 1}),
        ("additionalOptions", []),
        ("messageGuid", "x" * 37),
        ("messageGuid", 5),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_path(desk: FlaskClient, field: str, value: object) -> None:
    answer = post(desk, GOOD | {field: value})
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == [f"messages[0].{field}"]


def test_an_illegal_character_is_named_with_its_index(desk: FlaskClient) -> None:
    answer = post(desk, GOOD | {"text": "secret\x00text"})
    assert "U+0000 at index 6" in answer.json["errors"]["messages[0].text"][0]
    assert "secret" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("originator", ["12", "+447740101097", "1" * 15, "ab", "A-Z_0. 9", "abcdefghijk"])
def test_an_originator_is_kept_as_it_was_given(desk: FlaskClient, originator: str) -> None:
    assert post(desk, GOOD | {"originator": originator}).json["messages"][0]["originator"] == originator


def test_null_is_the_same_as_leaving_an_optional_value_out(desk: FlaskClient) -> None:
    names = [str(field.data_key) for field in NewMessage().load_fields.values() if field.allow_none]
    assert len(names) == 9
    assert post(desk, GOOD | dict.fromkeys(names)).status_code == 202


def test_times_are_kept_to_the_moment_whatever_their_offset(client: FlaskClient, database: Database) -> None:
    times = {"deliverAfter": "2999-01-31t09:30:00.1234567+02:00", "validUntil": "2999-01-31 09:30:00Z"}
    assert post(client, GOOD | times).status_code == 202
    with database.reading() as session:
        row = session.scalars(select(Message)).one()
    assert row.deliver_after == datetime(2999, 1, 31, 7, 30, 0, 123456, tzinfo=UTC)
    assert row.valid_until == datetime(2999, 1, 31, 9, 30, tzinfo=UTC)


def test_deliver_after_must_be_before_valid_until(desk: FlaskClient) -> None:
    answer = post(desk, GOOD | {"deliverAfter": soon(hours=2), "validUntil": soon(hours=1)})
    assert list(answer.json["errors"]) == ["messages[0].deliverAfter"]


def test_reject_unicode_refuses_a_text_that_is_not_gsm_and_names_the_characters(desk: FlaskClient) -> None:
    answer = post(desk, GOOD | {"text": "it\u2019s fine", "rejectUnicode": True})
    assert answer.status_code == 422
    assert "U+2019" in answer.json["errors"]["messages[0].text"][0]
    assert post(desk, GOOD | {"text": "it's fine", "rejectUnicode": True}).status_code == 202


def test_warnings_about_a_text_in_another_script_are_few(desk: FlaskClient) -> None:
    answer = post(desk, GOOD | {"text": "".join(map(chr, range(0x4E00, 0x4E40)))})
    [item] = answer.json["messages"]
    assert item["encoding"] == "UTF-16"
    assert len(item["warnings"]) == 11
    assert item["warnings"][-1] == "and 54 more such characters"


def test_a_receipt_that_would_be_too_long_gives_a_warning(desk: FlaskClient) -> None:
    text = "\u4e00" * 700  # nine characters each in an address
    assert len(post(desk, GOOD | {"text": text}).json["messages"][0]["warnings"]) == 1
    [_, warning] = post(desk, GOOD | {"text": text, "includeMessageText": True}).json["messages"][0]["warnings"]
    assert "receipt" in warning


@pytest.mark.parametrize(
    ("field", "nearest"), [("recipient", "recipients"), ("clientref", "clientRef"), ("valid_until", "validUntil")]
)
def test_an_unknown_field_is_answered_with_the_nearest_known_one(desk: FlaskClient, field: str, nearest: str) -> None:
    answer = post(desk, GOOD | {field: "x"})
    assert answer.status_code == 422
    assert answer.json["errors"][f"messages[0].{field}"] == [f"Is not known here; the nearest known name is {nearest}."]


ITEM_FIELDS = (
    "recipients, text, originator, clientRef, deliverAfter, validUntil, countryIsoCode, rejectUnicode, "
    "includeMessageText, filterSetName, impersonateUserName, additionalOptions, messageGuid"
)
# Body → errors. Kinds: a name that belongs elsewhere, one that is like none, two of them, and no object at all.
MISPLACED = {
    '{"messages": [%s], "text": "x"}': {"text": ["Belongs into an item of messages."]},
    '{"recipient": ["447700900000"]}': {
        "messages": ["Missing data for required field."], "recipient": ["Belongs into an item of messages."],
    },
    '{"messages": [%s], "dry_run": true}': {"dry_run": ["Belongs into the query: ?dryRun=true."]},
    '{"messages": [{"recipients": ["447700900000"], "text": "x", "dryRun": true}]}': {
        "messages[0].dryRun": ["Belongs into the query: ?dryRun=true."],
    },
    '{"messages": [%s], "Idempotency-Key": "a"}': {"Idempotency-Key": ["Belongs into the header Idempotency-Key."]},
    '{"messages": [%s], "webhook": "x"}': {"webhook": ["Is not known here; known are: messages."]},
    '{"messages": [{"recipients": ["447700900000"], "text": "x", "to": "x", "from": "x"}]}': {
        "messages[0].to": [f"Is not known here; known are: {ITEM_FIELDS}."], "messages[0].from": ["Is not known here."],
    },
    '[]': {"body": ['Must be an object, such as {"messages": […]}.']},
    '{"messages": ["hello"]}': {"messages[0]": ['Must be an object, such as {"recipients": […], "text": …}.']},
    '{"messages": {}}': {"messages": ["Must be a list."]},
    '{"messages": []}': {"messages": ["Must hold at least one message."]},
    '{"messages": [%s],}': {"body": ["Is not JSON: line 1, column 66."]},
}  # fmt: skip


@pytest.mark.parametrize(("body", "errors"), MISPLACED.items())
def test_what_is_in_the_wrong_place_is_answered_with_the_right_one(
    desk: FlaskClient, body: str, errors: dict[str, list[str]]
) -> None:
    answer: Any = desk.post("/v1/messages", data=body.replace("%s", json.dumps(GOOD)), content_type="application/json")
    assert (answer.status_code, answer.json["errors"]) == (422, errors)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("recipients", [447700900000], 'Must be a string, such as "447700900000": put the number in quotes.'),
        ("recipients", [None], 'Must be a string, such as "447700900000".'),
        ("recipients", "447700900000", 'Must be a list of at least one phone number, such as ["447700900000"].'),
        ("clientRef", 1234, 'Must be a string, such as "order/1234": put the number in quotes.'),
        ("validUntil", 1769850000, 'Must be a string, such as "2027-01-31T21:30:00+01:00".'),
        ("text", True, 'Must be a string, such as "Your parcel arrives today.".'),
        ("originator", "", "Must be 2 to 15 digits, with or without a leading +, or 2 to 11 of 0-9 a-z A-Z - _ . and space."),
        ("additionalOptions", [], 'Must be an object, such as {"dest_addr_ton": "1"}.'),
    ],
)  # fmt: skip
def test_a_fault_says_what_would_be_right(desk: FlaskClient, field: str, value: object, said: str) -> None:
    assert list(post(desk, GOOD | {field: value}).json["errors"].values()) == [[said]]


def test_very_many_unknown_fields_are_not_named_one_by_one(desk: FlaskClient) -> None:
    answer = post(desk, GOOD | {f"x{n}": n for n in range(100)})
    assert list(answer.json["errors"]) == ["messages[0]"]


@pytest.mark.parametrize(
    ("transport", "field", "value", "named"),
    [
        ("soap", "additionalOptions", {"a": "b"}, "DYNMARK_WSDL"),
        ("rest", "additionalOptions", {"a": "b"}, "REST"),
        ("rest", "messageGuid", "guid-1", "REST"),
        ("rest", "includeMessageText", True, "REST"),
    ],
)
def test_a_field_that_the_transport_lacks_is_refused_with_the_reason(
    desk_database: Database, transport: str, field: str, value: object, named: str
) -> None:
    client = client_of(create_app(replace(make_settings(), transport=transport), desk_database))
    answer = post(client, GOOD | {field: value})
    assert answer.status_code == 422
    assert named in answer.json["errors"][f"messages[0].{field}"][0]


def test_additional_options_are_accepted_with_a_live_wsdl(desk_database: Database) -> None:
    client = client_of(create_app(make_settings(DYNMARK_WSDL="http://127.0.0.1:1/?wsdl"), desk_database))
    assert post(client, GOOD | {"additionalOptions": {"a": "b"}}).status_code == 202
    answer = post(client, GOOD | {"additionalOptions": {"a": 5}})
    assert list(answer.json["errors"]) == ["messages[0].additionalOptions.a"]
    answer = post(client, GOOD | {"additionalOptions": {"x" * 101: "b"}})
    [faults] = answer.json["errors"].values()
    assert faults == ["Its name: Length must be between 1 and 100."]


def test_a_message_guid_is_for_one_recipient(desk: FlaskClient) -> None:
    both = GOOD | {"recipients": ["447700900000", "447700900001"], "messageGuid": "guid-two"}
    assert list(post(desk, both).json["errors"]) == ["messages[0].messageGuid"]


GUID = "0b9b0e0e-5c3e-4d57-9c4e-2f6f0a6f3f10"
# Kind: writings that a .NET service takes for one, so that it would ignore the second message.
SAME_GUIDS = {
    "capitals": (GUID, GUID.upper()),
    "some capitals": (GUID, GUID.title()),
    "without hyphens": (GUID, GUID.replace("-", "")),
    "capitals without hyphens": (GUID, GUID.replace("-", "").upper()),
    "in braces": (GUID, f"{{{GUID}}}"),
    "in brackets": (GUID, f"({GUID})"),
    "blanks at its ends": (GUID, f" {GUID}\n"),
    "no GUID, capitals": ("order-7", "Order-7"),
    "no GUID, a blank behind it": ("order-7", "order-7 "),
}
OTHER_GUIDS = {
    "another digit": (GUID, GUID.replace("0b9b", "0b9c")),
    "no GUID, with a hyphen": ("order-12", "order-1-2"),
    "some hyphens, so no GUID": (GUID, GUID.replace("-", "", 1)),
    "one brace, so no GUID": (GUID.replace("-", ""), f"{{{GUID.replace('-', '')}"),
    "a blank inside": ("order 7", "order7"),
}


@pytest.mark.parametrize(("first", "second"), SAME_GUIDS.values(), ids=SAME_GUIDS)
def test_two_writings_of_one_message_guid_are_one(client: FlaskClient, first: str, second: str) -> None:
    one, other = (GOOD | {"messageGuid": each} for each in (first, second))
    assert list(post(client, one, other).json["errors"]) == ["messages[1].messageGuid"]
    [made] = post(client, other).json["messages"]
    assert post(client, one).json["existing"][0]["id"] == made["id"]
    for guid in (first, second):
        found: Any = client.get("/v1/messages", query_string={"messageGuid": guid})
        assert [item["id"] for item in found.json["items"]] == [made["id"]]


@pytest.mark.parametrize(("first", "second"), OTHER_GUIDS.values(), ids=OTHER_GUIDS)
def test_what_only_resembles_a_message_guid_is_another(client: FlaskClient, first: str, second: str) -> None:
    assert post(client, GOOD | {"messageGuid": first}, GOOD | {"messageGuid": second}).status_code == 202


@pytest.mark.parametrize("stored", [GUID.upper(), GUID.replace("-", ""), "Order-7", " order-7", "Ref-\u00c9"])
def test_a_message_guid_that_was_stored_as_it_was_written_stays_found_and_used(
    client: FlaskClient, database: Database, stored: str
) -> None:
    [message_id] = rows.accept(database, rows.message(message_guid=stored))
    found: Any = client.get("/v1/messages", query_string={"messageGuid": stored})
    assert [item["id"] for item in found.json["items"]] == [ids.public("msg", message_id)]
    status = 422 if not stored.isascii() else 409 if stored == stored.strip() else 202
    assert post(client, GOOD | {"messageGuid": stored}).status_code == status


def test_no_two_messages_have_guids_that_differ_by_case_alone(database: Database) -> None:
    rows.accept(database, rows.message(message_guid="guid-\u0130"))
    rows.accept(database, rows.message(message_guid="guid-i"))
    with pytest.raises(IntegrityError):
        rows.accept(database, rows.message(message_guid="GUID-I"))


@pytest.mark.parametrize("guid", ["", " ", "x" * 37, "caf\u00e9"])
def test_a_message_guid_is_36_characters_of_ascii(desk: FlaskClient, guid: str) -> None:
    [(path, said)] = post(desk, GOOD | {"messageGuid": guid}).json["errors"].items()
    assert (path, said) == ("messages[0].messageGuid", ["Must be 1 to 36 characters of ASCII, best a GUID."])


def test_a_message_guid_cannot_be_used_twice_in_a_request(desk: FlaskClient) -> None:
    twin = GOOD | {"messageGuid": "guid-twin"}
    assert list(post(desk, twin, twin).json["errors"]) == ["messages[1].messageGuid"]


def test_a_known_message_guid_is_a_conflict_that_names_the_message(client: FlaskClient, database: Database) -> None:
    [first] = post(client, GOOD | {"messageGuid": "guid-1"}).json["messages"]
    answer = post(client, GOOD, GOOD | {"messageGuid": "guid-1"})
    assert answer.status_code == 409
    assert answer.json["existing"] == [{"path": "messages[1].messageGuid", "id": first["id"], "url": first["url"]}]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 1


def test_a_message_guid_that_a_concurrent_request_uses_is_a_conflict_too(
    client: FlaskClient, database: Database
) -> None:
    answers: list[Any] = []
    late = Thread(target=lambda: answers.append(post(client, GOOD | {"messageGuid": "guid-1"})))
    with database.transaction() as session:
        transitions.accept(session, [rows.message(message_guid="guid-1")], rows.T0)
        late.start()
        deadline = monotonic() + 20
        while not database.is_sqlite and not is_somebody_waiting(database):
            assert monotonic() < deadline
    late.join()
    assert [answer.status_code for answer in answers] == [409]
    assert answers[0].json["existing"][0]["path"] == "messages[0].messageGuid"


def test_without_an_account_nothing_is_accepted(desk_database: Database) -> None:
    settings = make_settings(DYNMARK_USERNAME="", DYNMARK_PASSWORD="")
    answer = post(client_of(create_app(settings, desk_database)), GOOD)
    assert answer.status_code == 503
    assert "DYNMARK_USERNAME" in answer.json["detail"]
    assert "DYNMARK_PASSWORD" in answer.json["detail"]


def test_the_row_has_what_was_given_and_the_answer_is_the_schemas(client: FlaskClient, database: Database) -> None:
    odd = 'quote " back\\slash \u20ac \u0436 \U0001f600 {}[], \t\r\n null %s :x'
    given: dict[str, Any] = {
        "text": odd, "originator": "+447700900009", "clientRef": odd[:64], "deliverAfter": "2999-01-01T00:00:00.000001Z",
        "validUntil": "2999-01-02T00:00:00Z", "countryIsoCode": "GBR", "includeMessageText": True,
        "filterSetName": odd, "impersonateUserName": odd,
    }  # fmt: skip
    numbers = [str(447700900000 + n) for n in range(120)]
    answer = post(client, GOOD | given | {"recipients": [*numbers, numbers[0]]}, GOOD, GOOD | {"text": odd * 50})
    assert answer.status_code == 202
    with database.reading() as session:
        rows = session.scalars(select(Message).order_by(Message.id)).all()
        steps = session.execute(
            select(Transition.message_id, Transition.source, Transition.status, Transition.effect, Transition.rule)
            .where(Transition.received_at == rows[0].created_at, Transition.recorded_at == rows[0].created_at)
            .order_by(Transition.id)
        ).all()
    with client.application.app_context(), SchemaContext(installation_of(make_settings(), lambda: datetime.now(UTC))):
        expected = client.application.make_response(jsonify(Accepted().dump({"messages": rows, "warnings": []})))
    assert answer.get_data(as_text=True) == expected.get_data(as_text=True)
    assert steps == [(row.id, "ourselves", "accepted", "applied", "accepted") for row in rows]
    assert [row.recipient for row in rows] == [*numbers, "447700900000", "447700900000"]
    assert [len(row.warnings) for row in rows[:2]] == [4, 3]
    first, plain = rows[0], rows[-2]
    names = [str(field.data_key) for field in NewMessage().load_fields.values() if field.data_key in given]
    kept = [getattr(first, "".join("_" + c.lower() if c.isupper() else c for c in name)) for name in names]
    assert [each.isoformat().replace("+00:00", "Z") if isinstance(each, datetime) else each for each in kept] == [
        given[name] for name in names
    ]
    assert {plain.deliver_after, plain.valid_until, plain.client_ref, plain.country_iso_code, plain.transaction_id} == {
        None
    }
    assert (plain.additional_options, plain.reject_unicode, plain.tries, plain.conflict) == ({}, False, 0, False)
    assert (plain.status, plain.status_at, plain.due_at) == ("accepted", plain.created_at, plain.created_at)
    assert len({row.message_guid for row in rows}) == len(rows)


@pytest.mark.slow
def test_ten_thousand_recipients_are_one_request_and_one_more_is_too_many(desk: FlaskClient) -> None:
    numbers = [str(447700000000 + n) for n in range(10_001)]
    answer = post(desk, GOOD | {"recipients": numbers[:5_000]}, GOOD | {"recipients": numbers[5_000:]})
    assert answer.status_code == 413
    answer = post(desk, GOOD | {"recipients": numbers[:5_000]}, GOOD | {"recipients": numbers[5_000:10_000]})
    assert len(answer.json["messages"]) == 10_000


def test_limits_are_settings_and_errors_name_them(desk_database: Database) -> None:
    client = client_of(create_app(make_settings(MAX_RECIPIENTS="2", MAX_BODY_MIB="1"), desk_database))
    answer = post(client, GOOD | {"recipients": ["447700900000"] * 3})
    assert answer.status_code == 413
    assert "more than 2 recipients (MAX_RECIPIENTS)" in answer.json["detail"]
    answer = post(client, GOOD | {"filterSetName": "x" * 1024**2})
    assert answer.status_code == 413
    assert "1 MiB (MAX_BODY_MIB)" in answer.json["detail"]
    assert post(client, GOOD | {"recipients": ["447700900000", "447700900001"]}).status_code == 202


def test_a_staging_service_sends_to_some_numbers_only_and_does_not_list_them(desk_database: Database) -> None:
    client = client_of(create_app(make_settings(SEND_ONLY_TO="+44 7700 900000, 336"), desk_database))
    assert post(client, GOOD | {"recipients": ["07700 900000", "+33612345678"]} | LONDON).status_code == 202
    others = ["447700900000", "447700900001", "x", "33712345678", "447700900001"]
    answer = post(client, GOOD | {"recipients": others}, GOOD | {"recipients": ["447700900009"], "a": 1})
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == [f"messages[0].recipients[{place}]" for place in (2, 1, 4, 3)] + [
        "messages[1].a",
        "messages[1].recipients[0]",
    ]
    assert "SEND_ONLY_TO" in answer.json["errors"]["messages[0].recipients[1]"][0]
    assert "900000" not in answer.get_data(as_text=True)


def test_each_answer_lists_the_characters_outside_gsm(desk: FlaskClient) -> None:
    texts = ["plain", "it\u2019s \u0436 \u2019", "".join(map(chr, range(0x4E00, 0x4E40)))]
    plain, mixed, foreign = post(desk, *(GOOD | {"text": text} for text in texts)).json["messages"]
    assert plain["unicodeCharacters"] == []
    assert mixed["unicodeCharacters"] == [
        {"character": "\u2019", "codePoint": "U+2019", "suggestion": "'"},
        {"character": "\u0436", "codePoint": "U+0436", "suggestion": None},
    ]
    names = [str(field.data_key) for field in UnicodeCharacter().dump_fields.values()]
    assert names == list(mixed["unicodeCharacters"][0])
    assert len(foreign["unicodeCharacters"]) == 10
    read: Any = desk.get(mixed["url"])
    assert read.json["unicodeCharacters"] == mixed["unicodeCharacters"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([str(field.data_key) for field in NewMessage().load_fields.values()])
LIKELY = st.sampled_from(["447700900000", "2027-01-01T00:00:00Z", "GBR", ["447700900000"], True, {"a": "b"}])
LONE = st.characters(codec=None, categories=["Cs", "Cc", "Lu"])
MESSAGE = st.dictionaries(NAMES | st.text(max_size=8), LIKELY | JSON | st.text(LONE), max_size=6)
BODY = JSON | st.fixed_dictionaries({"messages": st.lists(MESSAGE | JSON, max_size=3) | JSON})


@pytest.mark.long
@settings(max_examples=examples(50), deadline=None, derandomize=True, database=None)
@given(body=BODY)
def test_no_body_causes_a_500(desk: FlaskClient, body: object) -> None:
    answer: Any = desk.post("/v1/messages", data=json.dumps(body), content_type="application/json")
    assert answer.status_code in {202, 409, 422}
    if answer.status_code == 422:
        assert answer.json["errors"]
