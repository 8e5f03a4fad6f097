"""What goes out in a call, from the bundled WSDL and from others."""

import re
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.dynmark.outbound import envelope
from receiptsvc.dynmark.outbound.envelope import BUNDLED_WSDL
from receiptsvc.dynmark.outbound.soap import SoapGateway
from tests.dynmark import wire
from tests.dynmark.calls import (
    ALICE,
    BOB,
    LAUGHS,
    NAMESPACE,
    PASSWORD,
    WELL,
    collection,
    fields,
    item,
    message,
    send,
    sent_messages,
    settings,
)
from tests.dynmark.wire import Wire

SAMPLES = Path(__file__).parent.parent / "samples"


def test_a_request_has_the_shape_of_the_documented_one() -> None:
    sent = message(originator="Example", client_ref="Your reference")
    _, server = send(wire.answer(collection(item(ALICE))), sent, DYNMARK_CALLBACK_ELEMENT="deliveryStatusURL")
    ours, documented = (
        etree.fromstring(body) for body in (server.requests[0].body, (SAMPLES / "send_with_receipts.xml").read_bytes())
    )
    known = {element.tag for element in documented.iter()}
    assert [element.tag for element in ours.iter() if element.tag in known] == [
        element.tag for element in documented.iter() if not str(element.tag).endswith("Header")
    ]
    assert server.requests[0].line == "POST /service.asmx HTTP/1.1"
    assert server.requests[0].headers["soapaction"] == f'"{NAMESPACE}SendMessageCollection"'
    assert server.requests[0].headers["content-type"] == "text/xml; charset=utf-8"
    assert [ours.findtext(f".//{{{NAMESPACE}}}{name}") for name in ("name", "password")] == [
        "user@example.com",
        PASSWORD,
    ]


def test_every_field_that_is_set_is_sent_in_the_documented_order() -> None:
    zone = timezone(timedelta(hours=2))
    sent = message(
        text=" Grüße, 😀\r\n<&> ",
        originator="+447740101097",
        client_ref="ref/1",
        valid_until=datetime(2026, 7, 2, 1, 30, tzinfo=zone),
        deliver_after=datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=zone),
        include_message_text=True,
        filter_set_name="set",
        impersonate_user_name="client",
        country_iso_code="GBR",
        reject_unicode=True,
    )
    _, server = send(wire.answer(collection(item(ALICE))), sent)
    (element,) = sent_messages(server)
    assert fields(element) == {
        "originator": "+447740101097",
        "text": " Grüße, 😀\r\n<&> ",
        "clientRef": "ref/1",
        "deliveryStatusUrl": sent.callback_url,
        "deliveryStatusURL": sent.callback_url,
        "validUntil": "2026-07-01T23:30:00Z",
        "deliverAfter": "2026-07-01T10:00:00.250000Z",
        "forwardSubmissionDeliveryStatus": "true",
        "includeMessageTextInDeliveryStatus": "true",
        "filterSetName": "set",
        "impersonateUserName": "client",
        "messageGuid": sent.message_guid,
    }
    names = [etree.QName(child).localname for child in element]
    assert names[:6] == ["originator", "recipients", "text", "clientRef", "deliveryStatusUrl", "deliveryStatusURL"]
    assert [each.text for each in element.iter(f"{{{NAMESPACE}}}string")] == [ALICE]


def test_a_field_that_is_not_set_is_absent() -> None:
    _, server = send(wire.answer(collection(item(ALICE))), message(client_ref=""), DYNMARK_CALLBACK_ELEMENT="both")
    (element,) = sent_messages(server)
    assert list(fields(element)) == [
        "text",
        "deliveryStatusUrl",
        "deliveryStatusURL",
        "forwardSubmissionDeliveryStatus",
        "messageGuid",
    ]
    assert b"nil" not in server.requests[0].body


@pytest.mark.parametrize(
    ("setting", "spellings"),
    [
        ("both", {"deliveryStatusUrl", "deliveryStatusURL"}),
        ("deliveryStatusUrl", {"deliveryStatusUrl"}),
        ("deliveryStatusURL", {"deliveryStatusURL"}),
    ],
)
def test_the_setting_decides_how_the_callback_element_is_spelled(setting: str, spellings: set[str]) -> None:
    _, server = send(wire.answer(collection(item(ALICE))), message(), DYNMARK_CALLBACK_ELEMENT=setting)
    (element,) = sent_messages(server)
    assert {name for name in fields(element) if name.lower() == "deliverystatusurl"} == spellings


