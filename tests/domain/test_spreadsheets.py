"""Cells of CSV files: what a spreadsheet would take for a formula is guarded, and the guard can be taken off again."""

import csv
import io

import pytest

from receiptsvc.domain import spreadsheets


@pytest.mark.parametrize("risky", ["=1+1", "+44", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠1"])
def test_a_formula_is_guarded_and_can_be_had_back(risky: str) -> None:
    for text in (risky, f"'{risky}", f"''{risky}"):
        assert spreadsheets.add_guard(text) == f"'{text}"
        assert spreadsheets.remove_guard(spreadsheets.add_guard(text)) == text


@pytest.mark.parametrize("harmless", ["", "1=1", "'", "'a", "a+b", " =1"])
def test_what_is_none_stays_as_it_is(harmless: str) -> None:
    assert spreadsheets.add_guard(harmless) == harmless


def test_a_row_is_read_back_as_it_was_written() -> None:
    line = spreadsheets.write_row(('a "quoted", word', "two\r\nlines", 7, 0.25, None, ""))
    assert line == '"a ""quoted"", word","two\r\nlines",7,0.25,,""\r\n'
    assert list(csv.reader(io.StringIO(line, newline=""))) == [
        ['a "quoted", word', "two\r\nlines", "7", "0.25", "", ""]
    ]
