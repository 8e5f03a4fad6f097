"""The bytes of callbacks as a person reads them, and what our reader makes of them.

Until they are revealed, all is hidden that could be personal. A number can stand there in any writing: percent-encoded,
as escapes of JSON, in the digits of another script, packed. So nothing is looked for: what is shown are names of
fields, what separates them, and values that are known to be harmless.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote_plus

from receiptsvc.domain import numbers
from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.models import InboxRow

HIDDEN = "•••"

_MAX_BYTES = 4096  # that are shown of a query, and of a body
_MAX_READ = 64 * 1024  # the bytes of a callback that is read again for a page; a larger one takes long
_NAME = re.compile("[A-Za-z_]{1,40}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.Z+-]{0,20}")
_JSON_TOKEN = re.compile(r'("(?:\\.|[^"\\])*"?)(\s*:)?|[^\s{}\[\],:"]+', re.DOTALL)
_SEPARATOR = re.compile(r"([&;?\r\n]+)")
_WORDS = frozenset({"true", "false", "null"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownCallback:
    """A callback for a page: its bytes as texts, what was read from them, and the status that its words mean.

    `harmless`: what the receipt says that names no person. `fault`: why nothing could be read. `hidden_bytes`: how many
    are left out behind the query and the body.
    """

    method: str
    query: str
    body: str
    hidden_bytes: int
    harmless: Collection[str]
    receipt: Receipt | None = None
    reply: Reply | None = None
    status: Status | None = None
    fault: str | None = None


def show(row: InboxRow, callback: Callback, reader: CallbackReader, *, is_revealed: bool) -> ShownCallback:
    """A callback as it came, and as it is read now. `row`: the receipt's, which says which of several it is."""
    receipt, reply, fault = _read(row, callback, reader)
    harmless = _harmless_values(receipt)
    query, body = (
        text if is_revealed else hide(text, harmless)
        for text in (decode(callback.query[:_MAX_BYTES]), decode(callback.body[:_MAX_BYTES]))
    )
    return ShownCallback(
        method=callback.method,
        query=query,
        body=body,
        hidden_bytes=max(0, len(callback.query) - _MAX_BYTES) + max(0, len(callback.body) - _MAX_BYTES),
        harmless=harmless,
        receipt=receipt,
        reply=reply,
        status=reader.status_for(receipt.status_id, receipt.description) if receipt is not None else None,
        fault=fault,
    )


def hide(text: str, harmless: Collection[str] = ()) -> str:
    """A query, a form or JSON of which only names, separators and harmless values are shown."""
    if text.lstrip().startswith(("{", "[")):
        return _JSON_TOKEN.sub(lambda found: _hide_token(found, harmless), text)
    return "".join(
        part if index % 2 else _hide_pair(part, harmless) for index, part in enumerate(_SEPARATOR.split(text))
    )


def _read(row: InboxRow, callback: Callback, reader: CallbackReader) -> tuple[Receipt | None, Reply | None, str | None]:
    if len(callback.query) + len(callback.body) > _MAX_READ:
        return None, None, "it is too long to be read again for this page"
    if row.channel == Channel.INBOUND:
        try:
            return None, reader.read_reply(callback, row.received_at), None
        except Unreadable as fault:
            return None, None, str(fault)
    receipts = reader.read_receipts(callback, row.received_at)
    found = receipts[row.part] if row.part < len(receipts) else receipts[0]
    return (None, None, str(found)) if isinstance(found, Unreadable) else (found, None, None)


def _harmless_values(receipt: Receipt | None) -> frozenset[str]:
    """What a receipt says that names no person."""
    if receipt is None:
        return frozenset()
    said = {receipt.status_id, receipt.description, receipt.client_ref, receipt.transaction_id} - {None, ""}
    recipient = numbers.fold(receipt.recipient or "")
    return frozenset(
        value
        for value in said
        if value is not None
        and not (recipient and numbers.is_same(value, recipient))
        and (value == receipt.transaction_id or numbers.hide_all(value) == value)
    )


def _hide_pair(pair: str, harmless: Collection[str]) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return HIDDEN if pair.strip() else pair
    return f"{name if _NAME.fullmatch(name) else HIDDEN}={_hide_value(value, unquote_plus(value), harmless)}"


def _hide_token(found: re.Match[str], harmless: Collection[str]) -> str:
    token, colon = found[0], found[2] or ""
    if not token.startswith('"'):
        return token if token in _WORDS else _hide_value(token, token, harmless)
    text = found[1]
    if colon:
        return (text if _NAME.fullmatch(text[1:-1]) else f'"{HIDDEN}"') + colon
    try:
        value = json.loads(text)
    except ValueError:
        return f'"{HIDDEN}'
    return text if not value or _is_harmless(value, harmless) else f'"{HIDDEN}"'


def _hide_value(raw: str, value: str, harmless: Collection[str]) -> str:
    return raw if not raw or _is_harmless(value, harmless) else HIDDEN


def _is_harmless(value: str, harmless: Collection[str]) -> bool:
    return value in harmless or _TIME.fullmatch(value) is not None


def decode(data: bytes) -> str:
    """Bytes of a callback as text; what is no UTF-8 as \\xNN."""
    return data.decode("utf-8", "backslashreplace")
