"""The request that sends messages, and every rule it must keep before anything is stored."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from receiptsvc.domain import countries, encoding, references
from receiptsvc.dynmark import transports
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.base import Installation, Request, SchemaContext, about

MAX_TEXT = 10_000  # characters
MAX_OPTIONS = 40

ORIGINATOR = r"^(?:\+?[0-9]{2,15}|[0-9A-Za-z._ -]{2,11})$"
_ORIGINATOR = re.compile(ORIGINATOR.replace("$", r"\Z"))
_IDEMPOTENCY_KEY = "^[!-~]{1,255}$"
_MAX_NAMED_OUTSIDERS = 5  # in the error: of the characters that keep a text from being GSM

_NOT_ALLOWED_HERE = "Can't be written to from here: this installation sends to some numbers only (SEND_ONLY_TO)."


_BESIDE_THE_BODY = {
    "dryRun": "Belongs into the query: ?dryRun=true.",
    "idempotencyKey": "Belongs into the header Idempotency-Key.",
}


def check_originator(text: str) -> None:
    """Raise ValidationError if `text` can't be an originator."""
    if not _ORIGINATOR.match(text):
        raise ma.ValidationError(
            "Must be 2 to 15 digits, with or without a leading +, or 2 to 11 of 0-9 a-z A-Z - _ . and space."
        )


def new_originator(description: str, **options: Any) -> kinds.Text:
    """The sender of new messages, or of a suppression: what the gateway takes."""
    field = kinds.Text(validate=check_originator, **options)
    field.metadata = about(description, "ACME", pattern=ORIGINATOR)
    return field


def _check_country(code: str) -> None:
    if countries.alpha_2(code) is None:
        raise ma.ValidationError("Must be a country's three letters (ISO 3166-1 alpha-3), such as GBR.")


def _check_options(options: dict[str, str]) -> None:
    if len(options) > MAX_OPTIONS:
        raise ma.ValidationError(f"Must be at most {MAX_OPTIONS}.")


class NewMessage(Request):
    """One text to one or more people."""

    ELSEWHERE: ClassVar[Mapping[str, str]] = _BESIDE_THE_BODY
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
            "The numbers it goes to; each becomes a message of its own. International, with or without + or 00; or "
            "of the country countryIsoCode, then with or without its code; one of another country then needs + or 00. "
            "Digits of any script, usual separators and invisible characters are taken; letters, extensions and "
            "decimals are refused.",
            ["447700900000"],
            type="array",
            items={"type": "string", "pattern": kinds.NUMBER},
            minItems=1,
        ),
    )
    text = kinds.text(max_length=MAX_TEXT, required=True, metadata=about("Its text.", "Your parcel arrives today."))
    originator = new_originator(
        "The sender shown: 2 to 15 digits, with or without +, or 2 to 11 of 0-9 a-z A-Z - _ . and space. Without it "
        "the account's default number is used, so that people can reply.",
        allow_none=True,
    )
    client_ref = kinds.new_client_ref(
        allow_none=True,
        metadata=about(
            "Your own reference: every answer has it, and it names the conversation. Blanks at its ends are trimmed; "
            "characters beyond the Basic Multilingual Plane, such as emoji, count twice.",
            "order/1234",
        ),
    )
    deliver_after = kinds.moment(
        allow_none=True, metadata=about("Do not deliver it before this time.", "2027-01-31T09:30:00Z")
    )
    valid_until = kinds.moment(
        allow_none=True, metadata=about("Do not deliver it after this time.", "2027-01-31T21:30:00+01:00")
    )
    country_iso_code = kinds.Text(
        validate=_check_country,
        allow_none=True,
        metadata=about(
            "Where numbers without + or 00 are at home: ISO 3166-1 alpha-3. They must have its calling code.",
            "GBR",
            pattern="^[A-Za-z]{3}$",
        ),
    )
    reject_unicode = kinds.Flag(
        load_default=False, metadata=about("Refuse the text if it has characters outside GSM.", False)
    )
    include_message_text = kinds.Flag(load_default=False, metadata=about("Have each receipt carry the text.", False))
    filter_set_name = kinds.text(
        max_length=100, allow_none=True, metadata=about("The filter set that the gateway should apply.", "Night hours")
    )
    impersonate_user_name = kinds.text(
        max_length=100, allow_none=True, metadata=about("For resellers: the client's account to send as.", "client1")
    )
    additional_options = kinds.TextByName(
        keys=kinds.text(max_length=100),
        values=kinds.text(max_length=1000),
        allow_none=True,
        validate=_check_options,
        metadata=about(
            "Options for the carrier.",
            {"dest_addr_ton": "1"},
            maxProperties=MAX_OPTIONS,
        ),
    )
    message_guid = kinds.message_guid(
        allow_none=True,
        metadata=about(
            "A GUID that was never used before; the gateway ignores a second message with it. Neither case, nor "
            "the hyphens and braces of a GUID, make a difference. For a single recipient only. Without it one is made.",
            "0b9b0e0e-5c3e-4d57-9c4e-2f6f0a6f3f10",
        ),
    )

    @ma.validates_schema(skip_on_field_errors=False, pass_original=True)
    def check(self, data: dict[str, Any], original_data: Any, **_: Any) -> None:
        """Check rules between fields, and what the installation allows."""
        faults: dict[str, Any] = {}
        installation = SchemaContext.get()
        until, after = data.get("valid_until"), data.get("deliver_after")
        if until and until <= installation.now():
            faults["validUntil"] = ["Has gone by already."]
        elif until and after and after >= until:
            faults["deliverAfter"] = ["Must be before validUntil."]
        if data.get("message_guid") and len(data.get("recipients") or "1") != 1:
            faults["messageGuid"] = ["Can stand for one recipient only: leave it out, or send single messages."]
        outsiders = encoding.non_gsm_characters(data["text"]) if data.get("reject_unicode") and "text" in data else ()
        if outsiders:
            code_points = ", ".join(map(encoding.code_point, outsiders[:_MAX_NAMED_OUTSIDERS]))
            more = ", and others" if len(outsiders) > _MAX_NAMED_OUTSIDERS else ""
            faults["text"] = [f"Holds characters that are not GSM, and rejectUnicode is set: {code_points}{more}."]
        if installation.send_only_to is not None:
            faults |= self._find_not_allowed(data.get("recipients") or {}, installation.send_only_to)
        faults |= self._find_unsupported(original_data, installation)
        if faults:
            raise ma.ValidationError(faults)

    @staticmethod
    def _find_not_allowed(recipients: dict[str, list[int]], allowed: tuple[str, ...]) -> dict[str, Any]:
        indexes = [index for number, at in recipients.items() if not number.startswith(allowed) for index in at]
        return {"recipients": {index: [_NOT_ALLOWED_HERE] for index in indexes}} if indexes else {}

    @staticmethod
    def _find_unsupported(original: Any, installation: Installation) -> dict[str, Any]:
        if not isinstance(original, dict):
            return {}
        lacks = transports.unsupported(installation.transport, has_wsdl=installation.has_own_wsdl)
        return {name: [why] for name, why in lacks.items() if original.get(name)}


