"""The REST transport against a server that says what a test tells it: what goes out, and what each end of a call means."""

import base64
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.messages import OutboundMessage, SendOutcome, SendResult
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound.rest import RestGateway
from tests.dynmark import calls, wire
from tests.dynmark.calls import ALICE, BOB, CAROL, PASSWORD, message
from tests.dynmark.wire import Wire

SAMPLES = Path(__file__).parent.parent / "samples"
TAKEN, REFUSED, NOT_SENT = SendOutcome.TAKEN, SendOutcome.REFUSED, SendOutcome.NOT_SENT
UNCLEAR, ACCOUNT_REFUSED = SendOutcome.UNCLEAR, SendOutcome.ACCOUNT_REFUSED
SUSPECT_REFUSED, SUSPECT_UNCLEAR = SendOutcome.SUSPECT_REFUSED, SendOutcome.SUSPECT_UNCLEAR
LOGON = "Unable to logon with credentials given"


def gateway(url: str, **more: str) -> RestGateway:
    return RestGateway(calls.settings(url, DYNMARK_REST_URL=url, DYNMARK_TRANSPORT="rest", **more))


def says(body: object, status: str = "200 OK") -> wire.Reply:
    """A reply with this JSON, or these bytes."""
    return wire.answer(body if isinstance(body, bytes) else json.dumps(body), status, "application/json")


def send(
    reply: wire.Reply, *messages: OutboundMessage, repeats: frozenset[UUID] = frozenset(), **more: str
) -> tuple[list[SendResult], Wire]:
    """The results of one call, in the order of `messages`, and the server that had it."""
    with Wire(reply) as server:
        results = gateway(server.url, **more).send(messages, repeats=repeats)
    assert results.keys() == {each.id for each in messages}
    assert len(server.requests) <= 1
    return [results[each.id] for each in messages], server


def outcomes(reply: wire.Reply, *messages: OutboundMessage, **more: Any) -> list[SendOutcome]:
    return [result.outcome for result in send(reply, *messages, **more)[0]]


# What goes out


def test_the_request_is_this_to_the_byte() -> None:
    zone = timezone(timedelta(hours=2))
    full = message(
        ALICE,
        text='Grüße, 😀 "x"\n',
        originator="+447740101097",
        client_ref="ref/1",
        valid_until=datetime(2026, 7, 2, 1, 30, tzinfo=zone),
        deliver_after=datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=zone),
        country_iso_code="GBR",
        filter_set_name="set",
        reject_unicode=True,
        impersonate_user_name="client",
    )
    _, server = send(says([{}, {}]), full, message(BOB))
    (request,) = server.requests
    assert request.body == (
        rb'[{"to":"447700900001","from":"+447740101097","body":"Gr\u00fc\u00dfe, \ud83d\ude00 \"x\"\n",'
        rb'"countryIsoCode":"GBR","deliverAfter":"2026-07-01T10:00:00.250000Z","validiUntil":"2026-07-01T23:30:00Z",'
        rb'"clientRef":"ref/1","deliveryStatusUrl":"https://us.example.com/callbacks/receipts/abc",'
        rb'"filterSetName":"set","rejectUnicode":true,"impersonateUserName":"client"},'
        rb'{"to":"447700900002","body":"Hello","deliveryStatusUrl":"https://us.example.com/callbacks/receipts/abc"}]'
    )
    assert request.line.startswith("POST ")
    assert request.headers["content-type"] == "application/json"
    token = base64.b64encode(f"user@example.com:{PASSWORD}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {token}"


def test_the_setting_spells_valid_until() -> None:
    until = message(valid_until=datetime(2030, 1, 1, tzinfo=UTC))
    _, server = send(says([{}]), until, DYNMARK_REST_VALIDITY="validUntil")
    assert "validUntil" in json.loads(server.requests[0].body)[0]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("text", "a\ud83d", "body holds U+D83D"),
        ("client_ref", "\udc00", "clientRef holds U+DC00"),
        ("additional_options", {"a": "b"}, "additionalOptions can't be sent by REST"),
        ("include_message_text", True, "includeMessageText can't be sent by REST"),
    ],
)
def test_a_message_that_rest_cant_carry_is_refused_alone(field: str, value: Any, named: str) -> None:
    (refused, taken), server = send(says([{"to": BOB}]), message(ALICE, **{field: value}), message(BOB))
    assert (refused.outcome, taken.outcome) == (REFUSED, TAKEN)
    assert (refused.description or "").startswith(named)
    assert [each["to"] for each in json.loads(server.requests[0].body)] == [BOB]


