"""The ops page's ground: who looks, how a page is made and what every page has. No page of its own is here."""

import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial, wraps
from time import monotonic
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, current_app, g, make_response, render_template, request
from marshmallow import ValidationError
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from receiptsvc import logs
from receiptsvc.domain.errors import (
    LockTimeout,
    NoneFree,
    ReceiptsvcError,
    Refused,
    StatementTimeout,
    StorageUnavailable,
)
from receiptsvc.store.access import sessions
from receiptsvc.store.core import audits, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import OpsSession
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.web.http import auth, context, deadlines
from receiptsvc.web.http.errors import RETRY_AFTER_SECONDS, Problem, by_path
from receiptsvc.web.ops import cookies, cross_site, display, incident, static_files

PREFIX = "/ops"
SCOPE = "ops"  # of the API keys that open the page
REVEAL = "reveal"
SLOW = "the database answers, but took longer than a page waits: see its load, and what it is busy with"
NO_REASON = "Say why: it is kept with your name."

NAVIGATION = (  # on every page, in this order: an address below /ops/, and its name; empty: /ops itself
    ("", "Now"),
    ("problems", "Problems"),
    ("messages", "Messages"),
    ("replies", "Replies"),
    ("receipts", "Parking lot"),
    ("failures", "Failures"),
    ("sending", "Sending"),
    ("codes", "Codes"),
    ("settings", "Settings"),
    ("audit", "Audit"),
)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

View = Callable[..., Any]

_PATIENCE_SECONDS = 0.2  # that somebody waits for their turn to read much

_ONLY_LOOKS = "only_looks"  # an attribute of views
_LOOKING = frozenset({REVEAL, "rows", "preview"})  # actions of forms that change nothing

_WORDS = {404: "There is nothing at this address.", 405: "This address does not know this method."}

blueprint = Blueprint("ops", "receiptsvc.web.ops", url_prefix=PREFIX, template_folder="templates")