class SubmissionHeaders(Request):
    """The headers of a request that sends messages."""

    idempotency_key = kinds.Text(
        data_key="Idempotency-Key",
        validate=validate.Regexp(_IDEMPOTENCY_KEY, error="Must be 1 to 255 visible ASCII characters."),
        metadata=about(
            "Makes a repeat of this request harmless: 1 to 255 visible ASCII characters, one key for each thing that "
            "you send, such as one order's confirmation, and the same one again for each repeat. A "
            "repeat of a request that succeeded gives the same messages with their present statuses, and the header "
            "Idempotency-Replayed: true. With another body it is refused (422), and also while the first still runs "
            "(409, with Retry-After). A request that failed leaves the key free; one that succeeded keeps it as long "
            "as its messages are kept.",
            "order-1234-confirmation",
        ),
    )


class SubmissionQuery(Request):
    """Whether a request to send is a dry run."""

    ELSEWHERE: ClassVar[Mapping[str, str]] = {"idempotencyKey": _BESIDE_THE_BODY["idempotencyKey"]}

    dry_run = kinds.query_flag(
        load_default=False,
        metadata=about("Only report what would be sent and what it costs, or every fault; nothing is kept.", False),
    )


class Submission(Request):
    """Messages to send: all of them, or none if any of them is invalid."""

    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(map(str, NewMessage().fields), "Belongs into an item of messages."),
        **_BESIDE_THE_BODY,
    }

    messages = fields.List(
        fields.Nested(NewMessage),
        required=True,
        validate=validate.Length(min=1, error="Must hold at least one message."),
        metadata=about("What to send, to at most 10,000 recipients in all (the setting MAX_RECIPIENTS)."),
    )

    @ma.pre_load
    def refuse_too_many(self, data: Any, **_: Any) -> Any:
        """Raise Problem 413 if there are more recipients than one request may have."""
        messages = data.get("messages") if isinstance(data, dict) else None
        limit = SchemaContext.get().max_recipients
        if isinstance(messages, list) and sum(map(_count_recipients, messages)) > limit:
            raise Problem(413, f"There are more than {limit:,} recipients (MAX_RECIPIENTS); send several requests.")
        return data

    @ma.validates_schema(skip_on_field_errors=False, pass_original=True)
    def refuse_repeated_guids(self, _data: Any, original_data: Any, **_: Any) -> None:
        """Refuse a messageGuid that occurs twice in one request."""
        messages = original_data.get("messages") if isinstance(original_data, dict) else None
        faults: dict[int, dict[str, list[str]]] = {}
        seen: set[str] = set()
        for index, message in enumerate(messages if isinstance(messages, list) else []):
            guid = message.get("messageGuid") if isinstance(message, dict) else None
            key = references.guid_key(guid) if isinstance(guid, str) else None
            if key is not None and key in seen:
                faults[index] = {"messageGuid": ["Occurs twice in this request; case makes no difference."]}
            elif key is not None:
                seen.add(key)
        if faults:
            raise ma.ValidationError({"messages": faults})


def _count_recipients(message: Any) -> int:
    recipients = message.get("recipients") if isinstance(message, dict) else None
    return len(recipients) if isinstance(recipients, list) and recipients else 1
