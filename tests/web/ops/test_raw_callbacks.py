"""A callback's bytes before they are revealed: only what can't be personal is shown, in whatever writing it comes."""

import json
import zlib
from zoneinfo import ZoneInfo

import pytest

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.inbound.reader import DynmarkReader
from receiptsvc.store.core.models import InboxRow
from receiptsvc.web.ops import raw_callbacks
from receiptsvc.web.ops.raw_callbacks import HIDDEN, ShownCallback
from tests.support.rows import T0

NUMBER, TEXT = "447700900123", "Meet Bob at noon"
READER = DynmarkReader(status_map=status_map.load({}), zone=ZoneInfo("UTC"))
ARABIC = NUMBER.translate({ord(str(digit)): chr(0x660 + digit) for digit in range(10)})
ESCAPED = "".join(f"%{ord(character):02X}" for character in NUMBER)

WRITINGS = {
    "plain": f"recipient={NUMBER}".encode(),
    "plus": f"recipient=%2B{NUMBER}".encode(),
    "zeros": f"recipient=00{NUMBER}".encode(),
    "national": b"recipient=07700+900+123",
    "with blanks": b"recipient=%2B44%207700%20900%20123",
    "percent-encoded": f"recipient={ESCAPED}".encode(),
    "without a name": NUMBER.encode(),
    "as a name": f"{NUMBER}=1".encode(),
    "in another script": f"recipient={ARABIC}".encode(),
    "JSON": json.dumps({"recipient": NUMBER, "statusid": "4"}).encode(),
    "a JSON number": f'{{"recipient": {NUMBER}}}'.encode(),
    "JSON's escapes": ('{"recipient": "' + "".join(f"\\u{ord(each):04x}" for each in NUMBER) + '"}').encode(),
    "a name of JSON": json.dumps({NUMBER: 1}).encode(),
    "broken JSON": f'{{"recipient": "{NUMBER}'.encode(),
    "packed": zlib.compress(f"recipient={NUMBER}".encode()),
    "UTF-16": f"recipient={NUMBER}".encode("utf-16"),
    "text": f"content={TEXT}&sender={NUMBER}".encode(),
    "text of JSON": json.dumps({"content": TEXT, "sender": NUMBER}).encode(),
    "multipart": f'--b\r\nContent-Disposition: form-data; name="recipient"\r\n\r\n{NUMBER}\r\n--b--'.encode(),
}


def show(query: bytes, body: bytes = b"", *, is_revealed: bool = False, **more: object) -> ShownCallback:
    values = {"channel": Channel.ACCOUNT, "received_at": T0, "part": 0} | more
    row = InboxRow(id=ids.new(), **values)
    return raw_callbacks.show(row, Callback("GET", query, None, body), READER, is_revealed=is_revealed)


@pytest.mark.parametrize("place", ["query", "body"])
@pytest.mark.parametrize("writing", WRITINGS)
def test_a_number_or_a_text_is_hidden_in_any_writing(writing: str, place: str) -> None:
    data = WRITINGS[writing]
    shown = show(data) if place == "query" else show(b"", data)
    text = shown.query + shown.body
    assert HIDDEN in text
    for secret in (NUMBER[-4:], ARABIC[-4:], ESCAPED[-12:], "Meet", "Bob", "\\u003", "900", "7700"):
        assert secret not in text


def test_names_and_what_is_harmless_are_shown() -> None:
    query = f"datetime=2026-01-05T12:00:00&recipient={NUMBER}&statusid=4&statusdescription=Message+sent&clientref=a%2Fb&transactionid=815"
    shown = show(query.encode()).query
    assert shown == query.replace(NUMBER, HIDDEN)
    body = {"statusid": "4", "recipient": NUMBER, "statusdescription": "Delivered", "done": True}
    assert json.loads(show(b"", json.dumps(body).encode()).body) == body | {"recipient": HIDDEN}


@pytest.mark.parametrize("name", ["transactionid", "clientref", "statusdescription", "statusid"])
def test_a_number_where_something_harmless_belongs_is_hidden(name: str) -> None:
    shown = show(f"recipient={NUMBER}&{name}={NUMBER}".encode())
    assert NUMBER not in shown.query


def test_all_is_shown_once_it_is_revealed() -> None:
    query = b"recipient=447700900123&statusid=4&x=\xff"
    shown = show(query, is_revealed=True)
    assert shown.query == "recipient=447700900123&statusid=4&x=\\xff"
    assert shown.receipt is not None
    assert shown.receipt.recipient == NUMBER


def test_what_is_long_is_cut_and_says_how_much_is_left_out() -> None:
    shown = show(b"", b"a=" + b"x" * 10_000, is_revealed=True)
    assert len(shown.body) == 4096
    assert shown.hidden_bytes == 10_002 - 4096
    shown = show(b"", b"a=" + b"x" * 100_000)
    assert shown.fault == "it is too long to be read again for this page"


def test_of_several_receipts_of_a_callback_the_right_one_is_read() -> None:
    query = b"transactionid=1&statusid=1&transactionid=2&statusid=2"
    second = show(query, part=1)
    assert second.receipt is not None
    assert second.receipt.transaction_id == "2"


def test_a_reply_is_read_as_one() -> None:
    shown = show(f"msgid=1&sender={NUMBER}&content={TEXT}".encode(), channel=Channel.INBOUND)
    assert shown.reply is not None
    assert shown.reply.content == TEXT
    unreadable = show(b"nothing=here", channel=Channel.INBOUND)
    assert unreadable.fault