@pytest.mark.parametrize(
    ("field", "text", "named"),
    [
        ("text", "a\x00b", "text holds U\\+0000"),
        ("text", "a\x1bb", "text holds U\\+001B"),
        ("text", "\ud83d", "text holds U\\+D83D"),
        ("text", "\uffff", "text holds U\\+FFFF"),
        ("client_ref", "\x07", "clientRef holds U\\+0007"),
        ("originator", "\x08", "originator holds U\\+0008"),
        ("additional_options", {"a": "b"}, "additionalOptions can't be sent"),
    ],
)
def test_a_message_that_xml_cant_carry_is_refused_alone(field: str, text: Any, named: str) -> None:
    poison, other = message(ALICE, **{field: text}), message(BOB)
    (refused, taken), server = send(wire.answer(collection(item(BOB))), poison, other)
    assert (refused.outcome, taken.outcome) == (SendOutcome.REFUSED, SendOutcome.TAKEN)
    assert re.match(named, refused.description)
    assert len(sent_messages(server)) == 1


def test_without_a_message_that_can_be_sent_no_call_is_made() -> None:
    (refused,), server = send(wire.answer(""), message(text="\x00"))
    assert refused.outcome is SendOutcome.REFUSED
    assert server.connections == 0


def test_a_password_that_xml_cant_carry_is_a_bad_setting() -> None:
    with pytest.raises(SettingsError, match="DYNMARK_PASSWORD") as caught:
        SoapGateway(settings("http://127.0.0.1/", DYNMARK_PASSWORD="hidden\x01"))
    assert "hidden" not in str(caught.value)


@pytest.fixture
def wsdl(tmp_path: Path) -> Path:
    path = tmp_path / "other.wsdl"
    path.write_text(BUNDLED_WSDL.read_text())
    return path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.mark.parametrize("declared", ["deliveryStatusUrl", "deliveryStatusURL"])
def test_the_callback_element_is_spelled_as_the_wsdl_declares_it(wsdl: Path, declared: str) -> None:
    (other,) = {"deliveryStatusUrl", "deliveryStatusURL"} - {declared}
    edit(wsdl, f'<s:element minOccurs="0" name="{other}" type="s:string"/>', "")
    results, server = send(wire.answer(WELL), message(), DYNMARK_WSDL=str(wsdl))
    assert results[0].outcome is SendOutcome.TAKEN
    assert declared in fields(sent_messages(server)[0])
    assert other not in fields(sent_messages(server)[0])
    with pytest.raises(SettingsError, match=f"no {other}, which DYNMARK_CALLBACK_ELEMENT asks for"):
        SoapGateway(settings("http://127.0.0.1/", DYNMARK_WSDL=str(wsdl), DYNMARK_CALLBACK_ELEMENT=other))


def test_a_field_that_a_wsdl_does_not_declare_is_refused_not_dropped(wsdl: Path) -> None:
    edit(wsdl, '<s:element minOccurs="0" name="impersonateUserName" type="s:string"/>', "")
    edit(wsdl, '<s:element minOccurs="0" name="forwardSubmissionDeliveryStatus" type="s:boolean"/>', "")
    results, server = send(
        wire.answer(WELL), message(), message(BOB, impersonate_user_name="x"), DYNMARK_WSDL=str(wsdl)
    )
    assert [result.outcome for result in results] == [SendOutcome.TAKEN, SendOutcome.REFUSED]
    assert results[1].description == "impersonateUserName can't be sent: the WSDL does not declare it"
    assert "forwardSubmissionDeliveryStatus" not in fields(sent_messages(server)[0])


def test_a_flag_that_the_wsdl_requires_is_false_unless_set(wsdl: Path) -> None:
    edit(wsdl, 'minOccurs="0" name="includeMessageText', 'minOccurs="1" name="includeMessageText')
    edit(wsdl, 'minOccurs="0" name="validUntil"', 'minOccurs="1" nillable="true" name="validUntil"')
    answer = wire.answer(collection(item(ALICE), item(BOB)))
    _, server = send(answer, message(), message(BOB, include_message_text=True), DYNMARK_WSDL=str(wsdl))
    values = [fields(each)["includeMessageTextInDeliveryStatus"] for each in sent_messages(server)]
    assert values == ["false", "true"]


