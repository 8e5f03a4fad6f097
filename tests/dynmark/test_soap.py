"""The SOAP transport against a server that says what a test tells it: what each end of a call means."""

import logging
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from receiptsvc.domain.accounts import SUSPECT
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound.soap import SoapGateway
from tests.dynmark import wire
from tests.dynmark.calls import (
    ALICE,
    BOB,
    CAROL,
    LAUGHS,
    NAMESPACE,
    PASSWORD,
    WELL,
    collection,
    item,
    message,
    send,
    settings,
)
from tests.dynmark.wire import Wire

TAKEN, UNCLEAR, REFUSED = SendOutcome.TAKEN, SendOutcome.UNCLEAR, SendOutcome.REFUSED
SUSPECT_REFUSED, SUSPECT_UNCLEAR = SendOutcome.SUSPECT_REFUSED, SendOutcome.SUSPECT_UNCLEAR


def fault(text: str, detail: str = "") -> str:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Server</faultcode>'
        f"<faultstring>{text}</faultstring><detail>{detail}</detail></s:Fault></s:Body></s:Envelope>"
    )


def fault_12(text: str) -> str:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code>'
        '<s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang="en">'
        f"{text}</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>"
    )


def outcome_of(text: str, *, is_repeat: bool = False, **more: str) -> SendResult:
    """The result of a message to Alice whose answer holds these items."""
    sent = message()
    (result,), _ = send(wire.answer(collection(text)), sent, repeats=frozenset({sent.id} if is_repeat else ()), **more)
    assert isinstance(result, SendResult)
    return result


@pytest.mark.parametrize("other", [ALICE, f"+{ALICE}", f"00{ALICE}", f" {ALICE}"])
def test_two_messages_to_one_recipient_are_a_mistake_of_the_caller(other: str) -> None:
    with Wire(wire.answer("")) as server, pytest.raises(ValueError, match="only one message to a recipient"):
        SoapGateway(settings(server.url)).send([message(ALICE), message(other)])
    assert server.connections == 0


# What an item means


@pytest.mark.parametrize(
    "code",
    [
        "",
        "<returnCode/>",
        "<returnCode> </returnCode>",
        "<returnCode>0</returnCode>",
        "<returnCode> 00\n</returnCode>",
        '<returnCode xmlns:x="http://www.w3.org/2001/XMLSchema-instance" x:nil="true"/>',
    ],
)
def test_no_code_an_empty_one_and_zero_are_a_success(code: str) -> None:
    text = f"<MessageResult>{code}<recipients><string>{ALICE}</string></recipients><transactionID>7</transactionID></MessageResult>"
    result = outcome_of(text)
    assert (result.outcome, result.transaction_id) == (SendOutcome.TAKEN, "7")


@pytest.mark.parametrize(
    ("given", "kept", "is_noted"),
    [
        ("0012", "12", False),
        (" 9223372036854775807 ", "9223372036854775807", False),
        (None, None, False),
        ("", None, False),
        ("0", None, True),
        ("-5", None, True),
        ("12a", None, True),
        ("1.5", None, True),
        ("١٢", None, True),
        ("9" * 39, None, True),
    ],
)
def test_a_transaction_id_is_a_number_above_zero_or_none(given: str | None, kept: str | None, is_noted: bool) -> None:
    result = outcome_of(item(ALICE, transaction=given))
    assert (result.outcome, result.transaction_id) == (SendOutcome.TAKEN, kept)
    assert (result.detail == "its transactionID is no number above 0") is is_noted


FAILURE: dict[str, str] = {"returnCode": "42", "returnDescription": "No route", "returnDetail": "Nowhere"}
MEANINGS = '{"42": "%s"}'


