"""What a worker's calls show of the gateway: since when it is unreachable, unclear or a web page, and when that is over."""

import logging

import pytest

from receiptsvc.domain.messages import Amiss, Contact, SendOutcome, SendResult
from receiptsvc.worker.gateway_watch import GatewayFault, GatewayWatch
from tests.support.rows import seconds

AWAY = SendResult(outcome=SendOutcome.NOT_SENT, amiss=Amiss(Contact.UNREACHABLE, "no connection"))
LOST = SendResult(outcome=SendOutcome.UNCLEAR, amiss=Amiss(Contact.UNCLEAR, "no whole answer"))
PAGE = SendResult(outcome=SendOutcome.UNCLEAR, amiss=Amiss(Contact.WEB_PAGE, "a web page: is it right?"))
TAKEN = SendResult(outcome=SendOutcome.TAKEN, transaction_id="1")
OURS = SendResult(outcome=SendOutcome.REFUSED, description="refused here, without a call")
CODED = SendResult(outcome=SendOutcome.REFUSED, code="210")


@pytest.mark.parametrize(
    ("calls", "fault"),
    [
        ([], None),
        ([TAKEN], None),
        ([AWAY], GatewayFault("no connection", seconds(0))),
        ([PAGE], GatewayFault("a web page: is it right?", seconds(0))),
        ([LOST], None),  # the next call shows it
        ([LOST, LOST], GatewayFault("no whole answer", seconds(0))),
        ([TAKEN, LOST, AWAY, LOST], GatewayFault("no whole answer", seconds(3))),  # since this fault is there
        ([AWAY, PAGE, PAGE], GatewayFault("a web page: is it right?", seconds(1))),
        ([AWAY, OURS], GatewayFault("no connection", seconds(0))),
        ([AWAY, TAKEN], None),
        ([AWAY, CODED], None),
        ([LOST, TAKEN, LOST], None),
    ],
)
def test_the_last_calls_tell(calls: list[SendResult], fault: GatewayFault | None) -> None:
    watch = GatewayWatch()
    for number, result in enumerate(calls):
        watch.note([result], seconds(number))
    assert watch.fault() == fault


def test_it_is_logged_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = GatewayWatch()
    for number, result in enumerate([AWAY, AWAY, PAGE, TAKEN, TAKEN, LOST, LOST, LOST]):
        watch.note([result], seconds(number))
    said = [(record.getMessage(), record.fields.get("of")) for record in caplog.records]  # type: ignore[attr-defined]
    assert said == [
        ("send.gateway_unreachable", None),
        ("send.gateway_is_a_web_page", None),
        ("fault.over", "send.gateway_unreachable"),
        ("fault.over", "send.gateway_is_a_web_page"),
        ("send.gateway_unclear", None),
    ]
