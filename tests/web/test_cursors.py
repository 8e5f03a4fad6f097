"""Cursors: each list reads its own, and no other text."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zlib import crc32

import marshmallow as ma
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.times import from_micros, to_micros
from receiptsvc.store.core.audits import AuditKey
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.listing import ListCursor, Order
from receiptsvc.store.queries.timeline import TimelineCursor
from receiptsvc.web.http import cursors
from receiptsvc.web.http.cursors import Cursor

ID = UUID(int=0x0198_0000_0000_7000_8000_0000_0000_0001)
AT = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC)
REAL: list[tuple[Cursor[Any], Any]] = [
    (cursors.MESSAGES, ListCursor(Order.CREATED, (AT, ID))),
    (cursors.MESSAGES, ListCursor(Order.CHANGED, (AT, ID))),
    (cursors.MESSAGES, ListCursor(Order.CLIENT_REF, ('a"\\\n\u2019\U0001f600.', AT, ID))),
    (cursors.CONVERSATIONS, TimeCursor(AT, ID)),
    (cursors.CONVERSATION, TimeCursor(AT, ID)),
    (cursors.TIMELINE, TimelineCursor(AT, 3, ID, 2**63 - 1)),
    (cursors.RECIPIENT, TimeCursor(AT, ID)),
    (cursors.REPLIES, TimeCursor(AT, ID)),
    (cursors.RECEIPTS, ID),
    (cursors.REPLAY, ID),
    (cursors.SUPPRESSIONS, Pair("447700900000", "")),
    (cursors.AUDITS, AuditKey(AT, 2**63 - 1)),
]
LISTS = {cursor.name: cursor for cursor, _ in REAL}
TIMES = st.integers(0, to_micros(datetime.max.replace(tzinfo=UTC))).map(from_micros)


def sealed(content: object) -> str:
    """What a forger who knows the form makes of a content."""
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return urlsafe_b64encode(crc32(data).to_bytes(4) + data).decode().rstrip("=")


def refusal(cursor: Cursor[Any], text: str) -> str:
    with pytest.raises(ma.ValidationError) as error:
        cursor.decode(text)
    [words] = error.value.messages
    assert error.value.field_name == "cursor"
    return str(words)


@pytest.mark.parametrize(("cursor", "position"), REAL)
def test_a_list_reads_the_position_that_it_wrote(cursor: Cursor[Any], position: Any) -> None:
    assert cursor.decode(cursor.encode(position)) == position


@given(client_ref=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=64), at=TIMES)
def test_every_client_ref_and_time_has_its_cursor(client_ref: str, at: datetime) -> None:
    position = ListCursor(Order.CLIENT_REF, (client_ref, at, ID))
    text = cursors.MESSAGES.encode(position)
    assert cursors.MESSAGES.decode(text) == position
    assert len(text) <= cursors.MAX_LENGTH


@pytest.mark.parametrize(("cursor", "position"), REAL)
def test_a_cursor_of_another_list_is_refused(cursor: Cursor[Any], position: Any) -> None:
    for other in LISTS.values():
        if other is not cursor:
            words = refusal(other, cursor.encode(position))
            assert words == "Must be a nextCursor of this list; this one is of another list."


@pytest.mark.parametrize(("cursor", "position"), REAL)
def test_a_cut_or_changed_cursor_is_refused(cursor: Cursor[Any], position: Any) -> None:
    text = cursor.encode(position)
    cut = [text[:length] for length in range(len(text))] + [text[start:] for start in range(1, len(text))]
    changed = [
        text[:place] + other + text[place + 1 :]
        for place in range(len(text))
        for other in "Az09-_+/=%\0é"
        if other != text[place]
    ]
    for forged in (*cut, *changed, text + "=", text + "A", text + "\n", text.swapcase(), text * 50):
        assert "changed" in refusal(cursor, forged), forged


@pytest.mark.parametrize("content", [None, 1, "messages", {}, [], [[]], ["messages"], {"messages": 1}, ["\ud800"]])
def test_a_forged_form_is_refused(content: object) -> None:
    assert refusal(cursors.MESSAGES, sealed(content)).startswith("Must be a nextCursor of this list; ")


BAD: list[tuple[Cursor[Any], int, str, tuple[object, ...]]] = [
    (cursors.MESSAGES, 1, "order", (None, "", "status", [], {})),
    (cursors.MESSAGES, 2, "clientRef", (None, 1, "a\0", "x" * 65, ["x"])),
    (cursors.MESSAGES, 3, "time", (None, "1", True, -(10**18), 2**63, 10**17 * 4, 1.5, float("nan"), float("inf"))),
    (cursors.MESSAGES, 4, "id", (None, 1, "", "f" * 31, "F" * 32, "{" + "0" * 32 + "}")),
    (cursors.TIMELINE, 2, "kind", (None, True, -1, 4, 1.0, "1", 10**60)),
    (cursors.TIMELINE, 4, "serial", (None, True, -1, 2**63, 10**60, 1.5, "1")),
]


@pytest.mark.parametrize(("cursor", "place", "part", "values"), BAD)
def test_a_forged_value_is_refused_by_its_name(
    cursor: Cursor[Any], place: int, part: str, values: tuple[object, ...]
) -> None:
    real = {"messages": ["messages", "clientRef", "x", 1, "0" * 32], "timeline": ["timeline", 1, 1, "0" * 32, 1]}[
        cursor.name
    ]
    cursor.decode(sealed(real))
    for value in values:
        forged = sealed([*real[:place], value, *real[place + 1 :]])
        assert refusal(cursor, forged) == f"Must be a nextCursor of this list; its {part} can't be read."