@pytest.mark.parametrize(
    ("texts", "return_codes", "is_repeat", "outcome"),
    [
        (FAILURE, "{}", False, SendOutcome.REFUSED),
        (FAILURE, "{}", True, SendOutcome.UNCLEAR),
        (FAILURE, MEANINGS % "failed", False, SendOutcome.REFUSED),
        (FAILURE, MEANINGS % "failed", True, SendOutcome.REFUSED),
        (FAILURE, MEANINGS % "retry", False, SendOutcome.NOT_SENT),
        (FAILURE, MEANINGS % "duplicate", True, SendOutcome.TAKEN),
        (FAILURE, MEANINGS % "stop", False, SendOutcome.ACCOUNT_REFUSED),
        (FAILURE | {"returnDescription": "Unable to LOGON"}, "{}", False, SendOutcome.SUSPECT_REFUSED),
        (FAILURE | {"returnDetail": "Unauthorised"}, "{}", True, SendOutcome.SUSPECT_UNCLEAR),
        (FAILURE | {"returnDetail": "bad credentials"}, MEANINGS % "failed", False, SendOutcome.REFUSED),
        ({"returnDescription": "Unable to logon with credentials given"}, "{}", False, SendOutcome.TAKEN),
    ],
)
def test_a_return_code_means_what_the_setting_says_else_refused(
    texts: dict[str, str], return_codes: str, is_repeat: bool, outcome: SendOutcome
) -> None:
    result = outcome_of(item(ALICE, **texts), is_repeat=is_repeat, RETURN_CODES=return_codes)
    assert result == SendResult(
        outcome=outcome,
        transaction_id=None if outcome in {SendOutcome.ACCOUNT_REFUSED, *SUSPECT} else "11",
        code=texts.get("returnCode"),
        description=texts["returnDescription"],
        detail=texts.get("returnDetail"),
    )


def test_logon_words_without_code_and_id_are_no_success() -> None:
    result = outcome_of(item(ALICE, transaction="0", returnDescription="Unable to logon with credentials given"))
    assert (result.outcome, result.transaction_id) == (SendOutcome.SUSPECT_REFUSED, None)


LOGIN_FAILED = {"returnCode": "1", "returnDescription": "Login failed"}


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        ([()], set()),
        ([(BOB,)], {BOB}),
        ([(ALICE, BOB)], {ALICE, BOB}),
        ([(BOB,), ()], {BOB}),
        ([(BOB,), (), ()], {ALICE, BOB, CAROL}),
        ([(), (), ()], {ALICE, BOB, CAROL}),
        ([(), (), (), ()], set()),
        ([(BOB,), (BOB,), ()], set()),
        ([(BOB,), ("447700900999",), ()], {BOB}),
    ],
)
def test_an_answer_that_only_refuses_a_logon_proves_it_of_whom_its_items_are_surely_about(
    named: list[tuple[str, ...]], refused: set[str]
) -> None:
    items = [item(*recipients, transaction=None, **LOGIN_FAILED) for recipients in named]
    sent = [message(ALICE), message(BOB), message(CAROL)]
    results, _ = send(wire.answer(collection(*items)), *sent)
    by_outcome = {one.recipient for one, result in zip(sent, results, strict=True) if result.outcome in SUSPECT}
    assert by_outcome == {ALICE, BOB, CAROL}, "it may concern the call, so no item need name a message"
    proven = {one.recipient for one, result in zip(sent, results, strict=True) if result.outcome is SUSPECT_REFUSED}
    assert proven == refused
    again, _ = send(wire.answer(collection(*items)), *sent, repeats=frozenset(one.id for one in sent))
    assert {result.outcome for result in again} == {SUSPECT_UNCLEAR}, "an earlier try may have been taken"


def test_a_code_that_stops_is_the_account_s_of_every_message() -> None:
    text = item(BOB, transaction=None, returnCode="1", returnDescription="No credit")
    results, _ = send(wire.answer(collection(text)), message(ALICE), message(BOB), RETURN_CODES='{"1": "stop"}')
    assert [(one.outcome, one.is_of_credentials) for one in results] == [(SendOutcome.ACCOUNT_REFUSED, False)] * 2


# What an answer quotes of our own request


POISON = "it's your password: 12 & 34"