PAIR = (
    '<s:complexType name="Pair"><s:sequence><s:element name="{key}" type="s:string"/>'
    '<s:element name="{value}" type="{type}"/></s:sequence></s:complexType>'
    '<s:complexType name="Pairs"><s:sequence>'
    '<s:element minOccurs="0" maxOccurs="unbounded" name="Pair" type="tns:Pair"/></s:sequence></s:complexType>'
)
LISTED = '<s:element minOccurs="0" name="additionalOptions" type="tns:Pairs"/>'
BARE = '<s:element minOccurs="0" maxOccurs="unbounded" name="additionalOptions" type="tns:Pair"/>'


def declare_options(wsdl: Path, element: str, key: str, value: str, kind: str = "s:string") -> None:
    edit(
        wsdl,
        '<s:element minOccurs="0" name="messageGuid" type="s:string"/>',
        element + ('<s:element minOccurs="0" name="messageGuid" type="s:string"/>'),
    )
    edit(
        wsdl,
        '<s:complexType name="ArrayOfMessage">',
        PAIR.format(key=key, value=value, type=kind) + ('<s:complexType name="ArrayOfMessage">'),
    )


@pytest.mark.parametrize("element", [LISTED, BARE], ids=["listed", "bare"])
@pytest.mark.parametrize(("key", "value"), [("Key", "Value"), ("name", "value")])
def test_additional_options_are_sent_as_the_wsdl_declares_them(wsdl: Path, element: str, key: str, value: str) -> None:
    declare_options(wsdl, element, key, value)
    with Wire(wire.answer(collection(item(ALICE), item(BOB)))) as server:
        gateway = SoapGateway(settings(server.url, DYNMARK_WSDL=str(wsdl)))
        with_options, without = message(ALICE, additional_options={"a": "1", "b": "2"}), message(BOB)
        results = gateway.send([with_options, without])
    assert {result.outcome for result in results.values()} == {SendOutcome.TAKEN}
    first, second = sent_messages(server)
    assert [each.text for each in first.iter(f"{{{NAMESPACE}}}{key}", f"{{{NAMESPACE}}}{value}")] == [
        "a",
        "1",
        "b",
        "2",
    ]
    assert second.find(f"{{{NAMESPACE}}}additionalOptions") is None


@pytest.mark.parametrize(
    ("element", "key", "value", "kind"),
    [
        (LISTED, "Key", "Value", "s:int"),
        (LISTED, "left", "right", "s:string"),
        ('<s:element minOccurs="0" name="additionalOptions" type="s:string"/>', "Key", "Value", "s:string"),
    ],
)
def test_additional_options_of_another_shape_are_not_supported(
    wsdl: Path, element: str, key: str, value: str, kind: str
) -> None:
    declare_options(wsdl, element, key, value, kind)
    gateway = SoapGateway(settings("http://127.0.0.1/", DYNMARK_WSDL=str(wsdl)))
    [result] = gateway.send([message(ALICE, additional_options={"a": "b"})]).values()
    assert (result.outcome, result.description) == (
        SendOutcome.REFUSED,
        "additionalOptions can't be sent: the WSDL does not say how",
    )


def test_a_wsdl_can_be_loaded_over_http_and_is_loaded_once() -> None:
    with Wire(wire.answer(BUNDLED_WSDL.read_bytes())) as source, Wire(wire.answer(WELL)) as server:
        gateway = SoapGateway(settings(server.url, DYNMARK_WSDL=f"{source.url}?wsdl"))
        for _ in range(2):
            sent = message()
            assert gateway.send([sent])[sent.id].outcome is SendOutcome.TAKEN
    assert [request.line for request in source.requests] == ["GET /service.asmx?wsdl HTTP/1.1"]


IMPORT = '<wsdl:import namespace="urn:x" location="{}"/><wsdl:types>'
UNUSABLE = [
    ("<html/>", ""),
    ("no xml", "XMLSyntaxError"),
    (LAUGHS + BUNDLED_WSDL.read_text().partition("?>")[2], "DTDForbidden"),
    (BUNDLED_WSDL.read_text().replace("messageGuid", "guid"), "its Message has no messageGuid"),
    (BUNDLED_WSDL.read_text().replace("deliveryStatusU", "u"), "no deliveryStatusUrl or"),
    (BUNDLED_WSDL.read_text().replace('"SendMessageCollection"', '"Other"'), ""),
]


