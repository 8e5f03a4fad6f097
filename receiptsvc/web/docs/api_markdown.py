"""The OpenAPI document as one file of Markdown, docs/api.md: `make api-docs` writes it."""

import json
import re
from collections.abc import Iterator, Sequence

from receiptsvc.web.docs import reference
from receiptsvc.web.docs.markdown import anchor
from receiptsvc.web.docs.reference import Document, Operation, Schema
from receiptsvc.web.docs.samples import layout


def write(document: Document) -> str:
    """The whole document as Markdown."""
    return "\n".join(_lines(document)) + "\n"


def sample(document: Document, operation: Operation) -> str:
    """An example request and its answer."""
    call = reference.call(document, operation)
    status, value = reference.sample_answer(document, operation)
    body = [] if call.body is None else [layout(call.body)]
    answer = value if isinstance(value, str) else layout(value)
    return "\n".join([f"{call.method} {reference.address(operation)}", *body, "", status, answer])


def _lines(document: Document) -> Iterator[str]:
    yield f"# The API of {document['info']['title']}"
    yield "\n<!-- Made from the OpenAPI document by `make api-docs`. -->\n"
    yield document["info"]["description"].strip() + "\n"
    problems = reference.problems(document)
    yield from _table(["status", "means"], ([f"`{status}`", text] for status, text in problems.items()))
    yield "## Calls\n"
    for _, operations in reference.by_noun(document):
        for operation in operations:
            link = anchor(operation["summary"])
            yield f"- `{operation['method']} {operation['path']}` [{operation['summary']}](#{link})"
    for tag, operations in reference.by_noun(document):
        yield f"\n## {reference.title(tag)}\n\n{tag['description']}"
        for operation in operations:
            yield from _operation_lines(document, operation)
    yield "\n## Objects"
    for name, schema in document["components"]["schemas"].items():
        yield from _schema_lines(document, name, schema)


def _schema_lines(document: Document, name: str, schema: Schema) -> Iterator[str]:
    yield f"\n### {name}\n\n{schema['description']}\n"
    if "properties" not in schema:
        words = ", ".join(f"`{word}`" for word in schema.get("enum", ()))
        yield f"One of {words or _link_schemas(reference.kind(schema))}."
        return
    yield from _table(
        ["field", "type", "meaning"],
        (
            [
                f"`{name}`" + (" (needed)" if reference.is_needed(schema, name) else ""),
                _link_schemas(reference.kind(field)),
                _meaning(document, field),
            ]
            for name, field in schema["properties"].items()
        ),
    )


def _operation_lines(document: Document, operation: Operation) -> Iterator[str]:
    scope = reference.scope(operation)
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
                    _link_schemas(reference.kind(parameter["schema"])),
                    _meaning(document, {**parameter["schema"], "description": parameter["description"]}),
                ]
                for parameter in operation["parameters"]
            ),
        )
    body = reference.body_schema(operation)
    answers = ", ".join(_answer(*answer) for answer in reference.answers(operation))
    optional = "" if operation.get("requestBody", {}).get("required") else ", or none"
    body_words = f"Body: {_link_schemas(reference.kind(body))}{optional}. " if body else ""
    yield f"{body_words}Answers: {answers}. Errors: {', '.join(reference.errors(operation))}.\n"
    yield "```\n" + sample(document, operation) + "\n```"


def _answer(status: str, content_type: str, schema: Schema) -> str:
    parts = [status]
    if content_type and content_type != "application/json":
        parts.append(content_type)
    if content_type == "application/json" or "contentSchema" in schema:
        parts.append(_link_schemas(reference.kind(schema)))
    return " ".join(parts)


def _meaning(document: Document, schema: Schema) -> str:
    parts = [schema.get("description", "")]
    limits = [reference.bounds(schema)]
    words = reference.words(document, schema)
    if words:
        limits.append("one of " + ", ".join(f"`{json.dumps(word)}`" for word in words))
    if any(limits):
        parts.append(f"({'; '.join(filter(None, limits))})")
    if schema.get("examples"):
        parts.append(f"Such as `{json.dumps(schema['examples'][0], ensure_ascii=False)}`.")
    return " ".join(filter(None, parts))


def _link_schemas(text: str) -> str:
    return re.sub(r"\[(\w+)\]", lambda match: f"[{match[1]}](#{anchor(match[1])})", text)


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""
