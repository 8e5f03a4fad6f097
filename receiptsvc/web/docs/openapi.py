"""Makes the OpenAPI document of an application from its views and schemas. How people see it is not its business."""

import inspect
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import flask_smorest
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_instance
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import fields

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.web.http import errors
from receiptsvc.web.http.endpoints import BEARER, PROBLEMS
from receiptsvc.web.schemas.base import Problem, Schema
from receiptsvc.web.schemas.conversations import TIMELINE
from receiptsvc.web.schemas.events import EVENTS

Document = dict[str, Any]

EVENT_STREAM = "text/event-stream"

_INFO = {"license": {"name": "MIT", "identifier": "MIT"}}
_REFERENCE = "#/components/schemas/"

# Lists of words that many schemas share. Any other has its field's title, or the names of schema and field.
_SHARED_WORDS: dict[frozenset[str], tuple[str, str]] = {
    frozenset(each.value for each in Status): ("MessageStatus", "Where a message stands."),
    frozenset(each.value for each in Effect): ("ReportEffect", "What a report did when it was recorded."),
    frozenset(each.value for each in ReceiptOutcome): ("ReceiptOutcome", "What became of a kept receipt."),
}


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


def document_of(app: Flask, server_url: str, description: str) -> Document:
    """The OpenAPI document of an application: of those of its blueprints that are flask-smorest's.

    It is made on an application of its own and only when it is asked for: this takes longer than all else that a
    process does at its start. `description`: of the whole, in Markdown.
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
            "info": {**_INFO, "description": description},
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
    document: Document = api.spec.to_dict()
    _describe_streams(document)
    _name_parts(document)
    return document


def _describe_property_names(converter: Any, field: Any, **_: object) -> dict[str, Any]:
    """JSON Schema's `propertyNames` for a Dict field whose keys are validated."""
    names = field.key_field if isinstance(field, fields.Dict) else None
    return {"propertyNames": converter.field2property(names)} if names is not None and names.validators else {}


def _describe_streams(document: Document) -> None:
    """Say what the data of an event is: OpenAPI 3.1 knows an event stream only as text."""
    events = [{"$ref": _REFERENCE + schema.__name__} for schema in EVENTS]
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values() if isinstance(operation, dict) else ():
                for content_type, content in response.get("content", {}).items():
                    if content_type == EVENT_STREAM:
                        content["schema"] |= {"contentMediaType": EVENT_STREAM, "contentSchema": {"oneOf": events}}


def _name_parts(document: Document) -> None:
    """Make components of all lists of words, and of what stands for one of several objects.

    Generators of clients make a type of each. Without a name of ours they number theirs: `StatusType1`. A field may
    give the name as its `title`.
    """
    schemas = document["components"]["schemas"]
    named: dict[frozenset[str], str] = {}

    def name_words(owner: str, meaning: str, schema: dict[str, Any]) -> None:
        words, title = frozenset(schema["enum"]) - {None}, schema.pop("title", owner)
        if words not in named:
            name, description = _SHARED_WORDS.get(words, (title, meaning))
            if name in schemas:
                raise ValueError(f"there are two schemas {name}: give one of the fields a title")
            ordered = [word for word in schema["enum"] if word is not None]
            schemas[name] = {"type": "string", "enum": ordered, "description": description}
            named[words] = name
        reference = {"$ref": _REFERENCE + named[words]}
        is_nullable = None in schema.pop("enum")
        schema.pop("type", None)
        schema |= {"anyOf": [reference, {"type": "null"}]} if is_nullable else reference

    def name_alternatives(schema: dict[str, Any]) -> None:
        references = [alternative["$ref"] for alternative in schema["oneOf"]]
        types = [schemas[each.removeprefix(_REFERENCE)]["properties"]["type"]["enum"][0] for each in references]
        discriminator = {"propertyName": "type", "mapping": dict(zip(types, references, strict=True))}
        name = schema.pop("title")
        schemas[name] = {
            "description": schema.pop("description"),
            "oneOf": schema.pop("oneOf"),
            "discriminator": discriminator,
        }
        schema["$ref"] = _REFERENCE + name

    for owner, meaning, schema in list(_inline_schemas(document)):
        if len(schema.get("enum", ())) > 1:
            name_words(owner, meaning, schema)
        elif "title" in schema and "oneOf" in schema:
            name_alternatives(schema)


def _inline_schemas(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each schema of a field, an element or a parameter: a name made of its places, its description, itself."""
    for name, schema in list(document["components"]["schemas"].items()):
        for field, inner in schema.get("properties", {}).items():
            owner = name.removesuffix("Body") + _capitalised(field)
            yield from _with_elements(owner, inner.get("description", ""), inner)
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()) if isinstance(operation, dict) else ():
                owner = "".join(map(_capitalised, operation["operationId"].split("_"))) + _capitalised(
                    parameter["name"]
                )
                yield from _with_elements(owner, parameter["description"], parameter["schema"])


def _with_elements(owner: str, meaning: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield owner, meaning, schema
    for part in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(part), dict):
            yield from _with_elements(owner, meaning, schema[part])


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]