@pytest.mark.parametrize(
    ("said", "fields", "is_suspect"),
    [
        ("Message text 'your password is 1234' not allowed", {"text": "your password is 1234"}, False),
        ("Message text &quot;your password\n is  1234&quot;", {"text": "your password is 1234"}, False),
        ("Message text your password is 1234 not allowed", {"text": "your password is 1234"}, False),
        ("Message text 'your password…' not allowed", {"text": "your password is 1234"}, False),
        ("Message text 'your password is 12...' not allowed", {"text": "your password is 1234"}, False),
        ("Message text 'your password is 99' not allowed", {"text": "your password is 1234"}, True),
        (f"No: '{POISON.replace('&', '&amp;')}'", {"text": POISON}, False),
        (f"No: '{POISON.replace('&', '&amp;amp;')}'", {"text": POISON}, False),
        ("No: it%27s%20your%20password%3A%2012%20%26%2034", {"text": POISON}, False),
        ("text 'password'", {"text": "password"}, False),
        ("Wrong password", {"text": "password"}, True),
        ("Wrong password", {"text": "a"}, True),
        ("Wrong password", {"text": "word"}, True),
        ("Wrong 'password' given", {"text": "your password is 1234"}, True),
        ("Login failed", {"text": "Login failed"}, True),
        ("Login failed: your login code", {"text": "your login code"}, True),
        ("'Login failed'", {"text": "Login failed"}, True),
        ("Not allowed: Login failed", {"text": "Login failed"}, False),
        ("clientRef login/7 is too long", {"client_ref": "login/7"}, False),
        ("clientRef login/77 is too long", {"client_ref": "login/7"}, True),
        ("'MyLogin' is no originator", {"originator": "MyLogin"}, False),
        ("MyLogin is no originator", {"originator": "MyLogin"}, True),
        ("no filter 'logon-set'", {"filter_set_name": "logon-set"}, False),
        ("nobody is called user-login@x", {"impersonate_user_name": "user-login@x"}, False),
        ("bad URL https://login.example.com/r/1", {"callback_url": "https://login.example.com/r/1"}, False),
        ("guid login-1 again", {"message_guid": "login-1"}, False),
    ],
)  # fmt: skip
def test_what_an_answer_quotes_of_our_own_request_is_no_word_of_the_gateway(
    said: str, fields: dict[str, str], is_suspect: bool
) -> None:
    sent = message(**fields)
    (by_fault,), _ = send(wire.answer(fault(said), "500 X"), sent)
    assert by_fault.outcome is (SUSPECT_UNCLEAR if is_suspect else UNCLEAR)
    (by_item,), _ = send(wire.answer(collection(item(ALICE, returnCode="9", returnDescription=said))), sent)
    assert by_item.outcome is (SUSPECT_REFUSED if is_suspect else REFUSED)


def test_logon_words_beside_a_taken_message_are_about_their_own_message() -> None:
    words = {"returnCode": "9", "returnDescription": "No such username to impersonate"}
    alice, bob = message(ALICE), message(BOB)
    answer = wire.answer(collection(item(ALICE), item(BOB, **words)))
    assert [result.outcome for result in send(answer, alice, bob)[0]] == [SendOutcome.TAKEN, SendOutcome.REFUSED]
    repeated = send(answer, alice, bob, repeats=frozenset({bob.id}))[0]
    assert [result.outcome for result in repeated] == [SendOutcome.TAKEN, SendOutcome.UNCLEAR]


def test_what_the_gateway_says_is_kept_short() -> None:
    result = outcome_of(item(ALICE, returnCode="4" * 9999, returnDescription="x" * 9999, returnDetail="a\n b"))
    assert [len(result.code or ""), len(result.description or "")] == [500, 500]
    assert result.detail == "a b"


# Which item belongs to which message

NO_ITEM = "no item of the answer names this recipient"


