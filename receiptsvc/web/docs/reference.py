"""The parts of the OpenAPI document in the words that people read: on the pages and in docs/api.md (`api_markdown`)."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from receiptsvc.web.docs.samples import JSON, Call

METHODS = ("get", "post", "put", "patch", "delete")

# What a limit's keywords of JSON Schema count.
_LIMITS = (("minLength", "maxLength", "characters"), ("minimum", "maximum", ""), ("minItems", "maxItems", "elements"))

_TITLES = {"sending": "Pause, cancel, resolve"}  # of nouns; there is a guide "Sending"

Document = dict[str, Any]  # an OpenAPI document
Schema = dict[str, Any]
Operation = dict[str, Any]  # one of its operations, with `method`, `path` and all of its `parameters`


def by_noun(document: Document) -> Iterator[tuple[dict[str, str], list[Operation]]]:
    """Each tag with its operations, in the document's order."""
    for tag in document["tags"]:
        operations = [
            {**item[method], "method": method.upper(), "path": path}
            | {"parameters": item.get("parameters", []) + item[method].get("parameters", [])}
            for path, item in document["paths"].items()
            for method in METHODS
            if method in item and tag["name"] in item[method]["tags"]
        ]
        yield tag, operations


def title(tag: dict[str, str]) -> str:
    """The title of a noun's page."""
    return _TITLES.get(tag["name"], tag["name"].capitalize())


def problems(document: Document) -> dict[str, str]:
    """The meaning of each problem, by status."""
    responses = {
        str(HTTPStatus[name].value): response for name, response in document["components"]["responses"].items()
    }
    return {status: responses[status]["description"] for status in sorted(responses)}


def scope(operation: Operation) -> str | None:
    """The scope that a key needs; None: no key is needed."""
    return next((scopes[0] for schemes in operation["security"] for scopes in schemes.values()), None)


def answers(operation: Operation) -> Iterator[tuple[str, str, Schema]]:
    """Each response that is not a problem: status, content type, schema. Without a body the last two are empty."""
    for status, response in sorted(operation["responses"].items()):
        if "$ref" not in response:
            for content_type, content in response.get("content", {"": {"schema": {}}}).items():
                yield status, content_type, content["schema"]


def errors(operation: Operation) -> list[str]:
    """The statuses of the problems that an operation may have."""
    return sorted(status for status, response in operation["responses"].items() if "$ref" in response)


def body_schema(operation: Operation) -> Schema | None:
    """The schema of an operation's body; None: it has none."""
    schema: Schema | None = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema")
    return schema


def name_of(reference: str) -> str:
    """The name of the schema that a `$ref` names."""
    return reference.rpartition("/")[2]


def references(value: object) -> Iterator[str]:
    """The names of the schemas that a part of the document names, in its order."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and "/schemas/" in inner:
                yield name_of(inner)
            elif key != "discriminator":
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(document: Document, schema: Schema) -> Schema:
    """The schema that a reference names; any other as it is."""
    if "$ref" not in schema:
        return schema
    named: Schema = document["components"]["schemas"][name_of(schema["$ref"])]
    return named


def words(document: Document, schema: Schema) -> list[str]:
    """The words of which a value is one, or a list's elements are; empty if it is anything else."""
    if "items" in schema:
        return words(document, schema["items"])
    alternatives = [schema] if "properties" in schema else schema.get("anyOf", [schema])
    found = resolved(document, alternatives[0]).get("enum", [])
    return found if len(found) > 1 else []


def example(document: Document, schema: Schema) -> Any:
    """A value that fits a schema: its own example, or one made of its parts' examples. Of a request only what it needs.

    A request that needs nothing has its first field, so that it asks for something.
    """
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example(document, resolved(document, schema))
    if "properties" in schema:
        properties = schema["properties"]
        is_request = schema.get("additionalProperties") is False
        names = schema.get("anyOf", [schema])[0].get("required") or list(properties)[: 1 if is_request else None]
        return {name: example(document, properties[name]) for name in names}
    if "anyOf" in schema:
        return example(document, schema["anyOf"][0])
    if "items" in schema:
        items = resolved(document, schema["items"]).get("oneOf", [schema["items"]])
        return [example(document, alternative) for alternative in items]
    return schema["enum"][0] if "enum" in schema else None


def address(operation: Operation) -> str:
    """An operation's address with examples for its path parameters and its required query parameters."""
    path: str = operation["path"]
    query: list[str] = []
    for parameter in operation["parameters"]:
        value = quote(str(parameter["schema"].get("examples", [""])[0]), safe="")
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", value)
        elif parameter["in"] == "query" and parameter.get("required"):
            query.append(f"{parameter['name']}={value}")
    return path + (f"?{'&'.join(query)}" if query else "")


def call(document: Document, operation: Operation) -> Call:
    """An example of an operation's use."""
    body = body_schema(operation)
    return Call(
        method=operation["method"],
        url=document["servers"][0]["url"] + address(operation),
        needs_key=scope(operation) is not None,
        body=None if body is None else example(document, body),
        answer_type=_usual_answer(operation)[1],
        headers={
            parameter["name"]: parameter["schema"]["examples"][0]
            for parameter in operation["parameters"]
            if parameter["in"] == "header" and "examples" in parameter["schema"]
        },
    )


def sample_answer(document: Document, operation: Operation) -> tuple[str, Any]:
    """The status and an example of an operation's usual answer: a JSON value, or a text in another form."""
    status, content_type, schema = _usual_answer(operation)
    value = example(document, schema)
    return status, value if content_type == JSON else str(value).strip()


def _usual_answer(operation: Operation) -> tuple[str, str, Schema]:
    found = list(answers(operation))
    return found[-1] if operation["operationId"] == "send_messages" else found[0]  # its 200 is that of a dry run


def kind(schema: Schema) -> str:
    """A schema's type in words, with the names of other schemas in brackets."""
    if "$ref" in schema:
        return f"[{name_of(schema['$ref'])}]"
    alternatives = schema.get("oneOf") or ([] if "properties" in schema else schema.get("anyOf"))
    if alternatives:
        return " or ".join(map(kind, alternatives))
    if schema.get("format") == "date-time":
        return "time" + (" or null" if "null" in schema["type"] else "")
    if "contentSchema" in schema:
        return f"events: {kind(schema['contentSchema'])}"
    if "items" in schema:
        return f"list of {kind(schema['items'])}" + (" or null" if "null" in schema.get("type", ()) else "")
    types: list[str] = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type", "anything")]
    if isinstance(schema.get("additionalProperties"), dict):
        values = kind(schema["additionalProperties"])
        types = [f"object of {values}" if name == "object" else name for name in types]
    return " or ".join(types)


def bounds(schema: Schema) -> str:
    """A value's limits in words; empty if it has none."""
    parts = [_limit(schema.get(least), schema.get(most), unit) for least, most, unit in _LIMITS]
    if "default" in schema:
        parts.append(f"default {json.dumps(schema['default'])}")
    return "; ".join(filter(None, parts))


def _limit(least: float | None, most: float | None, unit: str) -> str:
    if least is None and most is None:
        return ""
    words = f"at least {least:,}" if most is None else f"at most {most:,}" if not least else f"{least:,} to {most:,}"
    return f"{words} {unit.removesuffix('s') if (most or least) == 1 else unit}".rstrip()


def written(value: Any) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def is_needed(schema: Schema, field: str) -> bool:
    """Whether a request must have this field. False for answers, which always have all of theirs."""
    return schema.get("additionalProperties") is False and field in schema.get("required", ())
