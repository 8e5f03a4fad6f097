"""Whatever the gateway answers, a call ends with one result for each message, and never raises."""

import json
from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound import exchange
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway
from tests.dynmark import calls
from tests.dynmark.calls import ALICE, BOB, LAUGHS, WELL, collection, item, message

SOAP: Gateway = SoapGateway(calls.settings("http://127.0.0.1:9/x"))
REST: Gateway = RestGateway(
    calls.settings("http://127.0.0.1:9/x", DYNMARK_REST_URL="http://127.0.0.1:9/x", DYNMARK_TRANSPORT="rest")
)
MESSAGES = (message(ALICE), message(BOB))
REPEATS = frozenset({MESSAGES[1].id})

ENVELOPES = [
    WELL,
    collection(item(ALICE, returnCode="4", returnDescription="Unable to logon"), item(BOB)),
    collection(item(), item(ALICE, ALICE, transaction=None), "<MessageResult/>", "<!-- -->", "<?pi ?>"),
    '<e:Envelope xmlns:e="x"><e:Body><e:Fault><faultstring>logon</faultstring><detail/></e:Fault></e:Body></e:Envelope>',
    f'<?xml version="1.0"?>{LAUGHS}<Envelope>&j;</Envelope>',
    *(f'<?xml version="1.0" encoding="{name}"?>{WELL}' for name in ("idna", "utf-7", "UTF-16", "none", "EBCDIC-US")),
]
NAMES = st.sampled_from(
    [
        *("to", "To", "successful", "transactionID", "failureKey", "failureCode", "failureDescription"),
        *("validationFailures", "property", "details", "", "\ud800"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from([ALICE, BOB, "true", "false", "ErrBadJson", "[0].to", "[999999].x", "Unable to logon", 10**200])
)
ITEMS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=20
)
STATUSES = st.sampled_from([200, 202, 204, 302, 400, 401, 403, 404, 429, 500, 503, 999])


@st.composite
def torn(draw: st.DrawFn, text: str) -> bytes:
    """A text of which something was cut out or put in."""
    data = text.encode("utf-8", "surrogatepass")
    start = draw(st.integers(0, len(data)))
    return data[:start] + draw(st.binary(max_size=6)) + data[start + draw(st.integers(0, 40)) :]


XML = st.binary(max_size=100) | st.sampled_from(ENVELOPES).flatmap(torn) | st.sampled_from(ENVELOPES).map(str.encode)
JSON = st.binary(max_size=100) | ITEMS.map(json.dumps).flatmap(torn) | ITEMS.map(json.dumps).map(str.encode)


def results(gateway: Gateway, status: int, body: bytes) -> Mapping[UUID, SendResult]:
    answer = exchange.Answer(status=status, content_type=None, body=body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "post", lambda *_, **__: answer)
        return gateway.send(MESSAGES, repeats=REPEATS)


def assert_ended(ended: Mapping[UUID, SendResult]) -> None:
    assert ended.keys() == {each.id for each in MESSAGES}
    for result in ended.values():
        assert result.outcome in SendOutcome
        for text in (result.code, result.description, result.detail):
            assert text is None or (text.encode() and "\0" not in text)


@given(STATUSES, XML)
def test_any_answer_to_soap_is_an_end(status: int, body: bytes) -> None:
    assert_ended(results(SOAP, status, body))


@given(STATUSES, JSON)
def test_any_answer_to_rest_is_an_end(status: int, body: bytes) -> None:
    assert_ended(results(REST, status, body))


@pytest.mark.parametrize("body", [b"[" * 500_000, b"<a>" * 500_000, b'[{"to":' * 100_000, b"[" + b"9" * 500_000 + b"]"])
def test_an_answer_that_is_too_deep_or_too_long_is_an_end(body: bytes) -> None:
    for gateway in (SOAP, REST):
        assert {result.outcome for result in results(gateway, 200, body).values()} == {SendOutcome.UNCLEAR}
