"""One message of a file, with where it stands there."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One message of a file."""

    line: int  # where it begins, from 1
    message: dict[str, Any]  # as the API takes it
    has_single_recipient: bool  # whether the file's field is `recipient`, not `recipients`

    def field(self, path: str) -> str:
        """The file's name for a path within the message, such as `recipients[0]`."""
        return "recipient" if self.has_single_recipient and path.startswith("recipients") else path
