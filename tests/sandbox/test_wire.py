"""The sandbox by SOAP: what it takes, refuses and answers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep
from lxml import etree

from receiptsvc.sandbox import Box
from tests.sandbox.receiver import NAMESPACE, SOAP_11, SOAP_12, Receiver, envelope, message, post, results, send

SAMPLES = Path(__file__).parent.parent / "samples"
PERSON = "447700900000"


def fault_of(response: requests.Response) -> str:
    assert response.status_code == 500
    root = etree.fromstring(response.content)
    return str(root.xpath("string(//faultstring | //*[local-name()='Text'])"))


@pytest.mark.parametrize(("sample", "recipients"), [
    ("simple_send.xml", ["447700900000"]),
    ("batch_send.xml", ["447700900000", "447700900111"]),
])  # fmt: skip
def test_the_documented_request_is_taken(box: Box, sample: str, recipients: list[str]) -> None:
    answered = results(post(box.soap_url, (SAMPLES / sample).read_bytes()))
    assert [result["recipients"] for result in answered] == recipients
    assert [int(result["transactionID"]) for result in answered] == [70_000_001, 70_000_002][: len(recipients)]
    assert not any("returnCode" in result for result in answered)


def test_the_documented_request_with_receipts_gets_its_receipt(box: Box, receiver: Receiver) -> None:
    sample = (SAMPLES / "send_with_receipts.xml").read_text()
    here = sample.replace("https://inbound.example.com/SmsReceipts", receiver.url)
    [answered] = results(post(box.soap_url, here))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert (arrival.method, arrival.path) == ("GET", "/receipts")
    at = arrival.fields["datetime"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", at)
    assert arrival.fields == {
        "datetime": at,
        "recipient": "447700900000",
        "statusid": "1",
        "statusdescription": "Delivered",
        "clientref": "Your reference",
        "transactionid": answered["transactionID"],
    }
    assert box.messages()[0]["callbackElements"] == ["deliveryStatusURL"]


@pytest.mark.parametrize("version", [SOAP_11, SOAP_12])
def test_both_soap_versions_are_answered_in_the_same_version(box: Box, version: str) -> None:
    response = post(box.soap_url, envelope(message(PERSON), version=version), version=version)
    assert etree.QName(etree.fromstring(response.content)).namespace == version
    assert len(results(response)) == 1
    broken = post(box.soap_url, "<nothing/>", version=version)
    assert "Envelope" in fault_of(broken)
    assert broken.headers["Content-Type"] == response.headers["Content-Type"]


@pytest.mark.parametrize(("code", "given"), [
    ("201", message("+447700900000")),
    ("201", message("00447700900000")),
    ("201", message("07700900000")),
    ("201", message(PERSON, "4477009000x1")),
    ("202", message(PERSON, originator="TWELVE-CHARS")),
    ("202", message(PERSON, originator="1234567890123456")),
    ("202", message(PERSON, originator="a")),
    ("202", message(PERSON, originator="Café")),
    ("203", message(PERSON, text="")),
    ("203", message(PERSON, text=" \n")),
    ("204", message(PERSON, clientRef="x" * 65)),
    ("204", message(PERSON, clientRef="😀" * 33)),
    ("205", message(PERSON, messageGuid="x" * 37)),
])  # fmt: skip
def test_a_message_beyond_the_documented_limits_gets_a_return_code(box: Box, code: str, given: str) -> None:
    good = message("447700900111")
    refused, taken = send(box.soap_url, given, good)
    assert refused["returnCode"] == code
    assert refused["returnDescription"]
    assert refused["returnDetail"]
    assert "transactionID" not in refused
    assert "returnCode" not in taken
    assert [one["recipient"] for one in box.messages()] == ["447700900111"]
    assert box.report()["refused"] == 1


@pytest.mark.parametrize("fields", [
    {"originator": "+447740101097"},
    {"originator": "12"},
    {"originator": "123456789012345"},
    {"originator": "MAYFLOWER"},
    {"originator": "a-_. Z"},
    {"clientRef": "x" * 64},
    {"clientRef": "😀" * 32},
    {"messageGuid": "x" * 36},
    {"somethingNew": "ignored"},
])  # fmt: skip
def test_a_message_within_the_documented_limits_is_taken(box: Box, fields: dict[str, str]) -> None:
    [taken] = send(box.soap_url, message(PERSON, **fields))
    assert "returnCode" not in taken


@pytest.mark.parametrize(("recipients", "codes"), [(250, {None}), (251, {"206"})])
def test_250_recipients_fit_in_a_call_and_251_do_not(box: Box, recipients: int, codes: set[str | None]) -> None:
    numbers = [f"4477009{place:05}" for place in range(recipients)]
    answered = send(box.soap_url, message(*numbers[:2]), *map(message, numbers[2:]))
    assert {result.get("returnCode") for result in answered} == codes


@pytest.mark.parametrize("body", [
    envelope(message(PERSON)).replace("</s:Body>", ""),
    "<!DOCTYPE s [<!ENTITY a 'b'>]>" + envelope(message(PERSON)),
    envelope(message(PERSON)).replace(NAMESPACE[1:-1], "http://example.com/"),
    envelope(message(PERSON, forwardSubmissionDeliveryStatus="yes")),
    envelope(message(PERSON, validUntil="tomorrow")),
])  # fmt: skip
def test_an_unreadable_request_is_a_fault_and_nothing_is_taken(box: Box, body: str) -> None:
    assert fault_of(post(box.soap_url, body))
    assert box.messages() == []


@pytest.mark.parametrize(("headers", "status"), [
    ({"Content-Type": "application/json"}, 415),
    ({"Content-Type": "application/soap+xml"}, 415),
    ({"Content-Type": "text/xml", "SOAPAction": '"http://www.services.dynmark.com/Other"'}, 500),
    ({"Content-Type": "text/xml", "SOAPAction": '"http://www.services.dynmark.com/SendMessageCollection"'}, 200),
    ({"SOAPAction": ""}, 200),
])  # fmt: skip
def test_headers_must_fit_the_envelope(box: Box, headers: dict[str, str], status: int) -> None:
    response = requests.post(box.soap_url, data=envelope(message(PERSON)).encode(), headers=headers, timeout=5)
    assert response.status_code == status


@pytest.mark.parametrize(("name", "password", "is_refused"), [
    ("me", "secret", False), ("me", "wrong", True), ("you", "secret", True), ("", "", True),
])  # fmt: skip
@pytest.mark.parametrize("style", ["code", "fault", "forbidden", "http"])
def test_wrong_credentials_are_refused_in_the_chosen_style(
    start: Callable[..., Box], style: str, name: str, password: str, is_refused: bool
) -> None:
    box = start(username="me", password="secret", logon_style=style)
    two = (message(PERSON), message("447700900111"))
    response = post(box.soap_url, envelope(*two, logon=(name, password)))
    words = "Unable to logon with credentials given"
    if not is_refused:
        assert len(results(response)) == 2
    elif style == "code":
        assert [result["returnDescription"] for result in results(response)] == [words, words]
    elif style == "fault":
        assert fault_of(response) == words
    elif style == "forbidden":
        assert (response.status_code, "403" in response.text) == (403, True)
    else:
        assert (response.status_code, response.text) == (401, words)
    assert len(box.messages()) == (0 if is_refused else 2)


def test_one_transaction_covers_all_recipients_of_a_message(box: Box, receiver: Receiver) -> None:
    [result] = send(box.soap_url, message(PERSON, "447700900111", url=receiver.url))
    box.wait_idle(5)
    assert result["recipients"] == "447700900000,447700900111"
    arrived = {(arrival.fields["transactionid"], arrival.fields["recipient"]) for arrival in receiver.arrivals}
    assert arrived == {(result["transactionID"], PERSON), (result["transactionID"], "447700900111")}


def test_one_transaction_a_recipient_where_asked(start: Callable[..., Box]) -> None:
    box = start(transaction_per_recipient=True, transaction_start=5)
    answered = send(box.soap_url, message(PERSON, "447700900111"))
    assert [(result["transactionID"], result["recipients"]) for result in answered] == [
        ("5", PERSON),
        ("6", "447700900111"),
    ]


@pytest.mark.parametrize(("understood", "sent", "has_receipt"), [
    ("any", "deliveryStatusUrl", True),
    ("any", "deliveryStatusURL", True),
    ("deliveryStatusUrl", "deliveryStatusUrl", True),
    ("deliveryStatusUrl", "deliveryStatusURL", False),
    ("deliveryStatusURL", "deliveryStatusURL", True),
    ("deliveryStatusURL", "deliveryStatusUrl", False),
])  # fmt: skip
def test_a_spelling_that_is_not_understood_means_no_receipt_and_no_error(
    start: Callable[..., Box], receiver: Receiver, understood: str, sent: str, has_receipt: bool
) -> None:
    box = start(callback_element=understood)
    [taken] = send(box.soap_url, message(PERSON, **{sent: receiver.url}))
    box.wait_idle(5)
    assert "returnCode" not in taken
    assert len(receiver.arrivals) == has_receipt
    assert box.messages()[0]["callbackElements"] == [sent]
    assert box.report()["withoutCallbackUrl"] == (not has_receipt)


@pytest.mark.parametrize("element", ["deliveryStatusUrl", "deliveryStatusURL"])
def test_a_client_made_from_the_wsdl_can_send_every_documented_field(
    start: Callable[..., Box], receiver: Receiver, element: str
) -> None:
    box = start(callback_element=element)
    make_client: Any = zeep.Client
    with make_client(box.soap_url + "?wsdl") as client:
        [result] = client.service.SendMessageCollection(
            name="me",
            password="secret",
            message={
                "Message": [
                    {
                        "originator": "MAYFLOWER",
                        "recipients": {"string": [PERSON]},
                        "text": "Zażółć & <gęślą>",
                        "clientRef": "ref/1",
                        element: receiver.url + "?key=1",
                        "validUntil": "2030-01-01T10:00:00Z",
                        "deliverAfter": "2020-01-01T10:00:00+02:00",
                        "forwardSubmissionDeliveryStatus": True,
                        "includeMessageTextInDeliveryStatus": True,
                        "filterSetName": "office hours",
                        "impersonateUserName": "client",
                        "messageGuid": "guid-1",
                        "additionalOptions": {"KeyValuePair": [{"key": "ton", "value": "1"}]},
                    }
                ]
            },
        )
    box.wait_idle(5)
    assert result.transactionID == 70_000_001
    assert result.recipients.string == [PERSON]
    [taken] = box.messages()
    assert taken["fields"]["additionalOptions.ton"] == "1"
    assert taken["fields"]["filterSetName"] == "office hours"
    assert (taken["text"], taken["clientRef"], taken["messageGuid"]) == ("Zażółć & <gęślą>", "ref/1", "guid-1")
    sent, delivered = receiver.arrivals
    assert [each.fields["statusdescription"] for each in (sent, delivered)] == ["Message sent", "Delivered"]
    assert sent.fields["datetime"] < delivered.fields["datetime"]
    assert delivered.fields["messagetext"] == "Zażółć & <gęślą>"
    assert delivered.fields["key"] == "1"


@pytest.mark.parametrize(("path", "status"), [
    ("/WebServices/MessagingServicesWS.asmx", 200),
    ("/any/other.asmx?WSDL", 200),
    ("/elsewhere", 404),
    ("/sandbox/report", 200),
])  # fmt: skip
def test_urls_of_the_sandbox(box: Box, path: str, status: int) -> None:
    assert requests.get(box.url + path, timeout=5).status_code == status


def test_a_body_without_a_length_or_over_the_limit_is_refused(box: Box) -> None:
    chunked = requests.post(box.soap_url, data=iter([b"<a/>"]), timeout=5)
    too_long = requests.post(box.soap_url, headers={"Content-Length": "999999999"}, data=b"", timeout=5)
    assert (chunked.status_code, too_long.status_code) == (411, 413)
