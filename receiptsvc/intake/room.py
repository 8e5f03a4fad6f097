"""Room for bodies that are on their way in: so many bytes in all, however many senders there are."""

from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.types import WSGIEnvironment


class Room:
    """Used on the event loop only."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes

    @contextmanager
    def taken(self, size: int) -> Iterator[bool]:
        """Room for so many bytes while the block lasts; or False, and none."""
        has_room = size <= self._left
        taken = size if has_room else 0
        self._left -= taken
        try:
            yield has_room
        finally:
            self._left += taken


def claimed_bytes(environ: WSGIEnvironment, most: int) -> int:
    """How long a body may turn out to be: what it claims, or where it claims nothing, `most`; never more than that."""
    claimed = environ.get("CONTENT_LENGTH") or ""
    if claimed.isdigit():
        return min(int(claimed), most)
    return most if "HTTP_TRANSFER_ENCODING" in environ or claimed else 0
