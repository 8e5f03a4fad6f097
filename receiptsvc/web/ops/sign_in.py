"""Signing in and out, and the list of one's own sessions."""

import hmac
import re
from functools import partial
from hashlib import sha256
from uuid import UUID

from flask import Response, abort, request

from receiptsvc import ids, logs, passwords
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.keys import subkey
from receiptsvc.store.access import guesses, sessions, users
from receiptsvc.store.access.guesses import TooManyGuesses
from receiptsvc.store.access.sessions import Who
from receiptsvc.store.core import audits
from receiptsvc.web.http import auth, context, deadlines
from receiptsvc.web.http.auth import public
from receiptsvc.web.ops import cookies
from receiptsvc.web.ops.pages import SCOPE, blueprint, reading, redirect, render, render_wait, signed_in, viewer

_TARGET = re.compile(r"(?:[a-z0-9_-]+/)*[a-z0-9_-]+")  # of ours: there is no scheme in it, and no host
_MAX_TARGET = 200
_PURPOSE = "ops guesses"

_PLAIN_HTTP = (
    "Nobody can sign in here: PUBLIC_URL is http, and not on this machine, so that everybody on the way could read "
    "passwords. Give the service an https address, and PUBLIC_URL that address."
)
_WRONG = "The name, the password or the key is not right, or the user is disabled."
_TOO_MANY = f"Sign-ins were tried too often. Wait {int(guesses.WAIT.total_seconds() // 60)} minutes, then try again."


@blueprint.get("/<path:rest>")
@signed_in
def find_nothing(rest: str) -> Response:  # noqa: ARG001 - any address
    """What is no page."""
    abort(404)


@blueprint.get("/sign-in")
@public
def ask_to_sign_in() -> Response:
    """The form to sign in."""
    return _show(request.args.get("to", ""))


@blueprint.post("/sign-in")
@public
def sign_in() -> Response:
    """Sign in with an ops key, or with a name and a password."""
    if cookies.name(context.settings()) is None:
        return _show(status=403)
    target = request.form.get("to", "")
    name, secret = users.fold(request.form.get("name", "")), request.form.get("secret", "")
    try:
        who = _recognise_user(name, secret) if name else _recognise_key(secret)
        if who is None:
            logs.fault("ops.sign_in_refused", "wrong")
            return _show(target, 403, _WRONG)
        return deadlines.within(deadlines.SECONDS, partial(_begin, who, target))
    except TooManyGuesses:
        logs.fault("ops.sign_in_refused", "too many tries")
        page = _show(target, 429, _TOO_MANY)
        page.headers["Retry-After"] = str(int(guesses.WAIT.total_seconds()))
        return page
    except StorageUnavailable as error:
        logs.fault("ops.database_away", error)
        return render_wait(error)


@blueprint.post("/sign-out")
@signed_in
def sign_out() -> Response:
    """End the session that this is."""
    with context.database().transaction() as session:
        sessions.end(session, viewer().actor, [viewer().session_id], context.now())
    response = redirect("sign-in")
    cookies.clear(response, context.settings())
    return response


@blueprint.get("/sessions")
@signed_in
def list_sessions() -> Response:
    """The open sessions of whoever looks."""
    with reading() as session:
        found = sessions.list_open(session, viewer().actor, context.now())
    return render("sessions.html", sessions=found, public_id=partial(ids.public, "ses"))


@blueprint.post("/sessions/end")
@signed_in
def end_session() -> Response:
    """End one of them, or all others."""
    with context.database().transaction() as session:
        if request.form.get("which") == "others":
            found = sessions.list_open(session, viewer().actor, context.now())
            wanted = [each.id for each in found if each.id != viewer().session_id]
        else:
            wanted = [ids.parse("ses", request.form.get("which", "")) or abort(404)]
        sessions.end(session, viewer().actor, wanted, context.now())
    return redirect("sessions")


def _recognise_key(secret: str) -> Who | None:
    """Whose key this is. Tries are not counted, as they are not by the API: nobody guesses a key, and with one an
    operator gets in whoever tries passwords meanwhile.
    """
    key = auth.known_keys().find_secret(secret.encode())
    if key is None or SCOPE not in key.scopes:
        return None
    auth.note_use(key)
    return Who(name=key.name, key_secret=key.secret)


def _recognise_user(name: str, password: str) -> Who | None:
    """Whose name and password these are. Raises TooManyGuesses."""
    user_id, stored = deadlines.within(deadlines.SECONDS, partial(_count, name))
    is_right = passwords.is_right(password[: passwords.MAX_LENGTH], stored)
    return Who(name=name, user_id=user_id) if is_right else None


def _count(name: str) -> tuple[UUID | None, str | None]:
    """Count a try, and look the user up: the id, and the hash of the password; None of one that can't sign in.

    Raises TooManyGuesses.
    """
    who = hmac.new(subkey(context.settings().callback_keys[0], _PURPOSE), name.encode(), sha256).digest()
    with context.database().transaction() as session:
        guesses.count(session, who, context.now())
        user = users.find(session, name)
    return (None, None) if user is None or user.disabled_at is not None else (user.id, user.password_hash)


def _begin(who: Who, target: str) -> Response:
    now = context.now()
    with context.database().transaction() as session:
        secret, session_id = sessions.begin(session, who, now)
        audits.write(session, at=now, actor=who.actor, action="sign in", subject=ids.public("ses", session_id))
    logs.info("ops.signed_in", by="password" if who.key_secret is None else "key")
    is_ours = len(target) <= _MAX_TARGET and _TARGET.fullmatch(target) is not None
    response = redirect(target if is_ours else "")
    cookies.write(response, context.settings(), secret, now)
    return response


def _show(target: str = "", status: int = 200, why: str | None = None) -> Response:
    can_sign_in = cookies.name(context.settings()) is not None
    return render("sign_in.html", status, to=target, why=why if can_sign_in else _PLAIN_HTTP, can_sign_in=can_sign_in)
