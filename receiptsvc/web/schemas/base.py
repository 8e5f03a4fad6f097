"""What all schemas share, those of answers and those of requests; and the schema of a problem."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields

_MAX_MEMBERS = 40  # of an object; none has as many names


def about(description: str, *examples: object, **more: object) -> dict[str, Any]:
    """A field's documentation."""
    return {"description": description, **({"examples": list(examples)} if examples else {}), **more}


class Schema(ma.Schema):
    """The base: camelCase outside, and attributes found on a `row` too, where an object is about one."""

    class Meta:
        unknown = ma.EXCLUDE  # in the documentation: more fields may come

    RULES: ClassVar[Mapping[str, object]] = {}  # what the documentation (JSON Schema) says of the object as a whole

    @property
    def rules(self) -> Mapping[str, object]:
        """The same. An answer has all of its fields, unless RULES says which."""
        return {"required": [str(field.data_key) for field in self.dump_fields.values()], **self.RULES}

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name a field in JSON, unless it has a name there."""
        if field_obj.data_key is None:
            head, *rest = field_name.split("_")
            field_obj.data_key = head + "".join(word.capitalize() for word in rest)

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """A value of what is given out, a dictionary or an object, or of the row that it is about.

        The library's own way, which knows paths and places too, would take a third of the time of a page.
        """
        found = _value(obj, attr)
        if found is ma.missing:
            found = _value(_value(obj, "row"), attr)
        return default if found is ma.missing else found


def _value(obj: Any, name: str) -> Any:
    return obj.get(name, ma.missing) if isinstance(obj, dict) else getattr(obj, name, ma.missing)


class Request(Schema):
    """The base of what comes in: an unknown name is answered with the nearest known one."""

    class Meta:
        unknown = ma.RAISE

    @property
    def rules(self) -> Mapping[str, object]:
        """What the documentation says of the object as a whole; which fields it must have, they say themselves."""
        return self.RULES

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name a field in JSON; refuse one that would let through text that no database can hold."""
        super().on_bind_field(field_name, field_obj)
        inner = [getattr(field_obj, name, None) for name in ("inner", "key_field", "value_field")]
        if fields.String in map(type, (field_obj, *inner)):
            raise TypeError(f"{type(self).__name__}.{field_name}: text that comes in must be a fields.Text")

    @ma.pre_load
    def refuse_crowds(self, data: Any, **_: Any) -> Any:
        """Refuse an object with so many members that naming each unknown one would take long."""
        if isinstance(data, dict) and len(data) > _MAX_MEMBERS:
            raise ma.ValidationError(f"Has {len(data)} members; this object knows {len(self.load_fields)}.")
        return data

    def handle_error(self, error: ma.ValidationError, *_: Any, **__: Any) -> None:
        """Name the nearest known field where one is unknown."""
        known = {str(field.data_key).lower(): str(field.data_key) for field in self.load_fields.values()}
        if isinstance(error.messages, dict):
            for name, texts in error.messages.items():
                if texts == [self.error_messages["unknown"]]:
                    [nearest] = get_close_matches(str(name).lower()[:64], known, n=1, cutoff=0)
                    error.messages[name] = [f"Is not known here; the nearest known name is {known[nearest]}."]


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
            "What is wrong with each field, by its path.", {"messages[0].recipients[1]": ["Not a valid string."]}
        ),
    )
    existing = fields.List(
        fields.Dict(keys=fields.String(), values=fields.String()),
        metadata=about(
            "With 409: the messages that have the messageGuid already, each with `path`, `id` and `url`.",
            [{"path": "messages[0].messageGuid", "id": "msg_01k8", "url": "https://example.com/v1/messages/msg_01k8"}],
        ),
    )
