"""The body that asks for messages to be sent, and every rule that it must keep before anything is kept of it."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from receiptsvc.config import Settings
from receiptsvc.domain import countries, encoding
from receiptsvc.web.http import context
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.base import Request, about

MAX_TEXT = 10_000  # characters
MAX_OPTIONS = 40

ORIGINATOR = r"^(?:\+?[0-9]{2,15}|[0-9A-Za-z._ -]{2,11})$"
_ORIGINATOR = re.compile(ORIGINATOR.replace("$", r"\Z"))
_IDEMPOTENCY_KEY = "^[!-~]{1,255}$"
_NAMED_OUTSIDERS = 5  # of the characters that keep a text from being GSM

_NOT_HERE = "Can't be written to from here: this installation sends to some numbers only (SEND_ONLY_TO)."

# What a transport has no place for, and why.
_REST_LACKS = "Can't travel by REST, which this service sends by (DYNMARK_TRANSPORT); leave it out."
_LACKING: dict[str, dict[str, str]] = {
    "rest": {
        "messageGuid": _REST_LACKS,
        "additionalOptions": _REST_LACKS,
        "includeMessageText": _REST_LACKS,
    },
    "soap": {
        "additionalOptions": "How SOAP carries it is documented nowhere but in the gateway's live WSDL: "
        "set DYNMARK_WSDL, or leave it out.",
    },
}


def check_originator(text: str) -> None:
    """Raise ValidationError if this is no originator."""
    if not _ORIGINATOR.match(text):
        raise ma.ValidationError(
            "Must be 2 to 15 digits, with or without a leading +, or 2 to 11 of 0-9 a-z A-Z - _ . and space."
        )


def _check_country(code: str) -> None:
    if countries.alpha_2(code) is None:
        raise ma.ValidationError("Must be a country's three letters (ISO 3166-1 alpha-3), such as GBR.")


def _check_options(options: dict[str, str]) -> None:
    if len(options) > MAX_OPTIONS:
        raise ma.ValidationError(f"Must be at most {MAX_OPTIONS}.")


class NewMessage(Request):
    """One text to one or more people."""

    RULES: ClassVar[Mapping[str, object]] = {
        "examples": [
            {
                "recipients": ["447700900000"],
                "text": "Your parcel arrives today.",
                "originator": "ACME",
                "clientRef": "order/1234",
            }
        ]
    }

    recipients = kinds.Recipients(
        required=True,
        metadata=about(
            "Whom it goes to; each becomes a message of its own. International, with or without + or 00; or local "
            "with countryIsoCode, which then is tried first for numbers without + or 00.",
            ["447700900000"],
            type="array",
            items={"type": "string", "pattern": kinds.NUMBER},
            minItems=1,
        ),
    )
    text = kinds.words(most=MAX_TEXT, required=True, metadata=about("What it says.", "Your parcel arrives today."))
    originator = kinds.words(
        most=16,
        also=check_originator,
        allow_none=True,
        metadata=about(
            "The sender shown: 2 to 15 digits, with or without +, or 2 to 11 of 0-9 a-z A-Z - _ . and space. "
            "Without it the account's default number, so that people can reply.",
            "ACME",
            pattern=ORIGINATOR,
        ),
    )
    client_ref = kinds.words(
        most=64,
        allow_none=True,
        metadata=about("Your own reference: it comes back everywhere and names the conversation.", "order/1234"),
    )
    deliver_after = kinds.moment(allow_none=True, metadata=about("Not to be delivered before.", "2027-01-31T09:30:00Z"))
    valid_until = kinds.moment(
        allow_none=True, metadata=about("Not to be delivered after.", "2027-01-31T21:30:00+01:00")
    )
    country_iso_code = kinds.Text(
        validate=_check_country,
        allow_none=True,
        metadata=about("Where local numbers are at home: ISO 3166-1 alpha-3.", "GBR", pattern="^[A-Za-z]{3}$"),
    )
    reject_unicode = kinds.Flag(
        load_default=False, metadata=about("Refuse the text if it is not all GSM characters.", False)
    )
    include_message_text = kinds.Flag(
        load_default=False, metadata=about("Let the text come back with each receipt.", False)
    )
    filter_set_name = kinds.words(
        most=100, allow_none=True, metadata=about("The filter set that the gateway should apply.", "Night hours")
    )
    impersonate_user_name = kinds.words(
        most=100, allow_none=True, metadata=about("For resellers: the client's account to send as.", "client1")
    )
    additional_options = fields.Dict(
        keys=kinds.words(most=100),
        values=kinds.words(most=1000),
        allow_none=True,
        validate=_check_options,
        metadata=about(
            "Options for the carrier.",
            {"dest_addr_ton": "1"},
            maxProperties=MAX_OPTIONS,
        ),
    )
    message_guid = kinds.words(
        most=36,
        allow_none=True,
        metadata=about(
            "Never used before; the gateway ignores a second message with it. For a single recipient only. "
            "Without it one is made.",
            "0b9b0e0e-5c3e-4d57-9c4e-2f6f0a6f3f10",
        ),
    )

    def load(self, data: Any, **options: Any) -> Any:
        """Read a message. One without fault goes a short way; any other goes the whole way, which tells every fault."""
        if isinstance(data, dict) and not any(options.values()):
            try:
                return self._load_faultless(data)
            except (KeyError, ma.ValidationError):
                pass
        return super().load(data, **options)

    def _load_faultless(self, data: dict[str, Any]) -> dict[str, Any]:
        """What `load` gives, in a third of the time. Raises KeyError or ValidationError if there is any fault."""
        read = dict(self._absent)
        for name, value in data.items():
            attribute, field = self._named[name]
            read[attribute] = field.deserialize(value, name, data)
        if ma.missing in read.values():
            raise KeyError
        self.check(read, original_data=data)
        return read

    @cached_property
    def _named(self) -> dict[str, tuple[str, fields.Field[Any]]]:
        return {str(field.data_key): (attribute, field) for attribute, field in self.load_fields.items()}

    @cached_property
    def _absent(self) -> dict[str, Any]:
        """What stands for a field that is not there, if anything does; `missing` for those that must be."""
        return {
            attribute: field.load_default
            for attribute, field in self.load_fields.items()
            if field.required or field.load_default is not ma.missing
        }

    @ma.validates_schema(skip_on_field_errors=False, pass_original=True)
    def check(self, data: dict[str, Any], original_data: Any, **_: Any) -> None:
        """Check what lies between the fields, and what the settings allow."""
        faults: dict[str, Any] = {}
        settings = context.settings()
        until, after = data.get("valid_until"), data.get("deliver_after")
        if until and until <= context.now():
            faults["validUntil"] = ["Has gone by already."]
        elif until and after and after >= until:
            faults["deliverAfter"] = ["Must be before validUntil."]
        if data.get("message_guid") and len(data.get("recipients") or "1") != 1:
            faults["messageGuid"] = ["Can stand for one recipient only: leave it out, or send single messages."]
        outsiders = encoding.non_gsm_characters(data["text"]) if data.get("reject_unicode") and "text" in data else ()
        if outsiders:
            named = ", ".join(map(encoding.code_point, outsiders[:_NAMED_OUTSIDERS]))
            more = ", and others" if len(outsiders) > _NAMED_OUTSIDERS else ""
            faults["text"] = [f"Holds characters that are not GSM, and rejectUnicode is set: {named}{more}."]
        if settings.send_only_to is not None:
            faults |= self._out_of_bounds(data.get("recipients") or {}, settings.send_only_to)
        faults |= self._lacking(original_data, settings)
        if faults:
            raise ma.ValidationError(faults)

    @staticmethod
    def _out_of_bounds(people: dict[str, list[int]], allowed: tuple[str, ...]) -> dict[str, Any]:
        places = [places for number, places in people.items() if not number.startswith(allowed)]
        return {"recipients": {place: [_NOT_HERE] for each in places for place in each}} if places else {}

    @staticmethod
    def _lacking(original: Any, settings: Settings) -> dict[str, Any]:
        if not isinstance(original, dict) or (settings.transport == "soap" and settings.wsdl is not None):
            return {}
        return {name: [why] for name, why in _LACKING[settings.transport].items() if original.get(name)}


class SubmissionHeaders(Request):
    """What a request to send says beside its body."""

    idempotency_key = kinds.Text(
        data_key="Idempotency-Key",
        validate=validate.Regexp(_IDEMPOTENCY_KEY, error="Must be 1 to 255 visible ASCII characters."),
        metadata=about(
            "Lets this request be done once, however often it is sent: 1 to 255 visible ASCII characters, the same for "
            "each repeat. A repeat of what was done gives the same messages as they stand then, and the header "
            "Idempotency-Replayed: true. With another body it is refused (422), and while the first still runs too "
            "(409, with Retry-After). A request that failed leaves the key free; one that was done keeps it as long as "
            "its messages.",
            "order-1234-confirmation",
        ),
    )


class SubmissionQuery(Request):
    """Whether a request to send is meant."""

    dry_run = kinds.query_flag(
        load_default=False,
        metadata=about("Only tell what would be sent and what it costs, or every fault; nothing is kept.", False),
    )


class Submission(Request):
    """Messages to send: all of them, or none if any is at fault."""

    messages = fields.List(
        fields.Nested(NewMessage),
        required=True,
        validate=validate.Length(min=1),
        metadata=about("What to send, to at most 10,000 recipients in all (the setting MAX_RECIPIENTS)."),
    )

    @ma.pre_load
    def refuse_masses(self, data: Any, **_: Any) -> Any:
        """Raise Problem 413 if this is more than one request may hold."""
        given = data.get("messages") if isinstance(data, dict) else None
        most = context.settings().max_recipients
        if isinstance(given, list) and sum(_weight(message) for message in given) > most:
            raise Problem(413, f"There are more than {most:,} recipients (MAX_RECIPIENTS); send several requests.")
        return data

    @ma.validates_schema(skip_on_field_errors=False, pass_original=True)
    def refuse_twins(self, _data: Any, original_data: Any, **_: Any) -> None:
        """Refuse a messageGuid that stands twice in one request."""
        given = original_data.get("messages") if isinstance(original_data, dict) else None
        faults: dict[int, dict[str, list[str]]] = {}
        seen: set[str] = set()
        for index, message in enumerate(given if isinstance(given, list) else []):
            guid = message.get("messageGuid") if isinstance(message, dict) else None
            if isinstance(guid, str) and guid in seen:
                faults[index] = {"messageGuid": ["Stands in this request before."]}
            elif isinstance(guid, str):
                seen.add(guid)
        if faults:
            raise ma.ValidationError({"messages": faults})


def _weight(message: Any) -> int:
    listed = message.get("recipients") if isinstance(message, dict) else None
    return len(listed) if isinstance(listed, list) and listed else 1
