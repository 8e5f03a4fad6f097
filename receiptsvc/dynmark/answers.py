"""What the answers of both transports have in common: whom an item is about, what its words mean, what may be kept.

How an answer is written, and so how it is read, is each transport's own business.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from urllib.parse import quote, quote_plus
from uuid import UUID
from xml.sax.saxutils import escape

from receiptsvc.domain.messages import OutboundMessage, Outcome, SendResult
from receiptsvc.dynmark import exchange

MOST_BYTES = 2 * 1024 * 1024  # an answer for 250 messages is a tenth of it
_LONGEST = 500  # characters kept of anything that the gateway says

# What RETURN_CODES may say of a code.
MEANINGS = {
    "failed": Outcome.REFUSED,
    "retry": Outcome.NOT_SENT,
    "duplicate": Outcome.TAKEN,
    "stop": Outcome.ACCOUNT_REFUSED,
}
_LOGON_WORDS = ("logon", "login", "credential", "username", "password", "unauthori")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no database takes them, and JSON can bring them


class Redactor:
    """Makes texts of the gateway fit to be kept."""

    def __init__(self, *secrets: str, pattern: str | None = None) -> None:
        """`secrets` are cut out in each writing that an answer might echo, and so is what `pattern` matches."""
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        self._spellings = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile(pattern) if pattern else None

    def keep(self, text: str) -> str | None:
        """What may be kept of a text: short, and without our password. None if nothing is left."""
        for spelling in self._spellings:
            text = text.replace(spelling, "[password]")
        if self._pattern:
            text = self._pattern.sub("[number]", text)
        return " ".join(_UNSTORABLE.sub("\ufffd", text).split())[:_LONGEST] or None


def _spellings(secret: str) -> set[str]:
    spellings = {secret, " ".join(secret.split()), quote(secret), quote(secret, safe=""), quote_plus(secret)}
    spellings |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    for quotes in ({}, {'"': "&quot;"}, {'"': "&quot;", "'": "&#39;"}, {'"': "&quot;", "'": "&apos;"}):
        spellings.add(escape(secret, quotes))
    return set(filter(None, spellings))


def names_logon(*texts: str) -> bool:
    """Whether the gateway's words are those of a refused logon."""
    folded = " ".join(texts).casefold()
    return any(word in folded for word in _LOGON_WORDS)


def refusal(*, is_repeat: bool, has_logon_words: bool, lets_in: bool) -> Outcome:
    """What a refusal means whose code says nothing more. `lets_in`: the same answer takes other messages."""
    if has_logon_words and not lets_in:  # else the words speak of this message, such as of whom it impersonates
        return Outcome.ACCOUNT_REFUSED
    return Outcome.UNCLEAR if is_repeat else Outcome.REFUSED


def transaction_id(text: str) -> str | None:
    """The digits of a transactionID; None if it is no number above 0."""
    found = re.fullmatch(r"0*([1-9][0-9]{0,37})", text)
    return found[1] if found else None


def without(error: exchange.NotSent | exchange.Unclear) -> SendResult:
    """What a call means that had no answer."""
    outcome = Outcome.NOT_SENT if isinstance(error, exchange.NotSent) else Outcome.UNCLEAR
    return SendResult(outcome=outcome, description=str(error))


def same(messages: Iterable[OutboundMessage], result: SendResult) -> dict[UUID, SendResult]:
    """One result for every message."""
    return {message.id: result for message in messages}


def comparable(recipient: str) -> str:
    """A number without what may be written or left out: blanks, and a leading + or 00."""
    return re.sub(r"^(\+|00)", "", "".join(recipient.split()))


def refuse_twins(messages: Sequence[OutboundMessage]) -> None:
    """Raise ValueError if two messages have the same recipient."""
    if len({comparable(message.recipient) for message in messages}) < len(messages):
        raise ValueError("a call may hold only one message to a recipient: its answer could not be paired")


def pair(named: Sequence[frozenset[str]], messages: Sequence[OutboundMessage]) -> dict[UUID, int | str]:
    """For each message the place of the one item that names its recipient; else why there is no such item.

    `named`: whom each item names, comparable. The order of items proves nothing.
    """
    ours = {comparable(message.recipient): message.id for message in messages}
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
