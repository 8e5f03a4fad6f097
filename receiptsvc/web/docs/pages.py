"""The OpenAPI document and the page made from it, which loads nothing from other hosts."""

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
from receiptsvc.web.http import caching, context, errors
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
    return _respond_cached("document", lambda: jsonify(_current_document()))


@blueprint.get("/docs")
@public
def read_docs() -> Response:
    """The OpenAPI document as a page."""

    def render() -> Response:
        return make_response(render_template("docs.html", document=_current_document(), reference=reference))

    return _respond_cached("page", render)


@blueprint.get("/static/<path:name>")
@public
def read_static(name: str) -> Response:
    """The stylesheets of the pages."""
    return send_from_directory("docs/static", name, max_age=3600)


class _Converter(OpenAPIConverter):
    """Adds a schema's docstring and its `rules` to its JSON Schema."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """The schema as JSON Schema."""
        json_schema: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call] # apispec's
        instance = resolve_schema_instance(schema)
        if isinstance(instance, Schema):  # not one of flask-smorest's own
            json_schema |= {"description": inspect.cleandoc(instance.__doc__ or ""), **instance.rules}
        return json_schema


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def document_of(app: Flask, server_url: str) -> Any:
    """The OpenAPI document of an application: of those of its blueprints that are flask-smorest's.

    It is made on an application of its own and only when it is asked for: this takes longer than all else that a
    process does at its start.
    """
    described = Flask(app.import_name, static_folder=None)
    described.config.update(API_TITLE="receiptsvc", API_VERSION="v1", OPENAPI_VERSION="3.1.0")
    described.url_map.converters = app.url_map.converters
    api = flask_smorest.Api()
    api.ERROR_SCHEMA, api.DEFAULT_ERROR_RESPONSE_NAME = Problem, None
    api.init_app(
        described,
        spec_kwargs={
            "marshmallow_plugin": _Plugin(),
            "info": {"description": write_prose(app, "guide.md")},
            "servers": [{"url": server_url}],
        },
    )
    api.ma_plugin.converter.add_attribute_function(_describe_property_names)
    api.spec.components.security_scheme(
        BEARER, {"type": "http", "scheme": "bearer", "description": "An API key. Its scopes are send, read and ops."}
    )
    for status, meaning in PROBLEMS.items():
        response = {"description": meaning, "content": {errors.CONTENT_TYPE: {"schema": Problem}}}
        api.spec.components.response(HTTPStatus(status).name, response, lazy=True)
    del api.spec.components.schemas["PaginationMetadata"]  # flask-smorest's; our pages have nextCursor
    for schema in (*TIMELINE, *EVENTS):
        api.spec.components.schema(schema.__name__, schema=schema)
    for endpoints in app.blueprints.values():
        if isinstance(endpoints, flask_smorest.Blueprint):
            api.register_blueprint(endpoints)
    return api.spec.to_dict()


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


def _current_document() -> Any:
    return document_of(current_app, context.settings().public_url)


def _describe_property_names(converter: Any, field: Any, **_: object) -> dict[str, Any]:
    """JSON Schema's `propertyNames` for a Dict field whose keys are validated."""
    names = field.key_field if isinstance(field, fields.Dict) else None
    return {"propertyNames": converter.field2property(names)} if names is not None and names.validators else {}


def _respond_cached(name: str, make: Callable[[], Response]) -> Response:
    """A response that never changes while the process lives: made once, and 304 for clients that have it."""
    cache = current_app.extensions.setdefault("receiptsvc.documentation", {})
    if name not in cache:
        response = make()
        cache[name] = caching.tag_of(response.get_data()), response.get_data(), response.content_type
    tag, body, content_type = cache[name]
    headers = {**caching.tagged(tag), "Cache-Control": "no-cache"}
    if caching.has_newest(tag):
        return Response(status=304, headers=headers)
    return Response(body, content_type=content_type, headers=headers)
