"""`send`, `status`, `search`, `explain`, `conversation` and `recipient` against the real API."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receiptsvc.domain import numbers
from tests.cli.conftest import READER, WAITS, Run, Service
from tests.support.numbers import ALL, ALWAYS, NUMBERS, STRANGE

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def ids_in(output: str) -> list[str]:
    return [word for line in output.splitlines() for word in line.split()[:1] if word.startswith("msg_")]


def test_send_lists_one_message_for_each_recipient(service: Service, run: Run) -> None:
    result = run("send", "--to", "+44 7700 900001", "--to", "447700900002", "--text", "Hello", "--from", "SHOP")
    assert (result.exit_code, result.stderr) == (0, WAITS)
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["id", "recipient", "status", "segments"]
    assert [line.split()[1:] for line in lines] == [
        ["447700900001", "accepted", "1"],
        ["447700900002", "accepted", "1"],
    ]
    assert [service.originator_of(message) for message in ids_in(result.stdout)] == ["SHOP", "SHOP"]


@pytest.mark.usefixtures("service")
def test_send_passes_every_option_to_the_api(run: Run) -> None:
    result = run(
        *("send", "--to", "07700 900001", "--country", "GBR", "--text", "-", "--originator", "SHOP"),
        *(
            "--client-ref",
            "order/1",
            "--deliver-after",
            "2030-01-01T00:00:00Z",
            "--valid-until",
            "2030-01-02T00:00:00Z",
        ),
        *("--include-message-text", "--filter-set", "clean", "--impersonate", "client", "--guid", "guid-1", "--json"),
        stdin="Grüße\nund Küsse\n".encode(),
    )
    assert result.exit_code == 0
    (item,) = json.loads(result.stdout)["messages"]
    assert (item["recipient"], item["clientRef"], item["originator"]) == ("447700900001", "order/1", "SHOP")
    (found,) = json.loads(run("status", item["id"], "--json").stdout)["items"]
    assert found["text"] == "Grüße\nund Küsse"
    again = run("send", "--to", "447700900001", "--text", "x", "--guid", "guid-1")
    assert again.exit_code == 2
    assert "messages[0].messageGuid: " in again.stderr


@pytest.mark.usefixtures("service")
def test_send_warns_of_characters_outside_gsm(run: Run) -> None:
    result = run("send", "--to", "447700900001", "--text", "it\u2019s")
    assert "U+2019" in result.stdout
    refused = run("send", "--to", "447700900001", "--text", "it\u2019s", "--reject-unicode")
    assert refused.exit_code == 2


@pytest.mark.usefixtures("service")
def test_send_names_every_fault_by_its_path_and_sends_nothing(run: Run) -> None:
    result = run("send", "--to", "447700900001", "--to", "12", "--text", "", "--valid-until", "soon")
    assert (result.exit_code, result.stdout) == (2, "")
    for path in ("messages[0].recipients[1]: ", "messages[0].text: ", "messages[0].validUntil: "):
        assert path in result.stderr
    assert run("status", "447700900001").exit_code == 1


def test_send_refuses_standard_input_that_is_not_utf_8(run: Run) -> None:
    result = run("send", "--to", "447700900001", "--text", "-", stdin=b"\xff")
    assert result.exit_code == 2
    assert "must be UTF-8" in result.stderr


def test_send_to_an_unreachable_service_says_that_the_outcome_is_not_known(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIPTSVC_URL", "http://127.0.0.1:9")
    result = run("send", "--to", "447700900001", "--text", "Hello")
    assert (result.exit_code, result.stdout) == (1, "")
    why = "http://127.0.0.1:9 (RECEIPTSVC_URL) can't be reached: nothing listens there; "
    assert f"{why}it is not known whether anything was sent" in result.stderr


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (READER, "This needs a key with the scope send; the key reader has read. (HTTP 403)"),
        ("nobody's-key-at-all", "No API key has this secret. (HTTP 401)"),
    ],
)
def test_an_api_error_for_the_key_is_wrong_use_and_the_key_is_never_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, key: str, reason: str
) -> None:
    monkeypatch.setenv("RECEIPTSVC_API_KEY", key)
    result = run("send", "--to", "447700900001", "--text", "Hello")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"Error: {reason}",
        "The key that was sent is the one in RECEIPTSVC_API_KEY.",
    ]
    assert key not in result.output


@pytest.mark.usefixtures("service")
def test_a_refused_key_of_a_file_is_named_by_its_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "api_key"
    file.write_text("nobody's-key-at-all\n")
    monkeypatch.setattr("receiptsvc.client.environment.key_path", lambda: file)
    monkeypatch.delenv("RECEIPTSVC_API_KEY")
    named = f"The key that was sent is the one in {file}, because RECEIPTSVC_API_KEY is not set."
    assert run("status", "447700900001").stderr.splitlines()[-1] == named


@pytest.fixture
def delivered(service: Service) -> str:
    """A message that was delivered, with two receipts of one transactionID."""
    message = service.accept(
        "Hello", client_ref="order-1", originator="SHOP", message_guid="3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de"
    )
    service.accept("Somebody else's", recipient="447700900009", client_ref="other-9")
    service.report(
        message,
        statusid="2",
        statusdescription="Delivered to handset",
        transactionid="70000001",
        datetime="2026-01-05T12:00:09.000",
    )
    service.report(message, statusid="1", statusdescription="Message sent", datetime="2026-01-05T12:00:04.000")
    return message


TERMS = (
    *("70000001", "447700900001", "+44 (7700) 900-001", "0044 7700 900001", "00001", "order-1", "order-", " order-1 "),
    "3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de",
)


def test_status_finds_a_message_by_any_reference_and_shows_its_transitions(delivered: str, run: Run) -> None:
    for term in TERMS:
        result = run("status", term)
        assert (result.exit_code, result.stderr) == (0, ""), term
        found, _, transitions = result.stdout.partition("\n\n")
        sentence, heading, line = found.splitlines()
        assert sentence == f"{delivered} to 447700900001 is delivered (since 2026-01-05T12:00:09Z): on the handset."
        assert heading.split() == ["id", "recipient", "status", "statusAt", "clientRef", "transactionID"]
        assert line.split() == [delivered, "447700900001", "delivered", "2026-01-05T12:00:09Z", "order-1", "70000001"]
        assert [line.split()[1:3] for line in transitions.splitlines()[1:]] == [
            ["accepted", "applied"],
            ["delivered", "applied"],
            ["sent", "stale"],
        ]
        assert "Delivered to handset (code 2)" in transitions


def test_status_finds_a_receipt_and_its_message(delivered: str, run: Run) -> None:
    receipt = json.loads(run("receipts", "list", "--json").stdout)["items"][-1]["id"]
    result = run("status", receipt)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{receipt} is applied: it changed the status.\n")
    assert f"{delivered} to 447700900001 is delivered" in result.stdout


def test_status_finds_a_message_by_its_id_and_by_that_of_its_conversation(delivered: str, run: Run) -> None:
    answer = json.loads(run("status", delivered, "--json").stdout)
    (item,) = answer["items"]
    assert item["id"] == delivered
    assert [transition["effect"] for transition in item["transitions"]] == ["applied", "applied", "stale"]
    assert answer["hits"] == [
        {"as": "message", "messages": [delivered], "replies": [], "receipts": [], "isComplete": True}
    ]
    by_conversation = json.loads(run("status", item["conversationId"], "--json").stdout)
    assert [item["id"] for item in by_conversation["items"]] == [delivered]


def test_status_of_a_term_of_several_kinds_lists_each_message_once_by_kind(service: Service, run: Run) -> None:
    by_number = service.accept("to this number", recipient="447700900001")
    by_reference = service.accept("with that reference", recipient="447700900002", client_ref="447700900001")
    by_both = service.accept("both", recipient="447700900001", client_ref="447700900001")
    by_transaction = service.accept("of that transaction", recipient="447700900003")
    service.report(by_transaction, statusdescription="delivered", transactionid="447700900001")
    result = run("status", "447700900001")
    assert ids_in(result.stdout) == [by_both, by_number, by_transaction, by_reference]
    assert [line for line in result.stdout.splitlines() if line.startswith("447700900001")] == [
        "447700900001 is a recipient: 2 messages; 2 accepted.",
        "447700900001 is also a transactionID: 1 message; 1 delivered.",
        "447700900001 is also a clientRef: 1 message; 1 accepted.",
    ]


def test_status_of_a_reply_shows_it_and_the_message_that_it_answers(delivered: str, service: Service, run: Run) -> None:
    service.reply(msgid="7", sender="447700900001", content="STOP", clientref="order-1")
    (reply,) = json.loads(run("inbound", "--json").stdout)["items"]
    result = run("status", reply["id"])
    assert (
        result.stdout.splitlines()[0] == f"{reply['id']} is a reply's id: 1 message; 1 delivered; 1 reply; 1 opt-out."
    )
    assert "opt-out" in next(line for line in result.stdout.splitlines() if line.startswith("rpl_") and "STOP" in line)
    assert delivered in result.stdout


@pytest.mark.usefixtures("delivered")
def test_status_shows_a_receipt_to_a_key_that_may_not_read_it_by_its_id(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = json.loads(run("receipts", "list", "--json").stdout)["items"][0]["id"]
    monkeypatch.setenv("RECEIPTSVC_API_KEY", READER)
    result = run("status", receipt)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{receipt} is ")


def test_status_gives_at_most_the_limit_of_a_kind_and_says_so(service: Service, run: Run) -> None:
    messages = [service.accept(f"{number}", client_ref="order-1") for number in range(3)]
    result = run("status", "order-1", "--limit", "2")
    assert ids_in(result.stdout) == messages[:0:-1]
    assert result.stdout.splitlines()[0] == "order-1 is a clientRef: 2 messages; 2 accepted, and more."
    assert result.stdout.splitlines()[-1] == "There are more; --limit shows them."
    assert len(json.loads(run("status", "order-1", "--json").stdout)["items"]) == 3


@pytest.mark.usefixtures("delivered")
def test_a_term_without_a_hit_ends_with_1(run: Run) -> None:
    for term in ("order-2", "12345", "+44 7700 900002", "msg_01h45ytscbebyvny4gc8cr8ma2", "../.."):
        for command in ("status", "search", "explain"):
            result = run(command, term)
            assert (result.exit_code, result.stdout) == (1, ""), (command, term)
            assert result.stderr.startswith(f"Nothing found for {term}: it is no id, number, last digits, ")


@pytest.mark.usefixtures("service")
def test_a_term_that_is_too_long_is_refused_without_usage_lines(run: Run) -> None:
    result = run("status", "x" * 65)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "q: " in result.stderr
    assert "Usage" not in result.stderr


def test_search_shows_every_kind_with_some_of_its_messages(delivered: str, service: Service, run: Run) -> None:
    service.accept("One more", recipient="447700900008", client_ref="order-10")
    result = run("search", "order-1")
    assert [line for line in result.stdout.splitlines() if line.startswith("order-1 ")] == [
        "order-1 is a clientRef: 1 message; 1 delivered.",
        "order-1 is also the beginning of a clientRef: 1 message; 1 accepted.",
    ]
    assert [hit["as"] for hit in json.loads(run("search", "order-1", "--json").stdout)["items"]] == [
        "clientRef",
        "clientRefPrefix",
    ]
    assert delivered in result.stdout


def test_search_says_how_many_there_are_where_it_shows_some(service: Service, run: Run) -> None:
    for _ in range(7):
        service.accept("Hello", client_ref="order-1")
    assert [line for line in run("search", "0001").stdout.splitlines() if line.startswith("0001 ")] == [
        "0001 is the last digits of a recipient: 7 messages; here are the newest 5, and `status` lists all."
    ]
    for term in ("447700900001", "order-1", "order"):
        assert ": 7 messages; here are " in run("search", term).stdout.splitlines()[0]


def test_a_term_needs_no_quotes_and_several_messages_are_told_apart(service: Service, run: Run) -> None:
    service.accept("Hello", originator="SHOP")
    service.accept("Bye", originator="BANK")
    result = run("status", "+44", "7700", "900001")
    heading, *lines = result.stdout.splitlines()[1:]
    assert heading.split() == ["id", "recipient", "status", "statusAt", "createdAt", "originator"]
    assert [line.split()[-1] for line in lines] == ["BANK", "SHOP"]
    assert result.stdout == run("status", "+44 7700 900001").stdout
    refused = run("cancel", "--to", "Ada", "--yes")
    assert refused.stderr.splitlines()[0] == "Error: The service refuses this:"


def test_explain_says_why_in_sentences_and_shows_reports_and_tries(delivered: str, run: Run) -> None:
    result = run("explain", "order-1")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{delivered} to 447700900001 is delivered (since 2026-01-05T12:00:09Z): on the handset."
    assert re.fullmatch(r"It was accepted [0-9]+ d ago \(2026-01-05T12:00:00Z\)\.", lines[1])
    assert lines[2].startswith("The gateway said: 2 · Delivered to handset, at 2026-01-05T12:00:09Z by its own clock")
    heading, *reports = lines[4:8]
    assert heading.split() == ["at", "status", "effect", "decides", "report", "why", "receiptId"]
    assert [line.split()[1:4] for line in reports] == [
        ["accepted", "applied", "-"],
        ["delivered", "applied", "yes"],
        ["sent", "stale", "-"],
    ]
    assert json.loads(run("explain", delivered, "--json").stdout)["overdue"] is False


def test_explain_says_age_and_what_is_overdue(service: Service, run: Run) -> None:
    service.accept("Hello", client_ref="order-1")
    line = run("explain", "order-1").stdout.splitlines()[1]
    assert re.fullmatch(
        r"It was accepted (\d+) d ago \(2026-01-05T12:00:00Z\); it has waited \1 d for its final report: overdue\.",
        line,
    )
    service.accept("Later", client_ref="order-2", deliver_after=datetime.now(UTC) + timedelta(hours=1))
    assert "it has waited 0 s for its final report." in run("explain", "order-2").stdout


def test_explain_of_several_messages_explains_the_newest_and_lists_the_others(service: Service, run: Run) -> None:
    older, newer = (service.accept(f"{number}", client_ref="order-1") for number in range(2))
    result = run("explain", "order-1")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "order-1 finds 2 messages; this is the newest."
    assert lines[1].startswith(f"{newer} to 447700900001 is accepted ")
    assert (lines[-3], lines[-1].split()[0]) == ("The others:", older)
    answer = json.loads(run("explain", "order-1", "--json").stdout)
    assert (answer["id"], answer["otherMessages"]) == (newer, [older])


@pytest.mark.parametrize("term", ["", " ", "\udcff"])
def test_a_term_that_cannot_be_encoded_is_wrong_use(run: Run, term: str) -> None:
    assert run("status", term).exit_code == 2
    assert run("conversation", term).exit_code == 2


def test_conversation_shows_the_timeline_and_the_summary(service: Service, run: Run) -> None:
    first = service.accept("Your order is on its way.", client_ref="order/1 ä", originator="SHOP")
    service.accept("Take it in?", recipient="447700900002", client_ref="order/1 ä")
    service.report(first, statusid="4", statusdescription="Absent subscriber", datetime="2026-01-06T09:00:00.000")
    service.report(first, statusid="2", statusdescription="delivered", datetime="2026-01-05T12:00:09.000")
    service.report(first, statusid="2", statusdescription="delivered", datetime="2026-01-05T12:00:09.000")
    service.reply(
        msgid="7", sender="447700900001", content="Thanks!", clientref="order/1 ä", datetime="05 Jan 2026 12:30:00"
    )
    service.reply(
        msgid="8", sender="447700900001", content="STOP", clientref="order/1 ä", datetime="05 Jan 2026 12:31:00"
    )
    result = run("conversation", "order/1 ä")
    assert (result.exit_code, result.stderr) == (0, "")
    age = re.compile(r"[0-9]+ d\b")
    assert [age.sub("N d", " ".join(line.split())) for line in result.stdout.splitlines()] == [
        "Conversation order/1 ä with 447700900001, 447700900002",
        "2 messages; 1 accepted, 1 delivered; 1 overdue; 2 replies; 1 opt-out; no conflicts; last activity N d ago",
        "2026-01-05",
        "12:00:00 → #1 to 447700900001 (from SHOP): Your order is on its way.",
        "12:00:00 → #2 to 447700900002: Take it in? (overdue: accepted, without a final report for N d)",
        "12:00:00 · #1 accepted",
        "12:00:00 · #2 accepted",
        "12:00:09 · #1 delivered: delivered (code 2)",
        "12:00:09 · #1 delivered: delivered (code 2) (duplicate: the gateway had reported exactly this before)",
        "12:30:00 ← #1 from 447700900001: Thanks!",
        "12:31:00 ← #1 from 447700900001: STOP (opt-out)",
        "2026-01-06",
        "09:00:00 · #1 no known status: Absent subscriber (code 4) "
        "(unmapped: its code has no known meaning, so it changes nothing)",
    ]
    by_json = json.loads(run("conversation", "order/1 ä", "--json").stdout)
    assert len(by_json["timeline"]) == 9
    assert run("conversation", by_json["id"]).stdout == result.stdout


def test_a_conversation_is_found_by_a_number_in_any_writing_and_the_others_are_listed(
    service: Service, run: Run
) -> None:
    service.accept("An older one", client_ref="order-1")
    service.accept("Without a reference", originator="SHOP")
    service.reply(msgid="7", sender="447700900001", content="Thanks!", clientref="order-1")
    result = run("conversation", "+44 7700 900001")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "Conversation order-1 with 447700900001")
    heading, names, other = result.stdout.splitlines()[-3:]
    assert heading == "1 more conversation of +44 7700 900001:"
    assert names.split() == ["id", "lastActivityAt", "messages", "replies"]
    assert other.split()[2:] == ["1", "0"]
    by_json = json.loads(run("conversation", "447700900001", "--json").stdout)
    assert [each["id"] for each in by_json["otherConversations"]] == [other.split()[0]]
    assert run("conversation", other.split()[0]).stdout.splitlines()[0].endswith(" with 447700900001")
    assert "more conversation" not in run("conversation", "order-1").stdout


def test_recipient_shows_all_that_a_person_got_and_wrote(service: Service, run: Run) -> None:
    service.accept("Hello", client_ref="order-1")
    service.accept("Somebody else's", recipient="447700900002")
    service.reply(msgid="7", sender="+447700900001", content="STOP", clientref="order-1")
    result = run("recipient", "+44 7700 900001")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "447700900001: 1 message; 1 accepted; 1 reply; 1 opt-out."
    assert [line.split()[1:3] for line in result.stdout.splitlines()[2:]] == [["←", "opt-out"], ["→", "accepted"]]
    answer = json.loads(run("recipient", "447700900001", "--json", "--limit", "1").stdout)
    assert (len(answer["items"]), answer["isComplete"]) == (1, False)
    assert run("recipient", "447700900003").exit_code == 1
    wrong = run("recipient", "Ada")
    assert (wrong.exit_code, "number: " in wrong.stderr, "Usage" in wrong.stderr) == (2, True, False)


def test_every_command_says_what_a_number_written_inside_a_country_may_mean(service: Service, run: Run) -> None:
    message = service.accept("Hello", client_ref="order-1")
    national, unknown = "07700 900001", "07700 900009"
    inside = f"{national} is how a number is written inside a country"
    for command in ("status", "search"):
        result = run(command, national)
        first = f"{inside}; its last digits fit: 1 message; 1 accepted."
        assert (result.exit_code, result.stdout.splitlines()[0]) == (0, first)
        assert ids_in(result.stdout) == [message]
    for command in ("recipient", "conversation"):
        result = run(command, national)
        assert (result.exit_code, "447700900001" in result.stdout) == (0, True)
        assert result.stderr == f"{inside}. 447700900001, the only known recipient that ends so, is shown.\n"
    service.accept("To somebody else", recipient="917700900001")
    fit = f"{inside}. Last digits 7700900001 fit: 917700900001 (1 message), 447700900001 (1 message). Name the one"
    for arguments, code in (
        (("recipient",), 1),
        (("conversation",), 1),
        (("explain",), 0),
        (("receipts", "list", "--to"), 0),
        (("inbound", "--from"), 0),
        (("cancel", "--yes", "--to"), 2),
        (("export", "--to"), 2),
        (("suppressions", "add"), 2),
        (("suppressions", "list", "--to"), 2),
    ):
        result = run(*arguments, national)
        assert (result.exit_code, fit in result.stderr) == (code, True), arguments
        result = run(*arguments, unknown)
        assert f"{unknown} is how a number is written inside a country, and no known recipient" in result.stderr, (
            arguments
        )


@pytest.mark.usefixtures("service")
def test_a_conversation_that_does_not_exist_ends_with_1(run: Run) -> None:
    result = run("conversation", "..")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "(HTTP 404)" in result.stderr


def test_text_from_outside_cannot_control_the_terminal(service: Service, run: Run) -> None:
    message = service.accept(f"[red]{ESCAPE}\nforged line", client_ref="ref-1", originator="SHOP")
    service.report(message, statusid=ESCAPE, statusdescription=f"[bold]{ESCAPE}\u202e\r\n2026 forged")
    service.reply(msgid=ESCAPE, sender=f"{ESCAPE}", content=f"{ESCAPE}[/]\u2028x", clientref="ref-1")
    for arguments in (("conversation", "ref-1"), ("status", "ref-1"), ("conversation", "ref-1", "--json")):
        result = run(*arguments)
        assert result.exit_code == 0
        assert not {"\x1b", "\x07", "\r", "\u202e", "\u2028"} & set(result.stdout)
        assert not any(line.strip().startswith(("forged", "2026 forged")) for line in result.stdout.splitlines())
    assert "[red]" in run("conversation", "ref-1").stdout


def test_a_person_is_found_by_every_writing_that_needs_no_country_or_is_the_last_digits(
    service: Service, run: Run
) -> None:
    service.accept("Hello", NUMBERS[0])
    for case in [case for case in ALL if case.number == NUMBERS[0]]:
        result = run("search", "--", case.written)  # `status` asks the same, and then for all messages
        are_last_digits = NUMBERS[0].endswith(numbers.digits(case.written) or "no digits")
        is_national = (numbers.national_ending(case.written) or "none") in NUMBERS[0]
        is_found = case in ALWAYS or case in STRANGE or are_last_digits or is_national
        assert result.exit_code == (0 if is_found else 1 if len(case.written) <= 64 else 2), case
