"""The sandbox's misbehaviours as data: one row for each, and the plan that several rows combine to.

Nothing here acts on a plan: `server` does for the end of a call, `gateway` for an item of the answer, `receipts` for
receipts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any

# statusid and statusdescription. The gateway documents no ids: all but 1, which its sample code shows with
# "Delivered", are the sandbox's own invention.
STATUSES: Mapping[str, tuple[int, str]] = {
    "delivered": (1, "Delivered"),
    "sent": (2, "Message sent"),
    "undelivered": (3, "Undelivered"),
    "expired": (4, "Expired"),
    "rejected": (5, "Rejected"),
    "unknown": (9, "Pending carrier review"),
}


class Ending(StrEnum):
    """How the HTTP response to a send call ends."""

    ANSWER = "answer"
    CLOSE = "close"  # the connection ends instead of an answer
    CUT = "cut"  # half of the answer, then the end
    DRIP = "drip"  # byte by byte
    SLOW = "slow"
    FAULT = "fault"  # by REST a 500 with JSON
    QUOTE = "quote"  # a fault that quotes the message's text; by REST a 403 that does
    LOGON_FAULT = "logon-fault"  # a fault in the words of a refused logon
    HTML = "html"  # an error page with status 500
    FORBIDDEN = "forbidden"  # an error page with status 403
    HUGE = "huge"
    DOCTYPE = "doctype"  # XML whose entities grow; by REST arrays in arrays
    NOT_XML = "not-xml"  # nor JSON
    EMPTY = "empty"


@dataclass(frozen=True, kw_only=True, slots=True)
class CallEnd:
    """How a whole call ends."""

    ending: Ending = Ending.ANSWER
    accepts: bool = True  # whether its messages are taken nevertheless
    once: bool = True  # whether only the first call with a messageGuid ends so; by REST, with the same SMS
    silent: bool = False  # whether no message of the call gets receipts


class Item(StrEnum):
    """What an accepted message's item in the answer looks like."""

    PLAIN = "plain"
    MISSING = "missing"
    WITHOUT_ID = "without-id"
    WITHOUT_RECIPIENTS = "without-recipients"
    CODE_ZERO = "code-zero"
    CODE_EMPTY = "code-empty"


class RefusalMode(StrEnum):
    """Whether a valid message is refused with a returnCode."""

    NEVER = "never"
    ONCE = "once"
    ALWAYS = "always"


class Form(StrEnum):
    """How a receipt travels."""

    GET = "get"
    HEAD = "head"
    POST_FORM = "post-form"
    POST_JSON = "post-json"
    POST_MULTIPART = "post-multipart"
    GARBAGE = "garbage"  # a query that can't be parsed
    BROKEN_JSON = "broken-json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What will happen to the message to one recipient. The defaults are a gateway that works."""

    call_end: CallEnd | None = None
    reversed_answer: bool = False
    item: Item = Item.PLAIN
    refusal: RefusalMode = RefusalMode.NEVER
    refusal_code: int = 210
    finals: tuple[str, ...] = ("delivered",)  # keys of STATUSES, in this order
    receipts: bool = True
    copies: int = 1
    final_first: bool = False
    early: bool = False
    late: bool = False
    persistent: bool = False  # up to three repeats until the callback is answered 200
    form: Form = Form.GET
    upper_case: bool = False
    omitted: frozenset[str] = frozenset()
    extra: bool = False
    datetime_style: str = "documented"  # a key of `receipts.DATETIME_STYLES`
    long_text: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """One row of the table. `tail`: the last three digits of a recipient's number that select it."""

    name: str
    tail: str
    meaning: str
    changes: Mapping[str, Any]


def _row(tail: str, name: str, meaning: str, **changes: object) -> Behaviour:
    return Behaviour(name=name, tail=tail, meaning=meaning, changes=changes)


def _end(ending: Ending, **flags: bool) -> CallEnd:
    return CallEnd(ending=ending, **flags)


