"""What the commands find by what receipts name that fit no message, and what they count."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from receiptsvc.domain.inbox import Channel
from tests.cli.conftest import OPERATOR, READER, Run, Service
from tests.support import rows

NUMBER = "447700900077"


@pytest.fixture
def parked(service: Service) -> Service:
    """A service that has a message, and a receipt that fits none."""
    service.accept("Hello", client_ref="order-1")
    service.keep(
        Channel.ACCOUNT,
        recipient=NUMBER,
        transactionid="70000077",
        clientref="other/77",
        statusid="4711",
        statusdescription="Who knows",
    )
    return service


def items(run: Run, *arguments: str) -> Sequence[Any]:
    answer: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return list(answer["items"])


def test_receipts_are_listed_by_what_they_name(parked: Service, run: Run) -> None:
    rows.keep(parked.database, "statusid=1")
    (receipt,) = items(run, "receipts", "list", "--outcome", "unmatched", "--outcome", "dead")
    for options in (
        ("--to", "+44 7700 900077"),
        ("--to-ends", "0077"),
        ("--transaction-id", "70000077"),
        ("--client-ref", "other/77"),
        ("--code", "4711"),
        ("--description", "Who knows"),
    ):
        assert items(run, "receipts", "list", *options) == [receipt], options
    assert items(run, "receipts", "list", "--to", "447700900001") == []
    assert items(run, "receipts", "list", "--key-id", "k1") == []
    lines = run("receipts", "list", "--to-ends", "0077").stdout.splitlines()
    assert lines[1].split()[:6] == ["id", "outcome", "receivedAt", "recipient", "transactionID", "clientRef"]
    assert lines[2].split()[1:6] == ["unmatched", "2026-01-05T12:00:00Z", NUMBER, "70000077", "other/77"]
    assert lines[1].split()[6] == "adoptAt"
    assert lines[2].split()[6] == "2026-01-05T12:10:00Z"
    shown = run("receipts", "show", receipt["id"]).stdout
    assert f"recipient: {NUMBER}\n" in shown
    assert "it is taken for another system's at 2026-01-05T12:10:00Z. To do:" in shown


def test_a_match_to_a_message_to_another_number_is_asked_about(
    parked: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (receipt,) = items(run, "receipts", "list", "--to", NUMBER)
    (message,) = parked.ids()
    match = ("receipts", "match", receipt["id"], message)
    question = f"The receipt names {NUMBER}, the message went to 447700900001. Match all the same? [y/N]"
    for answer in (b"n\n", b""):
        refused = run(*match, stdin=answer)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert question in refused.stderr
    monkeypatch.setenv("RECEIPTSVC_API_KEY", OPERATOR)
    assert "the message went to another number. Match all" in run(*match, stdin=b"n\n").stderr
    assert items(run, "receipts", "list", "--outcome", "unmatched") == [receipt]
    assert run(*match, "--yes").exit_code == 0
    assert items(run, "receipts", "list", "--outcome", "unmatched") == []
    shown = run("receipts", "show", receipt["id"]).stdout
    assert f"the receipt names: recipient {NUMBER}, transactionID 70000077, clientRef other/77\n" in shown
    assert "the message has: recipient 447700900001, clientRef order-1\n" in shown
    other = run("receipts", "match", receipt["id"], "msg_01h45ytscbebyvny4gc8cr8ma2", "--yes")
    assert (other.exit_code, "It is pending" in other.stderr) == (1, True)


def test_status_search_and_recipient_find_receipts_that_fit_no_message(
    parked: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (receipt,) = items(run, "receipts", "list", "--to", NUMBER)
    for term in (NUMBER, "0077", "70000077", "other/77"):
        for command in ("status", "search"):
            result = run(command, term)
            assert (result.exit_code, result.stderr) == (0, ""), (command, term)
            assert f"{term} is named by receipts that fit no message: 1 receipt." in result.stdout
            assert receipt["id"] in result.stdout
    for command in ("status", "search"):
        result = run(command, "other/")
        said = "other/ is the beginning of a clientRef of receipts that fit no message: 1 receipt."
        assert (result.exit_code, said in result.stdout, receipt["id"] in result.stdout) == (0, True, True), command
    refused = run("explain", NUMBER)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines() == [
        f"Error: {NUMBER} finds no message; `status` shows what it finds.",
        "1 receipt that fits no message:",
        f"  {receipt['id']}. Unless a message fits before, it is taken for another system's at 2026-01-05T12:10:00Z.",
    ]
    history = run("recipient", NUMBER)
    assert history.stdout.splitlines()[:2] == [
        f"{NUMBER}: 1 receipt.",
        "",
    ]
    assert receipt["id"] in history.stdout
    for command in ("status", "search", "recipient"):
        assert "90007" not in "".join(parked.interference.addresses), command
    monkeypatch.setenv("RECEIPTSVC_API_KEY", READER)
    assert receipt["id"] in run("status", NUMBER).stdout, "those that the search brought"


def test_status_finds_the_messages_of_a_request_by_its_idempotency_key(service: Service, run: Run) -> None:
    sent = ("send", "--to", "447700900001", "--to", "447700900002", "--text", "Hello", "--idempotency-key", "monday")
    assert run(*sent).exit_code == 0
    result = run("status", "monday")
    assert result.stdout.splitlines()[0] == "monday is the Idempotency-Key of a batch: 2 messages; 2 accepted."
    assert {item["id"] for item in items(run, "status", "monday")} == set(service.ids())


def test_statistics_say_which_numbers_failed_most_and_why(service: Service, run: Run) -> None:
    for number, failures in (("447700900001", 1), ("447700900002", 3)):
        for _ in range(failures):
            message = service.accept("Hello", recipient=number)
            service.report(message, statusid="3", statusdescription="Undelivered")
    span = ("--since", "2026-01-05", "--until", "2026-01-06")
    result = run("stats", "--by", "recipient", *span, "--status", "undelivered", "--status", "expired")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("447700900002 failed most from 2026-01-05T00:00:00Z to 2026-01-06T00:00:00Z (")
    assert [line.split()[:2] for line in lines[2:]] == [["447700900002", "3"], ["447700900001", "1"]]
    for _ in range(2):
        service.report(service.accept("Hello"), statusid="3", statusdescription="Undelivered")
    tied = run("stats", "--by", "recipient", *span).stdout
    assert tied.startswith("Several numbers failed most, 3 failures each, from 2026-01-05T00:00:00Z")
    assert run("stats", "--by", "recipient").stdout.startswith("No number failed from ")
    for by, column in {
        "sender": "sender",
        "country": "country",
        "prefix": "prefix",
        "code": "providerStatusId",
        "reason": "reason",
    }.items():
        shown = run("stats", "--by", by, *span)
        assert (shown.exit_code, shown.stderr) == (0, ""), by
        assert column in shown.stdout.splitlines()[1].split(), by
        assert items(run, "stats", "--by", by, "--limit", "5", *span), by
    for wrong, fault in (
        (("--by", "country", "--from", "SHOP"), "--from does not go with --by country; it goes with --by hour, day, "),
        (("--by", "reason", "--status", "failed"), "--status does not go with --by reason; it goes with --by hour, "),
        (("--limit", "5"), "--limit does not go with --by hour; it goes with --by recipient, sender, "),
    ):
        refused = run("stats", *wrong)
        assert (refused.exit_code, fault in refused.stderr) == (2, True), wrong
    assert len(items(run, "stats", *span, "--status", "undelivered", "--status", "expired")) == 1


def test_an_export_takes_several_statuses(service: Service, run: Run) -> None:
    first, second = service.accept("Hello"), service.accept("Hello", recipient="447700900002")
    service.report(first, statusid="3", statusdescription="Undelivered")
    exported = run("export", "--json", "--status", "undelivered", "--status", "accepted").stdout.splitlines()
    assert [json.loads(line)["id"] for line in exported] == [second, first]
    assert run("export", "--json", "--status", "undelivered,accepted").stdout.splitlines() == exported
    assert len(run("export", "--json", "--status", "undelivered").stdout.splitlines()) == 1
    wrong = run("export", "--status", "undelivered,acepted")
    assert (wrong.exit_code, "Did you mean 'accepted'?" in wrong.stderr) == (2, True)


def test_what_an_unmapped_receipt_needs_is_said_as_it_is_to_be_typed(service: Service, run: Run) -> None:
    service.report(service.accept("Hello"), statusid="9", statusdescription="Pending carrier review")
    (receipt,) = items(run, "receipts", "list", "--outcome", "unmapped")
    first = run("receipts", "show", receipt["id"]).stdout.splitlines()[0]
    assert first.endswith(
        'To do: set STATUS_MAP={"9": "undelivered"}, or what it means, for the worker and this shell; restart the '
        "worker; then run `python -m receiptsvc rebuild --apply`."
    )
    assert "Reason" not in first


def test_counts_of_other_statuses_are_not_called_failures(service: Service, run: Run) -> None:
    service.report(service.accept("Hello", "12025550123"), statusid="2", statusdescription="Undelivered")
    span = ("--since", "2026-01-05", "--until", "2026-01-06")
    failed = run("stats", "--by", "recipient", *span).stdout.splitlines()
    assert failed[0].startswith("12025550123 failed most from ")
    assert failed[1].split()[:4] == ["recipient", "failures", "last", "accepted"]
    service.report(service.accept("Hello", "12025550124"), statusid="1", statusdescription="Delivered")
    other = run("stats", "--by", "recipient", "--status", "delivered", *span).stdout.splitlines()
    assert other[0].startswith("12025550124 has most that are delivered from ")
    assert other[1].split()[1] == "messages"
    assert "US and others" in run("stats", "--by", "country", *span).stdout
    assert "unsaid: the gateway gave no reason" in run("stats", "--by", "reason", *span).stdout
