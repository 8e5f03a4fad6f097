"""What careless senders make of a query, a form, JSON or a body is read where it has one meaning, and only there.

Each table names the kind of its cases.
"""

import gzip
import json
import zlib
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from receiptsvc.domain import compression
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt
from tests.dynmark.reading import read_receipts, read_reply

UTC_ZONE = ZoneInfo("UTC")
FORM = b"statusid=1&recipient=447700900000&clientref=order-1"


def callback(
    query: bytes = b"", body: bytes = b"", content_type: str | None = None, content_encoding: str | None = None
) -> Callback:
    return Callback("POST" if body else "GET", query, content_type, body, content_encoding)


def fields(form: Callback) -> list[tuple[str | None, str | None, str | None] | str]:
    """The status id, recipient and clientRef of each receipt, or why it can't be read."""
    return [
        (each.status_id, each.recipient, each.client_ref) if isinstance(each, Receipt) else str(each)
        for each in read_receipts(form, UTC_ZONE)
    ]


READ = [("1", "447700900000", "order-1")]

SEPARATORS = {
    "a second ?: the sender's query after the URL's own": b"source=dynmark?" + FORM,
    "a second ?: after a clientRef of the URL's": b"clientref=order-1?statusid=1&recipient=447700900000",
    "a second ?: at the start": b"?" + FORM,
    "a second ?: three of them": b"a=1?b=2?" + FORM,
    "a second ?: before each parameter": FORM.replace(b"&", b"?"),
    "a second ?: escaped": b"source=dynmark%3f" + FORM,
    "a second ?: with & after it": b"source=dynmark?&" + FORM,
    "&amp;: between all": FORM.replace(b"&", b"&amp;"),
    "&amp;: between some": FORM.replace(b"&r", b"&amp;r"),
    "&amp;: twice escaped": FORM.replace(b"&", b"&amp;amp;"),
    "&amp;: by its number": FORM.replace(b"&", b"&#38;"),
    "&amp;: by its hexadecimal number": FORM.replace(b"&", b"&#x26;"),
    "&amp;: in upper case": FORM.replace(b"&", b"&AMP;"),
    "; as HTML 4 allowed it": FORM.replace(b"&", b";"),
    "; beside &": FORM.replace(b"&r", b";r"),
    "lines, as text/plain of HTML": FORM.replace(b"&", b"\r\n") + b"\r\n",
    "the whole of it escaped": quote(FORM, safe="").encode(),
}


@pytest.mark.parametrize("form", SEPARATORS.values(), ids=SEPARATORS)
def test_parameters_are_found_behind_any_separator(form: bytes) -> None:
    assert fields(callback(form)) == READ
    assert fields(callback(body=form)) == READ


TEXTS = {  # where a separator is a part of the text: what is read as content
    b"sender=1&recipient=2&content=are you?recipient=3": "are you?recipient=3",
    b"sender=1&recipient=2&content=a;clientref=b": "a;clientref=b",
    b"sender=1&content=really?msgid=5": "really?msgid=5",
    b"sender=1&content=a%3Fclientref=b": "a?clientref=b",
    b"source=x?sender=1&content=what?recipient=b": "what?recipient=b",
    b"source=x?content=a;sender=b&sender=1": "a;sender=b",
    b"sender=1&content=fish &amp; chips": "fish",
}


@pytest.mark.parametrize(("query", "content"), TEXTS.items())
def test_a_text_is_not_split(query: bytes, content: str) -> None:
    assert read_reply(callback(query), UTC_ZONE).content == content


def test_a_parameter_that_is_given_as_one_is_not_looked_for_elsewhere() -> None:
    assert fields(callback(b"clientref=why?statusid=2&statusid=1")) == [("1", None, "why?statusid=2")]


ESCAPES = [  # kind, written, read
    ("old ASP: a quotation mark", "it%u2019s", "it’s"),
    ("old ASP: Latin-1 beside it", "caf%E9%u2019s", "café’s"),
    ("old ASP: a euro sign", "%u20AC5", "€5"),
    ("old ASP: lower case", "%u20ac5", "€5"),
    ("old ASP: another alphabet", "%u0417%u0430%u043A%u0430%u0437", "Заказ"),
    ("old ASP: a pair of surrogates", "%uD83D%uDE00!", "😀!"),
    ("old ASP: half a pair", "a%uD83Db", "a\ufffdb"),
    ("old ASP: a NUL", "a%u0000b", "a\ufffdb"),
    ("old ASP: a blank as plus", "it%u2019s+ok", "it’s ok"),
    ("old ASP: IIS takes a capital U too", "%U2019", "’"),
    ("none: too short", "%u201", "%u201"),
    ("none: escaped percent", "%25u2019", "%u2019"),
    ("none: no digits", "100%upper", "100%upper"),
]


