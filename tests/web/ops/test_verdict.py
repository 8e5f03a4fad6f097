"""The line above the first page: what does most harm comes first, and each thing has its page."""

import re

import pytest

from receiptsvc.locations import PROJECT
from receiptsvc.store.health.service_state import GATEWAY_AMISS, Finding
from receiptsvc.web.ops import verdict

FOUND = re.compile(r"Finding\(\s*\"(\w+)\"")


def test_nothing_is_wrong_is_said_in_one_line() -> None:
    found = verdict.judge([])
    assert (found.line, list(found.items)) == ("Nothing is wrong.", [])
    assert verdict.judge([], is_read=False).line == "Not known yet."


def test_what_is_wrong_is_named_and_what_to_do_stands_below() -> None:
    text = "callbacks are refused for a key that is not listed: old (2) in the last hour: see `callback-keys`"
    found = verdict.judge([Finding("callbacks_refused", text, "callbacks are refused for a key that is not listed")])
    assert found.line == f"Wrong: {text.removesuffix(': see `callback-keys`')}"
    assert [item.text for item in found.items] == ["see `callback-keys`"], "what the line says is not said again"
    found = verdict.judge([Finding("sending_held", "it refuses us: mend DYNMARK_PASSWORD", "it refuses us")])
    assert (found.line, found.items[0].text) == ("Wrong: it refuses us", "mend DYNMARK_PASSWORD")


def test_what_does_most_harm_comes_first_whatever_was_found_first() -> None:
    found = verdict.judge(
        [Finding("settings_unknown", "c"), Finding("receipts_for_a_person", "b"), Finding("worker_unseen", "a")]
    )
    assert found.line == "Wrong: no worker is at work: receipts are kept and wait, and nothing is sent (and 2 more)"
    assert [(item.text, item.is_harm) for item in found.items] == [("", True), ("b", False), ("c", False)]
    assert verdict.judge([Finding("of a later release", "d"), Finding("settings_unknown", "c")]).line == (
        "Wrong: c (and 1 more)"
    )


def test_what_has_stopped_does_no_harm_any_more() -> None:
    found = verdict.judge([Finding("callbacks_refused", "a", has_stopped=True), Finding("no_receipts", "b")])
    assert [(item.name, item.is_harm) for item in found.items] == [("no_receipts", True), ("callbacks_refused", False)]


def test_what_somebody_wants_so_is_told_and_is_not_wrong() -> None:
    found = verdict.judge([Finding("sending_paused", "sending is paused by anna", is_meant=True)])
    assert (found.line, list(found.items)) == ("Nothing is wrong, but sending is paused by anna.", [])
    assert [(item.text, item.is_harm) for item in found.meant] == [("", False)], "what the line says is not said again"
    found = verdict.judge([Finding("sending_paused", "sending is paused by anna", is_meant=True), Finding("x", "a")])
    assert (found.line, found.meant[0].text) == ("Wrong: a", "sending is paused by anna")
    found = verdict.judge([Finding("sending_paused", "sending is paused by anna")])
    assert (found.line, found.items[0].is_harm) == ("Wrong: sending is paused by anna", False)


def test_every_finding_has_its_place() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "receiptsvc").rglob("*.py"))
    assert {*FOUND.findall(code), GATEWAY_AMISS} == set(verdict.KINDS_OF)


@pytest.mark.parametrize("name", verdict.KINDS_OF)
def test_everything_leads_to_a_page(name: str) -> None:
    address, words = verdict.find_page(name)
    assert not address.startswith("/")
    assert words


def test_unknown_codes_lead_to_what_to_do() -> None:
    """The receipts' page opens without them."""
    assert verdict.find_page("receipts_unmapped") == verdict.find_page("worker_unseen")
