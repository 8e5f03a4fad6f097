"""The fast request: a GET without a body that came in one piece, as nearly every callback does.

One pattern recognises the whole of it, at a fraction of a general parser's cost. Everything else goes to gunicorn's
parser with all its bytes: this module refuses nothing and guesses nothing.
"""

import re
from io import BytesIO

_REQUEST = re.compile(
    rb"GET (/(?!/)[!\"$->@-~]*(?:\?[!-~]*)?) HTTP/1\.1\r\n"
    rb"(?:"
    rb"(?!(?i:content-|transfer-|trailer|te:|expect|upgrade|http2-|proxy-))"  # these may change where a request ends
    rb"(?!(?i:authorization:))"  # the key of the static address: the only header that the intake asks for
    rb"(?!(?i:connection:)(?! ?(?i:keep-alive)\r\n))"
    rb"[A-Za-z0-9-]{1,64}:[\t -~]*\r\n"
    rb"){0,64}\r\n"
)


class FastRequest:
    """The part of gunicorn's request that `FastResponder` reads. Its headers are dropped: none changes the answer."""

    __slots__ = ("path", "uri")

    method = "GET"
    version = (1, 1)
    headers: tuple[tuple[str, str], ...] = ()
    body = BytesIO()  # empty, for all of them

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.path = uri.partition("?")[0]

    def should_close(self) -> bool:
        """Whether the client asked to close the connection, as gunicorn's request says it."""
        return False


def recognise(data: bytes) -> FastRequest | None:
    """The request in these bytes, if they are one fast request and nothing more; else None."""
    match = _REQUEST.fullmatch(data)
    return FastRequest(match[1].decode()) if match else None