_ROWS = (
    _row("900", "delivered", "sent (if asked for), then delivered: what every other number does"),
    _row("901", "undelivered", "ends undelivered", finals=("undelivered",)),
    _row("902", "expired", "ends expired", finals=("expired",)),
    _row("903", "rejected", "ends rejected", finals=("rejected",)),
    _row("904", "unknown-status", "ends with an unknown id and an unknown phrase", finals=("unknown",)),
    _row("905", "conflicting", "delivered, then undelivered", finals=("delivered", "undelivered")),
    _row("906", "no-receipts", "accepted and answered, then silence", receipts=False),
    _row("910", "duplicate", "every receipt twice", copies=2),
    _row("911", "reorder", "the final receipt before sent", final_first=True),
    _row("912", "delay", "receipts later by --late-seconds", late=True),
    _row("913", "early", "receipts before the answer, which waits until they are answered", early=True),
    _row("914", "retry", "a receipt not answered 200 comes again, three times at most", persistent=True),
    _row("920", "post-form", "receipts as POST with a form", form=Form.POST_FORM),
    _row("921", "post-json", "receipts as POST with JSON", form=Form.POST_JSON),
    _row("922", "post-multipart", "receipts as POST with multipart form data", form=Form.POST_MULTIPART),
    _row("923", "head", "receipts as HEAD", form=Form.HEAD),
    _row("924", "upper-case", "parameter names in capitals", upper_case=True),
    _row("925", "no-transactionid", "receipts without transactionid", omitted=frozenset({"transactionid"})),
    _row("926", "no-clientref", "receipts without clientref", omitted=frozenset({"clientref"})),
    _row("927", "no-reference", "receipts with neither of them", omitted=frozenset({"transactionid", "clientref"})),
    _row("928", "no-description", "receipts without statusdescription", omitted=frozenset({"statusdescription"})),
    _row("929", "no-statusid", "receipts without statusid", omitted=frozenset({"statusid"})),
    _row("930", "no-datetime", "receipts without datetime", omitted=frozenset({"datetime"})),
    _row("931", "datetime-words", "datetime as 11 Jan 2016 17:46:51", datetime_style="words"),
    _row("932", "datetime-seconds", "datetime without milliseconds", datetime_style="seconds"),
    _row("933", "datetime-zoned", "datetime with an offset", datetime_style="zoned"),
    _row("934", "datetime-slashes", "datetime as 11/01/2016 17:46:51", datetime_style="slashes"),
    _row("935", "datetime-broken", "datetime that can't be parsed", datetime_style="broken"),
    _row("936", "extra-fields", "receipts with parameters that no document names", extra=True),
    _row("937", "long-text", "messagetext of about 6 KiB on the wire", long_text=True),
    _row("938", "garbage", "a query that can't be parsed", form=Form.GARBAGE),
    _row("939", "broken-json", "POST of JSON that stops half-way", form=Form.BROKEN_JSON),
    _row("940", "lost-answer", "taken, the connection cut instead of an answer; once", call_end=_end(Ending.CLOSE)),
    _row("941", "lost-answer-silent", "the same, and no receipts; once", call_end=_end(Ending.CLOSE, silent=True)),
    _row("942", "lost-request", "cut and not taken; once", call_end=_end(Ending.CLOSE, accepts=False)),
    _row("943", "cut-answer", "taken, the answer cut half-way; once", call_end=_end(Ending.CUT)),
    _row("944", "drip-answer", "taken, the answer byte by byte (--drip-ms); once", call_end=_end(Ending.DRIP)),
    _row("945", "slow-answer", "taken, answered after --slow-seconds; once", call_end=_end(Ending.SLOW)),
    _row("946", "huge-answer", "taken, an answer of --huge-bytes; once", call_end=_end(Ending.HUGE)),
    _row("947", "doctype-answer", "taken, an answer that grows when it is read; once", call_end=_end(Ending.DOCTYPE)),
    _row("948", "not-xml-answer", "taken, 200 with what is no XML and no JSON; once", call_end=_end(Ending.NOT_XML)),
    _row("949", "empty-answer", "taken, 200 without a body; once", call_end=_end(Ending.EMPTY)),
    _row(
        "950",
        "fault",
        "a SOAP fault (REST: 500 with JSON), nothing taken, every time",
        call_end=_end(Ending.FAULT, accepts=False, once=False),
    ),
    _row("951", "fault-once", "a SOAP fault, nothing taken; once", call_end=_end(Ending.FAULT, accepts=False)),
    _row("952", "fault-taken", "a SOAP fault, though all was taken; once", call_end=_end(Ending.FAULT)),
    _row("953", "html-error", "500 with an HTML page, nothing taken; once", call_end=_end(Ending.HTML, accepts=False)),
    _row("954", "html-error-taken", "500 with an HTML page, though all was taken; once", call_end=_end(Ending.HTML)),
    _row(
        "955",
        "fault-quoting",
        "a SOAP fault that quotes the text (REST: 403), nothing taken, every time",
        call_end=_end(Ending.QUOTE, accepts=False, once=False),
    ),
    _row(
        "956",
        "fault-logon",
        "a SOAP fault in the words of a refused logon (REST: 500), nothing taken, every time",
        call_end=_end(Ending.LOGON_FAULT, accepts=False, once=False),
    ),
    _row(
        "957",
        "forbidden",
        "403 with an HTML page, nothing taken, every time",
        call_end=_end(Ending.FORBIDDEN, accepts=False, once=False),
    ),
    _row(
        "958", "forbidden-taken", "403 with an HTML page, though all was taken; once", call_end=_end(Ending.FORBIDDEN)
    ),
    _row("960", "refuse", "returnCode 210 (REST: ToRefused) for this message, every time", refusal=RefusalMode.ALWAYS),
    _row("961", "refuse-once", "returnCode 210 (REST: ToRefused) for this message; once", refusal=RefusalMode.ONCE),
    _row(
        "968",
        "refuse-logon",
        "returnCode 211 in the words of a refused logon, for this message, every time",
        refusal=RefusalMode.ALWAYS,
        refusal_code=211,
    ),
    _row("969", "refuse-logon-once", "the same; once", refusal=RefusalMode.ONCE, refusal_code=211),
    _row("962", "answer-out-of-order", "the call's answers in reverse order", reversed_answer=True),
    _row("963", "answer-missing-item", "taken, but missing from the answer; once", item=Item.MISSING),
    _row("964", "answer-without-id", "taken, its answer without transactionID; once", item=Item.WITHOUT_ID),
    _row(
        "965", "answer-without-recipients", "taken, its answer names no recipient; once", item=Item.WITHOUT_RECIPIENTS
    ),
    _row("966", "answer-code-zero", "taken, said with returnCode 0", item=Item.CODE_ZERO),
    _row("967", "answer-code-empty", "taken, said with an empty returnCode", item=Item.CODE_EMPTY),
)

