"""A kept callback's bytes → its Receipts, or a Reply. Pure, and by content, not by promise.

The gateway's own sample receiver shows GET, a query string and lower-case names, one receipt a callback; its
documentation promises none of that. So a query, a form, multipart and JSON are all read, names in any case, and several
receipts at once: as repeated parameters, which belong together by position, or as a JSON array.

Thousands a second are read, most of them like the sample. Two short ways are there for these, `_said_plainly` and
`_moment_of_the_sample`; each gives what the general way gives, or leaves it to that.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

from werkzeug.datastructures import Headers
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.dynmark.inbound.charsets import decoded, narrowed

_OF_A_RECEIPT = frozenset({"datetime", "recipient", "statusid", "statusdescription", "clientref", "transactionid"})
_SPELT_AS_THE_SAMPLE = {name: name for name in _OF_A_RECEIPT}
_OF_A_REPLY = frozenset({"msgid", "datetime", "sender", "recipient", "content", "clientref"})
_MAX_RECEIPTS = 10_000  # in one callback
_MAX_CACHED_NAME = 40  # names are a stranger's choice, and the cache must stay small whatever he chooses
_MAX_TRANSACTION_ID = 40
_MAX_NUMBER = 100
_MAX_CLIENT_REF = 500  # the gateway's own limit is 64
_MAX_WORDS = 500
_MAX_MSGID = 200
_PUNCTUATION = re.compile(r"[\W_]+")
_YEARS = range(2000, 2100)  # outside of these a time is a mistake, and some databases can't give it back
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
_ZONE = r"\s*(?P<zone>Z|[+-]?\s?\d\d:?\d\d)?"  # a plus that travelled unescaped arrives as a blank
_DATETIMES = tuple(
    re.compile(rf"{date}[T\s]+{_TIME}{_ZONE}", re.IGNORECASE | re.ASCII)
    for date in (
        r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",  # 2016-01-11T14:11:45.170, the sample's
        r"(?P<day>\d{1,2})[\s-](?P<name>[a-z]{3})[a-z]*[\s-](?P<year>\d{4})",  # 11 Jan 2016 17:46:51, the replies'
        r"(?P<day>\d{1,2})[/.](?P<month>\d{1,2})[/.](?P<year>\d{4})",  # 11/01/2016 14:11, the vendor being British
    )
)
_is_as_the_sample = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{3}", re.ASCII).fullmatch

_Pairs = list[tuple[str, str]]  # known names, folded, each with a value, in the order they came in
_Said = dict[str, str]  # what one receipt or reply says


def read_receipts(callback: Callback, zone: ZoneInfo) -> list[Receipt | Unreadable]:
    """What its delivery receipts say, each in its place. `zone`: of their zoneless times. Never empty, never raises.

    A receipt that can't be used is an Unreadable in its place. If they can't be told apart, one stands for them all.
    """
    try:
        return [said if isinstance(said, Unreadable) else _receipt(said, zone) for said in _all_said(callback)]
    except Unreadable as error:
        return [Unreadable(str(error))]  # without the traceback, which would hold on to everything that was read


def read_reply(callback: Callback, zone: ZoneInfo) -> Reply:
    """What an inbound message says. Raises Unreadable if it does not say who sent what."""
    pairs, parsed = _body(callback, _OF_A_REPLY)
    if isinstance(parsed, list):
        raise Unreadable("its JSON body is not one object")
    if parsed is not None:
        pairs = _json_pairs(parsed, _OF_A_REPLY)
    said = _agreed([*_form_pairs(callback.query, _OF_A_REPLY), *pairs])
    notes: list[str] = []
    if not said.get("sender"):
        raise Unreadable("no sender could be found in it")
    if "content" not in said:
        raise Unreadable("no content could be found in it")
    if len(said.get("msgid", "")) > _MAX_MSGID:
        raise Unreadable(f"its msgid has more than {_MAX_MSGID} characters")
    for name, most in (("sender", _MAX_NUMBER), ("recipient", _MAX_NUMBER), ("clientref", _MAX_CLIENT_REF)):
        if len(said.get(name, "")) > most:
            raise Unreadable(f"its {name} has more than {most} characters")
    return Reply(
        msgid=said.get("msgid") or None,
        sender=said["sender"],
        recipient=said.get("recipient") or None,
        content=said["content"],
        client_ref=said.get("clientref") or None,
        occurred_at=_moment(said.get("datetime"), zone, notes),
        notes=tuple(notes),
    )


def _receipt(said: _Said, zone: ZoneInfo) -> Receipt | Unreadable:
    notes: list[str] = []
    status_id, description = said.get("statusid") or None, said.get("statusdescription") or None
    if status_id is None and description is None:
        return Unreadable("neither statusid nor statusdescription could be found in it")
    return Receipt(
        transaction_id=_transaction_id(said.get("transactionid"), notes),
        recipient=_bounded(said, "recipient", _MAX_NUMBER, notes),
        client_ref=_bounded(said, "clientref", _MAX_CLIENT_REF, notes),
        status_id=status_id and status_id[:_MAX_WORDS],
        description=description and description[:_MAX_WORDS],
        occurred_at=_moment(said.get("datetime"), zone, notes),
        notes=tuple(notes),
    )


def _bounded(said: _Said, name: str, most: int, notes: list[str]) -> str | None:
    """A value that is not longer than any that can be meant; the bytes stay kept, whatever it is."""
    value = said.get(name) or None
    if value is not None and len(value) > most:
        notes.append(f"its {name} has more than {most} characters")
        return None
    return value


def _all_said(callback: Callback) -> Sequence[_Said | Unreadable]:
    """What each receipt says, by query and body together. Raises Unreadable if that can't be told."""
    query = _form(callback.query)
    if not callback.body:
        return query
    pairs, parsed = _body(callback, _OF_A_RECEIPT)
    if parsed is None:
        return _together(query, _paired(pairs))
    pairs, elements = _unwrapped(parsed)
    if elements is None:
        return _together(query, [_agreed(pairs)])
    if len(query) > 1:
        raise Unreadable(f"its query speaks of {len(query)} receipts beside those that its body lists")
    _check_number(len(elements))
    for_all = _agreed([*query[0].items(), *pairs])
    return [
        _agreed_or_why([*for_all.items(), *_json_pairs(element, _OF_A_RECEIPT)])
        if isinstance(element, tuple)
        else Unreadable("it is not a JSON object")
        for element in elements
    ]


