"""The bytes of a spool file: a header, then one record for each callback. Files, names and locks are not handled here.

A file's header holds eight random bytes, its sync marker, and every record begins with them. So old bytes of another
file that a crash left on the disk are never taken for a record, and reading can continue after a damaged one. A sender
can't put a record into the body of a callback either, because the marker is unknown outside.

The checksum is CRC-32, which costs next to nothing: it detects torn writes and failing disks, not attacks.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO
from uuid import UUID

from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback

MARKER_BYTES = 8

_MAGIC = b"rcspool"
_VERSION = 1
_HEADER = struct.Struct("<7sB8s")  # magic, version, marker
_RECORD = struct.Struct("<8sII")  # marker, length of the content, checksum of length and content
_CHUNK_BYTES = 64 * 1024


class OtherVersion(ReceiptsvcError):
    """A spool file that another release wrote, in a version that this one can't read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a spool file, from `start` up to `end`: one record's content, or None where it is damaged."""

    start: int
    end: int
    content: bytes | None


def header(marker: bytes) -> bytes:
    """The header of a file. `marker`: MARKER_BYTES random bytes, with which each of its records begins."""
    return _HEADER.pack(_MAGIC, _VERSION, marker)


def encode(marker: bytes, arrival: Arrival) -> bytes:
    """One callback as a record: a line of JSON, then the query's and the body's bytes as they came."""
    callback = arrival.callback
    fields = {
        "id": arrival.id.hex,
        "channel": arrival.channel.value,
        "message_id": arrival.message_id.hex if arrival.message_id else None,
        "claimed_kid": arrival.claimed_kid,
        "received_at": arrival.received_at.isoformat(),
        "method": callback.method,
        "content_type": callback.content_type,
        "content_encoding": callback.content_encoding,
        "query_bytes": len(callback.query),
        "body_bytes": len(callback.body),
    }
    content = b"\n".join((json.dumps(fields, separators=(",", ":")).encode(), callback.query + callback.body))
    return _RECORD.pack(marker, len(content), _checksum(content)) + content


def decode(content: bytes) -> Arrival:
    """The callback in a record that `encode` wrote. Raises ValueError for any other content."""
    line, _, rest = content.partition(b"\n")
    try:
        fields = json.loads(line)
        query_bytes = fields["query_bytes"]
        if len(rest) != query_bytes + fields["body_bytes"]:
            raise ValueError("the lengths of query and body do not add up")
        return Arrival(
            id=UUID(fields["id"]),
            channel=Channel(fields["channel"]),
            message_id=UUID(fields["message_id"]) if fields["message_id"] else None,
            claimed_kid=fields["claimed_kid"],
            received_at=datetime.fromisoformat(fields["received_at"]).astimezone(UTC),
            callback=Callback(
                method=fields["method"],
                query=rest[:query_bytes],
                content_type=fields["content_type"],
                body=rest[query_bytes:],
                content_encoding=fields.get("content_encoding"),  # records of earlier releases have none
            ),
        )
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"a field is missing or of a wrong type ({type(error).__name__})") from None


def read_pieces(file: BinaryIO, end: int, start: int = 0) -> Iterator[Piece]:
    """The pieces of a file between two offsets, without a gap; `start` is 0 or the end of an earlier piece.

    A file whose header is damaged is one damaged piece. Raises OtherVersion, and OSError where the disk fails.
    """
    file.seek(0)
    head = file.read(min(_HEADER.size, end))
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        if start < end:
            yield Piece(start, end, None)
        return
    _, version, marker = _HEADER.unpack(head)
    if version != _VERSION:
        raise OtherVersion(f"a spool file of version {version}; this release reads version {_VERSION}")
    start = max(start, _HEADER.size)
    while start < end:
        content = _read_record(file, marker, start, end)
        stop = _find_marker(file, marker, start + 1, end) if content is None else start + _RECORD.size + len(content)
        yield Piece(start, stop, content)
        start = stop


def _read_record(file: BinaryIO, marker: bytes, start: int, end: int) -> bytes | None:
    """The content of the record at `start`; None if there is no whole, sound record."""
    file.seek(start)
    head = file.read(min(_RECORD.size, end - start))
    if len(head) < _RECORD.size:
        return None
    record_marker, length, checksum = _RECORD.unpack(head)
    if record_marker != marker or length > end - start - _RECORD.size:
        return None
    content = file.read(length)
    return content if len(content) == length and _checksum(content) == checksum else None


def _find_marker(file: BinaryIO, marker: bytes, start: int, end: int) -> int:
    """The offset of the next marker; `end` if there is none."""
    file.seek(start)
    tail = b""
    while chunk := file.read(min(_CHUNK_BYTES, end - start)):
        index = (tail + chunk).find(marker)
        if index >= 0:
            return start - len(tail) + index
        start += len(chunk)
        tail = (tail + chunk)[1 - MARKER_BYTES :]
    return end


def _checksum(content: bytes) -> int:
    return zlib.crc32(content, len(content))
