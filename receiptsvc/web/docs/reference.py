"""The OpenAPI document for people: its parts for the page, with examples, and all of it as Markdown.

`make api-docs` writes the Markdown to docs/api.md with `python -m receiptsvc.web`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from markdown_it import MarkdownIt
from markupsafe import Markup

METHODS = ("get", "post", "put", "patch", "delete")

_BOUNDS = ("format", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "default")
_MARKDOWN = MarkdownIt("commonmark", {"html": False})  # HTML in a description is shown as text

Document = dict[str, Any]  # an OpenAPI document
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


def problems(document: Document) -> dict[str, str]:
    """The meaning of each problem, by status."""
    responses = {
        str(HTTPStatus[name].value): response for name, response in document["components"]["responses"].items()
    }
    return {status: responses[status]["description"] for status in sorted(responses)}


def answers(operation: Operation) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each response that is not a problem: status, content type, schema. Without a body the last two are empty."""
    for status, response in sorted(operation["responses"].items()):
        if "$ref" not in response:
            for content_type, content in response.get("content", {"": {"schema": {}}}).items():
                yield status, content_type, content["schema"]


def errors(operation: Operation) -> list[str]:
    """The statuses of the problems that an operation may have."""
    return sorted(status for status, response in operation["responses"].items() if "$ref" in response)


