"""gunicorn's request, but that it takes a byte above 0x7F or a blank in the query of a callback.

A gateway may leave a text unescaped. To refuse that would lose the receipt; every other request is held to HTTP.
"""

import re
from typing import ClassVar

from gunicorn.http.message import Request

_LINE = rb"((?:GET|HEAD|POST) (?:%s)?/callbacks/[!->@-~]*\?)([ -~\x80-\xff]*)( HTTP/1\.[0-9])"
_NOT_HTTP = re.compile(rb"[ \x80-\xff]")


class TolerantRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """One request. Its `uri` is what came, byte for byte."""

    tolerated: ClassVar[re.Pattern[bytes]] = re.compile(_LINE % b"")

    def parse_request_line(self, line_bytes: bytes) -> None:
        """Read the request line, with what HTTP would have escaped read as if it were."""
        line = self.tolerated.fullmatch(line_bytes)
        if line is None or _NOT_HTTP.search(line[2]) is None:
            super().parse_request_line(line_bytes)
            return
        before, query, version = line.groups()
        escaped = _NOT_HTTP.sub(lambda found: b"%%%02X" % found[0][0], query)
        super().parse_request_line(before + escaped + version)
        self.uri = (before.partition(b" ")[2] + query).decode("latin-1")


def under(public_path: str) -> type[TolerantRequest]:
    """The requests of an installation. `public_path`: of PUBLIC_URL, which may stand before the paths of callbacks."""
    tolerated = re.compile(_LINE % re.escape(public_path.encode()))
    return type("TolerantRequest", (TolerantRequest,), {"tolerated": tolerated})
