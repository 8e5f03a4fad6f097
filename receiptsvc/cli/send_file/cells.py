"""Reads CSV as spreadsheets save it, as a header and rows of cells: separators, line ends, quotes, empty columns.

It knows nothing of messages. No fault quotes the file's content.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from receiptsvc.cli.send_file.faults import Fault
from receiptsvc.domain.spreadsheets import is_guarded, remove_guard

DELIMITERS = ",;\t|"

_SEPARATOR_LINE = re.compile('"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_QUOTED = re.compile('"[^"]*"')
_FORMULA = re.compile('="([^"]*)"')  # how some programs keep a spreadsheet from reading digits as a number
_ERRORS = frozenset(
    {"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!", "#ERROR!"}
)
_NOT_CSV = (
    "Is not CSV from here on: put a text with commas, quotes or line breaks into double quotes, and double each quote "
    "within it. The rest was not read."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """A row: the line on which it begins, and its cells, as many as the header has."""

    line: int
    values: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A file of CSV without the columns that are empty. `numbers`: of the columns in the file, from 1.

    `guarded_lines`: where a guard against formulas was taken off.
    """

    line: int
    header: Sequence[str]
    numbers: Sequence[int]
    rows: Sequence[Cells]
    guarded_lines: Sequence[int] = ()


def read(text: str, faults: list[Fault]) -> Sheet | None:
    """The cells of CSV; None if there is no header. Faults are added to `faults`."""
    rows = list(_read_rows(text, faults))
    if not rows:
        return None
    header, rows = rows[0], rows[1:]
    width = len(header.values)
    used = [
        index
        for index in range(max(len(row.values) for row in (header, *rows)))
        if any(row.values[index : index + 1] and row.values[index].strip() for row in (header, *rows))
    ]
    rows = [row for row in rows if _fits(row, used, width, faults)]
    for index in used:
        if index >= width or not header.values[index].strip():
            line = next((row.line for row in rows if row.values[index : index + 1] and row.values[index].strip()), None)
            if line is not None:
                what = f"Has no name in the header, and is not empty in line {line}."
                faults.append(Fault(line=header.line, field=f"column {index + 1}", what=what))
    used = [index for index in used if index < width and header.values[index].strip()]
    guarded: list[int] = []
    read_rows = [Cells(line=row.line, values=[_unwrap(row, index, faults, guarded) for index in used]) for row in rows]
    return Sheet(
        line=header.line,
        header=[header.values[index].strip() for index in used],
        numbers=[index + 1 for index in used],
        rows=read_rows,
        guarded_lines=guarded,
    )


def _read_rows(text: str, faults: list[Fault]) -> Iterator[Cells]:
    """The rows that are not empty."""
    separator = _SEPARATOR_LINE.match(text)
    start = separator.end() if separator else 0
    delimiter = separator[1] if separator else _find_delimiter(text)
    if delimiter in {'"', "\r", "\n"}:
        faults.append(Fault(line=1, what="Names no separator after sep=."))
        return
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter, strict=True)
    first_line = 2 if separator else 1
    while True:
        line = reader.line_num + first_line
        try:
            values = next(reader, None)
        except csv.Error:
            faults.append(Fault(line=line, what=_NOT_CSV))
            return
        if values is None:
            return
        if any(map(str.strip, values)):
            yield Cells(line=line, values=values)


def _find_delimiter(text: str) -> str:
    """The delimiter that occurs most often in the header, outside of quotes."""
    header = re.split("[\r\n]", _QUOTED.sub("", text.lstrip("\r\n ")[:65536]), maxsplit=1)[0]
    return max(DELIMITERS, key=header.count)


def _fits(row: Cells, used: Sequence[int], width: int, faults: list[Fault]) -> bool:
    """Whether a row has no cell beyond the header. Excel leaves out empty cells at a row's end, here and there."""
    extra = [index for index in used if index >= width and row.values[index : index + 1] and row.values[index].strip()]
    if extra:
        what = f"Has {len(row.values)} cells, and the header {width}; put a text with commas into double quotes."
        faults.append(Fault(line=row.line, what=what))
    return not extra


def _unwrap(row: Cells, index: int, faults: list[Fault], guarded: list[int]) -> str:
    """A cell as it was meant: without a guard against formulas. An error of the spreadsheet is a fault."""
    value = row.values[index] if index < len(row.values) else ""
    if value.strip() in _ERRORS or re.fullmatch("#{4,}", value.strip()):
        what = "Is what a spreadsheet shows for an error, or for a number in too narrow a column: mend the cell."
        faults.append(Fault(line=row.line, field=f"column {index + 1}", what=what))
        return ""
    formula = _FORMULA.fullmatch(value)
    if formula is not None:
        return formula[1]
    if is_guarded(value):
        guarded.append(row.line)
    return remove_guard(value)
