"""Sending by SOAP: one call of SendMessageCollection, and what its end means for each message of it.

The answer is read leniently as to its form and strictly as to what it proves: what can't be paired with a message for
certain is unclear, never guessed. How a request is written stands in `envelope`, how bytes travel in `exchange`.
"""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID
from xml.parsers import expat

from lxml import etree

from receiptsvc.config import Settings
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.messages import Amiss, Contact, OutboundMessage, SendOutcome, SendResult
from receiptsvc.dynmark.outbound import answers, envelope, exchange
from receiptsvc.dynmark.transports import TRANSPORTS

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_ITEM_TAG = re.compile(
    rb"<(?P<end>/?)(?P<name>(?:[\w.-]{1,64}:)?messageresult)(?:\s[^<>]*?)?(?P<empty>/?)>", re.IGNORECASE
)
_DECLARED = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml\s[^<>]*?encoding\s*=\s*["']([\w.-]+)["']""")
# In these a byte that looks like a mark of ASCII is one.
_LIKE_ASCII = re.compile("utf-?8|us-ascii|iso-8859-[0-9]{1,2}|windows-125[0-9]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    """One MessageResult, as far as it could be read. Empty texts: it did not say."""

    recipients: frozenset[str]  # as they are written
    transaction: str
    code: str
    description: str
    detail: str
    is_whole: bool = True  # false: it holds what XML can't, so nothing of it was read


_BROKEN = _Item(recipients=frozenset(), transaction="", code="", description="", detail="", is_whole=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Body:
    """What stood in an answer's SOAP body: a fault, or items."""

    fault: str | None
    fault_detail: str
    items: tuple[_Item, ...]


class SoapGateway:
    """The gateway over SOAP: the transport on which a lost answer may be repeated. Threads may share one."""

    def __init__(self, settings: Settings) -> None:
        """Read the WSDL if it is a file; one with an address is loaded by the first call, and again until that works.

        Raises SettingsError: no account, or a file that is of no use.
        """
        account = envelope.account_of(settings)
        self._settings = settings
        self._form = None if envelope.is_remote(settings.wsdl) else envelope.load(settings)
        self._loading = threading.Lock()
        self._ours = (account.username, account.password)
        self._redactor = answers.Redactor(account.password)

    def send(
        self, messages: Sequence[OutboundMessage], *, repeats: frozenset[UUID] = frozenset()
    ) -> Mapping[UUID, SendResult]:
        """See `gateway.Gateway`. Raises ValueError if two messages have the same recipient."""
        answers.refuse_twins(messages)
        deadline = time.monotonic() + self._settings.gateway_timeout_seconds
        try:
            form = self._loaded_form(deadline)
        except SettingsError as error:
            text = "; ".join(error.faults)
            amiss = Amiss(Contact.UNREACHABLE, text)
            return answers.same(messages, SendResult(outcome=SendOutcome.NOT_SENT, description=text, amiss=amiss))
        results: dict[UUID, SendResult] = {}
        fit: list[OutboundMessage] = []
        for message in messages:
            reason = form.refuse(message)
            if reason is None:
                fit.append(message)
            else:
                results[message.id] = SendResult(outcome=SendOutcome.REFUSED, description=reason)
        if fit:
            results |= self._call(form, fit, repeats, deadline)
        return results

    def _loaded_form(self, deadline: float) -> envelope.Form:
        """The form, loaded now if it was not yet. Raises SettingsError; then nothing was sent."""
        if self._form is not None:
            return self._form
        # A call's time is for the loading too, so that it never outlasts the lease of its messages.
        if not self._loading.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise SettingsError(["DYNMARK_WSDL: it is still being loaded"])
        try:
            if self._form is None:
                self._form = envelope.load(self._settings, within_seconds=deadline - time.monotonic())
            return self._form
        finally:
            self._loading.release()

    def _call(
        self, form: envelope.Form, messages: Sequence[OutboundMessage], repeats: frozenset[UUID], deadline: float
    ) -> dict[UUID, SendResult]:
        try:
            answer = exchange.post(
                self._settings.gateway_urls["soap"],
                body=form.write(messages),
                headers=form.headers,
                timeout_seconds=max(0.001, deadline - time.monotonic()),
                max_bytes=answers.MAX_BYTES,
            )
        except (exchange.NotSent, exchange.Unclear) as error:
            return answers.same(messages, answers.without(error))
        body = _read(answer.body)
        request = answers.Request(messages, *self._ours)
        end = self._judge_whole(answer, body, request)
        if end is not None or body is None:
            return answers.same(messages, end or SendResult(outcome=SendOutcome.UNCLEAR))
        return self._judge_items(body.items, request, messages, repeats)

    def _judge_whole(self, answer: exchange.Answer, body: _Body | None, request: answers.Request) -> SendResult | None:
        """What an answer means that says the same for every message; None if its items have to be looked at."""
        said = f"HTTP {answer.status}"
        if body is not None and body.fault is not None:
            result = SendResult(
                outcome=SendOutcome.SUSPECT_UNCLEAR
                if answer.status == 403 or request.names_logon(body.fault, body.fault_detail)
                else SendOutcome.UNCLEAR,
                description=self._redactor.keep(f"{said}, fault: {body.fault}"),
                detail=self._redactor.keep(body.fault_detail),
                amiss=Amiss(Contact.UNCLEAR, f"{said} with a SOAP fault"),
            )
            return answers.refused_credentials(result) if answer.status == 401 else result
        if answer.status == 401 or (answer.status == 403 and not answers.is_web_page(answer)):
            return answers.unauthorized(answer.status)
        if answer.status != 200 or body is None or not body.items:
            what = "without a SOAP envelope" if body is None else "with an envelope that proves nothing"
            return answers.meaningless(answer, what, TRANSPORTS["soap"].url_setting)
        return None

    def _judge_items(
        self,
        items: Sequence[_Item],
        request: answers.Request,
        messages: Sequence[OutboundMessage],
        repeats: frozenset[UUID],
    ) -> dict[UUID, SendResult]:
        """A result for each message, from the one item that names its recipient; or of an answer that only refuses."""
        named = [item.recipients for item in items]
        broken = sum(not item.is_whole for item in items)
        if broken and not answers.is_about_all(named, messages):
            return answers.same(messages, SendResult(outcome=SendOutcome.UNCLEAR, description=answers.DONT_ADD_UP))
        judged = [self._judge(item, request, is_repeat=True) for item in items]
        if all(result.outcome is SendOutcome.ACCOUNT_REFUSED for result in judged):
            return answers.same(messages, replace(judged[0], transaction_id=None))  # it concerns the call
        if all(result.outcome is SendOutcome.SUSPECT_UNCLEAR for result in judged):
            return answers.all_suspect(list(zip(named, judged, strict=True)), messages, repeats)
        lets_in = any(result.outcome is SendOutcome.TAKEN for result in judged)
        note = answers.describe_rewriting(named, messages)
        return {
            identifier: SendResult(outcome=SendOutcome.UNCLEAR, description=answers.BROKEN if broken else found)
            if isinstance(found, str)
            else answers.add_note(
                self._judge(items[found], request, is_repeat=identifier in repeats, lets_in=lets_in), note
            )
            for identifier, found in answers.pair(named, messages).items()
        }

    def _judge(self, item: _Item, request: answers.Request, *, is_repeat: bool, lets_in: bool = False) -> SendResult:
        """What an item means for each message that it names. `lets_in`: the same answer takes other messages."""
        if not item.is_whole:
            return SendResult(outcome=SendOutcome.UNCLEAR, description=answers.BROKEN)
        transaction = answers.transaction_id(item.transaction)
        has_logon_words = request.names_logon(item.description, item.detail)
        refusal = answers.refusal(is_repeat=is_repeat, has_logon_words=has_logon_words, lets_in=lets_in)
        outcome = SendOutcome.TAKEN
        if item.code.strip("0"):
            meaning = self._settings.return_codes.get(item.code)
            outcome = refusal if meaning is None else answers.MEANINGS[meaning]
        elif has_logon_words and transaction is None:
            # No code, but no id either, and words that say that nobody was let in: that is not a success.
            outcome = refusal
        result = SendResult(
            outcome=outcome,
            transaction_id=transaction,
            code=self._redactor.keep(item.code),
            description=self._redactor.keep(item.description),
            detail=self._redactor.keep(item.detail),
        )
        if item.transaction and transaction is None:
            return answers.add_note(result, "its transactionID is no number above 0")
        return result


def _read(body: bytes) -> _Body | None:
    """What an answer says, whatever its SOAP version, prefixes and namespaces; None if it is no SOAP envelope, or
    a monster: one that would grow when it is read, or has more parts than any call has messages.

    One that is not well-formed is read a second time, without the items that are at fault.
    """
    root = _parse(body.lstrip())
    return _read_whole_items(body.lstrip()) if root is None else _read_envelope(root)


def _parse(body: bytes) -> etree._Element | None:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None
    # SOAP forbids it, and only an attack has a use for it.
    return root if root.getroottree().docinfo.internalDTD is None else None


def _read_whole_items(body: bytes) -> _Body | None:
    """The items that are well-formed as they stand, the others as `_BROKEN`; None if what is around them is not.

    Each item at fault is emptied, and then the document must be a SOAP envelope with just these items: so what merely
    looks like one (in a comment, in the text of another) is never taken for one.
    """
    declared = _DECLARED.match(body)
    encoding = declared[1].decode() if declared else "utf-8"
    if not _LIKE_ASCII.fullmatch(encoding):
        return None
    mended, is_whole, end = [], [], 0
    tags = list(islice(_ITEM_TAG.finditer(body), 2 * answers.MAX_PARTS + 1))
    if len(tags) > 2 * answers.MAX_PARTS:
        return None
    for opened, closed in zip(tags[::2], tags[1::2], strict=False):
        if opened["end"] or opened["empty"] or not closed["end"]:
            return None
        item = body[opened.start() : closed.end()]
        is_whole.append(_is_well_formed(item, encoding))
        mended += [body[end : opened.start()], item if is_whole[-1] else b"<" + opened["name"] + b"/>"]
        end = closed.end()
    root = _parse(b"".join([*mended, body[end:]]))
    read = None if root is None else _read_envelope(root)
    if read is None or read.fault is not None or len(read.items) != len(is_whole):
        return None
    items = (item if whole else _BROKEN for item, whole in zip(read.items, is_whole, strict=True))
    return replace(read, items=tuple(items))


def _is_well_formed(item: bytes, encoding: str) -> bool:
    """Whether an element is XML by itself. Its prefixes are declared around it, so they are not looked at."""
    try:
        expat.ParserCreate(encoding).Parse(item, True)
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return True


def _read_envelope(root: etree._Element) -> _Body | None:
    content = _children(root).get("body") if _name(root) == "envelope" else None
    if content is None:
        return None
    fault = _children(content).get("fault")
    if fault is not None:
        parts = _children(fault)
        said = _text(parts, "faultstring") or _text(parts, "Reason") or "without a reason"
        return _Body(fault=said, fault_detail=_text(parts, "detail"), items=())
    try:
        elements = answers.within_reason(element for element in content.iter() if _name(element) == "messageresult")
        return _Body(fault=None, fault_detail="", items=tuple(map(_item, elements)))
    except answers.Unreasonable:
        return None


def _item(element: etree._Element) -> _Item:
    parts = _children(element)
    recipients = parts.get("recipients")
    named = () if recipients is None else answers.within_reason(recipients.itertext())
    return _Item(
        recipients=frozenset(filter(None, map(str.strip, named))),
        transaction=_text(parts, "transactionID"),
        code=_text(parts, "returnCode"),
        description=_text(parts, "returnDescription"),
        detail=_text(parts, "returnDetail"),
    )


def _name(element: etree._Element) -> str:
    """Its name without namespace, in lower case."""
    return str(element.tag).rpartition("}")[2].lower()


def _children(element: etree._Element) -> dict[str, etree._Element]:
    """The first child of each name."""
    return {_name(child): child for child in reversed(element)}


def _text(parts: Mapping[str, etree._Element], name: str) -> str:
    """The text inside the part of that name, shortened; empty if there is none or it is nil."""
    part = parts.get(name.lower())
    if part is None or part.get(_NIL) in {"true", "1"}:
        return ""
    return answers.shorten("".join(part.itertext()))
