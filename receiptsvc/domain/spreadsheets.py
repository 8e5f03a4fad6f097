"""What spreadsheets make of a CSV file's cells, and the guard against it: a cell that they would take for a formula.

Exports write the guard, and `send --file` takes it off again, so that a text is the same after both. What the database
writes by itself (`store.queries.exports`) follows the same rules.
"""

import re
from collections.abc import Iterable

# A cell that begins with one of these is a formula to a spreadsheet. The last four are full-width forms of the first.
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
GUARD = "'"

_GUARDED = re.compile(rf"{GUARD}+[{re.escape(''.join(RISKY))}]")


def is_guarded(cell: str) -> bool:
    """Whether a cell begins with a guard. One that did so by itself has got another."""
    return _GUARDED.match(cell) is not None


def remove_guard(cell: str) -> str:
    """The cell as it was before it was guarded."""
    return cell[1:] if is_guarded(cell) else cell


def add_guard(cell: str) -> str:
    """The cell as a spreadsheet takes it for text. One that looks guarded by itself gets another guard."""
    return GUARD + cell if cell.lstrip(GUARD).startswith(RISKY) else cell


def write_cell(value: str | float | None) -> str:
    """A value as CSV: text guarded and in quotes, a number plain, nothing for None."""
    if isinstance(value, str):
        quoted = add_guard(value).replace('"', '""')
        return f'"{quoted}"'
    return "" if value is None else str(value)


def write_row(values: Iterable[str | float | None]) -> str:
    """A line of CSV, with its end (RFC 4180)."""
    return ",".join(map(write_cell, values)) + "\r\n"