@pytest.mark.parametrize(
    ("items", "ends"),
    [
        ([item(ALICE, transaction="1"), item(BOB, transaction="2")], [(TAKEN, "1"), (TAKEN, "2")]),
        ([item(BOB, transaction="2"), item(ALICE, transaction="1")], [(TAKEN, "1"), (TAKEN, "2")]),
        ([item(ALICE, BOB, transaction="3")], [(TAKEN, "3"), (TAKEN, "3")]),
        ([item(ALICE, BOB, returnCode="9")], [(REFUSED, "11"), (REFUSED, "11")]),
        ([item(f" +{ALICE} "), item(f"00{BOB}", transaction="5")], [(TAKEN, "11"), (TAKEN, "5")]),
        ([item(ALICE, ALICE), item(BOB)], [(TAKEN, "11"), (TAKEN, "11")]),
        ([item(ALICE)], [(TAKEN, "11"), (UNCLEAR, f"{NO_ITEM}; 0 of 1 name none of the call's")]),
        ([item(ALICE), item()], [(TAKEN, "11"), (UNCLEAR, f"{NO_ITEM}; 1 of 2 name none of the call's")]),
        ([item(), item()], [(UNCLEAR, f"{NO_ITEM}; 2 of 2 name none of the call's")] * 2),
        ([item(ALICE), item(CAROL)], [(TAKEN, "11"), (UNCLEAR, f"{NO_ITEM}; 1 of 2 name none of the call's")]),
        ([item(ALICE), item("07700900002")], [(TAKEN, "11"), (TAKEN, "11")]),
        ([item(ALICE), item("07700900009")], [(TAKEN, "11"), (UNCLEAR, NO_ITEM)]),
        (
            [item(ALICE, CAROL), item(BOB)],
            [(UNCLEAR, "its item also names a recipient that the call did not have"), (TAKEN, "11")],
        ),
        (
            [item(ALICE), item(ALICE, returnCode="9"), item(BOB)],
            [(UNCLEAR, "2 items of the answer name this recipient"), (TAKEN, "11")],
        ),
        (
            [item(ALICE, BOB), item(BOB)],
            [(TAKEN, "11"), (UNCLEAR, "2 items of the answer name this recipient")],
        ),
    ],
)
def test_an_item_belongs_to_the_recipients_it_names(items: list[str], ends: list[tuple[SendOutcome, str]]) -> None:
    results, _ = send(wire.answer(collection(*items)), message(ALICE), message(BOB))
    for result, (outcome, said) in zip(results, ends, strict=True):
        assert result.outcome is outcome
        if outcome is UNCLEAR:
            assert result.description.startswith(said)
            assert result.transaction_id is None
        else:
            assert result.transaction_id == said


def test_only_repeats_are_spared_by_an_unknown_code() -> None:
    first, again = message(ALICE), message(BOB)
    results, _ = send(
        wire.answer(collection(item(ALICE, returnCode="9"), item(BOB, returnCode="9"))),
        first,
        again,
        repeats=frozenset({again.id}),
    )
    assert [result.outcome for result in results] == [SendOutcome.REFUSED, SendOutcome.UNCLEAR]


# What an answer as a whole means


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff" + WELL,
        "\r\n  " + WELL,
        '<?xml version="1.0" encoding="utf-8"?><!-- x --><?pi?>' + WELL,
        ('<?xml version="1.0" encoding="utf-16"?>' + WELL).encode("utf-16"),
        WELL.replace("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"),
        WELL.replace(f' xmlns="{NAMESPACE}"', ""),
        WELL.replace("SendMessageCollectionResult>", "n:Other>").replace("<soap:Body>", '<soap:Body xmlns:n="urn:n">'),
        WELL.replace("<soap:Body>", "<soap:Header><x/></soap:Header><soap:Body>\n"),
        WELL.replace("<recipients>", "<unknown/><!-- x --><recipients>\n "),
        WELL.replace("string>", "phone>"),
        WELL.replace("<string>", "").replace("</string>", ""),
    ],
)
def test_a_success_is_understood_whatever_its_form(body: str | bytes) -> None:
    (result,), _ = send(wire.answer(body), message())
    assert (result.outcome, result.transaction_id) == (SendOutcome.TAKEN, "11")