def example(document: Document, schema: dict[str, Any]) -> Any:
    """A value that fits a schema: its own example, or one made of its parts' examples."""
    if "$ref" in schema:
        return example(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema and "properties" not in schema:
        return example(document, schema["anyOf"][0])
    if "items" in schema:
        alternatives = schema["items"].get("oneOf", [schema["items"]])
        return [example(document, alternative) for alternative in alternatives]
    if "properties" in schema:
        names = schema["anyOf"][0]["required"] if "anyOf" in schema else schema["properties"]
        return {name: example(document, schema["properties"][name]) for name in names}
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


def kind(schema: dict[str, Any]) -> str:
    """A schema's type in words, with the names of other schemas in brackets."""
    if "$ref" in schema:
        return f"[{schema['$ref'].rpartition('/')[2]}]"
    if "anyOf" in schema and "properties" not in schema:
        return " or ".join(map(kind, schema["anyOf"]))
    if "oneOf" in schema:
        return " or ".join(map(kind, schema["oneOf"]))
    if schema.get("format") == "date-time":
        return "time" + (" or null" if "null" in schema["type"] else "")
    if "items" in schema:
        return f"list of {kind(schema['items'])}"
    types: list[str] = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type", "anything")]
    if isinstance(schema.get("additionalProperties"), dict):
        values = kind(schema["additionalProperties"])
        types = [f"object of {values}" if name == "object" else name for name in types]
    return " or ".join(types)


def bounds(schema: dict[str, Any]) -> str:
    """A value's limits in words; empty if it has none."""
    parts = [f"{name} {json.dumps(schema[name])}" for name in _BOUNDS if name in schema and schema[name] != "date-time"]
    if "enum" in schema and len(schema["enum"]) > 1:
        parts.append("one of " + ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"]))
    return "; ".join(parts)


def is_needed(schema: dict[str, Any], field: str) -> bool:
    """Whether a request must have this field. False for answers, which always have all of theirs."""
    return schema.get("additionalProperties") is False and field in schema.get("required", ())


def markdown(document: Document) -> str:
    """The whole document as Markdown."""
    return "\n".join(_lines(document)) + "\n"


def html(text: str) -> Markup:
    """Markdown as HTML."""
    return Markup(_MARKDOWN.render(text))  # noqa: S704 - it escapes all that is not Markdown


def inline(text: str) -> Markup:
    """One paragraph's Markdown as HTML, without the paragraph's own tag."""
    return Markup(_MARKDOWN.renderInline(text))  # noqa: S704 - likewise


def linked_kind(schema: dict[str, Any]) -> Markup:
    """`kind` as HTML, whose names of schemas are links to their sections of the page."""
    return inline(re.sub(r"\[(\w+)\]", r"[\1](#schema-\1)", kind(schema)))


def _lines(document: Document) -> Iterator[str]:
    yield f"# The API of {document['info']['title']}"
    yield "\n<!-- Made from the OpenAPI document by `make api-docs`. -->\n"
    yield document["info"]["description"].strip() + "\n"
    yield from _table(["status", "means"], ([f"`{status}`", text] for status, text in problems(document).items()))
    yield "## Calls\n"
    for _, operations in by_noun(document):
        for operation in operations:
            link = _anchor(operation["summary"])
            yield f"- `{operation['method']} {operation['path']}` [{operation['summary']}](#{link})"
    for tag, operations in by_noun(document):
        yield f"\n## {tag['name'].capitalize()}\n\n{tag['description']}"
        for operation in operations:
            yield from _operation_lines(document, operation)
    yield "\n## Objects"
    for name, schema in document["components"]["schemas"].items():
        yield f"\n### {name}\n\n{schema['description']}\n"
        yield from _table(
            ["field", "type", "meaning"],
            (
                [
                    f"`{name}`" + (" (needed)" if is_needed(schema, name) else ""),
                    _link_schemas(kind(field)),
                    _meaning(field),
                ]
                for name, field in schema["properties"].items()
            ),
        )


def _operation_lines(document: Document, operation: Operation) -> Iterator[str]:
    scope = next((scopes[0] for schemes in operation["security"] for scopes in schemes.values()), None)
    yield f"\n### {operation['summary']}\n"
    yield f"`{operation['method']} {operation['path']}`: {f'scope `{scope}`' if scope else 'needs no key'}\n"
    if operation.get("description"):
        yield operation["description"] + "\n"
    if operation["parameters"]:
        yield from _table(
            ["parameter", "in", "type", "meaning"],
            (
                [
                    f"`{parameter['name']}`" + (" (needed)" if parameter.get("required") else ""),
                    parameter["in"],
                    kind(parameter["schema"]),
                    _meaning({**parameter["schema"], "description": parameter["description"]}),
                ]
                for parameter in operation["parameters"]
            ),
        )
    body = _body_schema(operation)
    responses = [
        f"{status} {_link_schemas(kind(schema)) if content_type == 'application/json' else content_type}".strip()
        for status, content_type, schema in answers(operation)
    ]
    optional = "" if operation.get("requestBody", {}).get("required") else ", or none"
    body_words = f"Body: {_link_schemas(kind(body))}{optional}. " if body else ""
    yield f"{body_words}Answers: {', '.join(responses)}. Errors: {', '.join(errors(operation))}.\n"
    yield "```\n" + sample(document, operation) + "\n```"


def _body_schema(operation: Operation) -> dict[str, Any] | None:
    schema: dict[str, Any] | None = (
        operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    )
    return schema


def sample(document: Document, operation: Operation) -> str:
    """An example request and its response."""
    lines = [f"{operation['method']} {address(operation)}"]
    body = _body_schema(operation)
    if body:
        lines.append(_to_json(example(document, body)))
    status, content_type, schema = next(iter(answers(operation)))
    if operation["operationId"] == "send_messages":  # its 200 is that of a dry run
        status, content_type, schema = list(answers(operation))[-1]
    value = example(document, schema)
    lines += ["", status, _to_json(value) if content_type == "application/json" else str(value).strip()]
    return "\n".join(lines)


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _meaning(schema: dict[str, Any]) -> str:
    parts = [schema.get("description", "")]
    if bounds(schema):
        parts.append(f"({bounds(schema)})")
    if schema.get("examples"):
        parts.append(f"Such as `{json.dumps(schema['examples'][0], ensure_ascii=False)}`.")
    return " ".join(filter(None, parts))


def _link_schemas(text: str) -> str:
    return re.sub(r"\[(\w+)\]", lambda match: f"[{match[1]}](#{_anchor(match[1])})", text)


def _anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""
