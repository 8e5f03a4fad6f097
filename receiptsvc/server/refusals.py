"""What the server refuses by itself: requests that are not HTTP, or that pass its limits.

gunicorn's own texts repeat what came, in the answer and in the log. Ours are fixed.
"""

from typing import NamedTuple

from gunicorn.http import errors


class Refusal(NamedTuple):
    """A status line without its version, and why in words, for the log."""

    status: str
    reason: str


_NOT_HTTP = "400 Bad Request"
_OTHER = Refusal(_NOT_HTTP, "it is not HTTP")
_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)  # they derive from those of requests
_REFUSALS: dict[type[Exception] | tuple[type[Exception], ...], Refusal] = {
    errors.InvalidRequestLine: Refusal(_NOT_HTTP, "its request line is not HTTP"),
    errors.InvalidRequestMethod: Refusal(_NOT_HTTP, "its method is not one of HTTP"),
    errors.InvalidHTTPVersion: Refusal(_NOT_HTTP, "its version is not one of HTTP/1"),
    (errors.InvalidHeader, errors.InvalidHeaderName, errors.ObsoleteFolding): Refusal(
        _NOT_HTTP, "one of its headers is not HTTP, or contradicts another"
    ),
    errors.LimitRequestLine: Refusal("414 URI Too Long", "its request line is too long"),
    errors.LimitRequestHeaders: Refusal("431 Request Header Fields Too Large", "its headers are too long or too many"),
    errors.InvalidSchemeHeaders: Refusal(_NOT_HTTP, "its proxy's X-Forwarded headers contradict each other"),
    errors.ConfigurationProblem: Refusal(_NOT_HTTP, "its path does not begin with its proxy's SCRIPT_NAME"),
    errors.UnsupportedTransferCoding: Refusal("501 Not Implemented", "its transfer coding is not supported"),
    errors.ExpectationFailed: Refusal("417 Expectation Failed", "it expects what is not supported"),
    (errors.InvalidChunkSize, errors.ChunkMissingTerminator, errors.InvalidChunkExtension): Refusal(
        _NOT_HTTP, "the chunks of its body are not HTTP"
    ),
}


def of(error: BaseException) -> Refusal | None:
    """What an error of gunicorn's parser means; None for a fault of ours."""
    if not isinstance(error, errors.ParseException) or isinstance(error, _OURS):
        return None
    return next((refusal for kinds, refusal in _REFUSALS.items() if isinstance(error, kinds)), _OTHER)


def status_line(refusal: Refusal | None) -> str:
    """The status of the answer, without its version. None: to a fault of ours."""
    return refusal.status if refusal is not None else "500 Internal Server Error"


def write(refusal: Refusal | None) -> bytes:
    """The whole answer, after which the connection is closed."""
    status = status_line(refusal)
    body = f"{status[4:]}\n"
    return (
        f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode("ascii")