TABLE: Mapping[str, Behaviour] = {row.name: row for row in _ROWS}
_BY_TAIL: Mapping[str, str] = {row.tail: row.name for row in _ROWS}


def find_by_number(recipient: str) -> str | None:
    """The behaviour that the last three digits of a number select; None if they select none."""
    return _BY_TAIL.get(recipient[-3:])


@lru_cache(maxsize=1024)
def plan(names: tuple[str, ...]) -> Plan:
    """The plan that behaviours (keys of TABLE) combine to; a later one wins over an earlier one."""
    combined = Plan()
    for name in names:
        combined = replace(combined, **TABLE[name].changes)
    return combined


def ends_call(name: str) -> bool:
    """Whether a behaviour ends the whole call; then its chance is drawn once per call, not once per message."""
    return "call_end" in TABLE[name].changes


def draw(seed: int, name: str, number: int) -> float:
    """The `number`-th draw for `name`, from 0 up to 1. The same seed gives the same draws in any order of threads."""
    digest = blake2b(f"{seed}:{name}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def describe(rows: Iterable[Behaviour] = _ROWS) -> str:
    """The table as text, one line per behaviour: last digits, name, meaning."""
    return "\n".join(f"{row.tail}  {row.name:<26}{row.meaning}" for row in rows)
