"""The base classes of all request and response schemas, what schemas know of the service, and a problem (RFC 9457)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

import marshmallow as ma
from marshmallow import fields
from marshmallow.experimental.context import Context

from receiptsvc import ids
from receiptsvc.web.http.fields import QueryFlag, QueryInteger, Recipients, such_as

_MAX_MEMBERS = 40  # of a request's object; no schema has as many fields
_MIN_LIKENESS = 0.75  # of an unknown name to one that it is taken for a slip of; `dryRun` and `messages` have 0.29


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """What the schemas know of the service that they are used in; all other settings are the views' business."""

    public_url: str
    transport: str  # by which messages go out
    has_own_wsdl: bool  # which may have what the bundled one lacks
    send_only_to: tuple[str, ...] | None  # the prefixes that a recipient must have, digits; None: any recipient
    max_recipients: int  # of one request
    adopt_after: timedelta | None  # the age at which a receipt that fits nothing is another system's; None: never
    now: Callable[[], datetime] = lambda: datetime.now(UTC)  # by the database's clock, where there is one


class SchemaContext(Context[Installation]):
    """A block in which schemas load and dump for an installation: each request is in one."""


def message_url(message_id: UUID) -> str:
    """The public URL of a message."""
    return f"{SchemaContext.get().public_url}/v1/messages/{ids.public('msg', message_id)}"


def conversation_url(conversation_id: UUID) -> str:
    """The public URL of a conversation."""
    return f"{SchemaContext.get().public_url}/v1/conversations/{ids.public('cnv', conversation_id)}"


def about(description: str, *examples: object, **more: object) -> dict[str, Any]:
    """A field's `metadata`: its description and examples for OpenAPI; `more`: further members of its JSON Schema."""
    return {"description": description, **({"examples": list(examples)} if examples else {}), **more}


class Schema(ma.Schema):
    """The base: names are camelCase in JSON, and an attribute that the value lacks is read from its `row`."""

    class Meta:
        unknown = ma.EXCLUDE  # so that OpenAPI allows further fields in answers

    RULES: ClassVar[Mapping[str, object]] = {}  # JSON Schema keywords of the object as a whole

    @property
    def rules(self) -> Mapping[str, object]:
        """RULES for OpenAPI. An answer has all of its fields, unless RULES says which."""
        return {"required": [str(field.data_key) for field in self.dump_fields.values()], **self.RULES}

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give a field its camelCase name in JSON, unless it has one."""
        if field_obj.data_key is None:
            head, *rest = field_name.split("_")
            field_obj.data_key = head + "".join(part.capitalize() for part in rest)

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Read an attribute of a dictionary or an object, or else of its `row`.

        marshmallow's own function also resolves dotted paths and indexes, and takes a third of the time of a page.
        """
        value = _get(obj, attr)
        if value is ma.missing:
            value = _get(_get(obj, "row"), attr)
        return default if value is ma.missing else value


def _get(obj: Any, name: str) -> Any:
    return obj.get(name, ma.missing) if isinstance(obj, dict) else getattr(obj, name, ma.missing)


def example_of(schema: type[Schema], **changes: object) -> dict[str, object]:
    """An example of an answer: each field's own example, but for `changes`, by their names in JSON."""
    examples = {str(field.data_key): field.metadata["examples"][0] for field in schema().dump_fields.values()}
    return examples | changes


