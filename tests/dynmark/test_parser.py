"""Callbacks are read by their content, in every form in which they may come."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import process_time
from urllib.parse import quote, quote_plus
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt
from tests.dynmark.reading import read_receipts, read_reply

UTC_ZONE = ZoneInfo("UTC")
SAMPLE = (
    b"datetime=2016-01-11T14:11:45.170&recipient=447700900000&statusid=1&statusdescription=Delivered&clientref=order-1"
)
FIRST_HALF, SECOND_HALF = SAMPLE.split(b"&statusid")
JSON = (
    b'{"DateTime": "2016-01-11T14:11:45.170", "Recipient": "447700900000", "StatusID": 1, '
    b'"StatusDescription": "Delivered", "clientRef": "order-1", "extra": {"deep": 1}}'
)


def callback(query: bytes = b"", body: bytes = b"", content_type: str | None = None) -> Callback:
    return Callback(method="POST" if body else "GET", query=query, content_type=content_type, body=body)


def multipart(form: bytes, query: bytes = b"") -> Callback:
    """A callback whose parts say what `form`, without escapes, says."""
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % tuple(pair.split(b"="))
        for pair in form.split(b"&")
    )
    return callback(query, b"".join(parts) + b"--b--\r\n", "multipart/form-data; boundary=b")


def only(form: Callback, zone: ZoneInfo = UTC_ZONE) -> Receipt:
    """Its only receipt."""
    [receipt] = read_receipts(form, zone)
    assert isinstance(receipt, Receipt)
    return receipt


def told(form: Callback) -> list[str]:
    """Each receipt's status id, recipient and transaction id, or why it can't be read."""
    return [
        f"{entry.status_id} {entry.recipient} {entry.transaction_id}" if isinstance(entry, Receipt) else str(entry)
        for entry in read_receipts(form, UTC_ZONE)
    ]


FORMS = {
    "query, as the sample receiver reads it": callback(SAMPLE),
    "upper-case names": callback(SAMPLE.replace(b"recipient", b"RECIPIENT").replace(b"statusid", b"StatusId")),
    "form": callback(body=SAMPLE, content_type="application/x-www-form-urlencoded"),
    "form that does not say so": callback(body=SAMPLE, content_type="text/plain"),
    "form without any type": callback(body=SAMPLE),
    "half query, half form": callback(FIRST_HALF, b"statusid" + SECOND_HALF),
    "said twice alike": callback(SAMPLE, SAMPLE),
    "multipart": multipart(SAMPLE),
    "multipart by another spelling": multipart(SAMPLE)._replace(content_type="Multipart/Form-Data; boundary=b"),
    "JSON": callback(body=JSON, content_type="application/json"),
    "JSON in an array of one": callback(body=b"[" + JSON + b"]"),
    "JSON beside a query that says the same": callback(SAMPLE, JSON),
    "JSON with the one receipt in a list": callback(body=b'{"receipts": [' + JSON + b'], "version": 2}'),
    "JSON with lists of other things": callback(
        body=JSON[:-1] + b', "parts": [{"part": 1}, {"part": 2}], "tags": ["a", "b"], "receipts": []}'
    ),
    "JSON with a byte order mark": callback(body=b"\xef\xbb\xbf" + JSON, content_type="application/json"),
    "percent-encoded": callback(SAMPLE.replace(b"order-1", b"%6frder%2D1").replace(b":", b"%3a")),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_gives_the_same_receipt(form: Callback) -> None:
    assert read_receipts(form, UTC_ZONE) == [
        Receipt(
            transaction_id=None,
            recipient="447700900000",
            client_ref="order-1",
            status_id="1",
            description="Delivered",
            occurred_at=datetime(2016, 1, 11, 14, 11, 45, 170000, UTC),
            is_local_time=True,
        )
    ]


def test_the_zone_of_the_setting_may_be_any() -> None:
    form = callback(SAMPLE)
    assert only(form, ZoneInfo("Asia/Kathmandu")).occurred_at == datetime(2016, 1, 11, 8, 26, 45, 170000, UTC)
    assert only(form, ZoneInfo("Etc/UTC")) == only(form, UTC_ZONE)


def test_a_missing_datetime_is_noted() -> None:
    assert only(callback(b"statusid=1")).notes == ("it has no provider time",)


def test_unknown_fields_may_be_repeated() -> None:
    query = b"tag=a&tag=b&_=1&-=2&" + b"&".join(b"p%d=1" % number for number in range(300)) + b"&" + SAMPLE
    assert only(callback(query)) == only(callback(SAMPLE))


@pytest.mark.parametrize(
    "name", ["STATUSID", "status+id", "status_id", "%73tatusid", "status%20id", "status%3Aid", "_" * 60 + "statusid"]
)
def test_a_name_is_known_in_any_case_punctuation_and_escape(name: str) -> None:
    assert only(callback(f"{name}=4&statusdescription=x".encode())).status_id == "4"


@pytest.mark.parametrize("piece", ["statusid", "=4", "status%2520id=4", "statusid%3D4"])
def test_a_piece_without_a_known_name_or_a_value_says_nothing(piece: str) -> None:
    assert only(callback(f"{piece}&statusdescription=x".encode())).status_id is None


VALUES = [
    ("+%2B44%20", "+44"),
    ("\x1c a\t", "a"),
    ("a%3ab%3Ac", "a:b:c"),
    ("a\0b", "a\ufffdb"),
    ("%00", "\ufffd"),
    ("a=b", "a=b"),
    ("%253A%%3A%2%3A", "%3A%:%2:"),
    ("%2520%252B+", "%20%2B"),
    ("%EF%BB%BFcaf%C3%A9", "café"),
    ("%EF%BB%BFcaf%E9", "ï»¿café"),
    ("%EF%BB", "ï»"),
    ("é", "é"),
    ("", None),
]


@pytest.mark.parametrize(("written", "read"), VALUES)
def test_a_value_is_unescaped_once_and_stripped(written: str, read: str | None) -> None:
    assert only(callback(b"statusid=1&clientref=" + written.encode())).client_ref == read


TRANSACTIONS = [
    ("00815", "815"),
    ("815", "815"),
    ("0", None),
    ("", None),
    ("8x15", None),
    ("-5", None),
    ("9" * 40, "9" * 40),
    ("9" * 41, None),
    ("\u0661", None),
]


@pytest.mark.parametrize(("written", "read"), TRANSACTIONS)
def test_transaction_ids_lose_only_their_leading_zeros(written: str, read: str | None) -> None:
    assert only(callback(b"statusid=1&TransactionID=" + written.encode())).transaction_id == read


UNREADABLE = {
    "nothing": callback(b"%%%"),
    "no status": callback(b"recipient=447700900000&clientref=a"),
    "two values in query and body": callback(b"statusid=1", b"StatusID=2"),
    "two values in query and multipart": multipart(b"statusid=2", query=b"statusid=1"),
    "two values in query and JSON": callback(b"statusid=1", b'{"statusid": 2}'),
    "two values in JSON": callback(body=b'{"statusid": 1, "StatusID": 2}'),
    "two values in JSON for the very same name": callback(body=b'{"statusid": 1, "statusid": 2}'),
    "broken JSON": callback(body=b'{"statusid": '),
    "an empty list": callback(SAMPLE, b"[]"),
    "no object": callback(body=b'["statusid"]'),
    "a list in a list": callback(body=b'[[{"statusid": 1}, {"statusid": 2}]]'),
    "two lists": callback(body=b'{"receipts": [{"statusid": 1}], "statuses": [{"statusid": 2}]}'),
    "deep JSON": callback(body=b"[" * 100_000),
    "deep objects": callback(body=b'{"receipts":' * 100_000),
    "a number too long to be one": callback(body=b'{"statusid": ' + b"9" * 5000 + b"}"),
    "a part without a name": callback(
        body=b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n",
        content_type="multipart/form-data; boundary=b",
    ),
    "bytes": callback(body=b"\xff\xfe\x00\x00"),
}


@pytest.mark.parametrize("form", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_callback_without_a_status_is_unreadable(form: Callback) -> None:
    [entry] = read_receipts(form, UTC_ZONE)
    assert isinstance(entry, Unreadable)
    assert str(entry)
    assert (entry.__traceback__, entry.__context__) == (None, None)  # they would hold on to the bytes


WHICH = b"transactionid=1&transactionid=2&recipient=a&recipient=b"
TWO = WHICH + b"&statusid=1&statusid=4"
TWO_TOLD = ["1 a 1", "4 b 2"]
TWO_JSON = (
    b'[{"TransactionID": 1, "recipient": "a", "statusid": 1}, {"transactionid": "2", "Recipient": "b", "statusid": 4}]'
)
LISTED = b'[{"transactionid": 1, "recipient": "a"}, {"transactionid": 2, "recipient": "b"}]'

SEVERAL = {
    "repeated in the query": (callback(TWO), TWO_TOLD),
    "repeated in a form": (callback(body=TWO), TWO_TOLD),
    "repeated in multipart": (multipart(TWO), TWO_TOLD),
    "repeated in query and body alike": (callback(TWO, TWO), TWO_TOLD),
    "some names repeated in the query, others in the body": (callback(WHICH, b"statusid=1&statusid=4"), TWO_TOLD),
    "repeated name after name": (
        callback(b"transactionid=1&recipient=a&statusid=1&transactionid=2&recipient=b&statusid=4"),
        TWO_TOLD,
    ),
    "repeated in other spellings": (
        callback(TWO.replace(b"recipient=b", b"Recipi%65nt=%62").replace(b"statusid=4", b"STATUS_ID=4")),
        TWO_TOLD,
    ),
    "a status once is for all": (callback(b"statusid=1&transactionid=1&transactionid=2"), ["1 None 1", "1 None 2"]),
    "what one of them lacks is empty": (
        callback(b"statusid=1&transactionid=1&transactionid=2&recipient=&recipient=b"),
        ["1 None 1", "1 b 2"],
    ),
    "a query that holds for all in the body": (callback(b"statusid=3", WHICH), ["3 a 1", "3 b 2"]),
    "a body that holds for all in the query": (callback(WHICH, b"statusid=3"), ["3 a 1", "3 b 2"]),
    "a JSON object that holds for all in the query": (callback(WHICH, b'{"statusid": 3}'), ["3 a 1", "3 b 2"]),
    "a query that repeats what holds for all": (
        callback(b"statusid=3&statusid=3&statusid=3", WHICH),
        ["3 a 1", "3 b 2"],
    ),
    "one receipt again and again": (callback(b"&".join([SAMPLE] * 3)), ["1 447700900000 None"]),
    "one receipt again and again, some of it more often": (
        callback(b"statusid=1&statusid=1&recipient=a&recipient=a&recipient=a"),
        ["1 a None"],
    ),
    "two of three alike are three": (
        callback(b"statusid=1&statusid=1&statusid=2"),
        ["1 None None", "1 None None", "2 None None"],
    ),
    "one without a status": (
        callback(b"recipient=a&recipient=b&statusid=1&statusid="),
        ["1 a None", "neither statusid nor statusdescription could be found in it"],
    ),
    "query against body in one place": (
        callback(b"recipient=a&recipient=b&statusid=1", b"recipient=a&recipient=c"),
        ["1 a None", "it gives two values for recipient"],
    ),
    "a query that contradicts one in the body": (
        callback(b"recipient=a&statusid=1", b"recipient=a&recipient=c"),
        ["1 a None", "it gives two values for recipient"],
    ),
    "numbers that do not pair up": (
        callback(b"statusid=1&recipient=a&recipient=b&transactionid=1&transactionid=2&transactionid=3"),
        ["it gives 2 values for recipient, 3 values for transactionid"],
    ),
    "numbers that do not pair up across query and body": (
        callback(b"statusid=1&recipient=a&recipient=b", b"transactionid=1&transactionid=2&transactionid=3"),
        ["its query speaks of 2 receipts and its body of 3"],
    ),
    "an array": (callback(body=TWO_JSON), TWO_TOLD),
    "an array with its type": (callback(body=TWO_JSON, content_type="application/json"), TWO_TOLD),
    "an array of two alike": (callback(body=b'[{"statusid": 1}, {"statusid": 1}]'), ["1 None None", "1 None None"]),
    "an array beside a query that holds for all": (callback(b"statusid=3", LISTED), ["3 a 1", "3 b 2"]),
    "an array beside a query that contradicts one": (
        callback(b"recipient=a&statusid=3", LISTED),
        ["3 a 1", "it gives two values for recipient"],
    ),
    "an array beside a query of several": (
        callback(b"statusid=3&statusid=4", LISTED),
        ["its query speaks of 2 receipts beside those that its body lists"],
    ),
    "an array of which some can't be read": (
        callback(
            body=b'[{"statusid": 1}, 5, null, [{"statusid": 1}], {}, {"statusid": 2, "StatusId": 3}, {"statusid": 4}]'
        ),
        [
            "1 None None",
            "it is not a JSON object",
            "it is not a JSON object",
            "it is not a JSON object",
            "neither statusid nor statusdescription could be found in it",
            "it gives two values for statusid",
            "4 None None",
        ],
    ),
    "a list under a key": (callback(body=b'{"receipts": ' + TWO_JSON + b"}"), TWO_TOLD),
    "a list under another key, in an array of one": (callback(body=b'[{"dlrs": ' + TWO_JSON + b"}]"), TWO_TOLD),
    "a list under a key, and what holds for all": (
        callback(body=b'{"StatusID": 3, "count": 2, "statuses": ' + LISTED + b', "links": [{"next": "/2"}]}'),
        ["3 a 1", "3 b 2"],
    ),
    "a list under a key, and what contradicts one": (
        callback(body=b'{"statusid": 3, "recipient": "b", "statuses": ' + LISTED + b"}"),
        ["it gives two values for recipient", "3 b 2"],
    ),
    "a list under a key, and what contradicts the query": (
        callback(b"statusid=4", b'{"statusid": 3, "statuses": ' + LISTED + b"}"),
        ["it gives two values for statusid"],
    ),
    "a list under a key, not all of it receipts": (
        callback(body=b'{"receipts": [{"statusid": 1}, 5]}'),
        ["1 None None", "it is not a JSON object"],
    ),
}


@pytest.mark.parametrize(("form", "expected"), SEVERAL.values(), ids=SEVERAL.keys())
def test_several_receipts_keep_their_order(form: Callback, expected: list[str]) -> None:
    assert told(form) == expected


@pytest.mark.parametrize("number", [10_000, 10_001])
def test_the_number_of_receipts_in_a_callback_is_bounded(number: int) -> None:
    repeated = b"&".join(b"statusid=%d" % place for place in range(number))
    listed = b"[" + b",".join([b'{"statusid": 1}'] * number) + b"]"
    for form in (callback(repeated), callback(b"recipient=a", repeated), callback(body=listed)):
        entries = read_receipts(form, UTC_ZONE)
        if number == 10_000:
            assert len(entries) == number
            assert all(isinstance(entry, Receipt) for entry in entries)
        else:
            assert [str(entry) for entry in entries] == [
                "it holds 10001 receipts, more than the 10000 that are read from one callback"
            ]


MEBIBYTE = 1024 * 1024
MULTIPART = "multipart/form-data; boundary=b"
PART = b"--b\r\nContent-Disposition: form-data; name=statusid%s\r\n\r\n"
TEN_THOUSAND = b",".join([b'{"statusid":1}'] * 9_999)


def filled(piece: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A body of a mebibyte: as many of a piece as there is room for."""
    return before + piece * ((MEBIBYTE - len(before) - len(after)) // len(piece)) + after


# Bodies that are made to take long; most of them did, or would by the parsers that come with Python.
SLOW = {
    "deep JSON": filled(b"[" * 512 + b"]" * 512),
    "deep objects": filled(b'{"a":'),
    "a JSON array of empty ones": filled(b"[],", b"[", b"[]]"),
    "a JSON array of objects": filled(b'{"":1},', b"[", b"{}]"),
    "a JSON object of many members": filled(b'"":1,', b"{", b'"a":1}'),
    "many JSON members, just few enough": b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}",
    "a list of strangers in JSON": filled(b'{"":1},', b'{"r":[', b"1]}"),
    "a long number": filled(b"9", b'{"statusid":', b"}"),
    "many long numbers": filled(b"9" * 4000 + b",", b"[", b"1]"),
    "a long fraction": filled(b"9", b'{"statusid":0.', b"}"),
    "escapes in JSON": filled(b"\\ud800", b'{"statusid":"', b'"}'),
    "a long name in JSON": filled(b"-a", b'{"', b'":1}'),
    "a long time that all receipts share": filled(b" ", b'{"r":[' + TEN_THOUSAND + b'],"datetime":"2016-01-11', b'x"}'),
    "a long id that all receipts share": filled(b"0", b'{"r":[' + TEN_THOUSAND + b'],"transactionid":"', b'1"}'),
    "a long text that all receipts share": filled(b"a ", b'{"r":[' + TEN_THOUSAND + b'],"statusdescription":"', b'"}'),
    "a form of separators": filled(b"&"),
    "a form of nothing": filled(b"=&"),
    "a form of one name": filled(b"%53tatusid=%41&"),
    "a form of many names": b"&".join(b"%%41%%%02x%%%02x=" % divmod(number, 256) for number in range(90_000)),
    "a form of long names": b"&".join(b"%041x=" % number for number in range(24_000)),
    "escapes": filled(b"%41", b"statusid="),
    "broken escapes": filled(b"%", b"statusid="),
    "a long time": filled(b"1", b"statusid=1&datetime=11 jan"),
    "question marks": filled(b"?", b"a=b", b"a=1"),
    "semicolons and names": filled(b";a=", b"a="),
    "semicolons and many names": b"a="
    + b"".join(b";%%41%%%02x%%%02x=" % divmod(number, 256) for number in range(60_000)),
    "semicolons and a known name": filled(b";statusid=1", b"a="),
    "ampersands in HTML": filled(b"&amp;"),
    "numbered ampersands": filled(b"&#000"),
    "escapes of old ASP": filled(b"%u2019", b"statusid="),
    "escapes of old ASP, one by one": filled(b"%u2019.", b"statusid="),
    "the whole of it escaped": filled(b"%26"),
    "JSON values": filled(b"{}"),
    "JSON values, one a line": filled(b'{"a":1}\n'),
    "JSON in a string": filled(b"[", b'"', b'"'),
    "zlib's first bytes": filled(b"x\x9c"),
}
SLOW_PARTS = {
    "parts": filled(PART % b"" + b"1\r\n"),
    "parts, just few enough": (PART % b"" + b"1\r\n") * 4_900,
    "empty parts": filled(b"--b\nContent-Disposition:\n\n\n"),
    "headers": filled(b"a:\n", b"--b\nContent-Disposition:a;name=statusid\n", b"\n1\n--b--"),
    "parameters": filled(b";a=b", b"--b\nContent-Disposition:a;name=statusid", b"\n\n1\n--b--"),
    "parameters, just few enough": b"--b\nContent-Disposition:a" + b";a*1=b" * 19_000 + b"\n\n1\n--b--",
    "a quoted name": filled(b"\\\\", b'--b\nContent-Disposition:a;name="', b'"\n\n1\n--b--'),
    "a quoted name without an end": filled(b"x", b'--b\nContent-Disposition:a;name="', b"\n\n1\n--b--"),
    "folded lines": filled(b"\n ", b"--b\nContent-Disposition:a;name=x", b"\n\n1\n--b--"),
    "line ends": filled(b"\r", b"--b\nContent-Disposition:a;name=x\n\n"),
    "near boundaries": filled(b"\n--b      ", b"--b\nContent-Disposition:a;name=x\n\n"),
    "boundaries within a line": filled(b"--b", b"--b\nContent-Disposition:a;name=x\n\n"),
}
# Codecs of Python, and what each of them takes long for, if it were used.
SLOW_CODECS = {
    "idna": filled(b"xn--a."),
    "idna ": filled(b"a"),
    "punycode": filled(b"a", b"-"),
    "punycode_": filled(b"zz9", b"a-"),
    "unicode_escape": filled(b"\\u"),
    "raw-unicode-escape": filled(b"\\u"),
    "utf-7": filled(b"+AAA-"),
    "hz": filled(b"~{"),
    "iso-2022-jp": filled(b"\x1b$B"),
    "gb18030": filled(b"\x810"),
    "zip": filled(b"a"),
    "bz2": filled(b"a"),
    "rot13": filled(b"a"),
    "quopri": filled(b"="),
}
ALL_SLOW = {
    **{name: callback(body=body) for name, body in SLOW.items()},
    **{name: callback(body=body, content_type=MULTIPART) for name, body in SLOW_PARTS.items()},
    **{
        name: callback(body=b"statusid=" + body[:-9], content_type=f'a/b; charset="{name}"')
        for name, body in SLOW_CODECS.items()
    },
}


