"""The documentation over HTTP: the OpenAPI document, the pages, and what they load. Nothing comes from other hosts."""

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, cast

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    jsonify,
    make_response,
    render_template,
    request,
    send_from_directory,
)

from receiptsvc.domain import meanings
from receiptsvc.domain.statuses import FINAL
from receiptsvc.web.docs import guides, markdown, openapi, reference, samples
from receiptsvc.web.docs.site import START, Site
from receiptsvc.web.http import caching, context
from receiptsvc.web.http.auth import public

blueprint = Blueprint("documentation", __name__)

_EXTENSION = "receiptsvc.documentation"
_AN_HOUR = "public, max-age=3600"


@blueprint.get("/")
@public
def send_browser_to_pages() -> Response:
    """A person who opens the service's address sees its page; a program gets 404 as for any unknown address."""
    if request.accept_mimetypes.quality("text/html") <= request.accept_mimetypes.quality("application/json"):
        abort(404)
    return _redirect("ops" if context.settings().has_ops_page else START)


@blueprint.get("/openapi.json")
@public
def read_openapi() -> Response:
    """The OpenAPI document."""
    return _respond_cached("openapi.json", lambda: jsonify(_site().document))


@blueprint.get("/docs")
@public
def read_docs() -> Response:
    """The start page: how to begin, and every call."""
    return _respond_page(START, "start.html")


@blueprint.get("/docs/")
@public
def leave_out_slash() -> Response:
    """The start page, whose links would lead elsewhere from here."""
    return _redirect(f"../{START}")


@blueprint.get("/docs/search.json")
@public
def read_search_entries() -> Response:
    """What the search field finds."""
    return _respond_cached("search.json", lambda: jsonify(_site().search_entries))


@blueprint.get("/docs/<name>")
@public
def read_noun(name: str) -> Response:
    """A page of the API."""
    noun = _site().find_noun(name)
    if noun is None:
        abort(404)
    return _respond_page(noun.target, "noun.html", noun=noun)


@blueprint.get("/docs/guides/<path:path>")
@public
def read_guide(path: str) -> Response:
    """A guide, or a picture in one."""
    if path in guides.pictures():
        return Response(guides.read_picture(path), content_type="image/png", headers={"Cache-Control": _AN_HOUR})
    if path not in guides.paths():
        abort(404)
    return _respond_page(f"{START}/guides/{path}", "guide.html", guide=guides.read(path))


@blueprint.get("/static/<path:name>")
@public
def read_static(name: str) -> Response:
    """The stylesheet and the script of the pages. Pages name them with a digest of their content."""
    return send_from_directory("docs/static", name, max_age=3600)


def document_of(app: Flask, server_url: str) -> openapi.Document:
    """The OpenAPI document of an application."""
    return openapi.document_of(app, server_url, write_prose(app, "guide.md", url=server_url))


def write_prose(app: Flask, name: str, **more: str) -> str:
    """A Markdown template with the meanings of statuses, effects, outcomes and rules, and `more`, written into it."""
    text = app.jinja_env.get_template(name).render(
        **more,
        statuses=meanings.STATUSES,
        progress={status: meaning for status, meaning in meanings.STATUSES.items() if status not in FINAL},
        final={status: meaning for status, meaning in meanings.STATUSES.items() if status in FINAL},
        effects=meanings.EFFECTS,
        outcomes=meanings.OUTCOMES,
        other_outcomes={
            outcome: meaning
            for outcome, meaning in meanings.OUTCOMES.items()
            if outcome.value not in {effect.value for effect in meanings.EFFECTS}
        },
        failure_reasons=meanings.FAILURE_REASONS,
        matching_rules=meanings.MATCHING_RULES,
        steps=meanings.STEPS,
    )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _cache() -> dict[str, Any]:
    """What this process has made of the application's documentation. It never changes while the process lives."""
    return cast("dict[str, Any]", current_app.extensions.setdefault(_EXTENSION, {}))


def _site() -> Site:
    cached = _cache()
    if "site" not in cached:
        cached["site"] = Site(document_of(current_app, context.settings().public_url))
    found: Site = cached["site"]
    return found


def _redirect(target: str) -> Response:
    """To an address as seen from this one: so it is right behind a proxy that takes a path off, too."""
    location = f"{request.script_root}/{target.lstrip('./')}" if request.script_root else target
    return Response(status=HTTPStatus.FOUND, headers={"Location": location})


def _respond_page(target: str, template: str, **parts: Any) -> Response:
    """A page at `target`. Its links are relative, so that they are right under any path."""
    prefix = "../" * target.count("/")

    def render() -> Response:
        page = render_template(
            template,
            site=_site(),
            document=_site().document,
            reference=reference,
            markdown=markdown,
            key_name=samples.KEY,
            target=target,
            prefix=prefix,
            asset=lambda name: f"{prefix}static/{name}?v={_digest(name)}",
            **parts,
        )
        return make_response(page)

    return _respond_cached(target, render)


@cache
def _digest(name: str) -> str:
    return caching.tag_of((files("receiptsvc.web.docs") / "static" / name).read_bytes())


def _respond_cached(name: str, make: Callable[[], Response]) -> Response:
    """A response that never changes while the process lives: made once, and 304 for clients that have it."""
    cached = _cache()
    if name not in cached:
        response = make()
        cached[name] = caching.tag_of(response.get_data()), response.get_data(), response.content_type
    tag, body, content_type = cached[name]
    headers = {**caching.tagged(tag), "Cache-Control": "no-cache"}
    if caching.has_newest(tag):
        return Response(status=304, headers=headers)
    return Response(body, content_type=content_type, headers=headers)
