"""What names a message to others: clientRef, messageGuid, transactionID. All ask here which writings are the same.

And by which Idempotency-Keys the requests of one file are known.

A clientRef is without blanks at its ends. A .NET service takes two messageGuids that differ only by case, or two
writings of one GUID, for one, and ignores the second message.
"""

import re
import string
from uuid import UUID

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # what SQL's `lower` does on both databases
_BARE = r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GUID = re.compile(rf"{_BARE}|\{{(?:{_BARE})\}}|\((?:{_BARE})\)", re.IGNORECASE)
_FILE_KEY = re.compile("([0-9a-f]{24})-[0-9]{1,6}")


def trim_client_ref(text: str | None) -> str | None:
    """A clientRef as it is stored, sent and compared; None if nothing but blanks is left."""
    return (text or "").strip() or None


def client_ref_spellings(text: str) -> list[str]:
    """All that a clientRef may have been stored as, since it was not always trimmed."""
    return list(dict.fromkeys([trim_client_ref(text) or text, text]))


def client_ref_length(text: str) -> int:
    """Its length as .NET counts it: in UTF-16, where an emoji is two."""
    return len(text) + sum(character > "\uffff" for character in text)


def file_key(job: str, request: int) -> str:
    """The Idempotency-Key of one of the requests by which `send --file` sends a file. `job`: of the file."""
    return f"{job}-{request}"


def job_of_key(key: str) -> str | None:
    """The job of a file whose request has this Idempotency-Key; None: it is of no file."""
    found = _FILE_KEY.fullmatch(key)
    return found[1] if found else None


def parse_transaction_id(text: str) -> str | None:
    """A transactionID as it is stored, without leading zeros; None if `text` is not 1 to 40 digits."""
    return (text.lstrip("0") or "0") if re.fullmatch("[0-9]{1,40}", text) else None


def normalise_guid(text: str) -> str:
    """A messageGuid as it is stored and sent: a GUID in its usual form, any other text without outer blanks."""
    text = text.strip()
    return str(UUID(text.strip("(){}"))) if _GUID.fullmatch(text) else text


def guid_key(text: str) -> str:
    """The same for two messageGuids that are one."""
    return normalise_guid(text).translate(_LOWER)


def guid_spellings(text: str) -> list[str]:
    """In lower case, all that a messageGuid may have been stored as, since it was not always normalised."""
    key = guid_key(text)
    return list(dict.fromkeys([key, text.translate(_LOWER), *([key.replace("-", "")] if _GUID.fullmatch(key) else [])]))
