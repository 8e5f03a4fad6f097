"""Our secrets: the keys that sign callback URLs and those that open the API, and the ones that a desk makes for itself.

Parsing says what is wrong with an entry by its place, never by what stands in it.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from receiptsvc import ids

SCOPES = frozenset({"send", "read", "ops"})

_KEY_ID = re.compile(r"[0-9a-z]{1,8}")
_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MIN_SECRET = 16

Complain = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CallbackKey:
    """A key that signs callback URLs. `kid` tells which of several verified."""

    kid: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key to the API and what it may do."""

    name: str
    scopes: frozenset[str]
    secret: str = field(repr=False)


def parse_callback_keys(given: str, complain: Complain) -> tuple[CallbackKey, ...]:
    """`[kid:]secret[,…]`."""
    keys: list[CallbackKey] = []
    for place, entry in enumerate(_entries(given, complain), start=1):
        kid, colon, secret = entry.partition(":")
        if not colon:
            kid, secret = _key_id(entry), entry
        if not _KEY_ID.fullmatch(kid):
            complain(f"entry {place}: a kid is 1 to 8 of 0-9 a-z")
        elif len(secret) < _MIN_SECRET:
            complain(f"entry {place}: a secret has at least {_MIN_SECRET} characters")
        elif kid in {key.kid for key in keys}:
            complain(f"entry {place}: its kid stands twice")
        else:
            keys.append(CallbackKey(kid, secret))
    return tuple(keys)


def parse_api_keys(given: str, complain: Complain) -> tuple[ApiKey, ...]:
    """`name:scope+scope:secret[,…]`."""
    keys: list[ApiKey] = []
    for place, entry in enumerate(_entries(given, complain), start=1):
        parts = entry.split(":", 2)
        scopes = frozenset(parts[1].split("+")) if len(parts) == 3 else frozenset()
        if len(parts) != 3 or not _KEY_NAME.fullmatch(parts[0]):
            complain(f"entry {place}: must be name:scope+scope:secret")
        elif not scopes <= SCOPES:
            complain(f"entry {place}: the scopes are {', '.join(sorted(SCOPES))}")
        elif len(parts[2]) < _MIN_SECRET:
            complain(f"entry {place}: a secret has at least {_MIN_SECRET} characters")
        elif any(key.name == parts[0] or key.secret == parts[2] for key in keys):
            complain(f"entry {place}: its name or its secret stands twice")
        else:
            keys.append(ApiKey(parts[0], scopes, parts[2]))
    return tuple(keys)


def made(path: Path) -> str:
    """The secret kept in a file of mode 0600, made if there is none; whichever process is first makes it.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
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
    """32 bytes for one purpose; the signing secret can't be had back from them."""
    return hmac.new(key.secret.encode(), f"receiptsvc/{purpose}".encode(), hashlib.sha256).digest()


def _entries(given: str, complain: Complain) -> list[str]:
    entries = [entry.strip() for entry in given.split(",") if entry.strip()]
    if not entries:
        complain("holds no key")
    return entries


def _key_id(secret: str) -> str:
    """The kid of a key that was given none: it stays the same wherever in the list the key moves."""
    return ids.base32(hashlib.sha256(b"kid:" + secret.encode()).digest()[:5])[:4]
