"""The ops page's ground: who looks, how a page is made and what every page has. No page of its own is here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, g, make_response, render_template, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as WerkzeugResponse

from receiptsvc.domain.errors import LockTimeout, ReceiptsvcError, StatementTimeout
from receiptsvc.store.access import sessions
from receiptsvc.store.core import audits, time_limits
from receiptsvc.store.core.models import OpsSession
from receiptsvc.web.http import auth, context
from receiptsvc.web.ops import cookies, cross_site, display, static_files

PREFIX = "/ops"
REVEAL = "reveal"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

View = Callable[..., Any]

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

    @wraps(view)
    def serve(**arguments: Any) -> Any:
        g.ops_viewer = _find_viewer()
        if g.ops_viewer is not None:
            return view(**arguments)
        if request.method not in {"GET", "HEAD"}:
            return render("refused.html", 403, why="You are not signed in any more. Sign in, then do it again.")
        target = request.path.removeprefix(PREFIX).lstrip("/")
        answer = redirect(f"sign-in?to={quote(target)}" if target else "sign-in")
        if "HX-Request" in request.headers:  # a part of a page: the whole page must lead there
            answer.status_code, answer.headers["HX-Redirect"] = 204, answer.headers.pop("Location")
        return answer

    return auth.in_session(serve)


def viewer() -> Viewer:
    """Who looks at the current page, of a view that is `signed_in`."""
    found: Viewer = g.ops_viewer
    return found


def reveals() -> bool:
    """Whether the current request asks for its page with numbers and texts shown. The view notes it: `note_reveal`."""
    return request.method == "POST" and request.form.get("action") == REVEAL


def note_reveal(subject: str) -> None:
    """Write the audit of a page that is shown with numbers. `subject`: the public id that the page is about."""
    with context.database().transaction() as session:
        audits.write(session, at=context.now(), actor=viewer().actor, action=REVEAL, subject=subject)


@contextmanager
def reading() -> Iterator[Session]:
    """A session that only reads, for a part of a page. Raises PanelLate when it takes longer than it may."""
    try:
        with context.database().reading(time_limits.PANEL) as session:
            if not context.database().is_sqlite:
                yield session
                return
            with time_limits.interrupting(session, time_limits.PANEL.statement):
                yield session
    except (StatementTimeout, LockTimeout) as error:
        raise PanelLate("the database takes too long") from error


def render(template: str, status: int = 200, **values: Any) -> Response:
    """A page of `templates/ops/`. Its links are relative, so that they are right under any path."""
    prefix = _prefix()
    page = render_template(
        f"ops/{template}",
        prefix=prefix,
        asset=lambda name: f"{prefix}ops/static/{name}?v={static_files.read(name).digest}",
        viewer=g.get("ops_viewer"),
        is_revealed=reveals(),
        **values,
    )
    response = make_response(page, status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "same-origin"  # with no-referrer a browser would send `Origin: null`
    return response


def redirect(target: str) -> Response:
    """To a page, such as `messages/msg_…`, after a POST or instead of one that needs more; empty: the start page."""
    return Response(status=303, headers={"Location": f"{_prefix()}ops{'/' if target else ''}{target}"})


@blueprint.before_request
def _refuse_other_sites() -> WerkzeugResponse | None:
    if request.method in {"GET", "HEAD"} or cross_site.is_own(context.settings().public_url):
        return None
    return render("refused.html", 403, why="This was sent by another site's page, or by no browser. Nothing was done.")


def _prefix() -> str:
    """What leads from the current address to where `ops` is."""
    return "../" * (request.path.count("/") - 1)


def _find_viewer() -> Viewer | None:
    secret = cookies.read_secret(context.settings())
    if secret is None:
        return None
    with reading() as session:
        found = sessions.find(session, secret, context.now())
    if found is None or not _has_its_key(found, secret):
        return None
    return Viewer(actor=found.who, session_id=found.id)


def _has_its_key(found: OpsSession, secret: str) -> bool:
    """Whether the API key that somebody signed in with is still listed, the same, and good for this."""
    if found.key_digest is None:
        return True
    key = auth.known_keys().named(found.who.partition(" ")[2])
    return key is not None and "ops" in key.scopes and sessions.key_digest_of(secret, key.secret) == found.key_digest


display.register(blueprint, is_revealed=reveals)
static_files.register(blueprint)