@pytest.mark.parametrize(("written", "read"), [case[1:] for case in ESCAPES], ids=[case[0] for case in ESCAPES])
def test_what_old_asp_pages_escape_is_read(written: str, read: str) -> None:
    assert fields(callback(f"statusid=1&clientref={written}".encode())) == [("1", None, read)]
    assert fields(callback(body=f"statusid=1&clientref={written}".encode())) == [("1", None, read)]


PLUSES = {  # a number written with a plus: what is left of it
    b"+447700900000": "447700900000",
    b"%2B447700900000": "+447700900000",
    b"++447700900000": "447700900000",
    b"%20447700900000": "447700900000",
    b"00447700900000": "00447700900000",
    b"+44+7700+900000": "44 7700 900000",
    b"%2B44%207700%20900000": "+44 7700 900000",
}


@pytest.mark.parametrize(("written", "read"), PLUSES.items())
def test_a_plus_in_a_number_may_be_escaped_or_not(written: bytes, read: str) -> None:
    assert fields(callback(b"statusid=1&recipient=" + written)) == [("1", read, None)]


JSON = b'{"statusid": 1, "recipient": "447700900000", "clientref": "order-1"}'
BOM = b"\xef\xbb\xbf"
NEARLY_JSON = {
    "BOM": BOM + JSON,
    "BOM: after a blank": b"\r\n" + BOM + JSON,
    "BOM: before a blank": BOM + b"\r\n" + JSON,
    "control: a raw line break in a string": JSON.replace(b'"}', b'", "messagetext": "a\r\nb"}'),
    "control: a raw tab in a string": JSON.replace(b'"}', b'", "messagetext": "a\tb"}'),
    "control: a raw escape in a string": JSON.replace(b'"}', b'", "messagetext": "a\x1bb"}'),
    "control: a raw NUL in a string": JSON.replace(b'"}', b'", "messagetext": "a\0b"}'),
    "end: a NUL, as C ends a string": JSON + b"\0",
    "end: line breaks": JSON + b"\r\n\r\n",
    "number: a whole one with a point": JSON.replace(b" 1,", b" 1.0,"),
    "number: a whole one with an exponent": JSON.replace(b" 1,", b" 1e0,"),
    "number: NaN elsewhere": JSON.replace(b"{", b'{"price": NaN, ', 1),
    "wrapped: JSON as a string of JSON": json.dumps(JSON.decode()).encode(),
    "wrapped: a list as a string": json.dumps(f"[{JSON.decode()}]").encode(),
    "wrapped: escaped as a form would be": quote(JSON, safe="").encode(),
    "wrapped: escaped, with a plus for a blank": quote(JSON, safe=" ").replace(" ", "+").encode(),
    "charset: half of a character": JSON.replace(b'"}', b'", "messagetext": "a\xe2\x80"}'),
}


@pytest.mark.parametrize("body", NEARLY_JSON.values(), ids=NEARLY_JSON)
def test_json_that_is_nearly_json_is_read(body: bytes) -> None:
    assert fields(callback(body=body, content_type="application/json")) == READ


def test_a_raw_line_break_stays_in_the_text() -> None:
    body = b'{"sender": 1, "content": "yes\nplease\r\n\tsoon"}'
    assert read_reply(callback(body=body), UTC_ZONE).content == "yes\nplease\r\n\tsoon"


@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"", b"\n\n", b" "])
def test_json_values_one_after_another_are_a_list(between: bytes) -> None:
    body = between.join([b'{"statusid": 1}', b'{"statusid": 2}', b'{"statusid": 3}']) + between
    assert [each[0] for each in fields(callback(body=body))] == ["1", "2", "3"]


GUESSES = {
    "a trailing comma": b'{"statusid": 1,}',
    "single quotes": b"{'statusid': 1}",
    "bare names": b"{statusid: 1}",
    "a comment": b'{"statusid": 1 /* delivered */}',
    "an unescaped quotation mark": b'{"statusid": 1, "content": "say "yes""}',
    "an unknown escape": b'{"statusid": 1, "content": "it\\\'s"}',
    "cut off": b'{"statusid": 1, "recipient": "4477',
    "a string that holds none": b'"{statusid: 1}"',
    "something after it": b'{"statusid": 1} and more',
}


@pytest.mark.parametrize("body", GUESSES.values(), ids=GUESSES)
def test_json_that_would_have_to_be_guessed_at_is_unreadable(body: bytes) -> None:
    assert fields(callback(body=body)) == ["its body begins like JSON and is none"]
    with pytest.raises(Unreadable):
        read_reply(callback(body=body), UTC_ZONE)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


