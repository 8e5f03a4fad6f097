"""The API's own description: the OpenAPI document, and a page made from it that needs no other host."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import flask_smorest
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    jsonify,
    make_response,
    render_template,
    send_from_directory,
)

from receiptsvc.web import caching, errors
from receiptsvc.web.auth import public
from receiptsvc.web.endpoints import BEARER, PROBLEMS
from receiptsvc.web.schemas.base import Problem
from receiptsvc.web.schemas.conversations import TIMELINE
from receiptsvc.web.schemas.events import EVENTS

METHODS = ("get", "post", "put", "patch", "delete")

blueprint = Blueprint("documentation", __name__)


@blueprint.get("/openapi.json")
@public
def read_openapi() -> Response:
    """The OpenAPI document."""
    return _once("document", lambda: jsonify(_document()))


@blueprint.get("/docs")
@public
def read_docs() -> Response:
    """The same as a page."""
    return _once("page", lambda: make_response(render_template("docs.html", document=_document(), methods=METHODS)))


@blueprint.get("/static/<path:name>")
@public
def read_static(name: str) -> Response:
    """What pages are dressed with."""
    return send_from_directory("static", name, max_age=3600)


def describe(app: Flask, server_url: str) -> Any:
    """Begin the description of `app`; endpoints are registered with the flask-smorest API that this returns."""
    app.config.update(API_TITLE="receiptsvc", API_VERSION="v1", OPENAPI_VERSION="3.1.0")
    api = flask_smorest.Api()
    api.ERROR_SCHEMA, api.DEFAULT_ERROR_RESPONSE_NAME = Problem, None
    api.init_app(
        app,
        spec_kwargs={
            "info": {
                "description": "SMS through the Dynmark gateway: sent once, and every delivery receipt kept, "
                "folded into a status, and explained."
            },
            "servers": [{"url": server_url}],
        },
    )
    api.spec.components.security_scheme(
        BEARER, {"type": "http", "scheme": "bearer", "description": "An API key. Its scopes are send, read and ops."}
    )
    for status in PROBLEMS:
        answer = {"description": HTTPStatus(status).phrase, "content": {errors.CONTENT_TYPE: {"schema": Problem}}}
        api.spec.components.response(HTTPStatus(status).name, answer, lazy=True)
    del api.spec.components.schemas["PaginationMetadata"]  # flask-smorest's; our pages go by nextCursor
    for schema in (*TIMELINE, *EVENTS):
        api.spec.components.schema(schema.__name__, schema=schema)
    return api


def _once(name: str, make: Callable[[], Response]) -> Response:
    """An answer that stays the same as long as the process lives: made once, and given to whom it is new."""
    made = current_app.extensions.setdefault("receiptsvc.documentation", {})
    if name not in made:
        first = make()
        made[name] = caching.tag_of(first.get_data()), first.get_data(), first.content_type
    tag, body, content_type = made[name]
    headers = {**caching.tagged(tag), "Cache-Control": "no-cache"}
    if caching.has_newest(tag):
        return Response(status=304, headers=headers)
    return Response(body, content_type=content_type, headers=headers)


def _document() -> Any:
    return current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
