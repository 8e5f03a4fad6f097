"""Sending by SOAP: one call of SendMessageCollection, and what its end means for each message of it.

The answer is read leniently as to its form and strictly as to what it proves: what can't be paired with a message for
certain is unclear, never guessed. How a request is written stands in `envelope`, how bytes travel in `exchange`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, quote_plus
from uuid import UUID
from xml.sax.saxutils import escape

from lxml import etree

from receiptsvc.config import Settings
from receiptsvc.domain.messages import OutboundMessage, Outcome, SendResult
from receiptsvc.dynmark import envelope, exchange

MOST_BYTES = 2 * 1024 * 1024  # an answer for 250 messages is a tenth of it
_LONGEST = 500  # characters kept of anything that the gateway says

_LOGON_WORDS = ("logon", "login", "credential", "username", "password", "unauthori")
_MEANINGS = {
    "failed": Outcome.REFUSED,
    "retry": Outcome.NOT_SENT,
    "duplicate": Outcome.TAKEN,
    "stop": Outcome.ACCOUNT_REFUSED,
}
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    """One MessageResult, as far as it could be read. Empty texts: it did not say."""

    recipients: frozenset[str]  # comparable
    transaction: str
    code: str
    description: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Body:
    """What stood in an answer's SOAP body: a fault, or items."""

    fault: str | None
    fault_detail: str
    items: tuple[_Item, ...]


class SoapGateway:
    """The gateway over SOAP: the transport on which a lost answer may be repeated. Threads may share one."""

    def __init__(self, settings: Settings) -> None:
        """Read the WSDL, perhaps over the network. Raises SettingsError (no account, or a WSDL that is of no use)."""
        self._form = envelope.load(settings)
        self._url = settings.soap_url
        self._timeout_seconds = settings.timeout_seconds
        self._return_codes = settings.return_codes
        self._secrets = _spellings(self._form.account.password)

    @property
    def supports_additional_options(self) -> bool:
        """Whether the WSDL says how additionalOptions travel; the bundled one does not."""
        return self._form.takes_options

    def send(
        self, messages: Sequence[OutboundMessage], *, repeats: frozenset[UUID] = frozenset()
    ) -> Mapping[UUID, SendResult]:
        """See `gateway.Gateway`. Raises ValueError if two messages have the same recipient."""
        if len({_comparable(message.recipient) for message in messages}) < len(messages):
            raise ValueError("a call may hold only one message to a recipient: its answer could not be paired")
        results: dict[UUID, SendResult] = {}
        fit: list[OutboundMessage] = []
        for message in messages:
            reason = self._form.refuse(message)
            if reason is None:
                fit.append(message)
            else:
                results[message.id] = SendResult(outcome=Outcome.REFUSED, description=reason)
        if fit:
            results |= self._call(fit, repeats)
        return results

    def _call(self, messages: Sequence[OutboundMessage], repeats: frozenset[UUID]) -> dict[UUID, SendResult]:
        try:
            answer = exchange.post(
                self._url,
                body=self._form.write(messages),
                headers=self._form.headers,
                timeout_seconds=self._timeout_seconds,
                most_bytes=MOST_BYTES,
            )
        except exchange.NotSent as error:
            return _same(messages, SendResult(outcome=Outcome.NOT_SENT, description=str(error)))
        except exchange.Unclear as error:
            return _same(messages, SendResult(outcome=Outcome.UNCLEAR, description=str(error)))
        body = _read(answer.body)
        end = self._judge_whole(answer, body)
        if end is not None or body is None:
            return _same(messages, end or SendResult(outcome=Outcome.UNCLEAR))
        return self._pair(body.items, messages, repeats)

    def _judge_whole(self, answer: exchange.Answer, body: _Body | None) -> SendResult | None:
        """What an answer means that says the same for every message; None if its items have to be looked at."""
        said = f"HTTP {answer.status}"
        if body is not None and body.fault is not None:
            refused = answer.status == 401 or _names_logon(body.fault, body.fault_detail)
            return SendResult(
                outcome=Outcome.ACCOUNT_REFUSED if refused else Outcome.UNCLEAR,
                description=self._keep(f"{said}, fault: {body.fault}"),
                detail=self._keep(body.fault_detail),
            )
        if answer.status == 401 or (answer.status == 403 and _names_logon(answer.body.decode("latin-1"))):
            return SendResult(outcome=Outcome.ACCOUNT_REFUSED, description=said)
        if answer.status != 200 or body is None or not body.items:
            what = "without a SOAP envelope" if body is None else "with an envelope that proves nothing"
            return SendResult(outcome=Outcome.UNCLEAR, description=f"{said} {what}")
        judged = [self._judge(item, is_repeat=True) for item in body.items]
        if all(result.outcome is Outcome.ACCOUNT_REFUSED for result in judged):
            return replace(judged[0], transaction_id=None)  # it concerns the call, so no item need name a message
        return None

    def _pair(
        self, items: Sequence[_Item], messages: Sequence[OutboundMessage], repeats: frozenset[UUID]
    ) -> dict[UUID, SendResult]:
        """A result for each message, from the one item that names its recipient. The order proves nothing."""
        ours = {_comparable(message.recipient): message.id for message in messages}
        claims: defaultdict[str, list[_Item]] = defaultdict(list)
        for item in items:
            for recipient in item.recipients:
                claims[recipient].append(item)
        lets_in = any(self._judge(item, is_repeat=True).outcome is Outcome.TAKEN for item in items)
        astray = sum(not item.recipients & ours.keys() for item in items)
        results: dict[UUID, SendResult] = {}
        for recipient, identifier in ours.items():
            found = claims[recipient]
            if len(found) == 1 and found[0].recipients <= ours.keys():
                results[identifier] = self._judge(found[0], is_repeat=identifier in repeats, lets_in=lets_in)
                continue
            if not found:
                why = f"no item of the answer names this recipient; {astray} of {len(items)} name none of the call's"
            elif len(found) > 1:
                why = f"{len(found)} items of the answer name this recipient"
            else:
                why = "its item also names a recipient that the call did not have"
            results[identifier] = SendResult(outcome=Outcome.UNCLEAR, description=why)
        return results

    def _judge(self, item: _Item, *, is_repeat: bool, lets_in: bool = False) -> SendResult:
        """What an item means for each message that it names. `lets_in`: the same answer takes other messages."""
        transaction = re.fullmatch(r"0*([1-9][0-9]{0,37})", item.transaction)
        names_logon = _names_logon(item.description, item.detail)
        refusal = Outcome.UNCLEAR if is_repeat else Outcome.REFUSED
        if names_logon and not lets_in:  # else the words speak of this message, such as of whom it impersonates
            refusal = Outcome.ACCOUNT_REFUSED
        outcome = Outcome.TAKEN
        if item.code.strip("0"):
            meaning = self._return_codes.get(item.code)
            outcome = refusal if meaning is None else _MEANINGS[meaning]
        elif names_logon and transaction is None:
            # No code, but no id either, and words that say that nobody was let in: that is not a success.
            outcome = refusal
        result = SendResult(
            outcome=outcome,
            transaction_id=transaction[1] if transaction else None,
            code=self._keep(item.code),
            description=self._keep(item.description),
            detail=self._keep(item.detail),
        )
        if item.transaction and transaction is None:
            note = "its transactionID is no number above 0"
            return replace(result, detail=f"{result.detail}; {note}" if result.detail else note)
        return result

    def _keep(self, text: str) -> str | None:
        """What may be kept of a text of the gateway's: short, and without our password. None if nothing is left."""
        for secret in self._secrets:
            text = text.replace(secret, "[password]")
        return " ".join(text.split())[:_LONGEST] or None


