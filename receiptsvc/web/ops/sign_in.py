"""Signing in and out, and the list of one's own sessions."""

import re

from flask import Response, request

from receiptsvc.store.access import sessions
from receiptsvc.store.access.sessions import Who
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import public
from receiptsvc.web.ops import cookies
from receiptsvc.web.ops.pages import blueprint, redirect, render, signed_in, viewer

_TARGET = re.compile(r"[a-z0-9_/-]{0,200}")  # of ours: there is no scheme in it, and no host

_PLAIN_HTTP = (
    "Nobody can sign in here: PUBLIC_URL is http, and not on this machine, so passwords would go through the network "
    "for all to read. Give PUBLIC_URL its https address."
)
_WRONG = "Name, password or key is not right."


@blueprint.get("")
@signed_in
def read_start() -> Response:
    """The start page."""
    return render("start.html")


@blueprint.get("/sign-in")
@public
def ask_to_sign_in() -> Response:
    """The form to sign in."""
    return _show(request.args.get("to", ""))


@blueprint.post("/sign-in")
@public
def sign_in() -> Response:
    """Sign in with an ops key."""
    settings = context.settings()
    target = request.form.get("to", "")
    if cookies.name(settings) is None:
        return _show(target, 403)
    key = auth.known_keys().find_secret(request.form.get("secret", "").encode())
    if key is None or "ops" not in key.scopes:
        return _show(target, 403, _WRONG)
    now = context.now()
    with context.database().transaction() as session:
        secret = sessions.begin(session, Who(name=key.name, key_secret=key.secret), now)
    response = redirect(target if _TARGET.fullmatch(target) else "")
    cookies.write(response, settings, secret, now)
    return response


@blueprint.post("/sign-out")
@signed_in
def sign_out() -> Response:
    """End the session that this is."""
    with context.database().transaction() as session:
        sessions.end(session, viewer().actor, [viewer().session_id], context.now())
    response = redirect("sign-in")
    cookies.clear(response, context.settings())
    return response


def _show(target: str, status: int = 200, why: str | None = None) -> Response:
    can_sign_in = cookies.name(context.settings()) is not None
    why = why if can_sign_in else _PLAIN_HTTP
    return render("sign_in.html", status, to=target, why=why, can_sign_in=can_sign_in)
