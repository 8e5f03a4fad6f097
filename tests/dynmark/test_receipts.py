"""Callbacks are read by their content, in every form they may come in."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt
from receiptsvc.dynmark.receipts import read_receipt, read_reply

UTC_ZONE = ZoneInfo("UTC")
SAMPLE = (
    b"datetime=2016-01-11T14:11:45.170&recipient=447700900000&statusid=1&statusdescription=Delivered&clientref=order-1"
)
FIRST_HALF, SECOND_HALF = SAMPLE.split(b"&statusid")
MULTIPART = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % tuple(pair.split(b"=")) for pair in SAMPLE.split(b"&")
) + b"--b--\r\n"  # fmt: skip
JSON = (
    b'{"DateTime": "2016-01-11T14:11:45.170", "Recipient": "447700900000", "StatusID": 1, '
    b'"StatusDescription": "Delivered", "clientRef": "order-1", "extra": {"deep": 1}}'
)


def callback(query: bytes = b"", body: bytes = b"", content_type: str | None = None) -> Callback:
    return Callback(method="POST" if body else "GET", query=query, content_type=content_type, body=body)


FORMS = {
    "query, as the sample receiver reads it": callback(SAMPLE),
    "upper-case names": callback(SAMPLE.replace(b"recipient", b"RECIPIENT").replace(b"statusid", b"StatusId")),
    "form": callback(body=SAMPLE, content_type="application/x-www-form-urlencoded"),
    "form that does not say so": callback(body=SAMPLE, content_type="text/plain"),
    "form without any type": callback(body=SAMPLE),
    "half query, half form": callback(FIRST_HALF, b"statusid" + SECOND_HALF),
    "said twice alike": callback(SAMPLE, SAMPLE),
    "multipart": callback(body=MULTIPART, content_type="multipart/form-data; boundary=b"),
    "JSON": callback(body=JSON, content_type="application/json"),
    "JSON in an array of one": callback(body=b"[" + JSON + b"]"),
    "JSON with a byte order mark": callback(body=b"\xef\xbb\xbf" + JSON, content_type="application/json"),
    "percent-encoded": callback(SAMPLE.replace(b"order-1", b"%6frder%2D1").replace(b":", b"%3a")),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_says_the_same(form: Callback) -> None:
    assert read_receipt(form, UTC_ZONE) == Receipt(
        transaction_id=None,
        recipient="447700900000",
        client_ref="order-1",
        status_id="1",
        description="Delivered",
        occurred_at=datetime(2016, 1, 11, 14, 11, 45, 170000, UTC),
    )


TIMES = [
    ("2016-01-11T14:11:45.170", "2016-01-11T14:11:45.170+00:00"),
    ("2016-01-11T14:11:45", "2016-01-11T14:11:45+00:00"),
    ("2016-07-11T14:11:45.1234567", "2016-07-11T13:11:45.123456+00:00"),  # seven digits, as .NET writes them
    ("2016-01-11 14:11", "2016-01-11T14:11:00+00:00"),
    ("2016-01-11T14:11:45Z", "2016-01-11T14:11:45+00:00"),
    ("2016-01-11T14:11:45+02:00", "2016-01-11T12:11:45+00:00"),
    ("2016-01-11T14:11:45 02:00", "2016-01-11T12:11:45+00:00"),  # a plus that travelled unescaped
    ("2016-01-11T14:11:45-0530", "2016-01-11T19:41:45+00:00"),
    ("11 Jan 2016 17:46:51", "2016-01-11T17:46:51+00:00"),
    ("1 january 2016 7:46:51", "2016-01-01T07:46:51+00:00"),
    ("13/07/2016 14:11:45", "2016-07-13T13:11:45+00:00"),
    ("2016-02-30T14:11:45", None),
    ("0000-01-11T14:11:45", None),
    ("0001-01-01T00:00:00+14:00", None),
    ("2016-01-11T25:00:00", None),
    ("9999-12-31T23:59:59", None),
    ("1999-12-31T23:59:59", None),
    ("yesterday", None),
    ("1452521505", None),
    ("\u0662016-01-11T14:11:45", None),
]


@pytest.mark.parametrize(("given_time", "moment"), TIMES)
def test_datetime_is_read_in_the_zone_of_the_setting(given_time: str, moment: str | None) -> None:
    query = b"statusid=1&datetime=" + given_time.replace("+", "%2B").encode()
    receipt = read_receipt(callback(query), ZoneInfo("Europe/London"))
    assert receipt.occurred_at == (moment and datetime.fromisoformat(moment))
    assert receipt.notes == (() if moment else ("its datetime can't be read",))


def test_a_missing_datetime_is_said_so() -> None:
    assert read_receipt(callback(b"statusid=1"), UTC_ZONE).notes == ("it has no provider time",)


def test_what_nobody_reads_may_be_said_twice() -> None:
    query = b"tag=a&tag=b&_=1&-=2&" + b"&".join(b"p%d=1" % number for number in range(300)) + b"&" + SAMPLE
    assert read_receipt(callback(query), UTC_ZONE) == read_receipt(callback(SAMPLE), UTC_ZONE)


TRANSACTIONS = [
    ("00815", "815"),
    ("815", "815"),
    ("0", None),
    ("", None),
    ("8x15", None),
    ("-5", None),
    ("9" * 41, None),
]


@pytest.mark.parametrize(("written", "read"), TRANSACTIONS)
def test_transaction_ids_lose_only_their_leading_zeros(written: str, read: str | None) -> None:
    assert read_receipt(callback(b"statusid=1&TransactionID=" + written.encode()), UTC_ZONE).transaction_id == read


UNREADABLE = {
    "nothing": callback(b"%%%"),
    "no status": callback(b"recipient=447700900000&clientref=a"),
    "two values for one name": callback(b"statusid=1&StatusID=2"),
    "broken JSON": callback(body=b'{"statusid": '),
    "several receipts": callback(body=b'[{"statusid": 1}, {"statusid": 2}]'),
    "deep JSON": callback(body=b"[" * 100_000),
    "bytes": callback(body=b"\xff\xfe\x00\x00"),
}


@pytest.mark.parametrize("form", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_says_nothing_is_unreadable(form: Callback) -> None:
    with pytest.raises(Unreadable):
        read_receipt(form, UTC_ZONE)


def test_any_charset_is_read_and_no_nul_gets_through() -> None:
    receipt = read_receipt(callback(b"statusid=1&clientref=caf%e9%00&statusdescription=caf%C3%A9"), UTC_ZONE)
    assert (receipt.client_ref, receipt.description) == ("café\ufffd", "café")


def test_a_reply_is_read_as_the_sample_shows_it() -> None:
    reply = read_reply(
        callback(b"msgid=7&datetime=11+Jan+2016+17%3A46%3A51&sender=447700900001&recipient=60030&content=Yes+please"),
        UTC_ZONE,
    )
    assert (reply.msgid, reply.sender, reply.recipient, reply.content) == ("7", "447700900001", "60030", "Yes please")
    assert reply.occurred_at == datetime(2016, 1, 11, 17, 46, 51, tzinfo=UTC)
    assert reply.client_ref is None


def test_a_msgid_that_no_index_holds_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="msgid"):
        read_reply(callback(b"sender=1&content=x&msgid=" + b"9" * 201), UTC_ZONE)


def test_an_empty_reply_is_a_reply_and_one_without_a_sender_is_none() -> None:
    assert read_reply(callback(b"msgid=7&sender=1&content="), UTC_ZONE).content == ""
    with pytest.raises(Unreadable, match="sender"):
        read_reply(callback(b"msgid=7&content=x"), UTC_ZONE)


@given(st.binary(max_size=300), st.binary(max_size=300), st.none() | st.text(max_size=40))
def test_no_bytes_do_worse_than_unreadable(query: bytes, body: bytes, content_type: str | None) -> None:
    for read in (read_receipt, read_reply):
        try:
            read(callback(query, body, content_type), UTC_ZONE)
        except Unreadable:
            continue
