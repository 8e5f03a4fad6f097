"""Reads the bytes of a kept callback: its Receipts, or a Reply. Pure functions, by content, not by content type.

The gateway's own sample receiver shows GET, a query string and lower-case names, one receipt a callback; its
documentation promises none of that. So a query, a form, multipart and JSON are all read, names in any case, and several
receipts at once: as repeated parameters, which belong together by position, or as a JSON array.

What careless senders write is read where it has one meaning. Nothing is repaired that could have two: JSON with single
quotes, trailing commas or bare names would have to be guessed at wherever a text holds the same characters.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

from werkzeug.datastructures import Headers
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from receiptsvc.domain.compression import unpack
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.dynmark.inbound import times
from receiptsvc.dynmark.inbound.charsets import decode, to_utf8
from receiptsvc.dynmark.inbound.times import ProviderTime

_RECEIPT_FIELDS = frozenset({"datetime", "recipient", "statusid", "statusdescription", "clientref", "transactionid"})
_REPLY_FIELDS = frozenset({"msgid", "datetime", "sender", "recipient", "content", "clientref"})
# What one callback may hold, so that a body made to be slow costs less than a second: counted, never timed.
_MAX_RECEIPTS = 10_000
_MAX_FIELDS = 100_000  # of a form; members and elements of JSON
_MAX_DEPTH = 100  # of JSON; Python's own bound depends on who calls
_MAX_LINES = 20_000  # of a multipart body: its parts and their headers
_MAX_PARAMETERS = 20_000  # of the headers of a multipart body
_MAX_DIGITS = 200  # of a number in JSON; of a transactionID, with its leading zeros

_MAX_CACHED_NAME_LENGTH = 40  # names are the caller's choice, and the cache must stay small
_MAX_TRANSACTION_ID_LENGTH = 40
_MAX_NUMBER_LENGTH = 100
_MAX_CLIENT_REF_LENGTH = 500  # the gateway's own limit is 64
_MAX_STATUS_LENGTH = 500
_MAX_MSGID_LENGTH = 200
_TOO_DEEP = f"its JSON body is nested more than {_MAX_DEPTH} levels deep"
_PUNCTUATION = re.compile(r"[\W_]+")
_ESCAPED_AMPERSAND = re.compile(rb"&(?:amp;|#0*38;|#[xX]0*26;)+", re.IGNORECASE)
# What some senders put before a parameter instead of `&`: `?` and `;`, escaped or not, and ends of lines.
_OTHER_SEPARATOR = re.compile(rb"(?:[?;\r\n]|%3[FfBb])(?=([^&=?;\r\n]{1,40})=)")
_TEXTS = frozenset({"content", "messagetext"})  # a person wrote them: no parameter is looked for inside
_BOUNDARY = re.compile(rb"--([!-~]{1,200})[ \t]*\r?\nContent-", re.IGNORECASE)
_UNICODE_ESCAPE = re.compile(rb"((?:%[uU][0-9A-Fa-f]{4})+)")  # JavaScript's escape() and old ASP pages write it
_BLANKS = " \t\r\n"
_AROUND_BODY = b" \t\r\n\v\f\0"  # a program in C may send the NUL at the end of its string
_MAX_EXACT = 2**53  # beyond it a float does not tell whole numbers apart

_Pairs: TypeAlias = list[tuple[str, str]]  # known names, folded, with their values, in their order
_Fields: TypeAlias = dict[str, str]  # of one receipt or reply, by folded name


def read_receipts(callback: Callback, zone: ZoneInfo, received_at: datetime) -> list[Receipt | Unreadable]:
    """The receipts of a callback, in their order; never empty, never raises. `zone`: of their zoneless times.

    An unusable receipt is an Unreadable at its index. If the receipts can't be told apart, one Unreadable is all.
    """
    try:
        return [
            fields if isinstance(fields, Unreadable) else _make_receipt(fields, zone, received_at)
            for fields in _read_fields(callback)
        ]
    except Unreadable as error:
        return [Unreadable(str(error))]  # without the traceback, which would keep everything that was read alive


def read_reply(callback: Callback, zone: ZoneInfo, received_at: datetime) -> Reply:
    """The reply of a callback. Raises Unreadable without a sender or a content. `zone`: of zoneless times."""
    pairs, parsed = _parse_body(callback, _REPLY_FIELDS)
    if isinstance(parsed, list):
        raise Unreadable("its JSON body is not one object")
    if parsed is not None:
        pairs = _json_pairs(parsed, _REPLY_FIELDS)
    fields = _to_fields([*_form_pairs(callback.query, _REPLY_FIELDS), *pairs])
    notes: list[str] = []
    if not fields.get("sender"):
        raise Unreadable("no sender could be found in it")
    if "content" not in fields:
        raise Unreadable("no content could be found in it")
    if len(fields.get("msgid", "")) > _MAX_MSGID_LENGTH:
        raise Unreadable(f"its msgid has more than {_MAX_MSGID_LENGTH} characters")
    for name, max_length in (
        ("sender", _MAX_NUMBER_LENGTH),
        ("recipient", _MAX_NUMBER_LENGTH),
        ("clientref", _MAX_CLIENT_REF_LENGTH),
    ):
        if len(fields.get(name, "")) > max_length:
            raise Unreadable(f"its {name} has more than {max_length} characters")
    time = _read_time(fields.get("datetime"), zone, received_at, notes)
    return Reply(
        msgid=fields.get("msgid") or None,
        sender=fields["sender"],
        recipient=fields.get("recipient") or None,
        content=fields["content"],
        client_ref=fields.get("clientref") or None,
        occurred_at=time and time.at,
        notes=tuple(notes),
    )


def _make_receipt(fields: _Fields, zone: ZoneInfo, received_at: datetime) -> Receipt | Unreadable:
    notes: list[str] = []
    status_id, description = fields.get("statusid") or None, fields.get("statusdescription") or None
    if status_id is None and description is None:
        return Unreadable("neither statusid nor statusdescription could be found in it")
    time = _read_time(fields.get("datetime"), zone, received_at, notes)
    return Receipt(
        transaction_id=_parse_transaction_id(fields.get("transactionid"), notes),
        recipient=_bounded(fields, "recipient", _MAX_NUMBER_LENGTH, notes),
        client_ref=_bounded(fields, "clientref", _MAX_CLIENT_REF_LENGTH, notes),
        status_id=status_id and status_id[:_MAX_STATUS_LENGTH],
        description=description and description[:_MAX_STATUS_LENGTH],
        occurred_at=time and time.at,
        notes=tuple(notes),
        is_local_time=time is not None and time.is_local,
    )


def _bounded(fields: _Fields, name: str, max_length: int, notes: list[str]) -> str | None:
    """A field's value; None, with a note, if it is longer than any that can be meant. The bytes stay kept."""
    value = fields.get(name) or None
    if value is not None and len(value) > max_length:
        notes.append(f"its {name} has more than {max_length} characters")
        return None
    return value


