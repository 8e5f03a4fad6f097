"""Our secrets: the keys that sign callback URLs, the keys of the API, and those that a local checkout makes itself.

A parsing error names an entry by its position, never by its content.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from receiptsvc import ids, private_files

SCOPES = frozenset({"send", "read", "ops"})

_KEY_ID = re.compile(r"[0-9a-z]{1,8}")
_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MIN_SECRET = 16
_SECRET_BYTES = 32  # of those that we make
_KEY_ID_BYTES = 4

ReportFault = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CallbackKey:
    """A key that signs callback URLs. `kid` identifies it among several."""

    kid: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the API and its scopes."""

    name: str
    scopes: frozenset[str]
    secret: str = field(repr=False)


def parse_callback_keys(text: str, report: ReportFault) -> tuple[CallbackKey, ...]:
    """Parse `[kid:]secret[,…]`. Each fault goes to `report`, and its entry is left out."""
    keys: list[CallbackKey] = []
    for position, entry in enumerate(_split_entries(text, report), start=1):
        kid, colon, secret = entry.partition(":")
        if not colon:
            kid, secret = _key_id(entry), entry
        if not _KEY_ID.fullmatch(kid):
            report(f"entry {position}: a kid is 1 to 8 of 0-9 a-z")
        elif len(secret) < _MIN_SECRET:
            report(f"entry {position}: a secret has at least {_MIN_SECRET} characters")
        elif kid in {key.kid for key in keys}:
            report(f"entry {position}: its kid stands twice")
        else:
            keys.append(CallbackKey(kid, secret))
    return tuple(keys)


def parse_api_keys(text: str, report: ReportFault) -> tuple[ApiKey, ...]:
    """Parse `name:scope+scope:secret[,…]`. Each fault goes to `report`, and its entry is left out."""
    keys: list[ApiKey] = []
    for position, entry in enumerate(_split_entries(text, report), start=1):
        parts = entry.split(":", 2)
        scopes = frozenset(parts[1].split("+")) if len(parts) == 3 else frozenset()
        if len(parts) != 3 or not _KEY_NAME.fullmatch(parts[0]):
            report(f"entry {position}: must be name:scope+scope:secret")
        elif not scopes <= SCOPES:
            report(f"entry {position}: the scopes are {', '.join(sorted(SCOPES))}")
        elif len(parts[2]) < _MIN_SECRET:
            report(f"entry {position}: a secret has at least {_MIN_SECRET} characters")
        elif any(key.name == parts[0] or key.secret == parts[2] for key in keys):
            report(f"entry {position}: its name or its secret stands twice")
        else:
            keys.append(ApiKey(parts[0], scopes, parts[2]))
    return tuple(keys)


def make_callback_key() -> str:
    """A new entry of CALLBACK_KEYS, with a kid by which it can be told from older ones."""
    return f"{ids.base32(secrets.token_bytes(_KEY_ID_BYTES))}:{secrets.token_urlsafe(_SECRET_BYTES)}"


def make_api_key(name: str, scopes: str) -> str:
    """A new entry of API_KEYS. `scopes`: with a + between them. `parse_api_keys` says whether both are valid."""
    return f"{name}:{scopes}:{secrets.token_urlsafe(_SECRET_BYTES)}"


def read_or_make(path: Path) -> str:
    """Read the secret in a file, after making it (mode 0600) if there is none. Processes may do so at the same time.

    Raises OSError.
    """
    private_files.make_folder(path.parent)
    if not path.exists():
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)  # unlike a rename, this never replaces a key that is in use
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    return path.read_text().strip()


def subkey(key: CallbackKey, purpose: str) -> bytes:
    """Derive 32 bytes for one purpose; the signing secret can't be computed from them."""
    return hmac.new(key.secret.encode(), f"receiptsvc/{purpose}".encode(), hashlib.sha256).digest()


def _split_entries(text: str, report: ReportFault) -> list[str]:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        report("holds no key")
    return entries


def _key_id(secret: str) -> str:
    """The kid of a key without one: derived from its secret, so that it does not depend on the key's position."""
    return ids.base32(hashlib.sha256(b"kid:" + secret.encode()).digest()[:5])[:4]