@pytest.mark.parametrize("form", ALL_SLOW.values(), ids=ALL_SLOW.keys())
def test_a_body_made_to_be_slow_takes_less_than_a_second(form: Callback) -> None:
    assert len(form.body) <= MEBIBYTE
    started = process_time()
    assert read_receipts(form, ZoneInfo("Europe/London"))
    assert process_time() - started < 1
    started = process_time()
    with suppress(Unreadable):
        read_reply(form, UTC_ZONE)
    assert process_time() - started < 1


BOUNDS = {
    "its JSON body is nested more than 100 levels deep": (
        callback(body=b'{"statusid":1,"a":' + b"[" * 99 + b"]" * 99 + b"}"),
        callback(body=b'{"statusid":1,"a":' + b"[" * 100 + b"]" * 100 + b"}"),
    ),
    "its JSON body has more than 100000 members and elements": (
        callback(body=b'{"statusid":1,"a":[' + b"1," * 99_997 + b"1]}"),
        callback(body=b'{"statusid":1,"a":[' + b"1," * 99_998 + b"1]}"),
    ),
    "a number in its JSON body has more than 200 digits": (
        callback(body=b'{"statusid":' + b"9" * 200 + b"}"),
        callback(body=b'{"statusid":' + b"9" * 201 + b"}"),
    ),
    "it has more than 100000 fields": (
        callback(body=b"statusid=1" + b"&a=1" * 99_999),
        callback(body=b"statusid=1" + b"&a=1" * 100_000),
    ),
    "its multipart body has more than 20000 lines": (
        callback(body=PART % b"" + b"1\r\n--b\r\n" + b"a:\r\n" * 19_995, content_type=MULTIPART),
        callback(body=PART % b"" + b"1\r\n--b\r\n" + b"a:\r\n" * 19_996, content_type=MULTIPART),
    ),
    "its multipart body has more than 20000 parameters": (
        callback(body=PART % (b";a=b" * 19_999) + b"1\r\n--b--\r\n", content_type=MULTIPART),
        callback(body=PART % (b";a=b" * 20_000) + b"1\r\n--b--\r\n", content_type=MULTIPART),
    ),
}