@pytest.mark.parametrize("other", [ALICE, f"+{ALICE}", f"00{ALICE}"])
def test_two_messages_to_one_recipient_are_a_mistake_of_the_caller(other: str) -> None:
    with Wire(says([{}])) as server, pytest.raises(ValueError, match="only one message to a recipient"):
        gateway(server.url).send([message(ALICE), message(other)])
    assert server.connections == 0


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"DYNMARK_USERNAME": "", "DYNMARK_PASSWORD": ""}, "DYNMARK_USERNAME: must be set"),
        ({"DYNMARK_USERNAME": "a:b"}, "DYNMARK_USERNAME: must be without a colon"),
    ],
)
def test_an_account_that_basic_cant_carry_is_a_bad_setting(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        gateway("http://127.0.0.1/", **environ)


# What an item means

INVALID = {"property": "to", "failureCode": "ToInvalid", "details": "Nowhere"}
REPEAT, MAPPED = {"is_repeat": True}, '{"ToInvalid": "%s"}'


@pytest.mark.parametrize(
    ("item", "how", "result"),
    [
        ({}, {}, (TAKEN, None, None, None)),
        ({"successful": True, "validationFailures": []}, {}, (TAKEN, None, None, None)),
        ({"Successful": True, "ValidationFailures": None, "failureDescription": ""}, {}, (TAKEN, None, None, None)),
        ({"successful": None, "news": {"a": [1]}}, {}, (TAKEN, None, None, None)),
        ({"successful": "maybe"}, {}, (UNCLEAR, None, "its item of the answer proves nothing", None)),
        ({"successful": False}, {}, (REFUSED, None, "it was not successful", None)),
        ({"successful": "False"}, {}, (REFUSED, None, "it was not successful", None)),
        ({"failureDescription": "No credit"}, {}, (REFUSED, None, "No credit", None)),
        ({"failureDescription": "No credit"}, REPEAT, (UNCLEAR, None, "No credit", None)),
        ({"failureDescription": LOGON}, {}, (SUSPECT_REFUSED, None, LOGON, None)),
        ({"failureDescription": LOGON}, REPEAT, (SUSPECT_UNCLEAR, None, LOGON, None)),
        ({"failureDescription": "Hello 'your login' no"}, {"text": "your login"}, (REFUSED, None, "Hello 'your login' no", None)),
        ({"validationFailures": [INVALID]}, {}, (REFUSED, "ToInvalid", "to: ToInvalid", "Nowhere")),
        ({"successful": True, "validationFailures": [INVALID]}, {}, (REFUSED, "ToInvalid", "to: ToInvalid", "Nowhere")),
        (
            {"validationFailures": [INVALID, {"property": "from", "failureCode": "X"}]},
            {"codes": MAPPED % "retry"},
            (REFUSED, "ToInvalid, X", "to: ToInvalid; from: X", "Nowhere"),
        ),
        ({"validationFailures": "all wrong"}, {}, (REFUSED, None, "it was not successful", "all wrong")),
        ({"validationFailures": [INVALID]}, {"codes": MAPPED % "retry"}, (NOT_SENT, "ToInvalid", "to: ToInvalid", "Nowhere")),
        ({"validationFailures": [INVALID]}, {"codes": MAPPED % "duplicate"}, (TAKEN, "ToInvalid", "to: ToInvalid", "Nowhere")),
        ({"failureKey": "K", "failureDescription": "No"}, {"codes": '{"K": "stop"}'}, (ACCOUNT_REFUSED, "K", "No", None)),
        (
            {"validationFailures": [{"property": "impersonateUserName", "details": "No such username"}]},
            {},
            (REFUSED, None, "impersonateUserName", "No such username"),
        ),
        (
            {"validationFailures": [{"failureCode": "BadLogon", "details": "Nobody"}]},
            {},
            (SUSPECT_REFUSED, "BadLogon", "BadLogon", "Nobody"),
        ),
        ({"failureDescription": "x" * 9999}, {}, (REFUSED, None, "x" * 500, None)),
        ({"failureDescription": "a\x00b\ud800"}, {}, (REFUSED, None, "a\ufffdb\ufffd", None)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", ["200 OK", "202 Accepted"])
def test_an_item_means_what_it_says(status: str, item: dict[str, Any], how: dict[str, Any], result: Any) -> None:
    sent = message(text=how.get("text", "Hello"))
    repeats = frozenset({sent.id} if how.get("is_repeat") else ())
    ((said,), _) = send(
        says([{"to": ALICE, **item}], status), sent, repeats=repeats, RETURN_CODES=how.get("codes", "{}")
    )
    assert (said.outcome, said.code, said.description, said.detail) == result


def test_a_transaction_id_is_kept_if_ever_one_comes() -> None:
    (first, second), _ = send(
        says([{"to": ALICE, "transactionID": 7}, {"to": BOB, "transactionID": "x"}]), message(), message(BOB)
    )
    assert (first.transaction_id, second.transaction_id) == ("7", None)


def test_logon_words_beside_a_taken_message_are_about_their_own_message() -> None:
    reply = says([{"to": ALICE}, {"to": BOB, "failureDescription": "No such username"}])
    assert outcomes(reply, message(ALICE), message(BOB)) == [TAKEN, REFUSED]


# Which item belongs to which message

FAILED: dict[str, Any] = {"failureDescription": "No"}


@pytest.mark.parametrize(
    ("items", "ends"),
    [
        ([{"to": ALICE}, {"to": BOB, **FAILED}], [TAKEN, REFUSED]),
        ([{"to": BOB, **FAILED}, {"to": ALICE}], [TAKEN, REFUSED]),
        ([{"TO": f" +{ALICE} "}, {"to": int(BOB)}], [TAKEN, TAKEN]),
        ([{}, {}], [TAKEN, TAKEN]),
        ([FAILED, FAILED], [REFUSED, REFUSED]),
        ([{}, FAILED], [UNCLEAR, UNCLEAR]),
        ([{"to": BOB, **FAILED}, {}], [TAKEN, REFUSED]),
        ([{}, {"to": ALICE}], [TAKEN, TAKEN]),
        ([{"to": ALICE}], [TAKEN, UNCLEAR]),
        ([{}], [UNCLEAR, UNCLEAR]),
        ([{}, {}, {}], [UNCLEAR, UNCLEAR]),
        ([{"to": ALICE}, {}, {}], [TAKEN, UNCLEAR]),
        ([{"to": ALICE}, {"to": CAROL}], [TAKEN, UNCLEAR]),
        ([{"to": CAROL}, {}], [UNCLEAR, UNCLEAR]),
        ([{"to": ALICE}, {"to": ALICE, **FAILED}], [UNCLEAR, UNCLEAR]),
        ([{"to": ALICE}, {"to": ALICE}, {"to": BOB}], [UNCLEAR, TAKEN]),
        ([{"to": ALICE}, {"to": "07700900002"}], [TAKEN, TAKEN]),
        ([{"to": ALICE}, {"to": "07700900009"}], [TAKEN, UNCLEAR]),
        ([{"to": ALICE}, {"to": [BOB]}], [TAKEN, UNCLEAR]),
        ([{"to": ALICE}, "OK"], [TAKEN, UNCLEAR]),
        ([None, 1], [UNCLEAR, UNCLEAR]),
    ],
)
def test_an_item_belongs_to_whom_it_names(items: list[Any], ends: list[SendOutcome]) -> None:
    assert outcomes(says(items), message(ALICE), message(BOB)) == ends


# What an answer as a whole means


@pytest.mark.parametrize("sample", ["rest_202_bad_logon.json", "rest_202_as_documented.txt"])
def test_the_documented_202_may_be_the_account_s_for_every_message(sample: str) -> None:
    reply = says((SAMPLES / sample).read_bytes(), "202 Accepted")
    (alone,), _ = send(reply, message(ALICE))
    assert alone == SendResult(outcome=SUSPECT_REFUSED, description=LOGON)
    results, _ = send(reply, message(ALICE), message(BOB))
    unproven = SendResult(outcome=SUSPECT_UNCLEAR, description=LOGON)
    assert results == [unproven] * 2, "of two, one may be missing from the answer, and may have been taken"


def test_one_item_a_message_that_refuses_the_logon_proves_that_nothing_was_sent() -> None:
    reply = says([{"failureDescription": LOGON}] * 2, "202 Accepted")
    assert outcomes(reply, message(ALICE), message(BOB)) == [SUSPECT_REFUSED] * 2


def test_the_documented_400_refuses_whom_it_names_and_lets_the_others_go_again() -> None:
    reply = says((SAMPLES / "rest_400.json").read_bytes(), "400 Bad Request")
    three = message(ALICE), message(BOB), message(CAROL)
    (first, second, third), _ = send(reply, *three)
    assert (first.outcome, first.code, first.description) == (REFUSED, "ErrBadJson", "message[0].toa: ErrBadJson")
    assert (first.detail or "").startswith("Could not find member 'toa' on object of type 'Message'.")
    assert second.outcome is REFUSED
    assert (second.description or "").endswith("message[1].body: ErrBadJson")
    assert (third.outcome, third.code) == (NOT_SENT, "ErrBadJson")
    assert outcomes(reply, *three, repeats=frozenset(each.id for each in three)) == [UNCLEAR, UNCLEAR, NOT_SENT]


def bad(name: str, key: str = "ErrBadJson") -> dict[str, str]:
    return {"property": name, "details": "why", "failureKey": key}


@pytest.mark.parametrize(
    ("faults", "ends"),
    [
        ([bad("message[1].impersonateUserName")], [NOT_SENT, REFUSED]),
        ([bad("message[7].toa")], [NOT_SENT, NOT_SENT]),
        ([bad("")], [NOT_SENT, NOT_SENT]),
        ([bad("message[0].toa"), bad("message[1].to", "ErrOther")], [UNCLEAR, UNCLEAR]),
        ([bad("message[0].to", "ErrOther")], [UNCLEAR, UNCLEAR]),
        ([bad("message[0].to"), "x"], [UNCLEAR, UNCLEAR]),
        ([], [UNCLEAR, UNCLEAR]),
        (bad("message[0].to"), [UNCLEAR, UNCLEAR]),
        ("Bad Request", [UNCLEAR, UNCLEAR]),
    ],
)
def test_only_a_400_that_says_that_nothing_was_read_proves_it(faults: object, ends: list[SendOutcome]) -> None:
    assert outcomes(says(faults, "400 Bad Request"), message(ALICE), message(BOB)) == ends


def test_a_single_message_that_could_not_be_read_is_refused_whoever_is_named() -> None:
    assert outcomes(says([bad("")], "400 Bad Request"), message()) == [REFUSED]


GOOD = json.dumps([{"to": ALICE, "successful": True}, {"to": BOB, "successful": True}])


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        " \r\n" + GOOD,
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        GOOD.replace("}]", ",},\n ]"),
        GOOD.replace('"successful"', r'"note": "a, ] \\", "Successful"'),
    ],
)
def test_a_success_is_understood_whatever_its_form(body: str | bytes) -> None:
    assert outcomes(wire.answer(body), message(ALICE), message(BOB)) == [TAKEN, TAKEN]


@pytest.mark.parametrize(
    ("reply", "outcome", "description"),
    [
        (wire.answer("No credentials", "401 Unauthorized", "text/plain"), ACCOUNT_REFUSED, "HTTP 401"),
        (wire.answer(GOOD, "401 Unauthorized"), ACCOUNT_REFUSED, "HTTP 401"),
        (wire.answer("<p>Login required", "403 Forbidden"), SUSPECT_UNCLEAR, "HTTP 403"),
        (wire.answer("<p>Go away", "403 Forbidden"), SUSPECT_UNCLEAR, "HTTP 403"),
        (wire.answer(GOOD, "500 Internal Server Error"), UNCLEAR, "HTTP 500"),
        (wire.answer('{"Message":"Login failed"}', "500 X"), UNCLEAR, "HTTP 500"),
        (wire.answer(GOOD, "201 Created"), UNCLEAR, "HTTP 201"),
        (wire.answer("", "204 No Content"), UNCLEAR, "HTTP 204"),
        (wire.answer("", "302 Found", Location="/login"), UNCLEAR, "HTTP 302"),
        (wire.answer(""), UNCLEAR, "HTTP 200 without a list"),
        (wire.answer("", "202 Accepted"), UNCLEAR, "HTTP 202 without a list"),
        (wire.answer("[]"), UNCLEAR, "HTTP 200"),
        (wire.answer("{}"), UNCLEAR, "HTTP 200"),
        (wire.answer("null"), UNCLEAR, "HTTP 200"),
        (wire.answer("OK"), UNCLEAR, "HTTP 200"),
        (wire.answer("<html><body>Login</body></html>", content_type="text/html"), UNCLEAR, "HTTP 200"),
        (wire.answer(GOOD[:-1]), UNCLEAR, "HTTP 200"),
        (wire.answer(GOOD + GOOD), UNCLEAR, "HTTP 200"),
        (wire.answer(GOOD.encode() + b"\xff"), UNCLEAR, "HTTP 200"),
        (wire.answer(GOOD.replace('"to"', '"To": "1", "to"')), UNCLEAR, "HTTP 200"),
        (wire.answer("[" * 1_000_000), UNCLEAR, "HTTP 200"),
        (wire.answer('["' + r"\"" * 900_000), UNCLEAR, "HTTP 200"),
        (wire.answer('[{"to": ' + "9" * 100_000 + "}]"), UNCLEAR, "HTTP 200"),
        (wire.answer(GOOD + " " * 3_000_000), UNCLEAR, "no whole answer from the gateway: it is longer"),
        (wire.raw(b""), UNCLEAR, "no whole answer from the gateway"),
        (wire.raw(wire.head(Content_Length="9999") + GOOD.encode()), UNCLEAR, "no whole answer from the gateway"),
    ],
)
def test_the_end_of_a_call_is_the_end_for_each_message(
    reply: wire.Reply, outcome: SendOutcome, description: str
) -> None:
    results, server = send(reply, message(ALICE), message(BOB))
    assert [result.outcome for result in results] == [outcome] * 2
    assert (results[0].description or "").startswith(description)
    assert len(server.requests) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "items",
    [
        [{"to": str(number)} for number in range(60_000)],
        [{}] * 200_000,
        [{"to": "1555", "validationFailures": [{}] * 200_000}],
    ],
    ids=["strangers", "nobody", "failures"],
)
def test_a_long_answer_is_read_in_time(items: list[Any]) -> None:
    sent = [message(f"4477009{number:05}") for number in range(250)]
    results, _ = send(wire.answer(json.dumps(items, separators=(",", ":"))), *sent, DYNMARK_TIMEOUT_SECONDS="20")
    assert {result.outcome for result in results} == {UNCLEAR}


def test_without_a_connection_no_message_was_sent() -> None:
    sent = [message(ALICE), message(BOB)]
    results = gateway(f"http://127.0.0.1:{wire.unused_port()}/").send(sent)
    assert [results[each.id].outcome for each in sent] == [NOT_SENT] * 2


@pytest.mark.parametrize("reply", [wire.stall, wire.drip(wire.head())], ids=["silence", "dripping body"])
def test_a_call_that_outlasts_its_deadline_is_unclear(reply: wire.Reply) -> None:
    ((result,), _) = send(reply, message(), DYNMARK_TIMEOUT_SECONDS="0.4")
    assert (result.outcome, result.description) == (UNCLEAR, "no whole answer from the gateway: time is up")


# Secrets


def test_no_password_and_no_number_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = base64.b64encode(f"user@example.com:{PASSWORD}".encode()).decode()
    escaped = json.dumps("a" + PASSWORD)[2:-1]
    echo = f"Failed: {PASSWORD}, {escaped}, {token}, +{ALICE}, 07700 900001, (0)7700-900.001; line 3, position 10"
    failure = {"property": echo, "failureCode": echo, "details": echo}
    replies: Sequence[wire.Reply] = [
        says([{"to": ALICE, "failureDescription": echo, "validationFailures": [failure]}]),
        says([bad(f"message[0].{echo}") | {"details": echo}], "400 Bad Request"),
        wire.answer(echo, "403 Forbidden"),
        wire.raw(b"HTTP/1.1 " + PASSWORD.encode()),
    ]
    said = []
    for reply in replies:
        with Wire(reply) as server:
            ours: Gateway = gateway(server.url)
            said += [repr(ours.send([message()]).values()), repr(ours)]
    logged = [
        value for record in caplog.records for value in vars(record).values() if not isinstance(value, float | int)
    ]
    everything = "\n".join(said) + caplog.text + "".join(map(repr, logged))  # not the numbers of threads, nor ports
    assert (
        "Failed: [password], [password], [password], [number], [number], ([number]; line 3, position 10" in everything
    )
    for part in (PASSWORD, token, "w0rd", ALICE, "7700"):
        assert part not in everything
