"""Authorisation: every view declares its scope with `requires` or `public`; a view without a declaration is closed.

A secret is compared as a digest with every key each time, so that the time taken reveals nothing about a key.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flask import Flask, current_app, g, request

from receiptsvc.key_uses import KeyUses
from receiptsvc.keys import SCOPES, ApiKey
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.web.http.errors import Problem

BY_POST = "_by_post"  # how the name of a view ends that is a GET's twin
PUBLIC = "public"
SESSION = "session"  # of the ops page, which sees to it itself: an API key is of no use there

_ATTRIBUTE = "_receiptsvc_auth"  # of a view: its declared scope
_EXTENSION, _USES = "receiptsvc.known_keys", "receiptsvc.key_uses"
_REALM = 'Bearer realm="receiptsvc"'

View = TypeVar("View", bound=Callable[..., Any])


def requires(scope: str) -> Callable[[View], View]:
    """Declare that a view needs a key with this scope. Raises ValueError if there is no such scope."""
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope}")
    return lambda view: _declare(view, scope)


def public(view: View) -> View:
    """Declare that a view needs no key."""
    return _declare(view, PUBLIC)


def in_session(view: View) -> View:
    """Declare that a view asks for a session of the ops page itself."""
    return _declare(view, SESSION)


def declared_scope(view: Callable[..., Any]) -> str | None:
    """What a view declares: a scope, PUBLIC or SESSION; None if it declares nothing."""
    scope: str | None = getattr(view, _ATTRIBUTE, None)
    return scope


class KnownKeys:
    """The API keys of the settings. The server looks keys up here too, before it reads a body."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._digested_keys = [(_digest(key.secret.encode()), key) for key in keys]

    def find(self, authorization: str) -> ApiKey | None:
        """The key whose secret is in an `Authorization` header; None without a known one."""
        # WSGI decodes headers as Latin-1
        return self.find_secret(_bearer_secret(authorization).encode("latin-1", "replace"))

    def find_secret(self, secret: bytes) -> ApiKey | None:
        """The key with this secret; None if there is none."""
        sent = _digest(secret)
        matches = [key for digest, key in self._digested_keys if hmac.compare_digest(digest, sent)]
        return matches[0] if matches else None

    def named(self, name: str) -> ApiKey | None:
        """The key of this name; None if the settings no longer list it."""
        return next((key for _, key in self._digested_keys if key.name == name), None)

    def find_name(self, authorization: str) -> str | None:
        """The name of the key that `find` returns."""
        key = self.find(authorization)
        return key.name if key else None


def guard(app: Flask, keys: KnownKeys, uses: KeyUses) -> None:
    """Check each request to `app` against the scope that its view declares, before the view runs.

    `uses`: where it is noted which keys are used.
    """

    def check() -> None:
        if request.endpoint is None:  # no route: 404 or 405, with any key or none
            return
        scope = declared_scope(app.view_functions[request.endpoint])
        if scope is None:
            raise RuntimeError(f"{request.endpoint} does not declare who may call it")
        if scope not in {PUBLIC, SESSION}:
            g.key_name = _authenticate(keys, scope).name
            uses.note(Kind.API, g.key_name)

    app.extensions[_EXTENSION] = keys
    app.extensions[_USES] = uses
    app.before_request(check)


def known_keys() -> KnownKeys:
    """The keys of the current application."""
    keys: KnownKeys = current_app.extensions[_EXTENSION]
    return keys


def note_use(key: ApiKey) -> None:
    """Note that somebody comes in by a key in another way than by its header."""
    uses: KeyUses = current_app.extensions[_USES]
    uses.note(Kind.API, key.name)


def shows_scope(scope: str) -> bool:
    """Whether the current request, which may do without, shows a key with this scope."""
    key = known_keys().find(request.headers.get("Authorization", ""))
    return key is not None and scope in key.scopes


def find_reading_posts(app: Flask) -> frozenset[str]:
    """The paths at which a POST only reads: its scope says so, or it is a GET's twin."""
    return frozenset(
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.methods
        and "POST" in rule.methods
        and (declared_scope(app.view_functions[rule.endpoint]) == "read" or rule.endpoint.endswith(BY_POST))
    )


def key_name() -> str:
    """The name of the API key of the current request."""
    name: str = g.key_name
    return name


def _declare(view: View, scope: str) -> View:
    if declared_scope(view) is not None:
        raise ValueError(f"{view} declares twice who may call it")
    setattr(view, _ATTRIBUTE, scope)
    return view


def _bearer_secret(authorization: str) -> str:
    """The secret in an `Authorization` header of the scheme Bearer; empty without one."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _authenticate(keys: KnownKeys, scope: str) -> ApiKey:
    """The key of the current request. Raises Problem 401 without a known one, 403 if it lacks `scope`."""
    authorization = request.headers.get("Authorization", "")
    if not _bearer_secret(authorization):
        detail = "This needs an API key: send the header Authorization: Bearer <secret>."
        raise Problem(401, detail, headers={"WWW-Authenticate": _REALM})
    key = keys.find(authorization)
    if key is None:
        headers = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
        raise Problem(401, "No API key has this secret.", headers=headers)
    if scope not in key.scopes:
        headers = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'}
        has = ", ".join(sorted(key.scopes))
        raise Problem(403, f"This needs a key with the scope {scope}; the key {key.name} has {has}.", headers=headers)
    return key


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