@pytest.mark.parametrize(("text", "reason"), UNUSABLE)
def test_an_unusable_wsdl_file_is_a_bad_setting(wsdl: Path, text: str, reason: str) -> None:
    wsdl.write_text(text)
    with pytest.raises(SettingsError) as caught:
        SoapGateway(settings("http://127.0.0.1/", DYNMARK_WSDL=str(wsdl)))
    assert "DYNMARK_WSDL: can't be used (" in str(caught.value)
    assert reason in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        *((wire.answer(text), reason) for text, reason in UNUSABLE),
        (wire.answer("", "404 Not Found"), "its address answers HTTP 404"),
        (wire.answer("", "302 Found", Location="/other"), "its address answers HTTP 302"),
        (wire.raw(b""), "no whole answer"),
        (wire.answer(b" " * 5_000_000), "it is longer than"),
        (
            wire.answer(BUNDLED_WSDL.read_text().replace("<wsdl:types>", IMPORT.format("http://127.0.0.1:1/"))),
            "it imports something from another place",
        ),
        (
            wire.answer(BUNDLED_WSDL.read_text().replace("<wsdl:types>", IMPORT.format("file:///etc/hosts"))),
            "it imports something from another place",
        ),
    ],
)
def test_while_a_remote_wsdl_cannot_be_loaded_nothing_is_sent(reply: wire.Reply, reason: str) -> None:
    with Wire(reply) as source, Wire(wire.answer(collection(item(ALICE), item(BOB)))) as server:
        gateway = SoapGateway(settings(server.url, DYNMARK_WSDL=source.url))
        assert source.connections == 0
        sent = [message(ALICE), message(BOB)]
        for result in gateway.send(sent).values():
            assert result.outcome is SendOutcome.NOT_SENT
            assert (result.description or "").startswith("DYNMARK_WSDL: can't be used (")
            assert reason in (result.description or "")
        assert server.connections == 0
        source.reply = wire.answer(BUNDLED_WSDL.read_bytes())
        assert {result.outcome for result in gateway.send(sent).values()} == {SendOutcome.TAKEN}


def test_loading_a_wsdl_counts_towards_the_time_limit_of_the_call() -> None:
    outcomes: list[SendOutcome] = []
    with Wire(wire.stall) as source, Wire(wire.answer(WELL)) as server:
        gateway = SoapGateway(settings(server.url, DYNMARK_WSDL=source.url, DYNMARK_TIMEOUT_SECONDS="0.4"))

        def call() -> None:
            outcomes.extend(result.outcome for result in gateway.send([message()]).values())

        threads = [threading.Thread(target=call) for _ in range(8)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - started < 3  # and not eight times as long
    assert outcomes == [SendOutcome.NOT_SENT] * 8
    assert server.connections == 0


def test_a_missing_wsdl_file_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DYNMARK_WSDL"):
        SoapGateway(settings("http://127.0.0.1/", DYNMARK_WSDL=str(tmp_path / "missing.wsdl")))


def test_every_message_of_a_call_is_written_as_zeep_would(wsdl: Path) -> None:
    declare_options(wsdl, LISTED, "Key", "Value")
    form = envelope.load(settings("http://127.0.0.1/", DYNMARK_WSDL=str(wsdl)))
    shapes: list[dict[str, Any]] = [
        {},
        {"originator": "Example", "client_ref": "1"},
        {"originator": "Other", "client_ref": "<&> é 😀"},
        {"additional_options": {"a": "1"}, "client_ref": "2"},
        {"additional_options": {"a": "2", "b": "1"}, "client_ref": "3"},
        {"text": "", "include_message_text": True},
        {"valid_until": datetime(2026, 7, 2, tzinfo=UTC), "deliver_after": datetime(2026, 7, 1, tzinfo=UTC)},
    ]
    messages = [message(f"4477009000{index:02}", **shape) for index, shape in enumerate(shapes * 2)]
    account = form.account
    expected = form.operation.create(
        name=account.username, password=account.password, message={form.item: [form.fill(each) for each in messages]}
    )
    assert form.write(messages) == etree.tostring(expected.content, xml_declaration=True, encoding="utf-8")
    assert form.write(messages[1:]) == form.write(messages[1:])
