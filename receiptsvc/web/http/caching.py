"""ETags, gzip and Cache-Control."""

import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from flask import Flask, Response, request

MIN_BYTES = 1024  # smaller answers are not worth compressing

_COMPRESSIBLE = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/problem+json",
        "text/csv",
        "text/html",
        "text/plain",
    }
)
_LEVEL = 4  # about 100 MB/s, and nearly as small as the slower levels
_GZIP = 16 + zlib.MAX_WBITS  # zlib's code for the gzip format


def register(app: Flask) -> None:
    """Compress the answers of `app`, and set Cache-Control on all of them."""
    app.after_request(_set_cache_control)
    app.after_request(_compress)  # Flask runs the last registered first, so the other one sees its result


def tag_of(*parts: object) -> str:
    """The ETag of `parts`: a digest of their `repr`."""
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def has_newest(tag: str) -> bool:
    """Whether the request's If-None-Match names this tag."""
    return request.if_none_match.contains_weak(tag)


def unchanged(tag: str) -> Response:
    """The 304 for a client that has the newest version."""
    return Response(status=304, headers=tagged(tag))


def tagged(tag: str) -> dict[str, str]:
    """The ETag header. Weak, because compressed and plain answers share it."""
    return {"ETag": f'W/"{tag}"'}


def _set_cache_control(response: Response) -> Response:
    if request.path.startswith("/v1/"):  # personal data: only the client may keep it, and must revalidate it
        response.headers["Cache-Control"] = "private, no-cache" if "ETag" in response.headers else "no-store"
    response.headers.setdefault("Cache-Control", "no-store")  # such as /readyz and errors
    return response


def _compress(response: Response) -> Response:
    """Compress long text answers, except where their length could give away a secret (BREACH).

    Another site's page can make a browser repeat a request and watch the lengths only with the browser's cookies. So
    nothing is compressed where a cookie comes or goes.
    """
    if (
        response.mimetype not in _COMPRESSIBLE
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


def compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Compress and flush each chunk, so that the client can read it at once. Releases the GIL while it compresses.

    If `chunks` break off, so does this, without the gzip trailer.
    """
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for chunk in chunks:
        yield compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()
