"""The request of SendMessageCollection: from messages to the bytes of a SOAP 1.1 envelope, by zeep and a WSDL.

The bundled WSDL holds what the gateway's documentation names. DYNMARK_WSDL may name another, such as the live one;
then only elements that it declares are sent. What the gateway answers is not read here.
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
_INDISPENSABLE = ("recipients", "text", "messageGuid")  # without the last a lost answer could not be repeated
_DISPENSABLE = {*_CALLBACK_SPELLINGS, "forwardSubmissionDeliveryStatus"}  # our own wishes, not the sender's
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2 (Char)
_REMOTE = {"http", "https"}
_WSDL_SECONDS = 30.0
_WSDL_BYTES = 4 * 1024 * 1024


class Unfit(ValueError):
    """A WSDL that this service can't send with. The text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """How a WSDL declares additionalOptions: a list of pairs, perhaps inside one more element."""

    item: str | None
    key: str
    value: str

    def fill(self, options: Mapping[str, str]) -> Any:
        pairs = [{self.key: key, self.value: value} for key, value in options.items()]
        return {self.item: pairs} if self.item else pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a WSDL says of SendMessageCollection, ready to be filled in. Threads may share one."""

    account: Account
    operation: Any = field(repr=False)  # zeep's
    item: str  # the element of one message
    recipient: str  # the element of one recipient
    declared: frozenset[str]  # the elements that a message may have
    callbacks: frozenset[str]  # which of them hold the callback URL
    flags: Mapping[str, str]  # what a message must have even if nobody asked for it
    options: _Options | None
    # zeep takes a quarter of a millisecond over a message: it writes the first of each shape, the others are copies.
    _stencils: dict[tuple[str, ...], etree._Element] = field(default_factory=dict, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that go with what `write` makes."""
        return {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{self.operation.soapaction}"'}

    @property
    def takes_options(self) -> bool:
        """Whether the WSDL declares additionalOptions, in a shape that is understood."""
        return self.options is not None

    def refuse(self, message: OutboundMessage) -> str | None:
        """Why `message` can't be put into an envelope; None if it can. The reason holds nothing of its text."""
        given = _given(message)
        for name, text in _texts(given):
            found = _NOT_XML.search(text)
            if found:
                return f"{name} holds U+{ord(found.group()):04X}, which XML can't carry"
        if message.additional_options and self.options is None:
            return "additionalOptions can't be sent: the WSDL does not say how"
        missing = [name for name in given if name not in self.declared and name not in _DISPENSABLE]
        return f"{', '.join(missing)} can't be sent: the WSDL does not declare it" if missing else None

    def write(self, messages: Sequence[OutboundMessage]) -> bytes:
        """The envelope that offers `messages`, of which `refuse` refuses none."""
        collection = self._create(self.fill(messages[0]))
        collection[:] = [self._element(message) for message in messages]
        return etree.tostring(collection.getroottree(), xml_declaration=True, encoding="utf-8")

    def _element(self, message: OutboundMessage) -> etree._Element:
        fields = self.fill(message)
        if message.additional_options:
            return self._create(fields)[0]
        stencil = self._stencils.get(tuple(fields))
        if stencil is None:
            stencil = self._stencils[tuple(fields)] = deepcopy(self._create(fields)[0])
        element = deepcopy(stencil)
        for child in element:
            name = etree.QName(child).localname
            if name == "recipients":
                child[0].text = message.recipient
            elif name in fields:
                child.text = fields[name]
        return element

    def _create(self, fields: Mapping[str, Any]) -> etree._Element:
        """The collection of messages in an envelope that zeep has made, with one message in it."""
        filled = self.operation.create(
            name=self.account.username, password=self.account.password, message={self.item: [dict(fields)]}
        )
        collection: etree._Element = next(filled.content.iter("{*}message"))
        return collection

    def fill(self, message: OutboundMessage) -> dict[str, Any]:
        """What `message` says, as the library takes it."""
        fields = {**self.flags, **_given(message)}
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
    return wsdl is not None and wsdl.partition(":")[0].lower() in _REMOTE


def load(settings: Settings, *, within_seconds: float = _WSDL_SECONDS) -> Form:
    """Read the WSDL that is set, else the bundled one. Raises SettingsError if there is no account or no use in it.

    `within_seconds`: how long the network may take in all, if that is less than it may anyway.
    """
    account = account_of(settings)
    try:
        form = _form(account, settings, min(within_seconds, _WSDL_SECONDS))
        form.write([_sample()])
    except Exception as error:  # noqa: BLE001  zeep fails on a strange WSDL in ways that it doesn't list
        ours = isinstance(error, Unfit | exchange.NotSent | exchange.Unclear)
        reason = str(error) if ours else type(error).__name__
        raise SettingsError([f"DYNMARK_WSDL: can't be used ({reason}); unset it for the bundled one"]) from None
    return form


def _form(account: Account, settings: Settings, within_seconds: float) -> Form:
    operation = _operation(settings.wsdl or str(BUNDLED_WSDL), within_seconds)
    ((item, message),) = _members(dict(_members(operation.input.body))["message"])
    declared = dict(_members(message))
    missing = [name for name in _INDISPENSABLE if name not in declared]
    if missing:
        raise Unfit(f"its Message has no {', '.join(missing)}")
    ((recipient, _),) = _members(declared["recipients"])
    wanted = _CALLBACK_SPELLINGS if settings.callback_element == "both" else (settings.callback_element,)
    if not declared.keys() & set(wanted):
        raise Unfit(f"its Message has no {' or '.join(wanted)}, which DYNMARK_CALLBACK_ELEMENT asks for")
    return Form(
        account=account,
        operation=operation,
        item=item,
        recipient=recipient,
        declared=frozenset(declared),
        callbacks=frozenset(declared.keys() & set(wanted)),
        # A service of the gateway's make declares its plain flags as required: what nobody asked for is then false.
        flags={
            name: "false"
            for name, element in declared.items()
            if isinstance(element.type, Boolean) and not element.is_optional and not element.nillable
        },
        options=_options(declared.get("additionalOptions")),
    )


def _given(message: OutboundMessage) -> dict[str, Any]:
    """What is to be said of a message, by the gateway's names. What was not given is not in it."""
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


def _texts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, value
        else:
            for pair in value.items():
                yield name, "".join(pair)


def _sample() -> OutboundMessage:
    """The least that can be sent: if this can't be written, nothing can."""
    return OutboundMessage(
        id=UUID(int=0), recipient="447700900000", text="text", message_guid=str(UUID(int=0)), callback_url="http://a"
    )


def _operation(wsdl: str, within_seconds: float) -> Any:
    """zeep's idea of SendMessageCollection over SOAP 1.1."""
    loader: Any = _Loader(wsdl, within_seconds)
    document: Any = Document(wsdl, loader, settings=zeep.Settings(forbid_dtd=True))
    for service in document.services.values():
        for port in service.ports.values():
            if isinstance(port.binding, Soap11Binding):
                binding: Any = port.binding
                return binding.get(_OPERATION)
    raise Unfit("it has no SOAP 1.1 binding")


def _members(element: Any) -> list[tuple[str, Any]]:
    """The elements that may stand in `element`, in their order."""
    return list(getattr(element.type, "elements", []))


def _options(element: Any) -> _Options | None:
    """The shape of additionalOptions if it is a list of pairs of texts, a key and a value; else None."""
    if element is None:
        return None
    item = None
    if not element.accepts_multiple and len(_members(element)) == 1:
        ((item, element),) = _members(element)
    names = [name for name, member in _members(element) if isinstance(member.type, String)]
    keys = [name for name in names if name.lower() in {"key", "name"}]
    values = [name for name in names if name.lower() == "value"]
    if not element.accepts_multiple or len(_members(element)) != 2 or len(keys) != 1 or len(values) != 1:
        return None
    return _Options(item=item, key=keys[0], value=values[0])


class _Loader:
    """What zeep loads a WSDL and its imports with: from its own host or from files, never a mix, in limited time."""

    def __init__(self, wsdl: str, within_seconds: float) -> None:
        self._origin = urlsplit(wsdl)[:2]
        self._deadline = time.monotonic() + within_seconds

    def load(self, url: str) -> bytes:
        parts = urlsplit(url)
        if parts[:2] != self._origin and _REMOTE & {parts.scheme, self._origin[0]}:
            raise Unfit("it imports something from another place")
        if parts.scheme not in _REMOTE:
            return Path(unquote(parts.path) if parts.scheme == "file" else url).expanduser().read_bytes()
        left_seconds = max(0.0, self._deadline - time.monotonic())
        answer = exchange.get(url, timeout_seconds=left_seconds, max_bytes=_WSDL_BYTES)
        if answer.status != 200:
            raise Unfit(f"its address answers HTTP {answer.status}")
        return answer.body