@pytest.mark.parametrize("reason", BOUNDS)
def test_what_passes_a_bound_is_unreadable_and_the_reason_says_which(reason: str) -> None:
    within, beyond = BOUNDS[reason]
    assert told(within) != [reason]
    assert told(beyond) == [reason]
    with pytest.raises(Unreadable, match=reason):
        read_reply(beyond, UTC_ZONE)


def test_the_depth_of_json_does_not_depend_on_who_calls() -> None:
    def call(depth: int) -> list[str]:
        return call(depth - 1) if depth else told(callback(body=b"[" * 900 + b"]" * 900))

    assert call(0) == call(300) == ["its JSON body is nested more than 100 levels deep"]


def test_any_charset_is_read_and_no_nul_gets_through() -> None:
    receipt = only(callback(b"statusid=1&clientref=caf%e9%00&statusdescription=caf%C3%A9"))
    assert (receipt.client_ref, receipt.description) == ("café\ufffd", "café")


CLIENT_REFS = {
    "shift_jis": "注文-7",
    "euc-kr": "주문-7",
    "gb18030": "订单-7 😀",
    "big5": "訂單-7",
    "iso-2022-jp": "注文-7",
    "koi8-r": "заказ-7",
    "iso-8859-7": "παραγγελία",
    "windows-1252": "café – 7 €",
    "utf-8": "café 注文 😀",
    "ascii": "order-7",
}
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def forms_of(charset: str) -> dict[str, Callback]:
    """The same receipt in every form, its clientRef in this charset, which is declared."""
    said = CLIENT_REFS[charset].encode(charset)
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="statusid"\r\n\r\n1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="clientref"%s\r\n\r\n' + said + b"\r\n--b--\r\n"
    )
    own = parts.replace(b"%s", b"\r\nContent-Type: text/plain; charset=" + charset.encode())
    multipart_type = "multipart/form-data; boundary=b"
    return {
        "form": callback(b"", b"statusid=1&clientref=" + said, f"application/x-www-form-urlencoded; charset={charset}"),
        "escaped form": callback(
            b"",
            b"statusid=1&clientref=" + b"".join(b"%%%02x" % byte for byte in said),
            f"application/x-www-form-urlencoded; charset={charset.upper()}",
        ),
        "JSON": callback(
            b"",
            f'{{"statusid": 1, "clientref": "{CLIENT_REFS[charset]}"}}'.encode(charset),
            f"text/json; charset={charset}",
        ),
        "multipart": callback(b"", parts.replace(b"%s", b""), f"{multipart_type}; charset={charset}"),
        "part": callback(b"", own, multipart_type),
    }