@pytest.mark.parametrize(
    ("reply", "outcome", "description"),
    [
        (wire.answer("", "401 Unauthorized"), SendOutcome.ACCOUNT_REFUSED, "HTTP 401"),
        (wire.answer(WELL, "401 Unauthorized"), SendOutcome.ACCOUNT_REFUSED, "HTTP 401"),
        (wire.answer("<p>Login required", "403 Forbidden"), SUSPECT_UNCLEAR, "HTTP 403"),
        (wire.answer("<p>Go away", "403 Forbidden"), SUSPECT_UNCLEAR, "HTTP 403"),
        (wire.answer(WELL, "403 Forbidden"), SUSPECT_UNCLEAR, "HTTP 403"),
        (wire.answer(fault("No"), "403 Forbidden"), SUSPECT_UNCLEAR, "HTTP 403, fault: No"),
        (wire.answer(fault("No"), "401 Unauthorized"), SendOutcome.ACCOUNT_REFUSED, "HTTP 401, fault: No"),
        (
            wire.answer(fault("Unable to logon"), "500 Internal Server Error"),
            SUSPECT_UNCLEAR,
            "HTTP 500, fault: Unable to logon",
        ),
        (wire.answer(fault("No", "<e>bad Password</e>")), SUSPECT_UNCLEAR, "HTTP 200, fault: No"),
        (wire.answer(fault_12("invalid credentials"), "500 X"), SUSPECT_UNCLEAR, "HTTP 500, fault: invalid"),
        (wire.answer(fault("Timeout expired"), "500 X"), UNCLEAR, "HTTP 500, fault: Timeout expired"),
        (wire.answer(fault_12("Timeout expired")), UNCLEAR, "HTTP 200, fault: Timeout expired"),
        (wire.answer(fault("")), UNCLEAR, "HTTP 200, fault: without a reason"),
        (wire.answer(WELL, "500 Internal Server Error"), UNCLEAR, "HTTP 500"),
        (wire.answer(WELL, "202 Accepted"), UNCLEAR, "HTTP 202"),
        (wire.answer("", "302 Found", Location="/login"), UNCLEAR, "HTTP 302"),
        (wire.answer(""), UNCLEAR, "HTTP 200"),
        (wire.answer("", "204 No Content"), UNCLEAR, "HTTP 204"),
        (wire.answer("<html><body>Login</body></html>", content_type="text/html"), UNCLEAR, "HTTP 200"),
        (wire.answer(collection()), UNCLEAR, "HTTP 200"),
        (wire.answer('<e:Envelope xmlns:e="urn:e"/>'), UNCLEAR, "HTTP 200"),
        (wire.answer(WELL[:-10]), UNCLEAR, "HTTP 200"),
        (wire.answer(WELL.replace(ALICE, "\x01")), UNCLEAR, "an item of the answer holds an illegal character"),
        (wire.answer('<?xml version="1.0" encoding="none"?>' + WELL), UNCLEAR, "HTTP 200"),
        (wire.answer("<a>" * 100_000), UNCLEAR, "HTTP 200"),
        (wire.answer("[{}]", content_type="application/json"), UNCLEAR, "HTTP 200"),
        (wire.answer(LAUGHS + WELL.replace("11<", "&j;<")), UNCLEAR, "HTTP 200"),
        (wire.answer(LAUGHS + WELL.replace("<MessageResult>", '<MessageResult a="&j;">')), UNCLEAR, "HTTP 200"),
        (wire.answer("<!DOCTYPE x>" + WELL), UNCLEAR, "HTTP 200"),
        (wire.answer(WELL + " " * 3_000_000), UNCLEAR, "no whole answer from the gateway: it is longer"),
        (wire.raw(b""), UNCLEAR, "no whole answer from the gateway"),
        (wire.raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), UNCLEAR, "HTTP 200"),
        (wire.raw(wire.head(Content_Length="9999") + WELL.encode()), UNCLEAR, "no whole answer from the gateway"),
    ],
)
def test_the_end_of_a_call_is_the_end_for_each_message(
    reply: wire.Reply, outcome: SendOutcome, description: str
) -> None:
    results, server = send(reply, message(ALICE), message(BOB))
    assert [result.outcome for result in results] == [outcome] * 2
    assert all(result.is_of_credentials is (outcome is SendOutcome.ACCOUNT_REFUSED) for result in results)
    assert results[0].description.startswith(description)
    assert len(server.requests) == 1


