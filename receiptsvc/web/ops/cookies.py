"""The session's cookie: its name, whether there can be one, and what is in it.

All is decided by PUBLIC_URL, never by the peer's address or by what a proxy adds to a request: those can be forged, and
a proxy that was forgotten in the settings would make a session's secret go over plain http.
"""

import hmac
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import Response, request

from receiptsvc import ids
from receiptsvc.config import Settings
from receiptsvc.keys import subkey
from receiptsvc.store.access import sessions

TRUSTED_FOR = timedelta(minutes=15)  # how long a session counts that can't be looked up

_SECURE, _LOOPBACK = "__Host-receiptsvc", "receiptsvc-ops"
_PURPOSE = "ops session seen"
_SEPARATOR = "."


def name(settings: Settings) -> str | None:
    """The cookie's name; None where it would go over plain http, so that nobody can sign in."""
    parts = urlsplit(settings.public_url)
    if parts.scheme == "https":
        return _SECURE
    return _LOOPBACK if _is_loopback(parts.hostname or "") else None


def read_secret(settings: Settings) -> str | None:
    """The session's secret that the current request shows."""
    secret, _, _ = _read(settings).partition(_SEPARATOR)
    return secret or None


def was_seen_lately(settings: Settings, now: datetime) -> bool:
    """Whether the current request shows a session that was seen valid a short time ago, as far as can be told without
    the database: it may have been ended since.
    """
    return _is_proved(settings, _read(settings), now, TRUSTED_FOR)


def find_person(settings: Settings, header: str, now: datetime) -> str | None:
    """Who has signed in and sends a header Cookie, at any time at which a session can still be open; None: a stranger.

    As `sessions.tag_of` has it. For the server, which gives strangers less room, and no one all of it; the session may
    have ended. Looks only at the first such cookie: who sends thousands must not make it look at each.
    """
    key = name(settings)
    found = None if key is None else re.search(rf"(?:^|; ?){key}=([^;]*)", header)
    if found is None or not _is_proved(settings, found[1], now, sessions.LASTS):
        return None
    return sessions.tag_of(found[1].partition(_SEPARATOR)[0])


def write(response: Response, settings: Settings, secret: str, now: datetime) -> None:
    """Have the browser keep the session's secret, and a proof that it was seen valid now."""
    seen = str(int(now.timestamp()))
    value = _SEPARATOR.join((secret, seen, _sign(_keys(settings)[0], secret, seen).decode()))
    _set(response, settings, value, sessions.LASTS)


def clear(response: Response, settings: Settings) -> None:
    """Have the browser forget it."""
    _set(response, settings, "", timedelta())


def _set(response: Response, settings: Settings, value: str, max_age: timedelta) -> None:
    key = name(settings)
    if key is not None:
        is_secure = key == _SECURE
        response.set_cookie(key, value, max_age, path="/", secure=is_secure, httponly=True, samesite="Lax")


def _is_proved(settings: Settings, value: str, now: datetime, lasts: timedelta) -> bool:
    """Whether a cookie's stamp is ours, and not older than `lasts`."""
    secret, _, stamp = value.partition(_SEPARATOR)
    seen, _, mac = stamp.partition(_SEPARATOR)
    if not seen.isascii() or not seen.isdecimal() or len(seen) > 12:
        return False
    right = [_sign(key_bytes, secret, seen) for key_bytes in _keys(settings)]
    is_signed = any(hmac.compare_digest(each, mac.encode("ascii", "replace")) for each in right)
    return is_signed and abs(now - datetime.fromtimestamp(int(seen), UTC)) <= lasts


def _read(settings: Settings) -> str:
    key = name(settings)
    return "" if key is None else request.cookies.get(key, "")


def _keys(settings: Settings) -> list[bytes]:
    return [subkey(key, _PURPOSE) for key in settings.callback_keys]


def _sign(key: bytes, secret: str, seen: str) -> bytes:
    message = b"%b %b" % (sessions.digest_of(secret), seen.encode())
    return ids.base32(hmac.new(key, message, sha256).digest()).encode()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