@pytest.mark.parametrize("charset", CLIENT_REFS)
def test_a_declared_charset_is_used(charset: str) -> None:
    for form, one in forms_of(charset).items():
        assert only(one).client_ref == CLIENT_REFS[charset], form


@pytest.mark.parametrize("declared", ["iso-8859-1", "windows-1252", "utf-16", "punycode", "zip", "no such", "x" * 900])
def test_a_wrong_or_unknown_charset_does_no_harm(declared: str) -> None:
    for form, one in forms_of("utf-8").items():
        wrong = one._replace(
            content_type=(one.content_type or "").replace("=utf-8", f'="{declared}"').replace("=UTF-8", f"={declared}"),
            body=one.body.replace(b"charset=utf-8", b"charset=" + declared.encode()),
        )
        assert only(wrong).client_ref == CLIENT_REFS["utf-8"], form


@pytest.mark.parametrize("charset", WIDE)
@pytest.mark.parametrize("is_declared", [True, False])
def test_utf16_and_utf32_are_read(charset: str, is_declared: bool) -> None:
    said = f"; charset={charset}" if is_declared else ""
    form, as_json = "statusid=1&clientref=café 注文", '{"statusid": 1, "clientref": "café 注文"}'
    assert only(callback(b"", form.encode(charset), f"text/plain{said}")).client_ref == "café 注文"
    assert only(callback(b"", as_json.encode(charset), f"application/json{said}")).client_ref == "café 注文"


