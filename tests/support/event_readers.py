"""How clients read text/event-stream: what each makes an event of, written down from their own code.

Each takes the pieces as they come off the wire and gives the events as (id, name, data). Where a client dispatches
something without data, so does its reader here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias


class Read(NamedTuple):
    """An event as a client gives it to its program. `id`: None if the client has none for it."""

    id: str | None
    name: str
    data: str


Reader: TypeAlias = Callable[[Iterable[bytes]], Iterator[Read]]


def _lines(pieces: Iterable[bytes], split: Callable[[str], list[str]] = str.splitlines) -> Iterator[str]:
    """The lines of a stream; one that its end cuts off is given as well."""
    yield from split(b"".join(pieces).decode())


def httpx_sse(pieces: Iterable[bytes]) -> Iterator[Read]:
    """httpx-sse 0.4.0: any empty line gives an event, once there was an id, a name or a retry time.

    Its lines are those of `str.splitlines`, which ends one at U+2028 and U+0085 too.
    """
    event = last_id = ""
    data: list[str] = []
    has_retry = False
    for line in _lines(pieces):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if event or data or last_id or has_retry:
                yield Read(last_id, event, "\n".join(data))
            event, data, has_retry = "", [], False
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value
        elif name == "retry":
            has_retry = True


def sseclient_py(pieces: Iterable[bytes]) -> Iterator[Read]:
    """sseclient-py 1.9.0: cuts at empty lines, and drops blocks without data. Comments before an event are its block."""
    buffer = b""
    for piece in pieces:
        for line in piece.splitlines(keepends=True):
            buffer += line
            if buffer.endswith((b"\r\r", b"\n\n", b"\r\n\r\n")):
                fields = dict[bytes, bytes]()
                for written in buffer.splitlines():
                    name, _, value = written.partition(b":")
                    if name:
                        fields[name] = value.removeprefix(b" ")
                if fields.get(b"data"):
                    place = fields[b"id"].decode() if b"id" in fields else None
                    yield Read(place, fields.get(b"event", b"message").decode(), fields[b"data"].decode())
                buffer = b""


def eventsource(pieces: Iterable[bytes]) -> Iterator[Read]:
    """Node's eventsource 4.1.1 (eventsource-parser 3.1.1): no data, no event, and then its id is forgotten too."""
    place: str | None = None
    event, data = "", list[str]()
    for line in _lines(pieces, lambda text: text.split("\n")[:-1]):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Read(place, event or "message", "\n".join(data))
            place, event, data = None, "", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            place = value


def fetch_event_source(pieces: Iterable[bytes]) -> Iterator[Read]:
    """@microsoft/fetch-event-source 2.0.1, for a browser's fetch: every empty line is a message, a comment's too."""
    place, event, data = "", "", list[str]()
    for line in _lines(pieces, lambda text: text.split("\n")[:-1]):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield Read(place, event, "\n".join(data))
            place, event, data = "", "", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            place = value


def fetch_by_hand(pieces: Iterable[bytes]) -> Iterator[Read]:
    """What pages write around fetch and getReader(): blocks between empty lines, and the data of each is JSON."""
    *blocks, _ = b"".join(pieces).decode().split("\n\n")
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        yield Read(fields.get("id"), fields.get("event", ""), fields.get("data", ""))


READERS: tuple[Reader, ...] = (httpx_sse, sseclient_py, eventsource, fetch_event_source, fetch_by_hand)
