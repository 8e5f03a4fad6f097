"""The API's own description: the OpenAPI document, and a page made from it that needs no other host."""

import inspect
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import flask_smorest
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_instance
from apispec.ext.marshmallow.openapi import OpenAPIConverter
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
from marshmallow import fields

from receiptsvc.domain import meanings
from receiptsvc.domain.statuses import FINAL
from receiptsvc.web.docs import reference
from receiptsvc.web.http import caching, errors
from receiptsvc.web.http.auth import public
from receiptsvc.web.http.endpoints import BEARER, PROBLEMS
from receiptsvc.web.schemas.base import Problem, Schema
from receiptsvc.web.schemas.conversations import TIMELINE
from receiptsvc.web.schemas.events import EVENTS

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
    return _once("page", lambda: make_response(render_template("docs.html", document=_document(), told=reference)))


@blueprint.get("/static/<path:name>")
@public
def read_static(name: str) -> Response:
    """What pages are dressed with."""
    return send_from_directory("docs/static", name, max_age=3600)


class _Converter(OpenAPIConverter):
    """Tells of an object also what its schema says of it as a whole."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """The schema as JSON Schema."""
        told: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call] # as apispec has it
        known = resolve_schema_instance(schema)
        if isinstance(known, Schema):  # and none of flask-smorest's own
            told |= {"description": inspect.cleandoc(known.__doc__ or ""), **known.rules}
        return told


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def describe(app: Flask, server_url: str) -> Any:
    """Begin the description of `app`; endpoints are registered with the flask-smorest API that this returns."""
    app.config.update(API_TITLE="receiptsvc", API_VERSION="v1", OPENAPI_VERSION="3.1.0")
    api = flask_smorest.Api()
    api.ERROR_SCHEMA, api.DEFAULT_ERROR_RESPONSE_NAME = Problem, None
    api.init_app(
        app,
        spec_kwargs={
            "marshmallow_plugin": _Plugin(),
            "info": {"description": write_prose(app, "guide.md")},
            "servers": [{"url": server_url}],
        },
    )
    api.ma_plugin.converter.add_attribute_function(_tell_names)
    api.spec.components.security_scheme(
        BEARER, {"type": "http", "scheme": "bearer", "description": "An API key. Its scopes are send, read and ops."}
    )
    for status, meaning in PROBLEMS.items():
        answer = {"description": meaning, "content": {errors.CONTENT_TYPE: {"schema": Problem}}}
        api.spec.components.response(HTTPStatus(status).name, answer, lazy=True)
    del api.spec.components.schemas["PaginationMetadata"]  # flask-smorest's; our pages go by nextCursor
    for schema in (*TIMELINE, *EVENTS):
        api.spec.components.schema(schema.__name__, schema=schema)
    return api


def write_prose(app: Flask, name: str) -> str:
    """A Markdown template with the meanings of statuses, effects, outcomes and rules written into it."""
    text = app.jinja_env.get_template(name).render(
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
        matching_rules=meanings.MATCHING_RULES,
        steps=meanings.STEPS,
    )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _tell_names(converter: Any, field: Any, **_: object) -> dict[str, Any]:
    """What the names of an object's members must keep to, where they must."""
    names = field.key_field if isinstance(field, fields.Dict) else None
    return {"propertyNames": converter.field2property(names)} if names is not None and names.validators else {}


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


def document_of(app: Flask) -> Any:
    """The OpenAPI document of an application."""
    return app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()


def _document() -> Any:
    return document_of(current_app)