def test_a_leading_nul_does_not_make_a_body_utf16() -> None:
    assert only(callback(b"", b"\0=1&statusid=1&clientref=x")).client_ref == "x"


def test_a_reply_is_read_as_the_sample_shows_it() -> None:
    reply = read_reply(
        callback(b"msgid=7&datetime=11+Jan+2016+17%3A46%3A51&sender=447700900001&recipient=60030&content=Yes+please"),
        UTC_ZONE,
    )
    assert (reply.msgid, reply.sender, reply.recipient, reply.content) == ("7", "447700900001", "60030", "Yes please")
    assert reply.occurred_at == datetime(2016, 1, 11, 17, 46, 51, tzinfo=UTC)
    assert reply.client_ref is None


def test_a_msgid_too_long_for_an_index_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="msgid"):
        read_reply(callback(b"sender=1&content=x&msgid=" + b"9" * 201), UTC_ZONE)


def test_a_reply_may_be_empty_but_needs_a_sender() -> None:
    assert read_reply(callback(b"msgid=7&sender=1&content="), UTC_ZONE).content == ""
    with pytest.raises(Unreadable, match="sender"):
        read_reply(callback(b"msgid=7&content=x"), UTC_ZONE)


REPLIES = {
    "two in a query": callback(b"sender=1&sender=2&content=x"),
    "two in an array": callback(body=b'[{"sender": 1, "content": "x"}, {"sender": 2, "content": "y"}]'),
    "two under a key": callback(body=b'{"replies": [{"sender": 1, "content": "x"}, {"sender": 2, "content": "y"}]}'),
    "two in query and body": callback(b"sender=1", b"sender=2&content=x"),
}


