"""The usual request: a GET without a body that came in one piece, in which nearly every callback comes.

It is recognised as a whole, by one pattern, at a small part of what a general parser costs. What is not exactly so is
left to gunicorn's parser with all its bytes: this one refuses nothing and guesses nothing.
"""

import re
from io import BytesIO

_REQUEST = re.compile(
    rb"GET (/(?!/)[!\"$->@-~]*(?:\?[!-~]*)?) HTTP/1\.1\r\n"
    rb"(?:"
    rb"(?!(?i:content-|transfer-|trailer|te:|expect|upgrade|http2-|proxy-))"  # what may change where a request ends
    rb"(?!(?i:authorization:))"  # the key of the static address: the only header that the intake asks for
    rb"(?!(?i:connection:)(?! ?(?i:keep-alive)\r\n))"
    rb"[A-Za-z0-9-]{1,64}:[\t -~]*\r\n"
    rb"){0,64}\r\n"
)


class FastRequest:
    """What `plain.Plain` reads of gunicorn's requests. Its headers are not kept: none of them changes the answer."""

    __slots__ = ("path", "uri")

    method = "GET"
    version = (1, 1)
    headers: tuple[tuple[str, str], ...] = ()
    body = BytesIO()  # empty, for all of them

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.path = uri.partition("?")[0]

    def should_close(self) -> bool:
        """As gunicorn's: whether the client asked for that."""
        return False


def recognise(data: bytes) -> FastRequest | None:
    """The request that these bytes are, if they are one usual request and nothing more."""
    found = _REQUEST.fullmatch(data)
    return FastRequest(found[1].decode()) if found else None
