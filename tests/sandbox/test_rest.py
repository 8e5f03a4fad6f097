"""The sandbox by REST: what it takes, refuses and answers, its behaviours, and their receipts."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from receiptsvc.sandbox import Box
from tests.sandbox import receiver as soap
from tests.sandbox.receiver import Receiver
from tests.sandbox.test_behaviour import CALLS, SHAPES, WORDS, number

PERSON, OTHER = "447700900000", "447700900111"
WORDS_OF_LOGON = "Unable to logon with credentials given"
WELL = [{"to": PERSON, "successful": True, "validationFailures": []}]


def message(to: str = PERSON, **members: Any) -> dict[str, Any]:
    return {"to": to, "body": "Hello there", "clientRef": "order 7", **members}


def post(box: Box, body: Any, logon: tuple[str, str] | None = ("me", "secret"), **headers: str) -> requests.Response:
    return requests.post(box.rest_url, json=body, auth=logon, headers=headers, timeout=5)


def send(box: Box, *messages: dict[str, Any]) -> tuple[int, Any]:
    answered = post(box, list(messages))
    return answered.status_code, answered.json()


def test_every_documented_member_is_taken_and_its_receipt_comes(box: Box, receiver: Receiver) -> None:
    full = message(
        **{"from": "+447740101097"},
        body="Zażółć 😀",
        countryIsoCode="GBR",
        deliverAfter="2020-01-01T10:00:00Z",
        validiUntil="2030-01-01T10:00:00Z",
        deliveryStatusUrl=receiver.url,
        filterSetName="office hours",
        rejectUnicode=False,
        impersonateUserName="client",
    )
    assert send(box, full) == (200, WELL)
    box.wait_idle(5)
    [taken] = box.messages()
    assert (taken["transport"], taken["messageGuid"], taken["recipient"]) == ("rest", None, PERSON)
    assert (taken["text"], taken["originator"], taken["clientRef"]) == ("Zażółć 😀", "+447740101097", "order 7")
    assert taken["fields"] == {
        "countryIsoCode": "GBR",
        "deliverAfter": "2020-01-01T10:00:00Z",
        "validiUntil": "2030-01-01T10:00:00Z",
        "filterSetName": "office hours",
        "rejectUnicode": "false",
        "impersonateUserName": "client",
    }
    [arrival] = receiver.arrivals
    assert arrival.fields["clientref"] == "order 7"
    assert arrival.fields["transactionid"] == taken["transactionID"]
    assert box.report()["restMessages"] == 1


@pytest.mark.parametrize(
    ("given", "failure"),
    [
        (message("07700900000"), ("to", "ToInvalid")),
        (message("+447700900000"), ("to", "ToInvalid")),
        ({"body": "Hello"}, ("to", "ToInvalid")),
        (message(**{"from": "TWELVE-CHARS"}), ("from", "FromInvalid")),
        (message(body=" "), ("body", "BodyEmpty")),
        (message(clientRef="x" * 65), ("clientRef", "ClientRefTooLong")),
        (message(countryIsoCode="GB"), ("countryIsoCode", "CountryIsoCodeInvalid")),
        (message(rejectUnicode=True, body="Zażółć"), ("body", "BodyNotGsm")),
        (message(number("refuse")), ("to", "ToRefused")),
    ],
)
def test_a_message_beyond_the_documented_limits_is_refused_alone(
    box: Box, given: dict[str, Any], failure: tuple[str, str]
) -> None:
    status, (refused, taken) = send(box, given, message(OTHER))
    assert (status, taken["successful"], refused["successful"]) == (202, True, False)
    assert refused.get("to") == given.get("to")
    [said] = refused["validationFailures"]
    assert (said["property"], said["failureCode"]) == failure
    assert said["details"]
    assert [one["recipient"] for one in box.messages()] == [OTHER]


@pytest.mark.parametrize(
    "given", [message("07700900000", countryIsoCode="GBR"), message(rejectUnicode=True, body="Grüße [€]\n")]
)
def test_a_message_within_the_documented_limits_is_taken(box: Box, given: dict[str, Any]) -> None:
    assert send(box, given)[0] == 200


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ([message(), message(OTHER, toa=PERSON)], ["message[1].toa"]),
        ([message(messageGuid="x", validUntil="2030-01-01")], ["message[0].messageGuid", "message[0].validUntil"]),
        ([message(rejectUnicode="true")], ["message[0].rejectUnicode"]),
        ([message(deliverAfter="tomorrow")], ["message[0].deliverAfter"]),
        ([{"to": 447700900000, "body": "Hello"}], ["message[0].to"]),
        (["x"], ["message[0]"]),
        ({"to": PERSON}, ["message"]),
    ],
)
def test_one_bad_member_fails_the_whole_call(box: Box, bad: object, named: list[str]) -> None:
    answered = post(box, bad)
    assert answered.status_code == 400
    assert [fault["property"] for fault in answered.json()] == named
    assert {fault["failureKey"] for fault in answered.json()} == {"ErrBadJson"}
    assert box.messages() == []


def test_a_body_that_is_not_json_is_400(box: Box) -> None:
    headers = {"Content-Type": "application/json"}
    answered = requests.post(box.rest_url, data=b'[{"to"', headers=headers, auth=("a", "b"), timeout=5)
    assert (answered.status_code, answered.json()[0]["failureKey"]) == (400, "ErrBadJson")


def test_the_spelling_of_valid_until_is_an_option(start: Callable[..., Box]) -> None:
    box = start(rest_validity="validUntil")
    assert send(box, message(validUntil="2030-01-01T00:00:00Z"))[0] == 200
    assert send(box, message(validiUntil="2030-01-01T00:00:00Z"))[0] == 400


@pytest.mark.parametrize("logon", [("me", "wrong"), ("you", "secret"), None])
@pytest.mark.parametrize("style", ["code", "fault", "forbidden", "http"])
def test_wrong_credentials_are_refused_as_documented(
    start: Callable[..., Box], style: str, logon: tuple[str, str] | None
) -> None:
    box = start(username="me", password="secret", logon_style=style)
    answered = post(box, [message(), message(OTHER)], logon)
    if style == "http" or logon is None:
        assert (answered.status_code, answered.text) == (401, WORDS_OF_LOGON)
    elif style == "forbidden":
        assert (answered.status_code, "403" in answered.text) == (403, True)
    else:
        assert (answered.status_code, answered.json()) == (202, [{"failureDescription": WORDS_OF_LOGON}] * 2)
    assert box.messages() == []
    assert post(box, [message()]).json() == WELL


def test_without_a_guid_a_repeat_is_a_second_sms_and_counted_as_a_double(box: Box) -> None:
    for ref in ("a", "a", "b"):
        send(box, message(clientRef=ref))
    report = box.report()
    assert len(box.messages()) == 3
    assert (report["doubles"], report["duplicates"], report["restMessages"], report["messageGuids"]) == (1, 0, 2, 0)


def test_both_transports_add_up_in_one_report(box: Box) -> None:
    send(box, message())
    soap.send(box.soap_url, soap.message(PERSON, guid="a"), soap.message(OTHER, guid="b"))
    report = box.report()
    assert (report["calls"], report["submissions"], report["messageGuids"], report["restMessages"]) == (2, 3, 2, 1)
    assert [one["transport"] for one in box.messages()] == ["rest", "soap", "soap"]


@pytest.mark.parametrize("name", WORDS)
def test_receipts_arrive_as_planned_without_the_one_for_sent(
    start: Callable[..., Box], receiver: Receiver, name: str
) -> None:
    box = start(late_seconds=0.01)
    send(box, message(number(name), deliveryStatusUrl=receiver.url))
    box.wait_idle(5)
    arrived = [arrival.fields["statusdescription"] for arrival in receiver.arrivals]
    assert arrived == [word for word in WORDS[name] if word != "Message sent"]


@pytest.mark.parametrize("name", ["post-json", "upper-case", "no-transactionid"])
def test_a_receipt_arrives_in_the_form_of_its_behaviour(box: Box, receiver: Receiver, name: str) -> None:
    send(box, message(number(name), deliveryStatusUrl=receiver.url))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert (arrival.method, arrival.content_type, set(arrival.fields)) == SHAPES[name]


ENDS = {
    "403 html": "403 <html",
    "403 fault": '403 {"Mes',
    "500 fault": '500 {"Mes',
    "500 html": "500 <html",
    "200 blank": "200      ",
    "200 doctype": "200 [[[[[",
    "200 words": "200 OK 1 ",
    "200 empty": "200 ",
}


def how_it_ended(box: Box, given: dict[str, Any]) -> str:
    """How a call ended in one word, or its status and the beginning of its body."""
    started = time.monotonic()
    try:
        response = post(box, [given])
    except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return "cut"
    seconds_to_head = response.elapsed.total_seconds()
    seconds_for_body = time.monotonic() - started - seconds_to_head
    if b"successful" in response.content:
        assert len(response.json()) == 1
        return "late" if seconds_to_head >= 0.6 else "dripped" if seconds_for_body >= 0.1 else "answered"
    return f"{response.status_code} {response.content[:5].decode()}"


@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_badly_and_its_repeat_is_a_double_if_it_was_taken(
    start: Callable[..., Box], receiver: Receiver, name: str
) -> None:
    first, is_taken, second = CALLS[name] if name != "fault-quoting" else ("403 fault", False, "403 fault")
    # The answer has more than 70 bytes, so that dripping takes 0.14 s at the least.
    box = start(slow_seconds=0.6, drip_seconds=0.002, huge_bytes=3_000_000)
    given = message(number(name), deliveryStatusUrl=receiver.url)
    assert how_it_ended(box, given) == ENDS.get(first, first)
    assert len(box.messages()) == is_taken
    assert how_it_ended(box, given) == ENDS.get(second, second)
    last_from_recipient = second == "answered"
    assert box.report()["doubles"] == (is_taken and last_from_recipient)
    assert box.report()["restMessages"] == last_from_recipient


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("answer-out-of-order", [PERSON, "own"]),
        ("answer-missing-item", [PERSON]),
        ("answer-without-recipients", [None, PERSON]),
        ("answer-without-id", ["own", PERSON]),
        ("answer-code-zero", ["own", PERSON]),
        ("answer-code-empty", ["own", PERSON]),
    ],
)
def test_an_item_is_answered_by_its_behaviour(box: Box, name: str, items: list[str | None]) -> None:
    status, answered = send(box, message(number(name)), message())
    assert [item.get("to") for item in answered] == [number(name) if to == "own" else to for to in items]
    assert status == 200
    assert len(box.messages()) == 2


def test_a_refusal_can_be_once_only(box: Box) -> None:
    assert [send(box, message(number("refuse-once")))[0] for _ in range(2)] == [202, 200]


def test_lost_answers_can_be_by_chance(start: Callable[..., Box]) -> None:
    box = start(chances={"lost-answer": 0.5})
    ends = [how_it_ended(box, message(f"44770080{place:04}")) for place in range(30)]
    assert set(ends) == {"cut", "answered"}
    assert box.report()["spoiledAnswers"] == ends.count("cut")
    assert box.report()["restMessages"] == 30


def test_another_kind_of_body_is_refused(box: Box) -> None:
    answered = requests.post(box.rest_url, data=b"[]", headers={"Content-Type": "text/xml"}, auth=("a", "b"), timeout=5)
    assert answered.status_code == 415
