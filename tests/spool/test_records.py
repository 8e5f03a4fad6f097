"""A spool file's bytes: every callback is read back exactly as it came."""

from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc import ids
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.spool import records
from tests.spool.spooling import arrival

MARKER = b"\x01marked\xff"

CALLBACK_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "method": st.text(),
    "query": st.binary(),
    "content_type": st.none() | st.text(),
    "body": st.binary(),
    "content_encoding": st.none() | st.text(),
}
ARRIVAL_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.uuids(),
    "channel": st.sampled_from(Channel),
    "message_id": st.none() | st.uuids(),
    "received_at": st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))])),
    "callback": st.builds(Callback, **CALLBACK_FIELDS),
    "claimed_kid": st.none() | st.text(),
}
ARRIVALS = st.builds(Arrival, **ARRIVAL_FIELDS)


def contents(data: bytes) -> list[bytes | None]:
    return [piece.content for piece in records.read_pieces(BytesIO(data), len(data))]


@pytest.mark.parametrize(("record_type", "strategies"), [(Arrival, ARRIVAL_FIELDS), (Callback, CALLBACK_FIELDS)])
def test_the_strategies_cover_every_field(record_type: type[Arrival | Callback], strategies: dict[str, object]) -> None:
    assert set(record_type._fields) == set(strategies)


@given(st.lists(ARRIVALS, max_size=5))
@settings(deadline=None, derandomize=True, database=None)
def test_a_file_is_read_back_as_it_was_written(group: list[Arrival]) -> None:
    data = records.header(MARKER) + b"".join(records.encode(MARKER, callback) for callback in group)
    assert [records.decode(content) for content in contents(data) if content is not None] == group


@given(st.binary(max_size=400), st.booleans())
@settings(deadline=None, derandomize=True, database=None)
def test_pieces_cover_a_file_without_a_gap(noise: bytes, has_header: bool) -> None:
    data = records.header(MARKER) * has_header + noise + records.encode(MARKER, arrival()) * has_header + noise
    offset = len(records.header(MARKER)) * has_header
    for piece in records.read_pieces(BytesIO(data), len(data)):
        assert piece.start == offset
        offset = piece.end
    assert offset == len(data)


@pytest.mark.parametrize("distance", [1, 7, 8, 9, 64 * 1024 - 4, 64 * 1024, 200_000])
def test_reading_continues_after_damage_of_any_length(distance: int) -> None:
    expected = arrival()
    data = records.header(MARKER) + b"\x01" * distance + records.encode(MARKER, expected)
    damaged, sound = records.read_pieces(BytesIO(data), len(data))
    assert damaged.content is None
    assert damaged.end - damaged.start == distance
    assert sound.content is not None
    assert records.decode(sound.content) == expected


def test_a_record_of_a_release_that_kept_no_content_encoding_is_read() -> None:
    callback = arrival()
    [content] = filter(None, contents(records.header(MARKER) + records.encode(MARKER, callback)))
    older = content.replace(b'"content_encoding":null,', b"")
    assert older != content
    assert records.decode(older) == callback


def test_a_file_of_another_version_is_not_read() -> None:
    data = bytearray(records.header(MARKER))
    data[7] = 2
    with pytest.raises(records.OtherVersion, match="version 2"):
        contents(bytes(data))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]\n",
        b"not json\n",
        b"{}\n",
        b'{"id":"x","channel":"message","message_id":null,"received_at":"","method":"GET","content_type":null,"query_bytes":0,"body_bytes":0}\n',
        b'{"id":1,"channel":"message","message_id":null,"received_at":"","method":"GET","content_type":null,"query_bytes":0,"body_bytes":0}\n',
        b'{"query_bytes":3,"body_bytes":0}\nab',
        b'{"id":"0123456789abcdef0123456789abcdef","channel":"message","message_id":null,"claimed_kid":null,'
        b'"received_at":"0001-01-01T00:00:00+14:00","method":"GET","content_type":null,"query_bytes":0,"body_bytes":0}\n',
        b"[" * 200_000 + b"\n",
    ],
    ids=range(9),
)
def test_content_that_encode_never_wrote_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text differs, its type is the promise
        records.decode(content)


def test_a_record_holds_the_query_and_body_unencoded(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(records.encode(MARKER, arrival(query=b"a=%20\xff&b", body=b"\0\n<xml/>")))
    assert b"a=%20\xff&b\0\n<xml/>" in path.read_bytes()


def test_ids_and_times_keep_their_full_precision() -> None:
    callback = Arrival(
        id=ids.new(),
        channel=Channel.ACCOUNT,
        message_id=None,
        received_at=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        callback=Callback(method="POST", query=b"", content_type="text/plain", body=b""),
    )
    (content,) = contents(records.header(MARKER) + records.encode(MARKER, callback))
    assert content is not None
    assert records.decode(content) == callback