def _read_fields(callback: Callback) -> Sequence[_Fields | Unreadable]:
    """The fields of each receipt, from query and body together. Raises Unreadable if they can't be told apart."""
    query = _split_receipts(_form_pairs(callback.query, _RECEIPT_FIELDS))
    if not callback.body:
        return query
    pairs, parsed = _parse_body(callback, _RECEIPT_FIELDS)
    if parsed is None:
        return _merge(query, _split_receipts(pairs))
    pairs, elements = _unwrap_json(parsed)
    if elements is None:
        return _merge(query, [_to_fields(pairs)])
    if len(query) > 1:
        raise Unreadable(f"its query speaks of {len(query)} receipts beside those that its body lists")
    _check_count(len(elements))
    shared = _to_fields([*query[0].items(), *pairs])
    return [
        _to_fields_or_error([*shared.items(), *_json_pairs(element, _RECEIPT_FIELDS)])
        if isinstance(element, tuple)
        else Unreadable("it is not a JSON object")
        for element in elements
    ]


def _split_receipts(pairs: _Pairs) -> list[_Fields]:
    """The fields of each receipt in a form: the first value of each name, the second of each, and so on.

    A name with one value belongs to all receipts. If every name only repeats the same value, that is one receipt.
    """
    fields = dict(pairs)
    if len(fields) == len(pairs) or len(fields) == len(set(pairs)):
        return [fields]
    by_name: dict[str, list[str]] = {name: [] for name in fields}
    for name, value in pairs:
        by_name[name].append(value)
    repeated = {name: len(values) for name, values in by_name.items() if len(values) > 1}
    count = max(repeated.values())
    if min(repeated.values()) != count:
        raise Unreadable(f"it gives {', '.join(f'{number} values for {name}' for name, number in repeated.items())}")
    _check_count(count)
    columns = [values if name in repeated else values * count for name, values in by_name.items()]
    return [dict(zip(by_name, row, strict=True)) for row in zip(*columns, strict=True)]


