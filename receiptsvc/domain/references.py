"""What names a message to others: its messageGuid. Which writings of one are the same. Every module asks this one.

A .NET service takes two that differ only by case, or two writings of one GUID, for one, and ignores the second message.
"""

import re
from uuid import UUID

_BARE = r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GUID = re.compile(rf"{_BARE}|\{{(?:{_BARE})\}}|\((?:{_BARE})\)", re.IGNORECASE)


def normalise_guid(text: str) -> str:
    """A messageGuid as it is stored and sent: a GUID in its usual form, any other text without outer blanks."""
    text = text.strip()
    return str(UUID(text.strip("(){}"))) if _GUID.fullmatch(text) else text


def guid_key(text: str) -> str:
    """The same for two messageGuids that are one."""
    return normalise_guid(text).lower()


def guid_spellings(text: str) -> list[str]:
    """In lower case, all that a messageGuid may have been stored as, since it was not always normalised."""
    key = guid_key(text)
    return list(dict.fromkeys([key, text.lower(), *([key.replace("-", "")] if _GUID.fullmatch(key) else [])]))
