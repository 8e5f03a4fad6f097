"""Sending by REST: one call with a JSON array of messages, and what its end means for each of them.

The transport without a messageGuid: what ends unclear here is never offered again by itself. Only members that the
gateway's reference names are sent, because an unknown one fails the whole call. As over SOAP, an answer is read
leniently as to its form and strictly as to what it proves.
"""

import json
import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from receiptsvc.config import Settings
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.messages import OutboundMessage, SendOutcome, SendResult
from receiptsvc.dynmark import gateway
from receiptsvc.dynmark.outbound import answers, exchange
from receiptsvc.dynmark.transports import TRANSPORTS

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_NOTHING_WAS_READ = "ErrBadJson"
_FAILURES = "validationfailures"
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f]")
_PLACE = re.compile(r"\[([0-9]{1,6})\]")
# A string is passed over whole, also one without an end, so that the time stays in proportion to the length.
_STRING_OR_LAST_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+"?)|,(?=\s*[\]}])', re.DOTALL)
# A failure that concerns one of these concerns its message, even if it speaks of a "username".
_MEMBERS = frozenset(
    {"to", "from", "body", "countryisocode", "deliverafter", "clientref", "deliverystatusurl", "filtersetname"}
    | {"rejectunicode", "impersonateusername"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    """One item of an answer, as far as it could be read. `is_success`: None where it proves nothing."""

    recipients: frozenset[str] = frozenset()  # as it is written; at most one
    is_success: bool | None = None
    transaction: str = ""
    codes: tuple[str, ...] = ()
    description: str = ""
    detail: str = ""
    words: tuple[str, ...] = ()  # in which those of a refused logon may stand


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """What an answer has against one property of a message. Empty texts: it did not say."""

    name: str
    code: str
    details: str

    @property
    def said(self) -> str:
        return ": ".join(filter(None, (self.name, self.code)))

    @property
    def words(self) -> tuple[str, ...]:
        member = self.name.casefold().rpartition(".")[2]
        return () if member in _MEMBERS else (self.name, self.code, self.details)


class RestGateway:
    """The gateway over REST: the transport on which a lost answer stays lost. Threads may share one."""

    def __init__(self, settings: Settings) -> None:
        """Touches no network. Raises SettingsError: no account, or one that HTTP Basic can't carry."""
        account = settings.account
        if account is None:
            raise SettingsError(["DYNMARK_USERNAME: must be set, with DYNMARK_PASSWORD, to send"])
        if ":" in account.username and settings.transport == "rest":
            raise SettingsError(["DYNMARK_USERNAME: must be without a colon to send by REST (HTTP Basic)"])
        self._settings = settings
        self._auth = (account.username, account.password)
        token = b64encode(f"{account.username}:{account.password}".encode()).decode()
        self._redactor = answers.Redactor(token, account.password, hides_numbers=True)

    def send(
        self, messages: Sequence[OutboundMessage], *, repeats: frozenset[UUID] = frozenset()
    ) -> Mapping[UUID, SendResult]:
        """See `gateway.Gateway`. Raises ValueError if two messages have the same recipient."""
        answers.refuse_twins(messages)
        results: dict[UUID, SendResult] = {}
        fit: list[OutboundMessage] = []
        for message in messages:
            reason = _refuse(message)
            if reason is None:
                fit.append(message)
            else:
                results[message.id] = SendResult(outcome=SendOutcome.REFUSED, description=reason)
        if fit:
            results |= self._call(fit, repeats)
        return results

    def _call(self, messages: Sequence[OutboundMessage], repeats: frozenset[UUID]) -> dict[UUID, SendResult]:
        written = [_members(message, self._settings.rest_validity) for message in messages]
        try:
            answer = exchange.post(
                self._settings.gateway_urls["rest"],
                body=json.dumps(written, separators=(",", ":")).encode("ascii"),
                headers=_HEADERS,
                auth=self._auth,
                timeout_seconds=self._settings.gateway_timeout_seconds,
                max_bytes=answers.MAX_BYTES,
            )
        except (exchange.NotSent, exchange.Unclear) as error:
            return answers.same(messages, answers.without(error))
        listed, is_mended = _read(answer.body)
        request = answers.Request(messages, *self._auth)
        if answer.status == 401 or (answer.status == 403 and not answers.is_web_page(answer)):
            return answers.same(messages, answers.unauthorized(answer.status))
        if answer.status in {200, 202} and listed:
            items = [_item(each) for each in listed]
            if is_mended and not answers.is_about_all([item.recipients for item in items], messages):
                result = SendResult(outcome=SendOutcome.UNCLEAR, description=answers.DONT_ADD_UP)
                return answers.same(messages, result)
            return self._judge_items(items, request, messages, repeats)
        if answer.status == 400 and listed and all(map(_is_of_unread, listed)):
            return self._judge_unread([_failure(each) for each in listed], request, messages, repeats)
        what = "with a list that proves nothing" if listed else "without a list of items"
        return answers.same(messages, answers.meaningless(answer, what, TRANSPORTS["rest"].url_setting))

    def _judge_items(
        self,
        items: Sequence[_Item],
        request: answers.Request,
        messages: Sequence[OutboundMessage],
        repeats: frozenset[UUID],
    ) -> dict[UUID, SendResult]:
        """A result for each message: from the one item that names it, or because all that name nobody say the same."""
        named = [item.recipients for item in items]
        judged = [self._judge(item, request, is_repeat=True) for item in items]
        if all(result.outcome is SendOutcome.ACCOUNT_REFUSED for result in judged):
            return answers.same(messages, replace(judged[0], transaction_id=None))  # it concerns the call
        if all(result.outcome is SendOutcome.SUSPECT_UNCLEAR for result in judged):
            return answers.all_suspect(list(zip(named, judged, strict=True)), messages, repeats)
        lets_in = any(result.outcome is SendOutcome.TAKEN for result in judged)
        places = answers.pair(named, messages)
        nameless = [place for place, item in enumerate(items) if not item.recipients]
        # One item a message is documented. So, where none is missing and none is a stranger's, those that name nobody
        # are about the messages that nobody names; which about which is no matter if all say the same.
        if len({items[place] for place in nameless}) == 1 and answers.is_about_all(named, messages):
            left_over = [identifier for identifier, place in places.items() if isinstance(place, str)]
            places |= dict.fromkeys(left_over, nameless[0])
        note = answers.describe_rewriting(named, messages)
        return {
            identifier: SendResult(outcome=SendOutcome.UNCLEAR, description=found)
            if isinstance(found, str)
            else answers.add_note(
                self._judge(items[found], request, is_repeat=identifier in repeats, lets_in=lets_in), note
            )
            for identifier, found in places.items()
        }

    def _judge(self, item: _Item, request: answers.Request, *, is_repeat: bool, lets_in: bool = False) -> SendResult:
        """What an item means for its message. `lets_in`: the same answer takes other messages."""
        if item.is_success is None:
            return SendResult(outcome=SendOutcome.UNCLEAR, description="its item of the answer proves nothing")
        outcome = SendOutcome.TAKEN
        if not item.is_success:
            meanings = {self._settings.return_codes.get(code) for code in item.codes}
            meaning = meanings.pop() if len(meanings) == 1 else None
            outcome = (
                answers.refusal(is_repeat=is_repeat, has_logon_words=request.names_logon(*item.words), lets_in=lets_in)
                if meaning is None
                else answers.MEANINGS[meaning]
            )
        return SendResult(
            outcome=outcome,
            transaction_id=answers.transaction_id(item.transaction),
            code=self._redactor.keep(", ".join(item.codes)),
            description=self._redactor.keep(item.description),
            detail=self._redactor.keep(item.detail),
        )

    def _judge_unread(
        self,
        failures: Sequence[_Failure],
        request: answers.Request,
        messages: Sequence[OutboundMessage],
        repeats: frozenset[UUID],
    ) -> dict[UUID, SendResult]:
        """A call of which nothing was read: whom it names is at fault, and the others may go again."""
        against: defaultdict[int, list[_Failure]] = defaultdict(list)
        for failure in failures:
            found = _PLACE.search(failure.name)
            place = int(found[1]) if found else -1
            against[0 if len(messages) == 1 else place].append(failure)
        return {
            message.id: self._judge(_failed(against[place]), request, is_repeat=message.id in repeats)
            if place in against
            else SendResult(
                outcome=SendOutcome.NOT_SENT,
                code=_NOTHING_WAS_READ,
                description="nothing of the call was read, and this message is not named as the reason",
            )
            for place, message in enumerate(messages)
        }


def _refuse(message: OutboundMessage) -> str | None:
    """Why `message` can't travel by REST; None if it can. The reason holds nothing of its text."""
    for name, value in _members(message, "validUntil").items():
        found = _SURROGATE.search(value) if isinstance(value, str) else None
        if found:
            return f"{name} holds U+{ord(found[0]):04X}, half of a character, which JSON can't carry"
    if message.additional_options:
        return "additionalOptions can't be sent by REST"
    if message.include_message_text:
        return "includeMessageText can't be sent by REST"
    return None


def _members(message: OutboundMessage, validity: str) -> dict[str, Any]:
    """A message as the reference names its members. What was not given is not in it. `validity`: for validUntil."""
    members = {
        "to": message.recipient,
        "from": message.originator,
        "body": message.text,
        "countryIsoCode": message.country_iso_code,
        "deliverAfter": message.deliver_after and gateway.wire_time(message.deliver_after),
        validity: message.valid_until and gateway.wire_time(message.valid_until),
        "clientRef": message.client_ref,
        "deliveryStatusUrl": message.callback_url,
        "filterSetName": message.filter_set_name,
        "rejectUnicode": message.reject_unicode,
        "impersonateUserName": message.impersonate_user_name,
    }
    return {name: value for name, value in members.items() if value or name == "body"}


def _read(body: bytes) -> tuple[list[Any], bool]:
    """The items of an answer, none if it is no JSON array or a monstrous one; and whether it was read a second time.

    The second time what JSON or UTF-8 forbids inside a string is let through, marked by half a surrogate, and an item
    that holds such a mark is None. A comma after the last item, as documented, does no harm.
    """
    try:
        return _load(body.decode(json.detect_encoding(body)), lambda string: string), False
    except (ValueError, RecursionError):
        pass
    try:
        listed = _load(body.decode("utf-8-sig", "surrogateescape"), lambda string: _CONTROL.sub(_mark, string))
        return [None if _SURROGATE.search(json.dumps(each, ensure_ascii=False)) else each for each in listed], True
    except (ValueError, RecursionError):
        return [], False


def _load(text: str, mend: Callable[[str], str]) -> list[Any]:
    """A JSON array; `mend` makes its strings legal. Raises ValueError, RecursionError."""
    read = json.loads(_STRING_OR_LAST_COMMA.sub(lambda found: mend(found[1] or ""), text), object_pairs_hook=_folded)
    return read if isinstance(read, list) and _count_parts(read) <= answers.MAX_PARTS else []


def _mark(illegal: re.Match[str]) -> str:
    return chr(0xDC00 + ord(illegal[0]))


def _count_parts(listed: Sequence[Any]) -> int:
    """How many items an answer has, and failures in them."""
    items = (each for each in listed if isinstance(each, dict))
    return len(listed) + sum(len(given) for each in items if isinstance(given := each.get(_FAILURES), list))


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are read without regard to case. Raises ValueError where it says a thing twice."""
    folded = {name.casefold(): value for name, value in pairs}
    if len(folded) < len(pairs):
        raise ValueError
    return folded


def _item(given: Any) -> _Item:
    if not isinstance(given, dict):
        return _Item()
    listed = given.get(_FAILURES) or []
    failures = [_failure(each) for each in (listed if isinstance(listed, list) else [listed])]
    reason, successful = _text(given.get("failuredescription")), _flag(given.get("successful"))
    # What is no number names a recipient that no call has.
    recipients, transaction = frozenset(filter(None, [_text(given.get("to"))])), _text(given.get("transactionid"))
    if reason or failures or successful == "false":
        failed = _failed(failures)
        return replace(
            failed,
            recipients=recipients,
            transaction=transaction,
            codes=(*filter(None, (_text(given.get("failurekey")), _text(given.get("failurecode")))), *failed.codes),
            description=reason or failed.description or "it was not successful",
            words=(reason, *failed.words),
        )
    is_success = True if successful in {"", "true"} else None
    return _Item(recipients=recipients, transaction=transaction, is_success=is_success)


def _failed(failures: Sequence[_Failure]) -> _Item:
    return _Item(
        is_success=False,
        codes=tuple(dict.fromkeys(failure.code for failure in failures if failure.code)),
        description="; ".join(filter(None, (failure.said for failure in failures))),
        detail="; ".join(filter(None, (failure.details for failure in failures))),
        words=tuple(word for failure in failures for word in failure.words),
    )


def _failure(given: Any) -> _Failure:
    if not isinstance(given, dict):
        return _Failure(name="", code="", details=_text(given))
    return _Failure(
        name=_text(given.get("property")),
        code=_text(given.get("failurecode")) or _text(given.get("failurekey")),
        details=_text(given.get("details")),
    )


def _is_of_unread(given: Any) -> bool:
    return isinstance(given, dict) and _text(given.get("failurekey")) == _NOTHING_WAS_READ


def _flag(value: Any) -> str:
    """The text true or false, empty where nothing is said, or another text."""
    return str(value).casefold() if isinstance(value, bool) else _text(value).casefold()


def _text(value: Any) -> str:
    """A text or a number as a text, shortened; empty for what is empty or false."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return answers.shorten(str(value))
    return "(not a text)" if value else ""
