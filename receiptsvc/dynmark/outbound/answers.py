"""What the answers of both transports have in common: whom an item is about, what its words mean, what may be kept.

How an answer is written, and so how it is read, is each transport's own business.
"""

import itertools
import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import TypeVar
from urllib.parse import quote, quote_plus
from uuid import UUID
from xml.sax.saxutils import escape

from receiptsvc.domain import numbers
from receiptsvc.domain.messages import Amiss, Contact, OutboundMessage, SendOutcome, SendResult
from receiptsvc.dynmark.outbound import exchange

MAX_BYTES = 2 * 1024 * 1024  # an answer for 250 messages is a tenth of it
BROKEN = "no item that could be read names this recipient: one holds an illegal character"
DONT_ADD_UP = "an item of the answer holds an illegal character, and its items don't add up to the call's recipients"
MAX_PARTS = 2_000  # items, or names or faults in them, of an answer for at most 250 messages
_LONGEST_READ = 12_000  # characters looked at of one text; a message's own has 10,000 at most
_MOST_WORDS = 100_000  # characters of one answer that are compared with all that was sent
_LONGEST = 500  # characters kept of anything that the gateway says

# What RETURN_CODES may say of a code.
MEANINGS = {
    "failed": SendOutcome.REFUSED,
    "retry": SendOutcome.NOT_SENT,
    "duplicate": SendOutcome.TAKEN,
    "stop": SendOutcome.ACCOUNT_REFUSED,
}
_LOGON_WORDS = ("logon", "login", "credential", "username", "password", "unauthori")
# Atomic and possessive: what stands before it is read once, however much of it there is.
_PAGE = re.compile(
    rb"(?>\xef\xbb\xbf|\s+|<!--.*?-->|<\?xml[^<>]*\?>)*+<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
_MAX_BEFORE_PAGE = 2_000  # bytes that are looked at
_Part = TypeVar("_Part")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no database takes them, and JSON can bring them


class Unreasonable(ValueError):
    """An answer of so many parts that no gateway means it: it is not looked at further, and proves nothing."""


def within_reason(parts: Iterable[_Part]) -> list[_Part]:
    """As a list. Raises Unreasonable if there are more than MAX_PARTS; no more than that are looked at."""
    taken = list(itertools.islice(parts, MAX_PARTS + 1))
    if len(taken) > MAX_PARTS:
        raise Unreasonable
    return taken


def shorten(text: str) -> str:
    """As much of a text as is looked at: with single blanks, and not all of a very long one."""
    return _folded(text[: 4 * _LONGEST_READ])[:_LONGEST_READ]


class Redactor:
    """Makes texts of the gateway fit to be kept."""

    def __init__(self, *secrets: str, hides_numbers: bool = False) -> None:
        """`secrets` are cut out in each writing that an answer might echo; `hides_numbers`: phone numbers too."""
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        self._spellings = sorted(spellings, key=len, reverse=True)
        self._hides_numbers = hides_numbers

    def keep(self, text: str) -> str | None:
        """What may be kept of a text: short, and without our password. None if nothing is left."""
        for spelling in self._spellings:
            text = text.replace(spelling, "[password]")
        if self._hides_numbers:
            text = numbers.hide_all(text)
        return _folded(_UNSTORABLE.sub("\ufffd", text))[:_LONGEST] or None


def _spellings(secret: str) -> set[str]:
    spellings = {secret, " ".join(secret.split()), quote(secret), quote(secret, safe=""), quote_plus(secret)}
    spellings |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    for quotes in ({}, {'"': "&quot;"}, {'"': "&quot;", "'": "&#39;"}, {'"': "&quot;", "'": "&apos;"}):
        spellings.add(escape(secret, quotes))
    return set(filter(None, spellings))


class Request:
    """What of a call was our own, so that it is not taken for the gateway's words when an answer quotes it."""

    def __init__(self, messages: Sequence[OutboundMessage], *ours: str) -> None:
        """`ours`: what goes out with every call, such as our user name."""
        self._messages, self._ours = messages, ours
        self._found: dict[tuple[str, ...], bool] = {}
        self._words_left = _MOST_WORDS

    def names_logon(self, *texts: str) -> bool:
        """Whether the gateway says the words of a refused logon, apart from what it quotes of the request."""
        if not any(map(_holds_logon, texts)):
            return False
        if texts not in self._found:
            self._words_left -= sum(map(len, texts))
            # An answer that is endless talk is taken at its words, which prove nothing: they are a suspicion only.
            self._found[texts] = self._words_left < 0 or self._names_logon(texts)
        return self._found[texts]

    def _names_logon(self, texts: Sequence[str]) -> bool:
        said = [_folded(text) for text in texts]
        left = [self._without_ours(text) for text in said]
        # An answer that is nothing but a text of ours may just as well be in the gateway's own words.
        return any(map(_holds_logon, left if any(re.search(r"\w", text) for text in left) else said))

    @cached_property
    def _spellings(self) -> Sequence[str]:
        """All that could be mistaken for words of a logon. The longest goes first: it may hold another."""
        parts = {part for message in self._messages for part in _parts_of(message)} | set(self._ours)
        spellings = {
            one for part in filter(_holds_logon, parts) for one in _spellings(part) | _spellings(_folded(part))
        }
        return sorted(filter(_holds_logon, spellings), key=len, reverse=True)

    @cached_property
    def _in_order(self) -> Sequence[str]:
        return sorted(self._spellings)

    def _without_ours(self, text: str) -> str:
        for spelling in self._spellings:
            if spelling not in text:  # a thousand times as quick as a pattern, and there are thousands of them
                continue
            # A part that is a mere word could be the gateway's own. What is left in by mistake is only a suspicion;
            # what is taken out by mistake fails a message for the account's fault.
            around = _QUOTED if spelling.isalpha() else _WHOLE
            text = re.sub(around.format(re.escape(spelling)), " ", text)
        return _QUOTATION.sub(self._without_beginnings, text) if self._spellings else text

    def _without_beginnings(self, found: re.Match[str]) -> str:
        """A quotation, or nothing if it is the beginning of a part of ours: a gateway may quote no more than that."""
        quoted = found["quoted"].rstrip(" .\u2026")
        place = bisect_left(self._in_order, quoted)  # of the first that begins so, if one does
        is_beginning = any(spelling.startswith(quoted) for spelling in self._in_order[place : place + 1])
        return " " if is_beginning and not quoted.isalpha() else found[0]


_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_QUOTATION = re.compile(f"(?P<quote>[{_QUOTES}])(?P<quoted>[^{_QUOTES}]+)[{_QUOTES}]")
_QUOTED = f"(?<=[{_QUOTES}]){{}}(?=[{_QUOTES}])"
_WHOLE = r"(?<!\w){}(?!\w)"


def _parts_of(message: OutboundMessage) -> Iterator[str]:
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from itertools.chain.from_iterable(value.items())


def _folded(text: str) -> str:
    return " ".join(text.split())


def _holds_logon(text: str) -> bool:
    folded = text.casefold()
    return any(word in folded for word in _LOGON_WORDS)


def refusal(*, is_repeat: bool, has_logon_words: bool, lets_in: bool) -> SendOutcome:
    """What a refusal means whose code says nothing more. `lets_in`: the same answer takes other messages."""
    if has_logon_words and not lets_in:  # else the words speak of this message, such as of whom it impersonates
        return SendOutcome.SUSPECT_UNCLEAR if is_repeat else SendOutcome.SUSPECT_REFUSED
    return SendOutcome.UNCLEAR if is_repeat else SendOutcome.REFUSED


def is_about_all(named: Sequence[frozenset[str]], messages: Sequence[OutboundMessage]) -> bool:
    """Whether there is one item for each message: none is missing, none is a stranger's, and none is named twice.

    `named`: as for `pair`. Which of the items that name nobody is about which message is not known.
    """
    places = pair(named, messages).values()
    found = {place for place in places if not isinstance(place, str)}
    left_over = sum(isinstance(place, str) for place in places)
    return len(named) == len(messages) == len(found) + left_over and left_over == sum(not each for each in named)


def all_suspect(
    items: Sequence[tuple[frozenset[str], SendResult]],
    messages: Sequence[OutboundMessage],
    repeats: frozenset[UUID],
) -> dict[UUID, SendResult]:
    """A result for each message of a call of which every item was refused in the words of a refused logon.

    `items`: whom each names, and what it says. A message was refused if an item is surely about it; of one
    that no item is about, nothing is known but that the words may concern the whole call.
    """
    named = [recipients for recipients, _ in items]
    places = pair(named, messages)
    is_complete = is_about_all(named, messages)
    results: dict[UUID, SendResult] = {}
    for identifier, place in places.items():
        is_refused = identifier not in repeats and (is_complete or not isinstance(place, str))
        _, said = items[0 if isinstance(place, str) else place]
        outcome = SendOutcome.SUSPECT_REFUSED if is_refused else SendOutcome.SUSPECT_UNCLEAR
        results[identifier] = replace(said, outcome=outcome, transaction_id=None)
    return results


def transaction_id(text: str) -> str | None:
    """The digits of a transactionID; None if it is no number above 0."""
    found = re.fullmatch(r"0*([1-9][0-9]{0,37})", text)
    return found[1] if found else None


def refused_credentials(result: SendResult) -> SendResult:
    """What a call means that was answered 401: our own credentials were refused, whichever account it was by."""
    return replace(result, outcome=SendOutcome.ACCOUNT_REFUSED, is_of_credentials=True, amiss=None)


def unauthorized(status: int) -> SendResult:
    """What a call means that was answered 401, or 403 without more; a 403 may be about one message just as well."""
    result = SendResult(outcome=SendOutcome.SUSPECT_UNCLEAR, description=f"HTTP {status}")
    return refused_credentials(result) if status == 401 else result


def without(error: exchange.NotSent | exchange.Unclear) -> SendResult:
    """What a call means that had no answer."""
    is_unsent = isinstance(error, exchange.NotSent)
    return SendResult(
        outcome=SendOutcome.NOT_SENT if is_unsent else SendOutcome.UNCLEAR,
        description=str(error),
        amiss=Amiss(Contact.UNREACHABLE if is_unsent else Contact.UNCLEAR, str(error)),
    )


def meaningless(answer: exchange.Answer, what: str, url_setting: str) -> SendResult:
    """What a call means whose answer proves nothing. `what`: how it is not as it should be.

    A page for people comes from a wrong address, or from what stands before the gateway. `url_setting`: of the address.
    """
    is_page = is_web_page(answer)
    text = f"HTTP {answer.status} {f'with a web page: is {url_setting} right?' if is_page else what}"
    contact = Contact.WEB_PAGE if is_page else Contact.UNCLEAR
    outcome = SendOutcome.SUSPECT_UNCLEAR if answer.status == 403 else SendOutcome.UNCLEAR
    return SendResult(outcome=outcome, description=text, amiss=Amiss(contact, text))


def is_web_page(answer: exchange.Answer) -> bool:
    """Whether an answer is HTML, by its type or its first bytes."""
    kind = (answer.content_type or "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} or bool(_PAGE.match(answer.body[:_MAX_BEFORE_PAGE]))


def same(messages: Iterable[OutboundMessage], result: SendResult) -> dict[UUID, SendResult]:
    """One result for every message."""
    return {message.id: result for message in messages}


def refuse_twins(messages: Sequence[OutboundMessage]) -> None:
    """Raise ValueError if two messages have the same recipient."""
    if len({numbers.fold(message.recipient) for message in messages}) < len(messages):
        raise ValueError("a call may hold only one message to a recipient: its answer could not be paired")


def describe_rewriting(named: Sequence[frozenset[str]], messages: Sequence[OutboundMessage]) -> str | None:
    """How the only item of an answer writes the recipient of the only message of its call otherwise, as a note.

    None: it is written as ours, or may be another one, or there are several items or messages.
    """
    if len(named) != 1 or len(messages) != 1 or len(named[0]) != 1:
        return None
    [name], recipient = named[0], messages[0].recipient
    return None if numbers.is_same(name, recipient) else numbers.describe_rewriting(name, recipient)


def add_note(result: SendResult, note: str | None) -> SendResult:
    """A result with a note of ours after what the gateway said."""
    return replace(result, detail=f"{result.detail}; {note}" if result.detail else note) if note else result


def pair(named: Sequence[frozenset[str]], messages: Sequence[OutboundMessage]) -> dict[UUID, int | str]:
    """For each message the place of the one item that names its recipient; else why there is no such item.

    `named`: whom each item names, however it writes them. The order of items proves nothing.
    """
    if describe_rewriting(named, messages) is not None:
        return {messages[0].id: 0}
    ours = {message.recipient: message.id for message in messages}
    named = _read_names(named, ours)
    claims: defaultdict[str, list[int]] = defaultdict(list)
    for place, recipients in enumerate(named):
        for recipient in recipients:
            claims[recipient].append(place)
    astray = sum(not recipients & ours.keys() for recipients in named)
    places: dict[UUID, int | str] = {}
    for recipient, identifier in ours.items():
        found = claims[recipient]
        if not found:
            places[identifier] = (
                f"no item of the answer names this recipient; {astray} of {len(named)} name none of the call's"
            )
        elif len(found) > 1:
            places[identifier] = f"{len(found)} items of the answer name this recipient"
        elif not named[found[0]] <= ours.keys():
            places[identifier] = "its item also names a recipient that the call did not have"
        else:
            places[identifier] = found[0]
    return places


def _read_names(named: Sequence[frozenset[str]], recipients: Iterable[str]) -> list[frozenset[str]]:
    """The recipient of each item: ours as digits; others, and what may be several of ours, as they are written."""
    by_ending: defaultdict[str, list[str]] = defaultdict(list)
    for recipient in recipients:
        by_ending[numbers.ending(recipient)].append(recipient)

    return [
        frozenset(numbers.identify(name, by_ending.get(numbers.ending(name), ())) or name for name in names)
        for names in named
    ]
