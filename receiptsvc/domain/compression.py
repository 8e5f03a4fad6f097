"""Unpacks the bodies of callbacks. The bytes decide: a declared Content-Encoding may be missing, or untrue.

Only a deflate stream without zlib's header has to be declared, since it can't be recognised. An unpacked body is
bounded like one that comes as it is, and costs no more.
"""

import zlib

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback

MAX_BYTES = 1024 * 1024  # unpacked: the intake's own bound of a body

_GZIP = b"\x1f\x8b\x08"
_GZIP_OR_ZLIB, _RAW = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS
_ZLIB = 0x78  # the first byte of a zlib stream with the usual window
_MAX_LAYERS = 2  # a sender and a proxy may each have compressed it
_MAX_STREAMS = 100  # of one gzip file: each costs the rest of the body once more
_PADDING = b"\0\r\n"  # after a stream


def unpack(callback: Callback) -> bytes:
    """The body of a callback, unpacked. Raises Unreadable if it is damaged, or too long unpacked."""
    body = callback.body
    for _ in range(_MAX_LAYERS):
        if body.startswith(_GZIP):
            body = _unpack_gzip(body)
        elif _begins_like_zlib(body):
            unpacked = _try(body, _GZIP_OR_ZLIB)
            if unpacked is None:
                return body  # a text can begin like it
            body = unpacked
        else:
            break
    if "deflate" in (callback.content_encoding or "").lower() and body is callback.body:
        return _try(body, _RAW) or body
    return body


def _unpack_gzip(body: bytes) -> bytes:
    """All streams of a gzip file, one after another."""
    unpacked = b""
    for _ in range(_MAX_STREAMS):
        stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            unpacked += stream.decompress(body, MAX_BYTES + 1 - len(unpacked))
        except zlib.error:
            raise Unreadable("its body is compressed, and damaged") from None
        _check(stream, unpacked)
        if not stream.eof:
            raise Unreadable("its body is compressed, and ends too early")
        body = stream.unused_data.lstrip(_PADDING)
        if not body.startswith(_GZIP):
            return unpacked
    raise Unreadable(f"its compressed body has more than {_MAX_STREAMS} streams")


def _try(body: bytes, window: int) -> bytes | None:
    """A body unpacked; None if it is no whole stream of this kind."""
    stream = zlib.decompressobj(window)
    try:
        unpacked = stream.decompress(body, MAX_BYTES + 1)
    except zlib.error:
        return None
    _check(stream, unpacked)
    return unpacked if stream.eof and not stream.unused_data.strip(_PADDING) else None


def _check(stream: "zlib._Decompress", unpacked: bytes) -> None:
    if len(unpacked) > MAX_BYTES or stream.unconsumed_tail:
        raise Unreadable(f"its compressed body holds more than {MAX_BYTES} bytes")


def _begins_like_zlib(body: bytes) -> bool:
    return len(body) > 1 and body[0] == _ZLIB and (body[0] * 256 + body[1]) % 31 == 0
