"""The rendering of the API's JSON, and that text from outside cannot control the terminal."""

import io

import pytest
from rich.console import Console

from receiptsvc.cli.terminal import display, parking


def console(width: int = 200) -> tuple[Console, io.StringIO]:
    """A console of this width, and the buffer that it prints to."""
    printed = io.StringIO()
    return Console(file=printed, width=width, highlight=False), printed


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain ä 😀", "plain ä 😀"),
        ("two\nlines\r\nthree", "two ⏎ lines ⏎ three"),
        ("\x1b[31mred\x07", "\ufffd[31mred\ufffd"),
        ("\x9b31m\x00\x7f", "\ufffd31m\ufffd\ufffd"),
        ("\u202eevil\u2066", "\ufffdevil\ufffd"),
        ("half \ud83d", "half \ufffd"),
        ("👩\u200d👧", "👩\u200d👧"),
        (7, "7"),
    ],
)
def test_plain_keeps_text_and_replaces_control_characters(value: object, shown: str) -> None:
    assert display.plain(value) == shown


def test_a_ledger_says_whether_it_balances() -> None:
    out, printed = console()
    ledger = {"received": 3, "applied": 2, "pending": 1, "callbacks": 3, "refused": 0, "balanced": True}
    display.print_ledger(out, ledger)
    assert "3 callbacks kept, 0 refused; the ledger balances." in printed.getvalue()
    display.print_ledger(out, ledger | {"balanced": False})
    assert "the ledger does not balance." in printed.getvalue()


def test_without_a_gateway_account_nothing_is_said_to_go_out() -> None:
    out, printed = console()
    state = {"canSend": False, "workers": 1}
    display.print_sending(out, state)
    assert printed.getvalue() == (
        "Nothing goes out: the service has no gateway account. Set DYNMARK_USERNAME and DYNMARK_PASSWORD.\n"
    )
    assert display.is_held(state)
    assert display.is_amiss(state)


def test_what_an_audit_does_not_know_is_left_out() -> None:
    out, printed = console()
    audits = [{"action": "moved", "actor": "worker", "details": {"from": None, "to": "quarantined"}}]
    parking.print_receipt(out, {"id": "rcp_1", "outcome": "quarantined", "audits": audits})
    assert "to: quarantined" in printed.getvalue()
    assert "None" not in printed.getvalue()


def test_timeline_entries_of_an_unknown_type_are_shown() -> None:
    out, printed = console()
    display.print_conversation(out, {"id": "cnv_1", "timeline": [{"type": "later [bold]kind", "at": "not a time"}]})
    assert "later [bold]kind" in printed.getvalue()


def test_statuses_have_colours_only_on_a_terminal() -> None:
    printed = io.StringIO()
    display.print_messages(Console(file=printed, width=200), [{"id": "msg_1", "status": "delivered"}])
    assert "\x1b" not in printed.getvalue()
    display.print_messages(
        Console(file=printed, width=200, force_terminal=True, color_system="standard"),
        [{"id": "msg_1", "status": "delivered"}],
    )
    assert "\x1b[32mdelivered" in printed.getvalue()


@pytest.mark.parametrize(("number", "words"), [(0, "no replies"), (1, "1 reply"), (2, "2 replies")])
def test_counts_are_written_with_their_noun(number: int, words: str) -> None:
    assert display.count(number, "reply", "replies") == words
