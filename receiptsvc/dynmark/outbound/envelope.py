"""The request of SendMessageCollection: messages to the bytes of a SOAP 1.1 envelope, by zeep and a WSDL.

The bundled WSDL holds what the gateway's documentation names. DYNMARK_WSDL may name another, such as the live one; then
only elements that it declares are sent. Answers are not parsed here.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import zeep
from lxml import etree
from zeep.wsdl import Document
from zeep.wsdl.bindings import Soap11Binding
from zeep.xsd import Boolean, String

from receiptsvc.config import Account, Settings
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.messages import OutboundMessage
from receiptsvc.dynmark import gateway
from receiptsvc.dynmark.outbound import exchange

BUNDLED_WSDL = Path(__file__).with_name("messaging.wsdl")

_OPERATION = "SendMessageCollection"
_CALLBACK_SPELLINGS = ("deliveryStatusUrl", "deliveryStatusURL")
_REQUIRED = ("recipients", "text", "messageGuid")  # without messageGuid a call with a lost answer can't be repeated
_OPTIONAL = {*_CALLBACK_SPELLINGS, "forwardSubmissionDeliveryStatus"}  # ours, not the sender's: may be left out
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2 (Char)
_REMOTE_SCHEMES = {"http", "https"}
_MAX_WSDL_SECONDS = 30.0
_MAX_WSDL_BYTES = 4 * 1024 * 1024


class UnusableWsdl(ValueError):
    """This service can't send with the WSDL. The text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _OptionsShape:
    """How a WSDL declares additionalOptions: a list of pairs of elements."""

    item: str | None  # the element around each pair, if there is one
    key: str
    value: str

    def fill(self, options: Mapping[str, str]) -> Any:
        pairs = [{self.key: key, self.value: value} for key, value in options.items()]
        return {self.item: pairs} if self.item else pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """SendMessageCollection as a WSDL declares it, ready to be filled with messages. Threads may share one."""

    account: Account
    operation: Any = field(repr=False)  # zeep's operation object
    item: str  # the element of one message
    recipient: str  # the element of one recipient
    declared: frozenset[str]  # the elements that a message may have
    callbacks: frozenset[str]  # which of them hold the callback URL
    flags: Mapping[str, str]  # elements that a message must have, with the value that they have by default
    options: _OptionsShape | None
    # zeep takes 0.25 ms for a message, so it writes one of each set of fields; the others are copies of that one.
    _templates: dict[tuple[str, ...], etree._Element] = field(default_factory=dict, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers for an envelope from `write`."""
        return {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{self.operation.soapaction}"'}

    def refuse(self, message: OutboundMessage) -> str | None:
        """Why `message` can't be put into an envelope; None if it can. The reason holds nothing of its text."""
        fields = _to_fields(message)
        for name, text in _iterate_texts(fields):
            illegal = _NOT_XML.search(text)
            if illegal:
                return f"{name} holds U+{ord(illegal.group()):04X}, which XML can't carry"
        if message.additional_options and self.options is None:
            return "additionalOptions can't be sent: the WSDL does not say how"
        undeclared = [name for name in fields if name not in self.declared and name not in _OPTIONAL]
        return f"{', '.join(undeclared)} can't be sent: the WSDL does not declare it" if undeclared else None

    def write(self, messages: Sequence[OutboundMessage]) -> bytes:
        """The envelope that offers `messages`. None of them may be one that `refuse` refuses."""
        collection = self._create_collection(self.fill(messages[0]))
        collection[:] = [self._write_message(message) for message in messages]
        return etree.tostring(collection.getroottree(), xml_declaration=True, encoding="utf-8")

    def _write_message(self, message: OutboundMessage) -> etree._Element:
        fields = self.fill(message)
        if message.additional_options:
            return self._create_collection(fields)[0]
        template = self._templates.get(tuple(fields))
        if template is None:
            template = self._templates[tuple(fields)] = deepcopy(self._create_collection(fields)[0])
        element = deepcopy(template)
        for child in element:
            name = etree.QName(child).localname
            if name == "recipients":
                child[0].text = message.recipient
            elif name in fields:
                child.text = fields[name]
        return element

    def _create_collection(self, fields: Mapping[str, Any]) -> etree._Element:
        """The element of the messages in a new envelope from zeep, with one message in it."""
        envelope = self.operation.create(
            name=self.account.username, password=self.account.password, message={self.item: [dict(fields)]}
        )
        collection: etree._Element = next(envelope.content.iter("{*}message"))
        return collection

    def fill(self, message: OutboundMessage) -> dict[str, Any]:
        """The fields of `message` by element, as zeep takes them. Undeclared elements are left out."""
        fields = {**self.flags, **_to_fields(message)}
        fields["recipients"] = {self.recipient: [message.recipient]}
        if message.additional_options and self.options is not None:
            fields["additionalOptions"] = self.options.fill(message.additional_options)
        for spelling in _CALLBACK_SPELLINGS:
            if spelling not in self.callbacks:
                fields.pop(spelling, None)
        return {name: value for name, value in fields.items() if name in self.declared}


def account_of(settings: Settings) -> Account:
    """The account that SOAP can log on with. Raises SettingsError if there is none."""
    account = settings.account
    if account is None:
        raise SettingsError(["DYNMARK_USERNAME: must be set, with DYNMARK_PASSWORD, to send"])
    if _NOT_XML.search(account.username + account.password):
        raise SettingsError(["DYNMARK_PASSWORD: it or the username holds a character that XML can't carry"])
    return account


def is_remote(wsdl: str | None) -> bool:
    """Whether a WSDL has to be loaded over the network."""
    return wsdl is not None and wsdl.partition(":")[0].lower() in _REMOTE_SCHEMES


def load(settings: Settings, *, within_seconds: float = _MAX_WSDL_SECONDS) -> Form:
    """Load the WSDL that is set, else the bundled one. Raises SettingsError without an account or if it can't be used.

    `within_seconds`: the time limit for the network, 30 s at most.
    """
    account = account_of(settings)
    try:
        form = _build_form(account, settings, min(within_seconds, _MAX_WSDL_SECONDS))
        form.write([_make_sample()])
    except Exception as error:  # noqa: BLE001  zeep raises undocumented errors for a strange WSDL
        is_own_error = isinstance(error, UnusableWsdl | exchange.NotSent | exchange.Unclear)
        reason = str(error) if is_own_error else type(error).__name__
        raise SettingsError([f"DYNMARK_WSDL: can't be used ({reason}); unset it for the bundled one"]) from None
    return form


def _build_form(account: Account, settings: Settings, within_seconds: float) -> Form:
    operation = _load_operation(settings.wsdl or str(BUNDLED_WSDL), within_seconds)
    ((item, message),) = _list_children(dict(_list_children(operation.input.body))["message"])
    declared = dict(_list_children(message))
    missing = [name for name in _REQUIRED if name not in declared]
    if missing:
        raise UnusableWsdl(f"its Message has no {', '.join(missing)}")
    ((recipient, _),) = _list_children(declared["recipients"])
    spellings = _CALLBACK_SPELLINGS if settings.callback_element == "both" else (settings.callback_element,)
    if not declared.keys() & set(spellings):
        raise UnusableWsdl(f"its Message has no {' or '.join(spellings)}, which DYNMARK_CALLBACK_ELEMENT asks for")
    return Form(
        account=account,
        operation=operation,
        item=item,
        recipient=recipient,
        declared=frozenset(declared),
        callbacks=frozenset(declared.keys() & set(spellings)),
        # A service like the gateway's declares plain flags as required; a flag that the message does not set is false.
        flags={
            name: "false"
            for name, element in declared.items()
            if isinstance(element.type, Boolean) and not element.is_optional and not element.nillable
        },
        options=_find_options_shape(declared.get("additionalOptions")),
    )


def _to_fields(message: OutboundMessage) -> dict[str, Any]:
    """The fields of a message by the gateway's names, without those that are not set."""
    fields: dict[str, Any] = {
        "originator": message.originator,
        "recipients": message.recipient,
        "text": message.text,
        "clientRef": message.client_ref,
        **dict.fromkeys(_CALLBACK_SPELLINGS, message.callback_url),
        "validUntil": message.valid_until and gateway.wire_time(message.valid_until),
        "deliverAfter": message.deliver_after and gateway.wire_time(message.deliver_after),
        "forwardSubmissionDeliveryStatus": "true",
        "includeMessageTextInDeliveryStatus": "true" if message.include_message_text else None,
        "filterSetName": message.filter_set_name,
        "impersonateUserName": message.impersonate_user_name,
        "messageGuid": message.message_guid,
        "additionalOptions": message.additional_options,
    }
    return {name: value for name, value in fields.items() if value or name == "text"}


def _iterate_texts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, value
        else:
            for pair in value.items():
                yield name, "".join(pair)


def _make_sample() -> OutboundMessage:
    """A message with only the required fields: if it can't be written, none can."""
    return OutboundMessage(
        id=UUID(int=0), recipient="447700900000", text="text", message_guid=str(UUID(int=0)), callback_url="http://a"
    )


def _load_operation(wsdl: str, within_seconds: float) -> Any:
    """SendMessageCollection over SOAP 1.1, as zeep's operation object. Raises UnusableWsdl."""
    loader: Any = _Loader(wsdl, within_seconds)
    document: Any = Document(wsdl, loader, settings=zeep.Settings(forbid_dtd=True))
    for service in document.services.values():
        for port in service.ports.values():
            if isinstance(port.binding, Soap11Binding):
                binding: Any = port.binding
                return binding.get(_OPERATION)
    raise UnusableWsdl("it has no SOAP 1.1 binding")


def _list_children(element: Any) -> list[tuple[str, Any]]:
    """Name and declaration of the elements that `element` may contain, in their order."""
    return list(getattr(element.type, "elements", []))


def _find_options_shape(element: Any) -> _OptionsShape | None:
    """The shape of additionalOptions if it is a list of pairs of strings, a key and a value; else None."""
    if element is None:
        return None
    item = None
    if not element.accepts_multiple and len(_list_children(element)) == 1:
        ((item, element),) = _list_children(element)
    names = [name for name, member in _list_children(element) if isinstance(member.type, String)]
    keys = [name for name in names if name.lower() in {"key", "name"}]
    values = [name for name in names if name.lower() == "value"]
    if not element.accepts_multiple or len(_list_children(element)) != 2 or len(keys) != 1 or len(values) != 1:
        return None
    return _OptionsShape(item=item, key=keys[0], value=values[0])


class _Loader:
    """zeep's loader of a WSDL and its imports: from one host or from files, never a mix, within a time limit."""

    def __init__(self, wsdl: str, within_seconds: float) -> None:
        self._origin = urlsplit(wsdl)[:2]
        self._deadline = time.monotonic() + within_seconds

    def load(self, url: str) -> bytes:
        parts = urlsplit(url)
        if parts[:2] != self._origin and _REMOTE_SCHEMES & {parts.scheme, self._origin[0]}:
            raise UnusableWsdl("it imports something from another place")
        if parts.scheme not in _REMOTE_SCHEMES:
            return Path(unquote(parts.path) if parts.scheme == "file" else url).expanduser().read_bytes()
        remaining_seconds = max(0.0, self._deadline - time.monotonic())
        answer = exchange.get(url, timeout_seconds=remaining_seconds, max_bytes=_MAX_WSDL_BYTES)
        if answer.status != 200:
            raise UnusableWsdl(f"its address answers HTTP {answer.status}")
        return answer.body
