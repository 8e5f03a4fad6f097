"""A kept callback's bytes → a Receipt or a Reply. Pure, and by content, not by promise.

The gateway's own sample receiver shows GET, a query string and lower-case names; its documentation promises none of
that. So a query, a form, multipart and a JSON object are all read, and names in any case.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt, Reply

_OF_A_RECEIPT = frozenset({"datetime", "recipient", "statusid", "statusdescription", "clientref", "transactionid"})
_OF_A_REPLY = frozenset({"msgid", "datetime", "sender", "recipient", "content", "clientref"})
_LONGEST_TRANSACTION_ID = 40
_LONGEST_MSGID = 200
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


def read_receipt(callback: Callback, zone: ZoneInfo) -> Receipt:
    """What a delivery receipt says. `zone`: of its zoneless times. Raises Unreadable if it says nothing of a status."""
    said = _parameters(callback, _OF_A_RECEIPT)
    notes: list[str] = []
    status_id, description = said.get("statusid") or None, said.get("statusdescription") or None
    if status_id is None and description is None:
        raise Unreadable("neither statusid nor statusdescription could be found in it")
    return Receipt(
        transaction_id=_transaction_id(said.get("transactionid"), notes),
        recipient=said.get("recipient") or None,
        client_ref=said.get("clientref") or None,
        status_id=status_id,
        description=description,
        occurred_at=_moment(said.get("datetime"), zone, notes),
        notes=tuple(notes),
    )


def read_reply(callback: Callback, zone: ZoneInfo) -> Reply:
    """What an inbound message says. Raises Unreadable if it does not say who sent what."""
    said = _parameters(callback, _OF_A_REPLY)
    notes: list[str] = []
    if not said.get("sender"):
        raise Unreadable("no sender could be found in it")
    if "content" not in said:
        raise Unreadable("no content could be found in it")
    if len(said.get("msgid", "")) > _LONGEST_MSGID:
        raise Unreadable(f"its msgid has more than {_LONGEST_MSGID} characters")
    return Reply(
        msgid=said.get("msgid") or None,
        sender=said["sender"],
        recipient=said.get("recipient") or None,
        content=said["content"],
        client_ref=said.get("clientref") or None,
        occurred_at=_moment(said.get("datetime"), zone, notes),
        notes=tuple(notes),
    )


def _parameters(callback: Callback, names: frozenset[str]) -> dict[str, str]:
    """What was said of `names`, whatever their case and punctuation. One that says two things makes it unreadable."""
    said: dict[str, str] = {}
    for name, value in _pairs(callback):
        key = re.sub(r"[\W_]+", "", name.lower())
        if key in names and said.setdefault(key, value) != value:
            raise Unreadable(f"it gives two values for {key}")
    return said


def _pairs(callback: Callback) -> Iterator[tuple[str, str]]:
    yield from _form_pairs(callback.query)
    body = callback.body.removeprefix(b"\xef\xbb\xbf").strip()
    if not body:
        return
    kind, options = parse_options_header(callback.content_type)
    if kind == "multipart/form-data":
        _, form, _ = FormDataParser(silent=True).parse(BytesIO(callback.body), kind, len(callback.body), options)
        yield from ((_clean(name), _clean(value)) for name, value in form.items(multi=True))
    elif body[:1] in {b"{", b"["}:  # by content: nobody promised a content type
        yield from _json_pairs(body)
    else:
        yield from _form_pairs(body)


def _form_pairs(data: bytes) -> Iterator[tuple[str, str]]:
    for piece in data.split(b"&"):
        name, equals, value = piece.partition(b"=")
        if equals:
            yield _unquoted(name), _unquoted(value)


def _json_pairs(body: bytes) -> Iterator[tuple[str, str]]:
    try:
        parsed: Any = json.loads(_decoded(body))
    except (ValueError, RecursionError):
        raise Unreadable("its body begins like JSON and is none") from None
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        raise Unreadable("its JSON body is not one object")
    for name, value in parsed.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield _clean(name), _clean(str(value))


def _unquoted(data: bytes) -> str:
    return _clean(_decoded(unquote_to_bytes(data.replace(b"+", b" "))))


def _decoded(data: bytes) -> str:
    """UTF-8 if it is that; else the Western code page, which older senders use and which reads every byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _clean(text: str) -> str:
    """The text without what a database can't hold; the raw bytes stay kept beside it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode().strip()


def _transaction_id(given: str | None, notes: list[str]) -> str | None:
    if not given:
        return None
    digits = given.lstrip("0")
    if not digits:
        return None
    if not re.fullmatch(rf"[0-9]{{1,{_LONGEST_TRANSACTION_ID}}}", digits):
        notes.append("its transaction id is not a number")
        return None
    return digits


def _moment(given: str | None, zone: ZoneInfo, notes: list[str]) -> datetime | None:
    """The provider's time in UTC; None, with a note, if there is none that can be read."""
    if not given:
        notes.append("it has no provider time")
        return None
    for form in _DATETIMES:
        match = form.fullmatch(given.strip())
        if match:
            moment = _assembled(match.groupdict(), zone)
            if moment is not None:
                return moment
    notes.append("its datetime can't be read")
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
