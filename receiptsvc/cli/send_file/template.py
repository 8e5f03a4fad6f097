"""A text with placeholders, such as `Dear ((name)), your parcel ((parcel)) …`, and how they are filled."""

import re
from collections.abc import Mapping

from receiptsvc.domain.errors import ReceiptsvcError

_PLACEHOLDER = re.compile(r"\(\(([^()]*)\)\)")


class BadTemplate(ReceiptsvcError):
    """The text's placeholders can't be understood. The error's text says why."""


class Template:
    """The text of `--text` for a file. Raises BadTemplate."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _PLACEHOLDER.split(text)  # texts, and between them names
        if any("((" in part for part in self._parts[::2]):
            raise BadTemplate("has a (( that does not begin a placeholder such as ((name)).")
        if not all(map(str.strip, self._parts[1::2])):
            raise BadTemplate("has a placeholder without a name: ((name)) is filled from the column of that name.")
        self.names = {fold(name): name.strip() for name in self._parts[1::2]}  # as they are compared, and as written

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with these values by folded name, which must have all of `names`."""
        return "".join(values[fold(part)] if index % 2 else part for index, part in enumerate(self._parts))


def fold(name: str) -> str:
    """A column's name as it is compared: without regard to case and spare blanks."""
    return " ".join(name.split()).casefold()
