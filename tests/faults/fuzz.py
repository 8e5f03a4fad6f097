"""Absurd and malformed callbacks, made from a seed, each with the answers that are allowed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

_VISIBLE = bytes(range(0x21, 0x7F))
_TEXT = _VISIBLE + bytes(range(0x80, 0x100))  # allowed in a header, but not in a request line
_NAME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
_CONTENT_TYPES = (b"application/x-www-form-urlencoded", b"application/json", b"text/plain; charset=utf-16", b"//;;=")
_OTHER_METHODS = (b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"CONNECT")
_TOO_LARGE = 1024 * 1024 + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """The bytes of one request. `allowed`: the statuses of its answer; empty: any but a 5xx.

    With a `serial` it must be kept, its query and its body byte for byte.
    """

    kind: str
    wire: bytes
    allowed: frozenset[int] = frozenset()
    serial: int | None = None
    query: bytes = b""
    body: bytes = b""


def cases(url: str, number: int, seed: int) -> Iterator[Case]:
    """`number` cases of all kinds, in random order, for the signed URL of a message."""
    dice = random.Random(seed)
    path = urlsplit(url).path.encode()
    kinds = [
        *(_sound,) * 5,
        *(_mangled,) * 3,
        _noise,
        _wrong_key,
        _wrong_method,
    ]
    for serial in range(number):
        # Large ones are rare: they take most of the time.
        make = _too_large if serial % 100 == 99 else dice.choice(kinds)
        yield make(dice, path, serial)


def _sound(dice: random.Random, path: bytes, serial: int) -> Case:
    """Well-formed HTTP with arbitrary content."""
    method = dice.choice((b"GET", b"GET", b"POST", b"HEAD"))
    longest = 7_500 if dice.random() < 0.05 else 300
    query = b"fuzz=%d&" % serial + _bytes(dice, _VISIBLE, longest)
    body = b"" if dice.random() < 0.4 else dice.randbytes(dice.randrange(20_000 if dice.random() < 0.05 else 500))
    headers = [b"Host: receipts", *_headers(dice)]
    if dice.random() < 0.5:
        headers.append(b"Content-Type: " + dice.choice((*_CONTENT_TYPES, _bytes(dice, _TEXT, 900))))
    if dice.random() < 0.5:
        headers.append(b"Content-Length: %d" % len(body))
        sent = body
    else:
        headers.append(b"Transfer-Encoding: chunked")
        sent = _chunked(dice, body)
    dice.shuffle(headers)
    wire = _wire(method, path + dice.choice((b"", b"/")) + b"?" + query, headers, sent)
    return Case(kind="sound", wire=wire, allowed=frozenset({200}), serial=serial, query=query, body=body)


def _mangled(dice: random.Random, path: bytes, serial: int) -> Case:
    """A sound request with some bytes changed, removed or inserted."""
    wire = bytearray(_sound(dice, path, serial).wire.replace(b"fuzz=", b"torn=", 1))
    for _ in range(dice.randrange(1, 8)):
        # Mostly at its beginning, which a server has to parse.
        start = dice.randrange(min(len(wire), 300) if dice.random() < 0.8 else len(wire))
        wire[start : start + dice.choice((0, 1, 1, 1, 8))] = dice.choice(
            (b"", dice.randbytes(1), dice.randbytes(3), b"\r\n", b"\n", b"\0", b"%", b"%zz", b" ", b"\xff" * 40)
        )
    return Case(kind="mangled", wire=bytes(wire))


def _noise(dice: random.Random, _path: bytes, _serial: int) -> Case:
    return Case(kind="noise", wire=dice.randbytes(dice.randrange(1, 2_000)))


def _wrong_key(dice: random.Random, path: bytes, _serial: int) -> Case:
    token = range(path.rindex(b"/") + 1, len(path))
    wrong = bytearray(path)
    for index in dice.sample(token, 3):
        wrong[index] = dice.choice(b"_~!ilo")  # a token holds none of them
    wire = _wire(b"GET", bytes(wrong) + b"?" + _bytes(dice, _VISIBLE, 100), [b"Host: receipts", *_headers(dice)], b"")
    return Case(kind="wrong key", wire=wire, allowed=frozenset({403}))


def _wrong_method(dice: random.Random, path: bytes, _serial: int) -> Case:
    method = dice.choice(_OTHER_METHODS)
    return Case(kind="wrong method", wire=_wire(method, path, [b"Host: receipts"], b""), allowed=frozenset({405}))


def _too_large(dice: random.Random, path: bytes, _serial: int) -> Case:
    """A body over the limit: claimed and not sent, or sent in chunks without a length."""
    if dice.random() < 0.5:
        headers, body = [b"Content-Length: %d" % dice.randrange(_TOO_LARGE, 1 << 80)], b""
    else:
        headers, body = [b"Transfer-Encoding: chunked"], _chunked(dice, bytes(_TOO_LARGE), max_chunk=300_000)
    wire = _wire(b"POST", path, [b"Host: receipts", *headers], body)
    return Case(kind="too large", wire=wire, allowed=frozenset({413}))


def _wire(method: bytes, target: bytes, headers: list[bytes], body: bytes) -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body


def _headers(dice: random.Random) -> list[bytes]:
    return [b"X" + _bytes(dice, _NAME, 30) + b": " + _bytes(dice, _TEXT + b" ", 200) for _ in range(dice.randrange(20))]


def _chunked(dice: random.Random, body: bytes, *, max_chunk: int = 300) -> bytes:
    pieces = []
    while body:
        size = dice.randrange(1, max_chunk)
        piece, body = body[:size], body[size:]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    return b"".join([*pieces, b"0\r\n\r\n"])


def _bytes(dice: random.Random, alphabet: bytes, max_bytes: int) -> bytes:
    return bytes(dice.choices(alphabet, k=dice.randrange(max_bytes)))
