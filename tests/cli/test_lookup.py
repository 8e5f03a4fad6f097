"""`send`, `status` and `conversation` against the real API."""

import json

import pytest

from tests.cli.conftest import READER, Run, Service
from tests.support.numbers import ALL, ALWAYS, NUMBERS, STRANGE

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def ids_in(output: str) -> list[str]:
    return [word for line in output.splitlines() for word in line.split()[:1] if word.startswith("msg_")]


def test_send_lists_one_message_for_each_recipient(service: Service, run: Run) -> None:
    result = run("send", "--to", "+44 7700 900001", "--to", "447700900002", "--text", "Hello", "--from", "SHOP")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["id", "recipient", "status", "segments", "warnings"]
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
    assert "can't be reached; it is not known whether anything was sent" in result.stderr


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("key", "title"), [(READER, "403"), ("nobody's-key-at-all", "401")])
def test_an_api_error_for_the_key_is_wrong_use_and_the_key_is_never_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, key: str, title: str
) -> None:
    monkeypatch.setenv("RECEIPTSVC_API_KEY", key)
    result = run("send", "--to", "447700900001", "--text", "Hello")
    assert result.exit_code == 2
    assert f"the service answered {title}" in result.stderr
    assert key not in result.output


@pytest.fixture
def delivered(service: Service) -> str:
    """A message that was delivered, with two receipts of one transactionID."""
    message = service.accept("Hello", client_ref="order-1", originator="SHOP")
    service.accept("Somebody else's", recipient="447700900009", client_ref="order-9")
    service.report(
        message,
        statusid="2",
        statusdescription="Delivered to handset",
        transactionid="70000001",
        datetime="2026-01-05T12:00:09.000",
    )
    service.report(message, statusid="1", statusdescription="Message sent", datetime="2026-01-05T12:00:04.000")
    return message


@pytest.mark.parametrize("term", ["70000001", "447700900001", "+44 (7700) 900-001", "0044 7700 900001", "order-1"])
def test_status_finds_a_message_by_any_reference_and_shows_its_transitions(delivered: str, run: Run, term: str) -> None:
    result = run("status", term)
    assert (result.exit_code, result.stderr) == (0, "")
    items, _, transitions = result.stdout.partition("\n\n")
    heading, line = items.splitlines()
    assert heading.split() == ["id", "recipient", "clientRef", "status", "statusAt", "transactionID", "conflict"]
    assert line.split() == [
        *(delivered, "447700900001", "order-1", "delivered", "2026-01-05", "12:00:09Z", "70000001", "no")
    ]
    assert [line.split()[2:4] for line in transitions.splitlines()[1:]] == [
        ["accepted", "applied"],
        ["delivered", "applied"],
        ["sent", "stale"],
    ]
    assert "Delivered to handset [2]" in transitions


def test_status_finds_a_message_by_its_id(delivered: str, run: Run) -> None:
    (item,) = json.loads(run("status", delivered, "--json").stdout)["items"]
    assert item["id"] == delivered
    assert [transition["effect"] for transition in item["transitions"]] == ["applied", "applied", "stale"]


def test_status_of_a_term_of_several_kinds_lists_each_message_once(service: Service, run: Run) -> None:
    by_number = service.accept("to this number", recipient="447700900001")
    by_reference = service.accept("with that reference", recipient="447700900002", client_ref="447700900001")
    by_both = service.accept("both", recipient="447700900001", client_ref="447700900001")
    by_transaction = service.accept("of that transaction", recipient="447700900003")
    service.report(by_transaction, statusdescription="delivered", transactionid="447700900001")
    result = run("status", "447700900001")
    assert sorted(ids_in(result.stdout)) == sorted([by_number, by_reference, by_both, by_transaction])
    assert "\n\n" not in result.stdout, "transitions are for a single message"


def test_status_gives_at_most_the_limit_of_a_kind(service: Service, run: Run) -> None:
    messages = [service.accept(f"{number}", client_ref="order-1") for number in range(3)]
    assert ids_in(run("status", "order-1", "--limit", "2").stdout) == messages[:0:-1]


@pytest.mark.parametrize(
    ("term", "tried"),
    [
        ("order-2", "clientRef"),
        ("12345", "transactionID, recipient, clientRef"),
        ("+44 7700 900002", "recipient, clientRef"),
        ("msg_01h45ytscbebyvny4gc8cr8ma2", "message id, clientRef"),
        ("../..", "clientRef"),
        ("x" * 65, ""),
    ],
)
@pytest.mark.usefixtures("delivered")
def test_status_without_a_hit_says_what_was_tried(run: Run, term: str, tried: str) -> None:
    result = run("status", term)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Nothing found for {term}. Tried: {tried}.\n"


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
    result = run("conversation", "order/1 ä")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "Conversation order/1 ä with 447700900001, 447700900002",
        "2026-01-05",
        "12:00:00 → #1 to 447700900001 (from SHOP): Your order is on its way.",
        "12:00:00 → #2 to 447700900002: Take it in?",
        "12:00:00 · #1 accepted",
        "12:00:00 · #2 accepted",
        "12:00:09 · #1 delivered: delivered [2]",
        "12:00:09 · #1 delivered: delivered [2] (duplicate: the gateway had reported exactly this before)",
        "12:30:00 ← #1 from 447700900001: Thanks!",
        "2026-01-06",
        "09:00:00 · #1 no known status: Absent subscriber [4] "
        "(unmapped: its code has no known meaning, so it changes nothing)",
        "",
        "2 messages; 1 accepted, 1 delivered; 1 reply; no conflicts",
    ]
    by_json = json.loads(run("conversation", "order/1 ä", "--json").stdout)
    assert len(by_json["timeline"]) == 8
    assert run("conversation", by_json["id"]).stdout == result.stdout


@pytest.mark.usefixtures("service")
def test_a_conversation_that_does_not_exist_ends_with_1(run: Run) -> None:
    result = run("conversation", "..")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the service answered 404" in result.stderr


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


def test_status_finds_a_person_by_every_writing_that_needs_no_country(service: Service, run: Run) -> None:
    service.accept("Hello", NUMBERS[0])
    for case in [case for case in ALL if case.number == NUMBERS[0]]:
        result = run("status", "--", case.written)
        assert result.exit_code == (0 if case in ALWAYS or case in STRANGE else 1), case