class PanelLate(ReceiptsvcError):
    """A part of a page took longer than it may. It is shown as late, and can be asked for again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewer:
    """Who looks at a page. `actor`: as audits name them."""

    actor: str
    session_id: UUID

    @property
    def name(self) -> str:
        """The user's or the key's name."""
        return self.actor.partition(" ")[2]


def signed_in(view: View) -> View:
    """Have a view need a session: without one a GET leads to the sign-in, and anything else is refused in words."""
    return _guard(view, None)


def signed_in_for(seconds: float) -> Callable[[View], View]:
    """The same, for a view that works through many rows and may take so long."""
    return partial(_guard, seconds=seconds)


def only_looks(view: View) -> View:
    """Mark a view that is a POST so that its address holds no search, and changes nothing. It goes below the others."""
    setattr(view, _ONLY_LOOKS, True)
    return view


def _guard(view: View, seconds: float | None) -> View:
    @wraps(view)
    def serve(**arguments: Any) -> Any:
        began = monotonic()
        try:
            person = cookies.find_person(context.settings(), request.headers.get("Cookie", ""), context.now())
            task = partial(_serve, view, arguments, is_stranger=person is None)
            return deadlines.within(seconds or deadlines.SECONDS, task, person)
        except StorageUnavailable as error:
            return _show_incident(error, is_slow=is_only_slow(error, began))
        except PanelLate as error:
            if "ops_viewer" in g:
                return render("late.html", 503, why=str(error))
            return _show_incident(error, is_slow=is_only_slow(error, began))

    return auth.in_session(serve)


def is_only_slow(error: ReceiptsvcError, since: float) -> bool:
    """Whether an error is of a database that is there, and only took too long: it has answered somebody since then.

    A statement that took too long was ended by the database itself. `since`: by `monotonic`.
    """
    if isinstance(error, PanelLate) and not isinstance(error.__cause__, NoneFree):
        return True
    database = context.database()
    if isinstance(error, deadlines.TooMuchWaits):
        since -= deadlines.SECONDS  # it was asked nothing
    has_answered = database.is_sqlite or database.clock.has_answered_since(since)
    return isinstance(error, PanelLate | deadlines.TooLate) and has_answered


def viewer() -> Viewer:
    """Who looks at the current page, of a view that is `signed_in`."""
    found: Viewer = g.ops_viewer
    return found


def reveals() -> bool:
    """Whether the current request asks for numbers and texts to be shown. `render` and `send` note that it did."""
    return request.method == "POST" and request.form.get("action") == REVEAL


def is_change() -> bool:
    """Whether the current request asks for something to be done: if no answer came, it may have been."""
    if request.method in {"GET", "HEAD"} or request.form.get("action") in _LOOKING:
        return False
    return not getattr(current_app.view_functions.get(request.endpoint or ""), _ONLY_LOOKS, False)


def is_of_a_part() -> bool:
    """Whether a script of the page asks, for a part of it, and no person."""
    return "HX-Request" in request.headers or request.headers.get("Accept") == "text/event-stream"


@contextmanager
def reading() -> Iterator[Session]:
    """A session that only reads, for a part of a page. Raises PanelLate when it takes longer than it may."""
    with _reading(context.page_database(), time_limits.PANEL) as session:
        yield session


@contextmanager
def reading_much(limits: TimeLimits | None = None) -> Iterator[Session]:
    """The same for what reads many rows: by the API's connections, as the page may have a single one of its own.

    A person does one of these at a time, and waits a moment for their turn. `limits`: if not those of a page's part.
    """
    with context.long_reads().hold(viewer().actor, patience_seconds=_PATIENCE_SECONDS) as is_mine:
        if not is_mine:
            raise PanelLate("something else that takes long is under way")
        with _reading(context.database(), limits or time_limits.PANEL) as session:
            yield session


def render(template: str, status: int = 200, *, about: str | None = None, **values: Any) -> Response:
    """A page of `templates/ops/`. Its links are relative, so that they are right under any path.

    `about`: what the page shows, as audits name it: with numbers and texts, if the request asks for them, which is
    noted. Without it they stay hidden.
    """
    prefix = _prefix()
    g.ops_is_revealed = about is not None and reveals()
    if about is not None and reveals():
        _note_reveal(about)
    page = render_template(
        f"ops/{template}",
        prefix=prefix,
        asset=lambda name: f"{prefix}ops/static/{name}?v={static_files.read(name).digest}",
        here=f"{prefix}{request.full_path.lstrip('/').rstrip('?')}",
        is_read=request.method in {"GET", "HEAD"},
        is_change=is_change(),
        viewer=g.get("ops_viewer"),
        navigation=NAVIGATION,
        section=request.path.removeprefix(f"{PREFIX}/").partition("/")[0],
        is_revealed=g.ops_is_revealed,
        **values,
    )
    response = make_response(page, status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "same-origin"  # with no-referrer a browser would send `Origin: null`
    return response


def send(file: Response, *, about: str) -> Response:
    """A file instead of a page. `about`: as in `render`; whole, if the request asks for it, which is noted."""
    if reveals():
        _note_reveal(about)
    file.headers["Cache-Control"] = "no-store"
    return file


def redirect(target: str) -> Response:
    """To a page, such as `messages/msg_…`, after a POST or instead of one that needs more; empty: the start page."""
    return Response(status=303, headers={"Location": f"{_prefix()}ops{'/' if target else ''}{target}"})


@blueprint.before_request
def _refuse_other_sites() -> WerkzeugResponse | None:
    if request.method in {"GET", "HEAD"} and not request.form:  # with a form any method does what it asks for
        return None
    if cross_site.is_own(context.settings().public_url):
        return None
    return render("refused.html", 403, why="This was sent by another site's page, or by no browser. Nothing was done.")


@blueprint.errorhandler(Problem)
def _show_problem(problem: Problem) -> Response:
    """What the API's functions refuse, in their words."""
    heading = "Not here" if problem.status == 404 else None
    return render("refused.html", problem.status, heading=heading, why=problem.detail, errors=problem.errors)


@blueprint.errorhandler(HTTPException)
def _show_http_error(error: HTTPException) -> WerkzeugResponse:
    status = error.code or 500
    if status < 400:
        return error.get_response()
    heading = "No such page" if status == 404 else None
    return render("refused.html", status, heading=heading, why=_WORDS.get(status) or error.description)


@blueprint.errorhandler(ValidationError)
def _show_invalid(error: ValidationError) -> Response:
    """What the API's fields and cursors refuse."""
    return render("refused.html", 422, why="Something in this can't be read.", errors=by_path(error.messages))


@blueprint.errorhandler(Refused)
def _show_refusal(refused: Refused) -> Response:
    return render("refused.html", 409, why=f"{refused}.")


@blueprint.errorhandler(DataError)
def _show_data_error(error: DataError) -> Response:
    logs.error("request.value_refused", error, method=request.method, route=str(request.url_rule))
    return render("refused.html", 422, why="The database can't take something that was typed. Write it in another way.")


@blueprint.errorhandler(Exception)
def _show_bug(error: Exception) -> Response:
    logs.error("request.failed", error, method=request.method, route=str(request.url_rule))
    return render("refused.html", 500, why="Something went wrong on our side; it has been noted.")