def test_an_external_entity_is_not_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("7")
    with Wire(wire.answer("7")) as other:
        for target in (secret.as_uri(), other.url):
            for doctype in (f'<!DOCTYPE x [<!ENTITY e SYSTEM "{target}">]>', f'<!DOCTYPE x SYSTEM "{target}">'):
                body = WELL.replace("11<", "&e;<") if "ENTITY" in doctype else WELL
                (result,), _ = send(wire.answer(doctype + body), message())
                assert (result.outcome, result.description) == (UNCLEAR, "HTTP 200 without a SOAP envelope")
    assert other.connections == 0


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{closed}/", "https://127.0.0.1:{plain}/", "http://gateway.invalid/"],
    ids=["refused", "no tls", "no such host"],
)
def test_without_a_connection_no_message_was_sent(url: str) -> None:
    with Wire(wire.answer(WELL), reads=False) as plain:
        address = url.format(closed=wire.unused_port(), plain=plain.port)
        gateway = SoapGateway(replace(settings("http://127.0.0.1/"), gateway_urls={"soap": address}))
        sent = [message(ALICE), message(BOB)]
        results = gateway.send(sent)
    assert [results[each.id].outcome for each in sent] == [SendOutcome.NOT_SENT] * 2


@pytest.mark.parametrize(
    "reply",
    [wire.stall, wire.drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 1000), wire.drip(wire.head())],
    ids=["silence", "dripping header", "dripping body"],
)
def test_a_call_that_outlasts_its_deadline_is_unclear(reply: wire.Reply) -> None:
    (result,), _ = send(reply, message(), DYNMARK_TIMEOUT_SECONDS="0.4")
    assert (result.outcome, result.description) == (UNCLEAR, "no whole answer from the gateway: time is up")


# Secrets


def test_the_password_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    escaped = PASSWORD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    twice = escaped.replace("&", "&amp;")
    echo = f"Bad login {escaped}, {twice}, {'x' * 450}{escaped}"
    replies = [
        wire.answer(collection(item(ALICE, returnCode=escaped, returnDescription=echo, returnDetail=echo))),
        wire.answer(fault(echo, f"<e>{echo}</e>"), "500 X"),
        wire.answer(echo, "403 Forbidden"),
        wire.raw(b"HTTP/1.1 " + PASSWORD.encode()),
    ]
    said = []
    for reply in replies:
        with Wire(reply) as server:
            gateway = SoapGateway(settings(server.url))
            said += [repr(gateway.send([message()])), repr(gateway)]
    everything = "\n".join(said) + caplog.text + "".join(map(repr, map(vars, caplog.records)))
    assert "Bad login [password], [password], x" in everything
    for part in (PASSWORD, escaped, twice, "p&ss", "w0rd"):
        assert part not in everything


def test_threads_may_share_a_gateway() -> None:
    def reply(conversation: wire.Conversation) -> None:
        recipients = re.findall(r"string>(\d+)<", conversation.request.body.decode())
        wire.answer(collection(*(item(each, transaction=each) for each in recipients)))(conversation)

    ends: list[bool] = []
    with Wire(reply) as server:
        gateway: Gateway = SoapGateway(settings(server.url))

        def work(thread: int) -> None:
            for _ in range(5):
                sent = [message(f"4477009{thread:02}{number:03}") for number in range(20)]
                results = gateway.send(sent)
                ends.append(all(results[each.id].transaction_id == each.recipient for each in sent))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ends == [True] * 40
