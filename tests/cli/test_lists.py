"""`inbound`, `overdue` and `stats` against the real API."""

import json

from tests.cli.conftest import Run, Service
from tests.support import rows


def test_inbound_lists_replies_and_marks_opt_outs(service: Service, run: Run) -> None:
    service.accept("Hello", client_ref="order-1")
    service.reply(msgid="1", sender="447700900001", content="Thanks!", clientref="order-1", recipient="60030")
    service.reply(msgid="2", sender="447700900002", content="STOP")
    result = run("inbound")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "2 replies, 1 opt-out among them.")
    first, second = sorted(result.stdout.splitlines()[2:], key=lambda line: "STOP" in line)
    assert (first.split()[2:5], second.split()[2:5]) == (
        ["447700900001", "-", "Thanks!"],
        ["447700900002", "opt-out", "STOP"],
    )
    for options in (
        ("--from", "+44 7700 900002"),
        ("--opt-outs",),
        ("--sender", "447700900002", "--since", "2026-01-05T12:00:00Z", "--until", "yesterday"),
    ):
        (only,) = json.loads(run("inbound", *options, "--json").stdout)["items"]
        assert only["content"] == "STOP", options
    for options in (("--client-ref", "order-1"), ("--to", "60030")):
        (only,) = json.loads(run("inbound", *options, "--json").stdout)["items"]
        assert only["content"] == "Thanks!", options
    assert run("inbound", "--limit", "1").stdout.splitlines()[0].startswith("The newest 1; --limit shows more")
    assert run("inbound", "--client-ref", "order-2").stdout == "no replies.\n"


def test_overdue_says_how_many_and_ends_with_1_if_there_are_any(service: Service, run: Run) -> None:
    empty = run("overdue", "--older-than", "90m")
    assert (empty.exit_code, empty.stdout) == (
        0,
        "Nothing is overdue: no message has waited 90 min for its final report.\n",
    )
    message = service.accept("Hello")
    result = run("overdue")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[0] == "1 message has waited 1 h or longer for a final report."
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["status", "waits", "for", "messages"],
        ["accepted", "7", "d", "or", "longer", "1"],
        ["Oldest", "accepted:", message],
    ]
    by_json = run("overdue", "--older-than", "3600", "--json")
    assert (by_json.exit_code, json.loads(by_json.stdout)["olderThan"]) == (1, 3600)
    for wrong in ("soon", "2w", "-1", "1.5h"):
        assert run("overdue", "--older-than", wrong).exit_code == 2


def test_stats_say_the_sum_first(service: Service, run: Run) -> None:
    message = service.accept("Hello", originator="SHOP")
    service.accept("Hello", recipient="447700900002")
    service.report(message, statusid="2", statusdescription="delivered", datetime="2026-01-05T12:00:09.000")
    span = ("--since", "2026-01-05", "--until", "2026-01-06T00:00:00Z")
    result = run("stats", *span)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 messages accepted from 2026-01-05T00:00:00Z to 2026-01-06T00:00:00Z: ")
    assert "1 accepted" in lines[0]
    assert "100.0% of those with a final status were delivered" in lines[0]
    assert lines[1] == "Receipts that came then: 1 applied."
    assert lines[2].split()[:4] == ["start", "messages", "delivered", "rate"]
    assert lines[3].split()[:4] == ["2026-01-05T12:00:00Z", "2", "1", "100.0%"]
    assert json.loads(run("stats", *span, "--from", "SHOP", "--json").stdout)["total"]["messages"] == 1
    assert json.loads(run("stats", *span, "--status", "delivered", "--by", "day", "--json").stdout)["by"] == "day"
    assert run("stats").stdout.startswith("no messages accepted from ")
    assert run("stats", "--since", "2025-01-01", "--by", "hour").exit_code == 2


def test_times_are_taken_as_people_write_them(service: Service, run: Run) -> None:
    rows.accept(service.database, rows.message(client_ref="now"), now=service.database.clock.now())
    service.accept("Of January", client_ref="then")
    for since, refs in {
        "2h": {"now"},
        "today": {"now"},
        "yesterday": {"now"},
        "2026-01-05": {"now", "then"},
        "2026-01-06": {"now"},
        "2026-01-05T13:00:00+01:00": {"now", "then"},
        "2026-01-05T12:00:01Z": {"now"},
    }.items():
        exported = run("export", "--since", since, "--json").stdout.splitlines()
        assert {json.loads(line)["clientRef"] for line in exported} == refs, since
    for wrong in ("2026-01-05T12:00", "0001-01-01T00:00+14:00", "2h ago", "tomorrow", "99999999d", "--"):
        result = run("inbound", f"--since={wrong}")
        assert (result.exit_code, "such as 2026-01-31T09:30:00Z" in result.stderr) == (2, True), wrong


def test_no_number_text_or_reference_is_in_an_address(service: Service, run: Run) -> None:
    service.accept("Hello", client_ref="order-1")
    service.reply(msgid="1", sender="447700900001", content="Thanks!", clientref="order-1")
    for term in ("447700900001", "900001", "order-1", "ord"):
        for command in ("status", "search", "explain", "conversation", "recipient"):
            run(command, term)
    for arguments in (
        ("inbound", "--from", "447700900001", "--client-ref", "order-1"),
        ("export", "--to", "447700900001", "--client-ref", "order-1", "--to-ends", "0001"),
        ("cancel", "--to", "447700900001", "--client-ref", "order-1", "--dry-run"),
        ("suppressions", "add", "447700900001"),
        ("suppressions", "list", "--to", "447700900001"),
        ("suppressions", "delete", "447700900001"),
        ("send", "--to", "447700900001", "--text", "Hello", "--client-ref", "order-1"),
    ):
        assert run(*arguments).exit_code == 0, arguments
    addresses = service.interference.addresses
    assert len(addresses) > 30
    assert not [address for address in addresses if any(word in address for word in ("90000", "ord", "Hello"))]