@pytest.mark.parametrize("form", REPLIES.values(), ids=REPLIES.keys())
def test_several_replies_in_one_callback_are_unreadable(form: Callback) -> None:
    with pytest.raises(Unreadable):
        read_reply(form, UTC_ZONE)


def test_a_reply_is_read_from_an_array_of_one() -> None:
    assert read_reply(callback(b"sender=1", b'[{"sender": 1, "content": "x"}]'), UTC_ZONE).content == "x"


def kept(receipt: Receipt) -> dict[str, str]:
    return {
        "datetime": receipt.occurred_at.isoformat(timespec="milliseconds")[:23] if receipt.occurred_at else "",
        "recipient": receipt.recipient or "",
        "statusid": receipt.status_id or "",
        "statusdescription": receipt.description or "",
        "clientref": receipt.client_ref or "",
        "transactionid": receipt.transaction_id or "",
    }


def repeated(receipts: Sequence[Receipt], escape: Callable[[str], str]) -> bytes:
    pairs = (f"{name}={escape(value)}" for receipt in receipts for name, value in kept(receipt).items())
    return "&".join(pairs).encode()


def parts(receipts: Sequence[Receipt]) -> bytes:
    pairs = (pair for receipt in receipts for pair in kept(receipt).items())
    written = (
        f'--a-long-boundary\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in pairs
    )
    return ("".join(written) + "--a-long-boundary--\r\n").encode()


