"""What spreadsheets make of a CSV file's cells, and the guard against it: a cell that they would take for a formula.

The export writes the guard, and `send --file` takes it off again, so that a text is the same after both.
"""

import re

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
