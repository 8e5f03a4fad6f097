"""What is wrong with a file of messages, and what is worth a warning. None of it quotes the file.

But for one word: that whose encoding is in doubt, since nothing else shows a person which encoding is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from receiptsvc.domain.errors import ReceiptsvcError


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault in a file. `line`: None for the whole file; `field`: empty for the whole line.

    `is_wrong_use`: the options do not fit the file.
    """

    line: int | None
    field: str = ""
    what: str
    is_wrong_use: bool = False

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        return f"{where}: {self.what}" if where else self.what


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A warning about some lines of a file."""

    text: str
    lines: Sequence[int] = ()


class InvalidFile(ReceiptsvcError):
    """The file can't be sent as it is. `faults`: all of them, by line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line or 0)
        super().__init__(f"{len(faults)} faults")