def _merge(query: list[_Fields], body: list[_Fields]) -> list[_Fields | Unreadable]:
    """The fields of query and body together. Both have as many receipts, or one of them has one, shared by all."""
    count = max(len(query), len(body))
    if not {len(query), len(body)} <= {1, count}:
        raise Unreadable(f"its query speaks of {len(query)} receipts and its body of {len(body)}")
    query, body = (part * (count // len(part)) for part in (query, body))
    return [
        _to_fields_or_error([*of_query.items(), *of_body.items()])
        for of_query, of_body in zip(query, body, strict=True)
    ]


def _check_count(count: int) -> None:
    if count > _MAX_RECEIPTS:
        raise Unreadable(f"it holds {count} receipts, more than the {_MAX_RECEIPTS} that are read from one callback")


def _to_fields(pairs: _Pairs) -> _Fields:
    """The pairs of one receipt or reply as a dict. Raises Unreadable if a name has two different values."""
    fields: _Fields = {}
    for name, value in pairs:
        if fields.setdefault(name, value) != value:
            raise Unreadable(f"it gives two values for {name}")
    return fields


def _to_fields_or_error(pairs: _Pairs) -> _Fields | Unreadable:
    try:
        return _to_fields(pairs)
    except Unreadable as error:
        return Unreadable(str(error))


def _parse_body(callback: Callback, names: frozenset[str]) -> tuple[_Pairs, Any]:
    """The body's pairs with these `names`, if it is a form of either kind; for JSON no pairs, but the parsed value."""
    body = unpack(callback)
    kind, options = parse_options_header(callback.content_type)
    charset = options.get("charset")
    boundary = _BOUNDARY.match(body)
    if boundary or kind.lower() == "multipart/form-data":
        return _multipart_pairs(body, boundary[1] if boundary else None, options, names), None
    body = to_utf8(body, charset).strip(_AROUND_BODY).removeprefix(BOM_UTF8).strip(_AROUND_BODY)
    if body[:3].upper() in {b"%7B", b"%5B"} and b"=" not in body:
        body = unquote_to_bytes(body.replace(b"+", b" "))  # JSON, escaped as a form would be
    if body[:1] in {b"{", b"["}:  # by content: the gateway promises no content type
        return [], _parse_json(decode(body, charset))
    if body[:2] == b'"{' or body[:2] == b'"[':  # JSON, written as a string of JSON
        return [], _parse_json(_unwrap_string(decode(body, charset)))
    return _form_pairs(body, names, charset), None


def _form_pairs(data: bytes, names: frozenset[str], charset: str | None = None) -> _Pairs:
    if b"=" not in data and b"%" in data:
        data = unquote_to_bytes(data)  # somebody escaped the whole of it
    if b";" in data:
        data = _ESCAPED_AMPERSAND.sub(b"&", data)
    if data.count(b"&") >= _MAX_FIELDS:
        raise Unreadable(f"it has more than {_MAX_FIELDS} fields")
    # By `find`: whether bytes are `in` others raises an error inside Python each time, and clears it.
    pieces = [piece for piece in data.split(b"&") if piece.find(b"=") >= 0]
    if data.count(b"=") > len(pieces):
        pieces = _split_further(pieces, names)
    pairs = []
    for piece in pieces:
        name, equals, value = piece.partition(b"=")
        if equals:
            key = _fold_form_name(name.decode("latin-1"))
            if key in names:
                pairs.append((key, _unquote(value, charset)))
    return pairs


def _split_further(pieces: Sequence[bytes], names: frozenset[str]) -> list[bytes]:
    """The pieces of a form that have a name, split also where another separator stands before a known name.

    Only before a name that no piece of its own has, and in no text that a person wrote.
    """
    own_names = [_fold_form_name(piece.partition(b"=")[0].decode("latin-1")) for piece in pieces]
    missing = names.difference(own_names)
    split: list[bytes] = []
    count = 0
    for own_name, piece in zip(own_names, pieces, strict=True):
        start = 0
        for found in _OTHER_SEPARATOR.finditer(piece) if own_name not in _TEXTS else ():
            count += 1
            if count > _MAX_FIELDS:
                raise Unreadable(f"it has more than {_MAX_FIELDS} fields")
            name = _fold_form_name(found[1].decode("latin-1"))
            if name in missing:
                split.append(piece[start : found.start()].rstrip(b"?;"))
                start = found.end()
                if name in _TEXTS:
                    break
        split.append(piece[start:])
    return split


def _multipart_pairs(body: bytes, boundary: bytes | None, options: dict[str, str], names: frozenset[str]) -> _Pairs:
    """`boundary`: with which the body begins, whatever was declared; None: it does not show one."""
    if max(body.count(b"\n"), body.count(b"\r")) > _MAX_LINES:
        raise Unreadable(f"its multipart body has more than {_MAX_LINES} lines")
    if body.count(b";") > _MAX_PARAMETERS:
        raise Unreadable(f"its multipart body has more than {_MAX_PARAMETERS} parameters")
    parser = _Multipart(_open_in_memory, cls=list)  # of pairs, in their order
    try:
        form: Any = parser.parse(BytesIO(body), boundary or options["boundary"].encode(), len(body))[0]
    except (KeyError, ValueError):
        return []
    charsets = [charset or options.get("charset") for charset in parser.charsets]
    return [
        (key, _clean(decode(value.encode("latin-1"), charset)))
        for (name, value), charset in zip(form, charsets, strict=True)
        if name and (key := _fold_name(_clean(name))) in names  # a part may have no name
    ]


class _Multipart(MultiPartParser):
    """werkzeug's parser, with each byte of a value as one character: by itself it would replace what is not UTF-8."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.charsets: list[str | None] = []  # as each part declared it

    def get_part_charset(self, headers: Headers) -> str:
        self.charsets.append(parse_options_header(headers.get("content-type"))[1].get("charset"))
        return "latin-1"


def _open_in_memory(*_: Any, **__: Any) -> BytesIO:
    """The stream for a file part. By default werkzeug writes big ones to the disk, which may be full."""
    return BytesIO()


def _parse_json(text: str) -> Any:
    """Parsed JSON: arrays are lists, objects are tuples of pairs, so that a repeated name is not lost.

    Several values, one after another, are a list of them.
    """
    try:
        parsed = _decode_json(text)
    except RecursionError:
        raise Unreadable(_TOO_DEEP) from None
    except ValueError:
        raise Unreadable("its body begins like JSON and is none") from None
    _check_json(parsed)
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], tuple) else parsed


def _decode_json(text: str) -> Any:
    values, position = list[Any](), 0
    while position < len(text):
        value, position = _JSON.raw_decode(text, position)
        values.append(value)
        if len(values) > _MAX_FIELDS:
            raise Unreadable(f"its JSON body has more than {_MAX_FIELDS} members and elements")
        while position < len(text) and text[position] in _BLANKS:
            position += 1
    return values[0] if len(values) == 1 else values


def _unwrap_string(text: str) -> str:
    try:
        inner = _JSON.decode(text)
    except ValueError:
        raise Unreadable("its body begins like JSON and is none") from None
    return str(inner).strip()


def _parse_int(text: str) -> int:
    """A whole number of JSON: the time for one is the square of its length."""
    if len(text) > _MAX_DIGITS:
        raise Unreadable(f"a number in its JSON body has more than {_MAX_DIGITS} digits")
    return int(text)


def _parse_float(text: str) -> float | int:
    """A number of JSON with a point or an exponent; a whole one as such: 1.0 is 1 in JSON."""
    number = float(text)
    return int(number) if abs(number) < _MAX_EXACT and number == int(number) else number


_JSON = json.JSONDecoder(  # line breaks and tabs in strings may be raw
    object_pairs_hook=tuple, parse_int=_parse_int, parse_float=_parse_float, strict=False
)


def _check_json(parsed: Any) -> None:
    """Raise Unreadable for JSON that is too deep, or holds too much."""
    count, level = 0, [parsed]
    for _ in range(_MAX_DEPTH):
        count += sum(map(len, level))
        if count > _MAX_FIELDS:
            raise Unreadable(f"its JSON body has more than {_MAX_FIELDS} members and elements")
        level = [
            inner
            for outer in level
            for inner in (outer if isinstance(outer, list) else [value for _, value in outer])
            if isinstance(inner, list | tuple)
        ]
        if not level:
            return
    raise Unreadable(_TOO_DEEP)


def _unwrap_json(parsed: Any) -> tuple[_Pairs, list[Any] | None]:
    """The pairs that all receipts of a JSON body share, and the list of receipts; None if it holds one receipt."""
    if isinstance(parsed, tuple):
        lists = [value for _, value in parsed if _lists_receipts(value)]
        if len(lists) > 1:
            raise Unreadable("its JSON body holds more than one list of receipts")
        return _json_pairs(parsed, _RECEIPT_FIELDS), lists[0] if lists else None
    if not parsed:
        raise Unreadable("its JSON body is an empty list")
    return [], parsed


def _lists_receipts(value: Any) -> bool:
    """Whether a value is a list of receipts. A receipt may itself have lists of other things."""
    return isinstance(value, list) and any(
        _fold_name(_clean(name)) in _RECEIPT_FIELDS
        for element in value
        if isinstance(element, tuple)
        for name, _ in element
    )


def _json_pairs(parsed: tuple[tuple[str, Any], ...], names: frozenset[str]) -> _Pairs:
    pairs = []
    for name, value in parsed:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            key = _fold_name(_clean(name))
            if key in names:
                pairs.append((key, _clean(str(value))))
    return pairs


def _fold_name(name: str) -> str:
    """A name in lower case, without punctuation."""
    return _PUNCTUATION.sub("", name.lower())


def _fold_form_name(name: str) -> str:
    """`_fold_name` of a name in a form, which has one character for each byte."""
    if len(name) <= _MAX_CACHED_NAME_LENGTH:
        return _fold_cached_form_name(name)
    return _fold_name(_unquote(name.encode("latin-1")))


@lru_cache(maxsize=1024)
def _fold_cached_form_name(name: str) -> str:
    return _fold_name(_unquote(name.encode("latin-1")))


def _unquote(data: bytes, charset: str | None = None) -> str:
    if charset is None and data.isalnum():  # as most values are: nothing to undo
        return data.decode("ascii")
    data = data.replace(b"+", b" ")
    if b"%u" in data or b"%U" in data:
        return _clean("".join(_unescape(piece, charset) for piece in _UNICODE_ESCAPE.split(data)))
    return _clean(decode(unquote_to_bytes(data), charset))


def _unescape(piece: bytes, charset: str | None) -> str:
    """What `_UNICODE_ESCAPE` splits a value into: UTF-16 code units as `%u2019`, or what stands between them."""
    if _UNICODE_ESCAPE.fullmatch(piece):
        return bytes.fromhex(piece.decode().lower().replace("%u", "")).decode("utf-16-be", "replace")
    return decode(unquote_to_bytes(piece), charset)


def _clean(text: str) -> str:
    """The text without what a database can't hold. The raw bytes are kept as they are."""
    text = text.replace("\0", "\ufffd")
    return (text if text.isascii() else text.encode("utf-8", "replace").decode()).strip()


def _parse_transaction_id(text: str | None, notes: list[str]) -> str | None:
    if not text:
        return None
    digits = text.lstrip("0") if len(text) <= _MAX_DIGITS else text  # which all receipts of a callback may share
    if not digits:
        return None
    if len(digits) > _MAX_TRANSACTION_ID_LENGTH or not (digits.isascii() and digits.isdigit()):
        notes.append("its transaction id is not a number")
        return None
    return digits


def _read_time(text: str | None, zone: ZoneInfo, received_at: datetime, notes: list[str]) -> ProviderTime | None:
    """The provider's time; None, with a note, if it is absent or unreadable."""
    if not text:
        notes.append("it has no provider time")
        return None
    time = times.read(text, zone, received_at)
    if time is None:
        notes.append("its datetime can't be read")
    return time