@contextmanager
def _reading(database: Database, limits: TimeLimits) -> Iterator[Session]:
    try:
        with database.reading(limits) as session:
            if not database.is_sqlite:
                yield session
                return
            with time_limits.interrupting(session, limits.statement):
                yield session
    except (StatementTimeout, LockTimeout, NoneFree) as error:
        raise PanelLate("the database takes too long") from error


def _serve(view: View, arguments: Mapping[str, Any], *, is_stranger: bool) -> WerkzeugResponse:
    """A view's answer to somebody who is signed in, or what the others get."""
    settings, now = context.settings(), context.now()
    # A stranger's cookie is not looked up: the page may have a single connection to the database.
    secret = None if is_stranger else cookies.read_secret(settings)
    found = _find_session(secret, now) if secret is not None else None
    if secret is None or found is None:
        return _send_to_sign_in()
    g.ops_viewer = Viewer(actor=found.who, session_id=found.id)
    response = make_response(view(**arguments))
    is_old = now - found.seen_at >= sessions.TOUCHED_AFTER
    if is_old and "Set-Cookie" not in response.headers and not is_of_a_part():
        with suppress(StorageUnavailable), context.page_database().transaction(time_limits.PANEL) as session:
            sessions.touch(session, found.id, now)
        cookies.write(response, settings, secret, now)
    logs.over("ops.database_away")
    context.problems().note_back()
    context.readiness().look_soon(now)
    return response


def _send_to_sign_in() -> Response:
    if request.method not in {"GET", "HEAD"}:
        return render("refused.html", 403, why="You are not signed in any more. Sign in, then do it again.")
    target = request.path.removeprefix(PREFIX).lstrip("/")
    answer = redirect(f"sign-in?to={quote(target)}" if target else "sign-in")
    if is_of_a_part():  # the whole page must lead there
        answer.status_code, answer.headers["HX-Redirect"] = 204, answer.headers.pop("Location")
    return answer


def _find_session(secret: str, now: datetime) -> OpsSession | None:
    with reading() as session:
        found = sessions.find(session, secret, now)
    return found if found is not None and _has_its_key(found, secret) else None


def _has_its_key(found: OpsSession, secret: str) -> bool:
    """Whether the API key that somebody signed in with is still listed, the same, and good for this."""
    if found.key_digest is None:
        return True
    key = auth.known_keys().named(found.who.partition(" ")[2])
    if key is None or SCOPE not in key.scopes:
        return False
    return hmac.compare_digest(sessions.key_digest_of(secret, key.secret), found.key_digest)


def _show_incident(error: ReceiptsvcError, *, is_slow: bool) -> Response:
    """What there is without the database: for those who were signed in a short time ago. The others have to wait.

    `is_slow`: it is there, and only took too long.
    """
    logs.fault("ops.database_away", error, level=logging.ERROR)
    since = None if is_slow else context.problems().note_away()
    if not cookies.was_seen_lately(context.settings(), context.now()):
        return render_wait(error, is_slow=is_slow)
    why = SLOW if is_slow else str(error)
    known = incident.read()
    page = render(
        "incident.html",
        503,
        known=known,
        look=known.look,
        gauges=incident.describe_gauges(known.look),
        why=why,
        is_slow=is_slow,
        since=since,
    )
    return _have_it_again(page)


def render_wait(error: ReceiptsvcError, *, is_slow: bool = False) -> Response:
    """Why nobody can sign in now. What is wrong is told by its name alone: who asks is not known."""
    kind = None if is_slow else getattr(error, "kind", None)
    what = f"can't be used now ({kind})" if kind else "is too slow now"
    why = f"Signing in has to wait: the database {what}. Try again in a moment."
    # What is typed must not be lost when the page asks again by itself.
    can_sign_in = request.method not in {"GET", "HEAD"}
    return _have_it_again(
        render("sign_in.html", 503, why=why, to="", can_sign_in=can_sign_in, is_waiting=not can_sign_in)
    )


def _have_it_again(page: Response) -> Response:
    """The same, and have a browser ask again by itself, unless it would do something again."""
    page.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if request.method in {"GET", "HEAD"}:
        page.headers["Refresh"] = str(RETRY_AFTER_SECONDS)
    return page


def _note_reveal(subject: str) -> None:
    """Write the audit of a page that is shown with numbers."""
    with context.database().transaction() as session:
        audits.write(session, at=context.now(), actor=viewer().actor, action=REVEAL, subject=subject)


def _prefix() -> str:
    """What leads from the current address to where `ops` is."""
    return "../" * (request.path.count("/") - 1)


display.register(blueprint, is_revealed=lambda: bool(g.get("ops_is_revealed")))
static_files.register(blueprint)