def listed(receipts: Sequence[Receipt]) -> bytes:
    return json.dumps([kept(receipt) for receipt in receipts]).encode()


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment - timedelta(microseconds=moment.microsecond % 1000)
)
RECEIPTS = st.builds(
    Receipt,
    transaction_id=st.none() | st.integers(1, 10**39).map(str),
    recipient=st.none() | TEXTS,
    client_ref=st.none() | TEXTS,
    status_id=TEXTS,
    description=st.none() | TEXTS,
    occurred_at=st.none() | MOMENTS,
    notes=st.just(()),
    is_local_time=st.just(True),
).map(
    lambda receipt: (
        receipt if receipt.occurred_at else receipt._replace(notes=("it has no provider time",), is_local_time=False)
    )
)


@given(st.lists(RECEIPTS, min_size=1, max_size=5))
def test_receipts_survive_a_round_trip_in_every_form(receipts: list[Receipt]) -> None:
    assert read_receipts(callback(body=listed(receipts)), UTC_ZONE) == receipts
    assert read_receipts(callback(body=b'{"receipts":' + listed(receipts) + b"}"), UTC_ZONE) == receipts
    said_alike = all(receipt == receipts[0] for receipt in receipts)
    expected = receipts[:1] if said_alike else receipts
    for form in (
        callback(repeated(receipts, quote)),
        callback(repeated(receipts, quote_plus)),
        callback(body=repeated(receipts, quote_plus)),
        callback(body=parts(receipts), content_type="multipart/form-data; boundary=a-long-boundary"),
    ):
        assert read_receipts(form, UTC_ZONE) == expected