def _form(data: bytes) -> list[_Said]:
    said = _said_plainly(data)
    return _paired(_form_pairs(data, _OF_A_RECEIPT)) if said is None else [said]


def _said_plainly(data: bytes) -> _Said | None:
    """What a form says of its only receipt, the short way. None: this way does not tell."""
    if not data.isascii() or b"\0" in data:
        return None
    # Neither a blank nor a colon can be part of an escape or divide pairs, so that these may be unescaped ahead.
    text = data.decode("ascii").replace("+", " ").replace("%20", " ").replace("%3A", ":").replace("%3a", ":")
    is_escaped = "%" in text
    said: _Said = {}
    for piece in text.split("&"):
        name, equals, value = piece.partition("=")
        key = _SPELT_AS_THE_SAMPLE.get(name) or _form_key(name)
        if equals and key in _OF_A_RECEIPT:
            if key in said:
                return None
            said[key] = _unquoted(value.encode("ascii")) if is_escaped and "%" in value else value.strip()
    return said


def _paired(pairs: _Pairs) -> list[_Said]:
    """What each receipt says in a form: the first of each name, the second of each ...; what is said once is for all.

    If all names only say the same thing over and over, that is one receipt.
    """
    said = dict(pairs)
    if len(said) == len(pairs) or len(said) == len(set(pairs)):
        return [said]
    values: dict[str, list[str]] = {name: [] for name in said}
    for name, value in pairs:
        values[name].append(value)
    repeated = {name: len(given) for name, given in values.items() if len(given) > 1}
    number = max(repeated.values())
    if min(repeated.values()) != number:
        raise Unreadable(f"it gives {', '.join(f'{count} values for {name}' for name, count in repeated.items())}")
    _check_number(number)
    columns = [given if name in repeated else given * number for name, given in values.items()]
    return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]