MULTIPART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
PARTS = b"".join(MULTIPART % tuple(pair.split(b"=")) for pair in FORM.split(b"&")) + b"--b--\r\n"
COMPRESSED = {
    "gzip: undeclared": callback(body=gzip.compress(FORM)),
    "gzip: declared": callback(body=gzip.compress(FORM), content_encoding="gzip"),
    "gzip: JSON": callback(body=gzip.compress(JSON), content_encoding="x-gzip"),
    "gzip: multipart": callback(body=gzip.compress(PARTS), content_type="multipart/form-data; boundary=b"),
    "gzip: UTF-16": callback(body=gzip.compress(JSON.decode().encode("utf-16"))),
    "gzip: in two streams": callback(body=gzip.compress(FORM[:10]) + gzip.compress(FORM[10:])),
    "gzip: padded": callback(body=gzip.compress(FORM) + b"\0\0"),
    "gzip: twice": callback(body=gzip.compress(gzip.compress(FORM)), content_encoding="gzip, gzip"),
    "gzip: beside a query": callback(b"statusid=1", gzip.compress(FORM.partition(b"&")[2])),
    "deflate: with zlib's header, undeclared": callback(body=zlib.compress(FORM)),
    "deflate: with zlib's header": callback(body=zlib.compress(FORM), content_encoding="deflate"),
    "deflate: at the best level": callback(body=zlib.compress(FORM, 9), content_encoding="deflate"),
    "deflate: without a header": callback(body=raw_deflate(FORM), content_encoding="Deflate"),
    "none: declared gzip": callback(body=FORM, content_encoding="gzip"),
    "none: declared deflate": callback(body=FORM, content_encoding="deflate"),
    "none: a charset declared as an encoding": callback(body=FORM, content_encoding="utf-8"),
    "none: identity": callback(body=JSON, content_encoding="identity"),
    "none: begins like zlib's": callback(body=b"x^=1&" + FORM),
}


@pytest.mark.parametrize("form", COMPRESSED.values(), ids=COMPRESSED)
def test_a_compressed_body_is_read_whatever_its_headers_say(form: Callback) -> None:
    assert fields(form) == READ


HEADERS = {
    "multipart: undeclared": callback(body=PARTS),
    "multipart: declared as a form": callback(body=PARTS, content_type="application/x-www-form-urlencoded"),
    "multipart: without its boundary": callback(body=PARTS, content_type="multipart/form-data"),
    "multipart: with another boundary": callback(body=PARTS, content_type="multipart/form-data; boundary=c"),
    "multipart: mixed": callback(body=PARTS, content_type="multipart/mixed; boundary=b"),
    "JSON: declared as a form": callback(body=JSON, content_type="application/x-www-form-urlencoded"),
    "JSON: declared as a page": callback(body=JSON, content_type="text/html; charset=utf-16"),
    "form: declared as JSON": callback(body=FORM, content_type="application/json"),
    "form: declared as XML": callback(body=FORM, content_type="text/xml"),
}


@pytest.mark.parametrize("form", HEADERS.values(), ids=HEADERS)
def test_the_form_of_a_body_is_told_by_its_bytes(form: Callback) -> None:
    assert fields(form) == READ


DAMAGED = {
    "its body is compressed, and ends too early": gzip.compress(FORM)[:-9],
    "its body is compressed, and damaged": gzip.compress(FORM)[:-5] + b"12345",
    "its compressed body holds more than 1048576 bytes": gzip.compress(b"a" * (compression.MAX_BYTES + 1)),
    "its compressed body has more than 100 streams": gzip.compress(b"a") * 50_000,
}


@pytest.mark.parametrize(("reason", "body"), DAMAGED.items(), ids=range(len(DAMAGED)))
def test_a_damaged_or_too_long_compressed_body_is_unreadable(reason: str, body: bytes) -> None:
    assert fields(callback(body=body)) == [reason]
    with pytest.raises(Unreadable, match=reason):
        read_reply(callback(body=body), UTC_ZONE)


def test_a_body_may_hold_as_much_unpacked_as_one_that_comes_as_it_is() -> None:
    body = FORM + b"&a=" + b"a" * (compression.MAX_BYTES - len(FORM) - 3)
    assert fields(callback(body=gzip.compress(body))) == READ
    assert fields(callback(body=zlib.compress(body + b"a"))) == ["its compressed body holds more than 1048576 bytes"]


def test_a_bomb_is_unpacked_no_further_than_its_bound() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 30_000_000))
    assert fields(callback(body=bomb)) == ["its compressed body holds more than 1048576 bytes"]
