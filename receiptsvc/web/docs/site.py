"""What stands on which page of /docs: a page for each noun of the API, one for each guide, and what search finds.

Targets of links are written as seen from the folder that /docs stands in, such as `docs/messages#send_messages`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup, escape

from receiptsvc.web.docs import guides, markdown, reference, samples
from receiptsvc.web.docs.markdown import Text
from receiptsvc.web.docs.reference import Document, Operation, Schema

START = "docs"

# Words that people look for, and that do not stand there: by the target that they find.
ALSO_FOUND_BY = {
    f"{START}#first-message": "openapi swagger key authorization start",
    f"{START}#calls": "endpoints reference openapi",
    f"{START}#how-to-ask": "pagination webhook poll sync rate limit timeout",
    f"{START}#errors": "429 rate limit too many requests timeout 400",
    f"{START}/messages#send_messages": "bulk price cost dry run",
    f"{START}/messages#list_messages": "pagination poll sync copy",
    f"{START}/events#stream_events": "webhook push sse eventsource poll sync",
    f"{START}/export#export_messages_csv": "bulk download excel",
    f"{START}/guides/receiving#what-became-of-a-text": "webhook poll sync",
    f"{START}/guides/sending#what-happens-after-a-time-out": "timeout retry",
    f"{START}/guides/sending#what-each-error-means": "429 timeout",
    f"{START}/guides/sending#from-a-file": "bulk price excel",
}
_MAX_WORDS_FOUND = 8000  # characters of a section that search looks at


@dataclass(frozen=True, slots=True)
class Noun:
    """A page of the API: its operations, and the schemas that none of the pages before has shown."""

    name: str
    title: str
    description: str
    operations: Sequence[Operation]
    schemas: Sequence[str]

    @property
    def target(self) -> str:
        """Where the page is."""
        return f"{START}/{self.name}"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, as the navigation lists it. `method`: of a call; empty for anything else."""

    anchor: str
    title: str
    method: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation."""

    target: str
    title: str
    sections: Sequence[Section] = ()


_START_PARTS = [Section("first-message", "Send a first message"), Section("calls", "All calls")]


class Site:
    """All pages, made from one OpenAPI document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._pages: dict[str, str] = {}  # schema's name → the page that shows it
        self.nouns = list(self._divide())
        self.other_schemas = [name for name in document["components"]["schemas"] if name not in self._pages]

    def find_noun(self, name: str) -> Noun | None:
        """The noun with this name."""
        return next((noun for noun in self.nouns if noun.name == name), None)

    def find_operation(self, name: str) -> Operation:
        """The operation with this id."""
        return next(each for noun in self.nouns for each in noun.operations if each["operationId"] == name)

    def schema(self, name: str) -> Schema:
        """The schema with this name."""
        found: Schema = self.document["components"]["schemas"][name]
        return found

    def schema_target(self, name: str) -> str:
        """Where a schema is described."""
        return f"{self._pages.get(name, START)}#schema-{name}"

    def kind(self, schema: Schema, prefix: str) -> Markup:
        """A schema's type, with links to the schemas that it names. `prefix`: of every link of the page."""

        def link(match: re.Match[str]) -> str:
            return f'<a href="{prefix}{self.schema_target(match[1])}">{match[1]}</a>'

        return Markup(re.sub(r"\[(\w+)\]", link, str(escape(reference.kind(schema)))))  # noqa: S704 - escaped

    def samples(self, operation: Operation) -> Sequence[tuple[str, Markup]]:
        """An operation's use in each language: its name, and the program."""
        call = reference.call(self.document, operation)
        return [(name, markdown.code(write(call), lexer)) for name, (lexer, write) in samples.LANGUAGES.items()]

    def body(self, operation: Operation) -> Schema:
        """The schema of an operation's body, with its fields."""
        return reference.resolved(self.document, reference.body_schema(operation) or {})

    def answer(self, operation: Operation) -> tuple[str, Markup]:
        """The status of an operation's usual answer, and an example of it."""
        status, value = reference.sample_answer(self.document, operation)
        if isinstance(value, str):
            return status, markdown.code(value)
        return status, markdown.code(samples.layout(value), "json")

    @cached_property
    def navigation(self) -> Mapping[str, Sequence[Entry]]:
        """The pages in their groups, by the group's title."""
        listed = guides.listed().items()
        return {
            "": [Entry(START, "Start", _START_PARTS + _parts(self._prose))],
            "Guides": [Entry(f"{START}/guides/{path}", text.sections[0].title, _parts(text)) for path, text in listed],
            "API": [Entry(noun.target, noun.title, list(_calls(noun))) for noun in self.nouns],
        }

    @cached_property
    def search_entries(self) -> list[dict[str, str]]:
        """What can be found: each entry's title, where it is, of what kind it is, and the other words that find it."""
        entries = [*self._start_entries(), *self._guide_entries(), *self._call_entries(), *self._schema_entries()]
        for entry in entries:
            entry["words"] += " " + ALSO_FOUND_BY.get(entry["target"], "")
        return entries

    def _divide(self) -> Iterator[Noun]:
        for tag, operations in reference.by_noun(self.document):
            target, shown = f"{START}/{tag['name']}", list[str]()
            for name in self._reachable(operations):
                if self._pages.setdefault(name, target) == target and name not in shown:
                    shown.append(name)
            yield Noun(tag["name"], reference.title(tag), tag["description"], operations, shown)

    def _reachable(self, value: object) -> Iterator[str]:
        """The names of all schemas that a part of the document needs; one may come several times."""
        waiting, seen = list(reference.references(value)), set[str]()
        while waiting:
            name = waiting.pop(0)
            if name not in seen:
                seen.add(name)
                yield name
                waiting += reference.references(self.schema(name))

    @cached_property
    def _prose(self) -> Text:
        return markdown.read(self.document["info"]["description"], lambda target: target)

    def _start_entries(self) -> Iterator[dict[str, str]]:
        for part in _START_PARTS:
            yield {"title": part.title, "target": f"{START}#{part.anchor}", "kind": "Start", "words": ""}
        for section in self._prose.sections:
            yield {
                "title": section.title,
                "target": f"{START}#{section.anchor}",
                "kind": "Start",
                "words": section.text[:_MAX_WORDS_FOUND],
            }

    def _guide_entries(self) -> Iterator[dict[str, str]]:
        for path, text in guides.listed().items():
            title = text.sections[0].title
            for section in text.sections:
                yield {
                    "title": section.title,
                    "target": f"{START}/guides/{path}#{section.anchor}",
                    "kind": "Guide" if section.level == 1 else title,
                    "words": section.text[:_MAX_WORDS_FOUND],
                }

    def _call_entries(self) -> Iterator[dict[str, str]]:
        for noun in self.nouns:
            for operation in noun.operations:
                names = [parameter["name"] for parameter in operation["parameters"]]
                yield {
                    "title": operation["summary"],
                    "target": f"{noun.target}#{operation['operationId']}",
                    "kind": f"{operation['method']} {operation['path']}",
                    "words": " ".join([*names, operation.get("description", "")]),
                }

    def _schema_entries(self) -> Iterator[dict[str, str]]:
        for name, schema in self.document["components"]["schemas"].items():
            words: Any = schema.get("properties") or schema.get("enum", ())
            yield {
                "title": name,
                "target": self.schema_target(name),
                "kind": "Object" if "properties" in schema else "Words" if "enum" in schema else "One of several",
                "words": " ".join([schema["description"], *words]),
            }


def _parts(text: Text) -> list[Section]:
    return [Section(each.anchor, each.title) for each in text.sections if each.level == 2]


def _calls(noun: Noun) -> Iterator[Section]:
    for operation in noun.operations:
        yield Section(operation["operationId"], operation["summary"], operation["method"])
    if noun.schemas:
        yield Section("objects", "Objects")
