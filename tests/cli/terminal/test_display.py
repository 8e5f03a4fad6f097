"""What a terminal shows of the API's JSON, and what it never obeys."""

import io

import pytest
from rich.console import Console

from receiptsvc.cli.terminal import display


def console(width: int = 200) -> tuple[Console, io.StringIO]:
    """A console as wide as said, with what it prints."""
    printed = io.StringIO()
    return Console(file=printed, width=width, highlight=False), printed


@pytest.mark.parametrize(
    ("given", "shown"),
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
def test_plain_keeps_what_is_read_and_drops_what_is_obeyed(given: object, shown: str) -> None:
    assert display.plain(given) == shown


def test_an_id_is_never_cut_short_however_narrow_the_terminal_is() -> None:
    out, printed = console(width=40)
    message_id = "msg_01h45ytscbebyvny4gc8cr8ma2"
    display.print_messages(out, [{"id": message_id, "recipient": "447700900001", "status": "sent"}])
    assert "…" not in printed.getvalue()


def test_a_ledger_that_balances_and_one_that_does_not() -> None:
    out, printed = console()
    ledger = {"received": 3, "applied": 2, "pending": 1, "callbacks": 3, "refused": 0, "balanced": True}
    display.print_ledger(out, ledger)
    assert "3 callbacks kept, 0 refused; the ledger balances." in printed.getvalue()
    display.print_ledger(out, ledger | {"balanced": False})
    assert "the ledger does not balance." in printed.getvalue()


def test_entries_of_a_kind_not_yet_known_are_shown_and_never_fail() -> None:
    out, printed = console()
    display.print_conversation(out, {"id": "cnv_1", "timeline": [{"type": "later [bold]kind", "at": "not a time"}]})
    assert "later [bold]kind" in printed.getvalue()


def test_statuses_have_colours_only_where_there_is_a_terminal() -> None:
    printed = io.StringIO()
    display.print_messages(Console(file=printed, width=200), [{"id": "msg_1", "status": "delivered"}])
    assert "\x1b" not in printed.getvalue()
    display.print_messages(
        Console(file=printed, width=200, force_terminal=True, color_system="standard"),
        [{"id": "msg_1", "status": "delivered"}],
    )
    assert "\x1b[32mdelivered" in printed.getvalue()


@pytest.mark.parametrize(("number", "words"), [(0, "no replies"), (1, "1 reply"), (2, "2 replies")])
def test_counts_read_as_words(number: int, words: str) -> None:
    assert display.count(number, "reply", "replies") == words
