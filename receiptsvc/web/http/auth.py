"""Who may call a route: every view declares it, with `requires` or `public`, and one that does not is closed.

Keys are compared as digests, every one of them each time, so that the time taken tells nothing about any.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flask import Flask, g, request

from receiptsvc.keys import SCOPES, ApiKey
from receiptsvc.web.http.errors import Problem

PUBLIC = "public"

_MARK = "_receiptsvc_auth"
_REALM = 'Bearer realm="receiptsvc"'

View = TypeVar("View", bound=Callable[..., Any])


def requires(scope: str) -> Callable[[View], View]:
    """Declare that a view needs a key with this scope."""
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope}")
    return lambda view: _mark(view, scope)


def public(view: View) -> View:
    """Declare that anybody may call a view."""
    return _mark(view, PUBLIC)


def declared(view: Callable[..., Any]) -> str | None:
    """What a view declares: a scope, or PUBLIC; None if it declares nothing."""
    mark: str | None = getattr(view, _MARK, None)
    return mark


class KnownKeys:
    """The keys that open the API. The server asks them too, before it reads a body."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._known = [(_digest(key.secret.encode()), key) for key in keys]

    def find(self, authorization: str) -> ApiKey | None:
        """The key in a header `Authorization`; None if it holds none that is known."""
        given = _digest(_bearer(authorization).encode("latin-1", "replace"))  # a header's characters are its bytes
        matches = [key for digest, key in self._known if hmac.compare_digest(digest, given)]
        return matches[0] if matches else None

    def find_name(self, authorization: str) -> str | None:
        """The name of the key that `find` finds."""
        key = self.find(authorization)
        return key.name if key else None


def guard(app: Flask, known: KnownKeys) -> None:
    """Check each request to `app` against what its view declares."""

    def check() -> None:
        if request.endpoint is None:  # no route: answered 404 or 405, whoever asks
            return
        needed = declared(app.view_functions[request.endpoint])
        if needed is None:
            raise RuntimeError(f"{request.endpoint} does not declare who may call it")
        if needed != PUBLIC:
            g.key_name = _admit(known, needed).name

    app.before_request(check)


def key_name() -> str:
    """The name of the key that the request at work came with."""
    name: str = g.key_name
    return name


def _mark(view: View, mark: str) -> View:
    if declared(view) is not None:
        raise ValueError(f"{view} declares twice who may call it")
    setattr(view, _MARK, mark)
    return view


def _bearer(authorization: str) -> str:
    """The secret in a header `Authorization`, empty if there is none."""
    word, _, secret = authorization.partition(" ")
    return secret.strip() if word.lower() == "bearer" else ""


def _admit(known: KnownKeys, scope: str) -> ApiKey:
    authorization = request.headers.get("Authorization", "")
    if not _bearer(authorization):
        detail = "This needs an API key: send the header Authorization: Bearer <secret>."
        raise Problem(401, detail, headers={"WWW-Authenticate": _REALM})
    key = known.find(authorization)
    if key is None:
        headers = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
        raise Problem(401, "No API key has this secret.", headers=headers)
    if scope not in key.scopes:
        headers = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'}
        raise Problem(403, f"This needs a key with the scope {scope}.", headers=headers)
    return key


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