def _together(query: list[_Said], body: list[_Said]) -> list[_Said | Unreadable]:
    """What query and body say together: of as many receipts, or one of them of all that the other speaks of."""
    number = max(len(query), len(body))
    if not {len(query), len(body)} <= {1, number}:
        raise Unreadable(f"its query speaks of {len(query)} receipts and its body of {len(body)}")
    query, body = (one * (number // len(one)) for one in (query, body))
    return [_agreed_or_why([*one.items(), *other.items()]) for one, other in zip(query, body, strict=True)]


def _check_number(number: int) -> None:
    if number > _MAX_RECEIPTS:
        raise Unreadable(f"it holds {number} receipts, more than the {_MAX_RECEIPTS} that are read from one callback")


def _agreed(pairs: _Pairs) -> _Said:
    """What the pairs say of one receipt or reply. Raises Unreadable if a name says two things."""
    said: _Said = {}
    for name, value in pairs:
        if said.setdefault(name, value) != value:
            raise Unreadable(f"it gives two values for {name}")
    return said


def _agreed_or_why(pairs: _Pairs) -> _Said | Unreadable:
    try:
        return _agreed(pairs)
    except Unreadable as error:
        return Unreadable(str(error))


def _body(callback: Callback, names: frozenset[str]) -> tuple[_Pairs, Any]:
    """What the body says of `names` if it is a form of either kind; if it is JSON, no pairs, and what was parsed."""
    kind, options = parse_options_header(callback.content_type)
    charset = options.get("charset")
    if kind.lower() == "multipart/form-data":
        return _multipart_pairs(callback.body, options, names), None
    body = narrowed(callback.body, charset).removeprefix(BOM_UTF8).strip()
    if body[:1] in {b"{", b"["}:  # by content: nobody promised a content type
        return [], _json(body, charset)
    return _form_pairs(body, names, charset), None


def _form_pairs(data: bytes, names: frozenset[str], charset: str | None = None) -> _Pairs:
    pairs = []
    for piece in data.split(b"&"):
        name, equals, value = piece.partition(b"=")
        if equals:
            key = _form_key(name.decode("latin-1"))
            if key in names:
                pairs.append((key, _unquoted(value, charset)))
    return pairs


def _multipart_pairs(body: bytes, options: dict[str, str], names: frozenset[str]) -> _Pairs:
    parser = _Multipart(_in_memory, cls=list)  # of pairs, in their order
    try:
        form: Any = parser.parse(BytesIO(body), options["boundary"].encode(), len(body))[0]
    except (KeyError, ValueError):
        return []
    charsets = [charset or options.get("charset") for charset in parser.charsets]
    return [
        (key, _clean(decoded(value.encode("latin-1"), charset)))
        for (name, value), charset in zip(form, charsets, strict=True)
        if name and (key := _folded(_clean(name))) in names  # a part may have no name
    ]


class _Multipart(MultiPartParser):
    """The library's parser, with each byte of a value as a character: it would replace what is not UTF-8."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.charsets: list[str | None] = []  # as each part declared it

    def get_part_charset(self, headers: Headers) -> str:
        self.charsets.append(parse_options_header(headers.get("content-type"))[1].get("charset"))
        return "latin-1"


def _in_memory(*_: Any, **__: Any) -> BytesIO:
    """Where a file in a multipart body goes. The library would write big ones to the disk, which may be full."""
    return BytesIO()


def _json(body: bytes, charset: str | None) -> Any:
    """What the JSON says: arrays are lists, objects are tuples of pairs, so that a name given twice is seen."""
    try:
        parsed = json.loads(decoded(body, charset), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        raise Unreadable("its body begins like JSON and is none") from None
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], tuple) else parsed


def _unwrapped(parsed: Any) -> tuple[_Pairs, list[Any] | None]:
    """What JSON says of all its receipts, and the list of them; None if it says what it says of one."""
    if isinstance(parsed, tuple):
        lists = [value for _, value in parsed if _tells_of_receipts(value)]
        if len(lists) > 1:
            raise Unreadable("its JSON body holds more than one list of receipts")
        return _json_pairs(parsed, _OF_A_RECEIPT), lists[0] if lists else None
    if not parsed:
        raise Unreadable("its JSON body is an empty list")
    return [], parsed


def _tells_of_receipts(value: Any) -> bool:
    """Whether it is a list of objects that say something of a receipt. A receipt may have lists of other things."""
    return isinstance(value, list) and any(
        _folded(_clean(name)) in _OF_A_RECEIPT for element in value if isinstance(element, tuple) for name, _ in element
    )


def _json_pairs(parsed: tuple[tuple[str, Any], ...], names: frozenset[str]) -> _Pairs:
    pairs = []
    for name, value in parsed:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            key = _folded(_clean(name))
            if key in names:
                pairs.append((key, _clean(str(value))))
    return pairs


def _folded(name: str) -> str:
    """A name without case and punctuation."""
    return _PUNCTUATION.sub("", name.lower())


def _form_key(name: str) -> str:
    """The same of a name as it stands in a form, a character for each byte."""
    return _cached_form_key(name) if len(name) <= _MAX_CACHED_NAME else _folded(_unquoted(name.encode("latin-1")))


@lru_cache(maxsize=1024)
def _cached_form_key(name: str) -> str:
    return _folded(_unquoted(name.encode("latin-1")))


def _unquoted(data: bytes, charset: str | None = None) -> str:
    return _clean(decoded(unquote_to_bytes(data.replace(b"+", b" ")), charset))


def _clean(text: str) -> str:
    """The text without what a database can't hold; the raw bytes stay kept beside it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode().strip()


def _transaction_id(given: str | None, notes: list[str]) -> str | None:
    if not given:
        return None
    digits = given.lstrip("0")
    if not digits:
        return None
    if len(digits) > _MAX_TRANSACTION_ID or not (digits.isascii() and digits.isdigit()):
        notes.append("its transaction id is not a number")
        return None
    return digits


def _moment(given: str | None, zone: ZoneInfo, notes: list[str]) -> datetime | None:
    """The provider's time in UTC; None, with a note, if there is none that can be read."""
    if not given:
        notes.append("it has no provider time")
        return None
    moment = _moment_of_the_sample(given, zone) if _is_as_the_sample(given) else None
    if moment is not None:
        return moment
    for form in _DATETIMES:
        match = form.fullmatch(given.strip())
        if match:
            moment = _assembled(match.groupdict(), zone)
            if moment is not None:
                return moment
    notes.append("its datetime can't be read")
    return None


def _moment_of_the_sample(given: str, zone: ZoneInfo) -> datetime | None:
    try:
        if zone.key == "UTC":
            moment = datetime.fromisoformat(f"{given}+00:00")
            return moment if moment.year in _YEARS else None
        moment = datetime.fromisoformat(given)
        return moment.replace(tzinfo=zone).astimezone(UTC) if moment.year in _YEARS else None
    except ValueError:
        return None


def _assembled(parts: dict[str, str | None], zone: ZoneInfo) -> datetime | None:
    name = parts.get("name")
    try:
        month = _MONTHS.index(name.lower()) + 1 if name else int(parts["month"] or 0)
        moment = datetime(
            int(parts["year"] or 0),
            month,
            int(parts["day"] or 0),
            int(parts["hour"] or 0),
            int(parts["minute"] or 0),
            int(parts["second"] or 0),
            int((parts["fraction"] or "0").ljust(6, "0")[:6]),
            tzinfo=zone,
        )
        if parts["zone"]:
            offset = parts["zone"].upper().replace(" ", "+").replace("Z", "+00:00")
            offset = offset if offset[0] in "+-" else f"+{offset}"
            moment = datetime.fromisoformat(f"{moment.replace(tzinfo=None).isoformat()}{offset}")
        return moment.astimezone(UTC) if moment.year in _YEARS else None
    except (ValueError, OverflowError):
        return None
