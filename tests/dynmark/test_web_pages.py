"""A web page from the gateway's address asks whether that address is right; what else is wrong has words of its own."""

import pytest

from receiptsvc.domain.messages import Amiss, Contact, SendOutcome
from receiptsvc.dynmark.outbound import answers
from receiptsvc.dynmark.outbound.exchange import Answer
from tests.dynmark import calls, test_rest, test_soap, wire
from tests.dynmark.calls import message

PAGES = [
    wire.answer("<html><body>Login</body></html>", content_type="text/html"),
    wire.answer("<p>Nothing here", "404 Not Found", "text/html; charset=utf-8"),
    wire.answer("<!DOCTYPE html>\n<HTML lang=en>", "503 Service Unavailable", "text/plain"),
    wire.answer("<!-- saved --> \n<?xml version='1.0'?><!doctype HTML>", content_type=""),
]


@pytest.mark.parametrize("reply", PAGES, ids=["type", "404", "by its first bytes", "after comments"])
@pytest.mark.parametrize(("module", "setting"), [(calls, "DYNMARK_SOAP_URL"), (test_rest, "DYNMARK_REST_URL")])
def test_a_web_page_asks_whether_the_address_is_right(reply: wire.Reply, module: object, setting: str) -> None:
    (result,), _ = module.send(reply, message())  # type: ignore[attr-defined]  # the two have one form
    assert result.outcome is SendOutcome.UNCLEAR
    assert result.description.endswith(f" with a web page: is {setting} right?")
    assert result.amiss == Amiss(Contact.WEB_PAGE, result.description)


def test_a_page_with_403_leaves_the_account_under_suspicion() -> None:
    (result,), _ = calls.send(wire.answer("<html>No</html>", "403 Forbidden", "text/html"), message())
    assert result.outcome is SendOutcome.SUSPECT_UNCLEAR
    assert result.amiss == Amiss(Contact.WEB_PAGE, "HTTP 403 with a web page: is DYNMARK_SOAP_URL right?")


def test_what_is_wrong_with_the_gateway_holds_nothing_of_its_words() -> None:
    (fault,), _ = calls.send(wire.answer(test_soap.fault("No: 447700900001"), "500 X"), message())
    assert fault.amiss == Amiss(Contact.UNCLEAR, "HTTP 500 with a SOAP fault")
    (empty,), _ = calls.send(wire.answer(""), message())
    assert empty.amiss == Amiss(Contact.UNCLEAR, "HTTP 200 without a SOAP envelope")
    (silent,), _ = calls.send(wire.raw(b""), message())
    assert silent.amiss is not None
    assert (silent.amiss.contact, silent.outcome) == (Contact.UNCLEAR, SendOutcome.UNCLEAR)
    for reply in (wire.answer(calls.WELL), wire.answer("", "401 Unauthorized")):
        (result,), _ = calls.send(reply, message())
        assert result.amiss is None


def test_looking_for_a_page_takes_no_time_over_a_monster() -> None:
    assert not answers.is_web_page(Answer(status=200, content_type=None, body=b"<!--" + b"--><!--" * 1_000_000))