class Request(Schema):
    """The base of what comes in. An unknown name is refused, and the error says which one may be meant."""

    class Meta:
        unknown = ma.RAISE

    IS_OPTIONAL: ClassVar[bool] = False  # whether no body at all is the same as `{}`
    IS_PARAMETER: ClassVar[bool] = True  # of headers: whether OpenAPI lists them as parameters
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}  # names known in another part of the request: what to say of each

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.error_messages["type"] = f"Must be an object, such as {self._sketch()}."

    @property
    def rules(self) -> Mapping[str, object]:
        """RULES for OpenAPI. Required fields say so themselves."""
        return self.RULES

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name a field in JSON; refuse one that would let through text that no database can hold."""
        super().on_bind_field(field_name, field_obj)
        inner = [getattr(field_obj, name, None) for name in ("inner", "key_field", "value_field")]
        if fields.String in map(type, (field_obj, *inner)):
            raise TypeError(f"{type(self).__name__}.{field_name}: text that comes in must be a fields.Text")
        for kind, text in _OF_TYPE.items():
            if isinstance(field_obj, kind):
                said = f"Must be {text}{such_as(field_obj)}."
                field_obj.error_messages["invalid"] = said.replace("{", "{{").replace("}", "}}")  # it is a format

    def handle_error(self, error: ma.ValidationError, data: Any, **_: Any) -> None:
        """Explain each unknown name, unless there are so many that this would take long."""
        known = self._known()
        if isinstance(data, dict) and len(data) > _MAX_MEMBERS:
            error.messages = {ma.exceptions.SCHEMA: [f"Has {len(data)} members; this object knows {len(known)}."]}
        elif isinstance(data, dict) and isinstance(error.messages, dict):
            unknown = [name for name in data if error.messages.get(name) == [self.error_messages["unknown"]]]
            hints = {_folded(name): f"Is not known here; the nearest known name is {name}." for name in known}
            hints = {_folded(name): text for name, text in self.ELSEWHERE.items()} | hints
            rest = f"; known are: {', '.join(known)}" if known else ""
            for name in unknown:
                nearest = get_close_matches(_folded(str(name)[:64]), hints, n=1, cutoff=_MIN_LIKENESS)
                error.messages[name] = [hints[nearest[0]] if nearest else f"Is not known here{rest}."]
                if not nearest:  # the list once: a request may have some hundred thousand unknown names
                    rest = ""

    def _known(self) -> list[str]:
        return [str(field.data_key) for field in self.load_fields.values()]

    def _sketch(self) -> str:
        """The least object that this takes, in outline; of one that needs no field, its first."""
        needed = [field for field in self.load_fields.values() if field.required] or list(self.load_fields.values())[:1]
        lists = (fields.List, Recipients)
        shapes = [f'"{field.data_key}": {"[…]" if isinstance(field, lists) else "…"}' for field in needed]
        return f"{{{', '.join(shapes)}}}"


# What a field of a type must be, where marshmallow says only what it is not.
_OF_TYPE: Mapping[type[fields.Field[Any]], str] = {
    fields.List: "a list",
    fields.Dict: "an object",
    fields.Integer: "a whole number",
}


def _folded(name: str) -> str:
    """A name without what its spellings differ in: `dry_run`, `dry-run` and `dryRun` are one."""
    return name.lower().replace("_", "").replace("-", "")


@cache
def in_body(query: type[Request]) -> type[Request]:
    """A query's schema for the members of a JSON object: its numbers and flags are JSON's own."""

    def on_bind_field(schema: Request, field_name: str, field_obj: fields.Field[Any]) -> None:
        super(made, schema).on_bind_field(field_name, field_obj)
        if isinstance(field_obj, QueryFlag | QueryInteger):
            field_obj.is_json = True

    name = query.__name__.removesuffix("Query") + "Body"
    members = {"__doc__": query.__doc__, "__module__": query.__module__, "on_bind_field": on_bind_field}
    made: type[Request] = type(name, (query,), members)
    return made


class Problem(Schema):
    """What went wrong (RFC 9457)."""

    RULES: ClassVar[Mapping[str, object]] = {"required": ["type", "title", "status", "detail"]}

    type = fields.String(metadata=about("Always about:blank: the status tells the kind.", "about:blank"))
    title = fields.String(metadata=about("The status in words.", "Unprocessable Entity"))
    status = fields.Integer(metadata=about("The HTTP status.", 422))
    detail = fields.String(metadata=about("What was wrong.", "The body can't be understood; nothing was done."))
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata=about(
            "What is wrong with each field, by its path; of the body as a whole by `body`. Always there with 422.",
            {"messages[0].deliverAfter": ["Must be before validUntil."]},
        ),
    )
    existing = fields.List(
        fields.Dict(keys=fields.String(), values=fields.String()),
        metadata=about(
            "With 409: the messages that have the messageGuid already, each with `path`, `id` and `url`.",
            [
                {
                    "path": "messages[0].messageGuid",
                    "id": "msg_01k8z3r5t6e8vbyq0h4n2m7c9d",
                    "url": "https://example.com/v1/messages/msg_01k8z3r5t6e8vbyq0h4n2m7c9d",
                }
            ],
        ),
    )
