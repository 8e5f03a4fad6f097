"""Classes of reasons: what gateways write of a failure, and what says no reason."""

import pytest

from receiptsvc.domain.failures import FailureReason, reason_of
from receiptsvc.domain.statuses import Report, Source, Status
from tests.support.rows import T0


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("Absent Subscriber", "unreachable"),
        ("ABSENT_SUBSCRIBER_SM", "unreachable"),
        ("Handset switched off", "unreachable"),
        ("memory capacity exceeded", "unreachable"),
        ("Undelivered: SIM card full", "unreachable"),
        ("Unknown subscriber", "unknown_number"),
        ("Invalid destination address", "unknown_number"),
        ("Number not in service", "unknown_number"),
        ("Call barred by operator", "blocked"),
        ("Recipient is blacklisted", "blocked"),
        ("Rejected - spam filter", "blocked"),
        ("Insufficient credit", "credit"),
        ("Validity period expired", "expired"),
        ("Network congestion", "network"),
        ("No route to operator", "network"),
        ("System failure", "network"),
        ("Undelivered", "unsaid"),
        ("Not delivered", "unsaid"),
        ("Delivery failed.", "unsaid"),
        ("", "unsaid"),
        (None, "unsaid"),
        ("Kaputt", "other"),
        ("Similar to nothing known", "other"),
        ("x" * 500, "other"),
    ],
)
def test_a_description_is_of_one_class(description: str | None, reason: str) -> None:
    report = Report(Source.GATEWAY, Status.UNDELIVERED, T0, None, "7", description)
    assert reason_of(report, "token") == reason


def test_what_expired_and_says_nothing_else_is_of_that_class() -> None:
    for description, reason in (("Expired", "expired"), (None, "expired"), ("Absent subscriber", "unreachable")):
        report = Report(Source.GATEWAY, Status.EXPIRED, T0, None, "5", description)
        assert reason_of(report, "token") == reason


@pytest.mark.parametrize(
    ("status", "rule", "reason"),
    [
        (Status.FAILED, "the gateway refused it", FailureReason.REFUSED),
        (Status.EXPIRED, "validUntil went by", FailureReason.NEVER_SENT),
        (Status.UNDELIVERED, "resolved by hand", FailureReason.BY_HAND),
    ],
)
def test_a_step_of_our_own_is_classed_by_its_rule(status: Status, rule: str, reason: FailureReason) -> None:
    assert reason_of(Report(Source.OURSELVES, status, T0), rule) is reason
