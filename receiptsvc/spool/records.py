"""The bytes of a spool file: a header, then one record a callback. Which files there are and whose is not known here.

A file's header holds eight random bytes, its mark, and every record begins with them. So old bytes of another file that
a crash left on the disk are never taken for a record, reading can go on behind a damaged one, and nobody who sends us
a callback can put a record of his own into its body: he does not know the mark.

The checksum is CRC-32, which costs next to nothing: it is there against torn writes and failing disks, not against
people.
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

MARK_BYTES = 8

_MAGIC = b"rcspool"
_VERSION = 1
_HEADER = struct.Struct("<7sB8s")  # magic, version, mark
_RECORD = struct.Struct("<8sII")  # mark, length of the content, checksum of length and content
_CHUNK_BYTES = 64 * 1024


class OtherVersion(ReceiptsvcError):
    """A spool file that another release wrote, in a form that this one can't read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a spool file, from `start` up to `end`: one record's content, or None where it is damaged."""

    start: int
    end: int
    content: bytes | None


def header(mark: bytes) -> bytes:
    """How a file begins whose records carry this `mark` of MARK_BYTES random bytes."""
    return _HEADER.pack(_MAGIC, _VERSION, mark)


def encode(mark: bytes, arrival: Arrival) -> bytes:
    """One callback as it stands in a file: a line of JSON, then the query's and the body's bytes as they came."""
    callback = arrival.callback
    head = {
        "id": arrival.id.hex,
        "channel": arrival.channel.value,
        "message_id": arrival.message_id.hex if arrival.message_id else None,
        "is_unauthenticated": arrival.is_unauthenticated,
        "received_at": arrival.received_at.isoformat(),
        "method": callback.method,
        "content_type": callback.content_type,
        "query_bytes": len(callback.query),
        "body_bytes": len(callback.body),
    }
    content = b"\n".join((json.dumps(head, separators=(",", ":")).encode(), callback.query + callback.body))
    return _RECORD.pack(mark, len(content), _checksum(content)) + content


def decode(content: bytes) -> Arrival:
    """The callback that `encode` wrote. Raises ValueError if it did not write this."""
    line, _, rest = content.partition(b"\n")
    try:
        head = json.loads(line)
        query_bytes = head["query_bytes"]
        if len(rest) != query_bytes + head["body_bytes"]:
            raise ValueError("the lengths of query and body do not add up")
        return Arrival(
            id=UUID(head["id"]),
            channel=Channel(head["channel"]),
            message_id=UUID(head["message_id"]) if head["message_id"] else None,
            is_unauthenticated=bool(head.get("is_unauthenticated", False)),
            received_at=datetime.fromisoformat(head["received_at"]).astimezone(UTC),
            callback=Callback(
                method=head["method"],
                query=rest[:query_bytes],
                content_type=head["content_type"],
                body=rest[query_bytes:],
            ),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"a field is missing or of a wrong type ({type(error).__name__})") from None


def read_pieces(file: BinaryIO, end: int, start: int = 0) -> Iterator[Piece]:
    """What stands in the file between two offsets, without a gap; `start` is 0 or the end of an earlier piece.

    A file whose header is damaged is one damaged piece. Raises OtherVersion, and OSError where the disk fails.
    """
    file.seek(0)
    head = file.read(min(_HEADER.size, end))
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        if start < end:
            yield Piece(start, end, None)
        return
    _, version, mark = _HEADER.unpack(head)
    if version != _VERSION:
        raise OtherVersion(f"a spool file of version {version}; this release reads version {_VERSION}")
    start = max(start, _HEADER.size)
    while start < end:
        content = _content(file, mark, start, end)
        stop = _next_mark(file, mark, start + 1, end) if content is None else start + _RECORD.size + len(content)
        yield Piece(start, stop, content)
        start = stop


def _content(file: BinaryIO, mark: bytes, start: int, end: int) -> bytes | None:
    """The content of the record at `start`; None if no whole, sound record stands there."""
    file.seek(start)
    head = file.read(min(_RECORD.size, end - start))
    if len(head) < _RECORD.size:
        return None
    given, length, checksum = _RECORD.unpack(head)
    if given != mark or length > end - start - _RECORD.size:
        return None
    content = file.read(length)
    return content if len(content) == length and _checksum(content) == checksum else None


def _next_mark(file: BinaryIO, mark: bytes, start: int, end: int) -> int:
    """Where the mark stands next; `end` if nowhere."""
    file.seek(start)
    tail = b""
    while chunk := file.read(min(_CHUNK_BYTES, end - start)):
        found = (tail + chunk).find(mark)
        if found >= 0:
            return start - len(tail) + found
        start += len(chunk)
        tail = (tail + chunk)[1 - MARK_BYTES :]
    return end


def _checksum(content: bytes) -> int:
    return zlib.crc32(content, len(content))
