"""The API's description for people: examples, and the OpenAPI document as Markdown, which is docs/api.md.

`make api-docs` writes it, by `python -m receiptsvc.web`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

METHODS = ("get", "post", "put", "patch", "delete")

_BOUNDS = ("format", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "default")

Document = dict[str, Any]  # an OpenAPI document
Operation = dict[str, Any]  # one of its operations, with `method`, `path` and all of its `parameters`


def by_noun(document: Document) -> Iterator[tuple[dict[str, str], list[Operation]]]:
    """Each tag with its operations, in the document's order."""
    for tag in document["tags"]:
        found = [
            {**ways[method], "method": method.upper(), "path": path}
            | {"parameters": ways.get("parameters", []) + ways[method].get("parameters", [])}
            for path, ways in document["paths"].items()
            for method in METHODS
            if method in ways and tag["name"] in ways[method]["tags"]
        ]
        yield tag, found


def problems(document: Document) -> dict[str, str]:
    """What each status of a problem means."""
    known = {str(HTTPStatus[name].value): answer for name, answer in document["components"]["responses"].items()}
    return {status: known[status]["description"] for status in sorted(known)}


def answers(operation: Operation) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each answer that is no problem: status, content type, schema. One without a body has neither."""
    for status, answer in sorted(operation["responses"].items()):
        if "$ref" not in answer:
            for content_type, content in answer.get("content", {"": {"schema": {}}}).items():
                yield status, content_type, content["schema"]


def errors(operation: Operation) -> list[str]:
    """The statuses of the problems that an operation may have."""
    return sorted(status for status, answer in operation["responses"].items() if "$ref" in answer)


def example(document: Document, schema: dict[str, Any]) -> Any:
    """A value that fits a schema: its own example, or made of those of its parts."""
    if "$ref" in schema:
        return example(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema and "properties" not in schema:
        return example(document, schema["anyOf"][0])
    if "items" in schema:
        kinds = schema["items"].get("oneOf", [schema["items"]])
        return [example(document, kind) for kind in kinds]
    if "properties" in schema:
        names = schema["anyOf"][0]["required"] if "anyOf" in schema else schema["properties"]
        return {name: example(document, schema["properties"][name]) for name in names}
    return schema["enum"][0] if "enum" in schema else None


def address(operation: Operation) -> str:
    """An operation's address with examples in it: for its path, and for what its query must have."""
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
    """A schema's type in words. Names of other schemas stand in brackets."""
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
        types = [f"object of {kind(schema['additionalProperties'])}" if one == "object" else one for one in types]
    return " or ".join(types)


def bounds(schema: dict[str, Any]) -> str:
    """What a value must keep to, in words; empty if that is nothing."""
    told = [f"{name} {json.dumps(schema[name])}" for name in _BOUNDS if name in schema and schema[name] != "date-time"]
    if "enum" in schema and len(schema["enum"]) > 1:
        told.append("one of " + ", ".join(f"`{json.dumps(word)}`" for word in schema["enum"]))
    return "; ".join(told)


def is_needed(schema: dict[str, Any], field: str) -> bool:
    """Whether a request must have this field. Of an answer, which has them all, there is no need to say so."""
    return schema.get("additionalProperties") is False and field in schema.get("required", ())


def markdown(document: Document) -> str:
    """The whole document for people."""
    return "\n".join(_lines(document)) + "\n"


def html(text: str) -> Markup:
    """The few things of Markdown that our descriptions use: paragraphs, headings, lists, code and bold words."""
    return Markup("\n").join(map(_block, re.split(r"\n{2,}", text.strip())))


def _block(text: str) -> Markup:
    if text.startswith("```"):
        return Markup("<pre>{}</pre>").format(text.strip("`\n"))
    if text.startswith("## "):
        return Markup("<h2>{}</h2>").format(inline(text[3:]))
    for mark, tag in ((r"- ", "ul"), (r"\d+\. ", "ol")):
        if re.match(mark, text):
            items = re.split(rf"(?:^|\n){mark}", text)[1:]
            return Markup(f"<{tag}>{{}}</{tag}>").format(  # noqa: S704 - of two words of ours
                Markup("").join(Markup("<li>{}</li>").format(inline(item)) for item in items)
            )
    return Markup("<p>{}</p>").format(inline(text))


def inline(text: str) -> Markup:
    """Text of one paragraph, its code and bold words marked."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked))  # noqa: S704 - escaped above


def _lines(document: Document) -> Iterator[str]:
    yield f"# The API of {document['info']['title']}"
    yield "\n<!-- Made of the OpenAPI document by `make api-docs`. -->\n"
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
            yield from _call(document, operation)
    yield "\n## Objects"
    for name, schema in document["components"]["schemas"].items():
        yield f"\n### {name}\n\n{schema['description']}\n"
        yield from _table(
            ["field", "type", "meaning"],
            (
                [f"`{field}`" + (" (needed)" if is_needed(schema, field) else ""), _linked(kind(one)), _meaning(one)]
                for field, one in schema["properties"].items()
            ),
        )


def _call(document: Document, operation: Operation) -> Iterator[str]:
    scope = next((scopes[0] for each in operation["security"] for scopes in each.values()), None)
    yield f"\n### {operation['summary']}\n"
    yield f"`{operation['method']} {operation['path']}`: {f'scope `{scope}`' if scope else 'needs no key'}\n"
    if operation.get("description"):
        yield operation["description"] + "\n"
    if operation["parameters"]:
        yield from _table(
            ["parameter", "in", "type", "meaning"],
            (
                [
                    f"`{one['name']}`" + (" (needed)" if one.get("required") else ""),
                    one["in"],
                    kind(one["schema"]),
                    _meaning({**one["schema"], "description": one["description"]}),
                ]
                for one in operation["parameters"]
            ),
        )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    given = [
        f"{status} {_linked(kind(schema)) if content_type == 'application/json' else content_type}".strip()
        for status, content_type, schema in answers(operation)
    ]
    takes = f"Body: {_linked(kind(body))}. " if body else ""
    failing = ", ".join(errors(operation))
    yield f"{takes}Answers: {', '.join(given)}. Errors: {failing}.\n"
    yield "```\n" + sample(document, operation) + "\n```"


def sample(document: Document, operation: Operation) -> str:
    """A call and its answer, as an example."""
    lines = [f"{operation['method']} {address(operation)}"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        lines.append(_json(example(document, body)))
    status, content_type, schema = next(iter(answers(operation)))
    if operation["operationId"] == "send_messages":  # its 200 is that of a dry run
        status, content_type, schema = list(answers(operation))[-1]
    value = example(document, schema)
    lines += ["", status, _json(value) if content_type == "application/json" else str(value).strip()]
    return "\n".join(lines)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _meaning(schema: dict[str, Any]) -> str:
    told = [schema.get("description", "")]
    if bounds(schema):
        told.append(f"({bounds(schema)})")
    if schema.get("examples"):
        told.append(f"Such as `{json.dumps(schema['examples'][0], ensure_ascii=False)}`.")
    return " ".join(filter(None, told))


def _linked(words: str) -> str:
    return re.sub(r"\[(\w+)\]", lambda found: f"[{found[1]}](#{_anchor(found[1])})", words)


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _table(heads: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""