DECLARED = st.sampled_from([*CLIENT_REFS, *WIDE, *SLOW_CODECS, "utf-8-sig", "cp037", "\0", "x" * 50]) | st.text(
    max_size=9
)
CONTENT_TYPES = st.builds(
    '{}; charset="{}"; boundary={}'.format,
    st.sampled_from(["multipart/form-data", "application/json", "text/plain", ""]),
    DECLARED,
    st.sampled_from(["b", "", '"', "-", "\xe9", "b" * 70]),
)


@given(st.binary(max_size=300), st.binary(max_size=300), st.none() | st.text(max_size=40) | CONTENT_TYPES)
def test_any_bytes_are_at_worst_unreadable(query: bytes, body: bytes, content_type: str | None) -> None:
    assert_harmless(callback(query, body, content_type))


JSON_TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["statusid", "StatusID", "receipts", "datetime", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
).map(json.dumps)


@given(st.sampled_from([b"", b"statusid=1", b"statusid=1&statusid=2"]), JSON_TEXTS, st.integers(0, 3))
def test_any_json_is_at_worst_unreadable(query: bytes, text: str, cut: int) -> None:
    assert_harmless(callback(query, text[: len(text) - cut].encode()))


DISPOSITIONS = [
    b"Content-Disposition: form-data",
    b'; name="statusid"',
    b"; name=x",
    b"; name*0=utf-8''%FF",
    b'; filename="f"',
]
PART_PIECES = [
    *DISPOSITIONS,
    b"--b",
    b"--b--",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\xff",
    b"\0",
    b"1",
    b'"',
    b"Content-Type: a; charset=ascii",
]


@given(st.lists(st.sampled_from(PART_PIECES), max_size=20).map(b"".join))
def test_any_multipart_body_is_at_worst_unreadable(body: bytes) -> None:
    assert_harmless(callback(b"", body, "multipart/form-data; boundary=b"))


def assert_harmless(form: Callback) -> None:
    assert read_receipts(form, UTC_ZONE)
    try:
        read_reply(form, UTC_ZONE)
    except Unreadable:
        return
