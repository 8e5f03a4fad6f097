"""Lays out rows and fields for the width at hand, so that ids, numbers, words and times are never broken.

A table has the first columns, as many as fit. What does not fit is told beneath each row as `name: value`. Without a
terminal there is no limit, and a row is a line. What the columns mean is none of this module's business.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TypeAlias

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

MIN_TEXT_WIDTH = 30  # of running text; no id of ours is longer, so none is broken in it
_GAP = 2
# What stays together: a word, and in what has no blanks a query's parameter or a member of JSON.
_WORD = re.compile(r'(?:[^\s&,]|,(?!"))+(?:&|,(?="))?\s*|[&,]\s*|\s+')

Cell: TypeAlias = Text | None  # None: there is no value


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, and what it holds.

    `is_text`: running text, wrapped between words; anything else keeps its line. `is_count`: numbers, aligned right.
    """

    name: str
    is_text: bool = False
    is_count: bool = False


def print_table(out: Console, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows under the names of their columns, if there are any. Columns without any value are left out."""
    listed = list(rows)
    used = [index for index in range(len(columns)) if any(row[index] is not None for row in listed)]
    if not used:
        return
    columns = [columns[index] for index in used]
    listed = [[row[index] for index in used] for row in listed]
    widths = _fit(columns, listed, out.width)
    names = [Text(column.name, style="bold") for column in columns]
    if any(widths):
        _print_line(out, columns, widths, names)
    for row in listed:
        if any(widths):
            _print_line(out, columns, widths, [Text("-") if cell is None else cell for cell in row])
        rest = [(column, cell) for column, width, cell in zip(columns, widths, row, strict=True) if not width and cell]
        for line in _pack(rest, out.width):
            _print_whole(out, line)


def say(out: Console, text: Text | str) -> None:
    """Print sentences, wrapped between words."""
    for line in _wrap(Text(text) if isinstance(text, str) else text, out.width):
        _print_whole(out, line)


def print_fields(out: Console, fields: Iterable[tuple[str, Cell]]) -> None:
    """Print each value with its name on a line of its own; those without a value are left out."""
    for name, value in fields:
        if value is not None:
            for line in _wrap(Text.assemble((f"{name}: ", "bold"), value), out.width, indent=_GAP):
                _print_whole(out, line)


def print_timeline_entry(out: Console, marks: Sequence[tuple[Text, int]], text: Text) -> None:
    """Print marks, each padded to its width, and beside them a text that is wrapped."""
    start = sum(width + _GAP for _, width in marks)
    lines = _break(text, max(out.width - start, MIN_TEXT_WIDTH))
    for number, line in enumerate(lines or [Text("")]):
        whole = Text()
        for mark, width in marks:
            whole.append_text(mark if number == 0 else Text(""))
            whole.append(" " * max(0, width + _GAP - (mark.cell_len if number == 0 else 0)))
        whole.append_text(line)
        _print_whole(out, whole)


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    """Each column's width in the table; 0: it does not fit there. Running text gets what the others leave."""
    natural = [
        max(len(column.name), *(cell.cell_len for row in rows if (cell := row[index]) is not None))
        for index, column in enumerate(columns)
    ]
    left = width + _GAP
    widths = [0] * len(columns)
    for index, column in enumerate(columns):
        least = min(natural[index], MIN_TEXT_WIDTH) if column.is_text else natural[index]
        if least + _GAP > left:
            break
        widths[index] = least
        left -= least + _GAP
    for index, column in enumerate(columns):
        if column.is_text and widths[index]:
            more = min(natural[index] - widths[index], left)
            widths[index] += more
            left -= more
    return widths


def _print_line(out: Console, columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Text]) -> None:
    """One row: several lines of output where running text is wrapped."""
    shown = [
        (column, width, _break(cell, width) if column.is_text else [cell])
        for column, width, cell in zip(columns, widths, cells, strict=True)
        if width
    ]
    for number in range(max(len(lines) for _, _, lines in shown)):
        whole = Text()
        for column, width, lines in shown:
            part = lines[number] if number < len(lines) else Text("")
            padding = " " * (width - part.cell_len)
            whole.append(padding if column.is_count else "")
            whole.append_text(part)
            whole.append(("" if column.is_count else padding) + " " * _GAP)
        _print_whole(out, whole)


def _pack(pairs: Iterable[tuple[Column, Text]], width: int) -> Iterator[Text]:
    """Pairs of name and value in as few indented lines as hold them whole; running text has lines of its own."""
    line = Text(" " * _GAP)
    for column, value in pairs:
        pair = Text.assemble((f"{column.name}: ", "dim"), value)
        if line.cell_len > _GAP and (column.is_text or line.cell_len + pair.cell_len > width):
            yield line
            line = Text(" " * _GAP)
        if column.is_text:
            yield from _wrap(Text.assemble(line, pair), width, indent=2 * _GAP)
        else:
            line.append_text(pair).append(" " * _GAP)
    if line.cell_len > _GAP:
        yield line


def _wrap(text: Text, width: int, *, indent: int = 0) -> Iterator[Text]:
    """The lines of a text, all but the first indented."""
    for number, line in enumerate(_break(text, max(width - indent, MIN_TEXT_WIDTH))):
        yield Text.assemble(" " * indent, line) if number else line


def _break(text: Text, width: int) -> list[Text]:
    """The lines of a text, broken between words; a word only if it is wider than a whole line.

    Not rich's own wrapping: a query and JSON have no blanks, and would be broken anywhere.
    """
    offsets: list[int] = []
    column = 0
    for part in _WORD.finditer(text.plain):
        size = cell_len(part[0].rstrip())
        if column and column + size > width:
            offsets.append(part.start())
            column = 0
        *full, rest = chop_cells(part[0], width) if size > width else [part[0]]
        offsets += islice(accumulate(map(len, full), initial=part.start()), 1, None)
        column += cell_len(rest)
    lines = list(text.divide(offsets))
    for line in lines:
        line.rstrip()
    return lines


def _print_whole(out: Console, line: Text) -> None:
    """Print a line as it is, without blanks at its end."""
    line.rstrip()
    out.print(line, soft_wrap=True)