def _names_logon(*texts: str) -> bool:
    folded = " ".join(texts).casefold()
    return any(word in folded for word in _LOGON_WORDS)


def _spellings(password: str) -> tuple[str, ...]:
    """A password as an answer might echo it, the longest first."""
    spellings = {password, " ".join(password.split()), quote(password), quote(password, safe=""), quote_plus(password)}
    for quotes in ({}, {'"': "&quot;"}, {'"': "&quot;", "'": "&#39;"}, {'"': "&quot;", "'": "&apos;"}):
        spellings.add(escape(password, quotes))
    return tuple(sorted(filter(None, spellings), key=len, reverse=True))


def _same(messages: Iterable[OutboundMessage], result: SendResult) -> dict[UUID, SendResult]:
    return {message.id: result for message in messages}


def _comparable(recipient: str) -> str:
    """A number without what may be written or left out: blanks, and a leading + or 00."""
    return re.sub(r"^(\+|00)", "", "".join(recipient.split()))


def _read(body: bytes) -> _Body | None:
    """What an answer says, whatever its SOAP version, prefixes and namespaces; None if it is no SOAP envelope."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body.lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None
    if root.getroottree().docinfo.internalDTD is not None:  # SOAP forbids it, and only an attack has a use for it
        return None
    content = _child(root, "Body") if _is(root, "Envelope") else None
    if content is None:
        return None
    fault = _child(content, "Fault")
    if fault is not None:
        said = _text(fault, "faultstring") or _text(fault, "Reason") or "without a reason"
        return _Body(fault=said, fault_detail=_text(fault, "detail"), items=())
    items = tuple(_item(element) for element in content.iter() if _is(element, "MessageResult"))
    return _Body(fault=None, fault_detail="", items=items)


def _item(element: etree._Element) -> _Item:
    recipients = _child(element, "recipients")
    named = () if recipients is None else recipients.itertext()
    return _Item(
        recipients=frozenset(filter(None, map(_comparable, named))),
        transaction=_text(element, "transactionID"),
        code=_text(element, "returnCode"),
        description=_text(element, "returnDescription"),
        detail=_text(element, "returnDetail"),
    )


def _is(element: etree._Element, name: str) -> bool:
    return etree.QName(element).localname.lower() == name.lower()


def _children(element: etree._Element, name: str) -> Iterator[etree._Element]:
    return (child for child in element if _is(child, name))


def _child(element: etree._Element, name: str) -> etree._Element | None:
    return next(_children(element, name), None)


def _text(element: etree._Element, name: str) -> str:
    """All text inside the first child of that name, without outer blanks; empty if there is none or it is nil."""
    child = _child(element, name)
    if child is None or child.get(_NIL) in {"true", "1"}:
        return ""
    return "".join(child.itertext()).strip()
