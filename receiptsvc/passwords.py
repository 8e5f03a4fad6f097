"""The passwords of the ops page's users: scrypt, and how long one must be.

A check costs 32 MiB and some tenths of a second of a processor; other threads run meanwhile, since scrypt's C code lets
them. Bounded here: two at once in a process.
"""

import secrets
from functools import cache
from threading import BoundedSemaphore

from werkzeug.security import check_password_hash, generate_password_hash

MIN_LENGTH, MAX_LENGTH = 12, 1024

_METHOD = "scrypt:32768:8:3"  # as OWASP has it for 32 MiB
_GENERATED_BYTES = 15
_turns = BoundedSemaphore(2)


def hash_of(password: str) -> str:
    """What is stored of a password: the method, a salt and the hash."""
    return generate_password_hash(password, _METHOD)


def is_right(password: str, stored: str | None) -> bool:
    """Whether this is the password of a stored hash. Without one (no such user) it takes as long, and is wrong."""
    with _turns:
        is_same = check_password_hash(stored or _nobodys(), password)
    return is_same and stored is not None


def generate() -> str:
    """A password that nobody has to make up: 120 random bits."""
    return secrets.token_urlsafe(_GENERATED_BYTES)


def find_fault(password: str) -> str | None:
    """Why somebody can't have this password; None if they can."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters"
    return "a password has more than a few different characters" if len(set(password)) < 5 else None


@cache
def _nobodys() -> str:
    return hash_of(secrets.token_urlsafe())
