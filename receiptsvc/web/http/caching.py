"""What spares work and bytes: tags that tell a client that it has the newest, compression, and who may keep what."""

import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from flask import Flask, Response, request

MIN_BYTES = 1024  # of an answer that is worth compressing

_TEXTS = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/problem+json",
        "text/csv",
        "text/html",
        "text/plain",
    }
)
_LEVEL = 4  # 100 MB/s or so, and nearly as small as the slower ones
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for: with gzip's head and tail


def register(app: Flask) -> None:
    """Compress the answers of `app`, and say what may be kept of them."""
    app.after_request(_say_who_may_keep)
    app.after_request(_compress)  # the last to be registered is asked first; the others see what it made


def tag_of(*parts: object) -> str:
    """A tag that differs where any of `parts` does, as they are written by `repr`."""
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def has_newest(tag: str) -> bool:
    """Whether the client says that it has just this."""
    return request.if_none_match.contains_weak(tag)


def unchanged(tag: str) -> Response:
    """304: what the client has is the newest."""
    return Response(status=304, headers=tagged(tag))


def tagged(tag: str) -> dict[str, str]:
    """The header of an answer. Weak, because an answer is the same however it is compressed."""
    return {"ETag": f'W/"{tag}"'}


def _say_who_may_keep(response: Response) -> Response:
    if request.path.startswith(
        "/v1/"
    ):  # personal: kept by nobody but who asked, and only to ask whether it is the newest
        response.headers["Cache-Control"] = "private, no-cache" if "ETag" in response.headers else "no-store"
    response.headers.setdefault("Cache-Control", "no-store")  # of the moment, such as /readyz and errors
    return response


def _compress(response: Response) -> Response:
    """Compress what is long and known to be text, where nothing secret can be guessed from its length.

    A page of another site can make a browser ask again and again, and watch the lengths, only by its cookies; so where
    a cookie comes or goes, nothing is compressed.
    """
    if (
        response.mimetype not in _TEXTS
        or response.direct_passthrough
        or "Content-Encoding" in response.headers
        or request.cookies
        or "Set-Cookie" in response.headers
        or response.status_code in {204, 304}
        or not (response.is_streamed or len(response.get_data()) >= MIN_BYTES)
    ):
        return response
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] <= 0:
        return response
    response.headers["Content-Encoding"] = "gzip"
    if response.is_streamed:
        response.response = compressed(response.iter_encoded())
        response.headers.pop("Content-Length", None)
    else:
        response.set_data(zlib.compress(response.get_data(), _LEVEL, _GZIP))
    return response


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Each piece compressed as far as it goes, so that a client sees it when it was written. Unlocks Python meanwhile.

    Where `pieces` break off, so does this, without gzip's end.
    """
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        yield compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()
