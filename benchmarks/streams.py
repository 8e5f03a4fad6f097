"""500 event streams open on one web process: what they add to its memory, and how late a change reaches them.

Each stream is filtered to one clientRef; messages are accepted so that each sees about one event a second.
"""

import json
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep
from urllib.parse import urlsplit

import requests

from benchmarks import machine, measures
from benchmarks.tools import BenchError
from receiptsvc.demo.processes import Stack, answers

STREAMS = 500
_SECONDS = 20
_PARTS = 10  # in how many requests a second's messages come
_TIMEOUT_SECONDS = 30
_WHOLE = b"\n\n"


def measure(folder: Path, url: str, facts: dict[str, str]) -> dict[str, float]:
    """On a new database; no worker runs. Raises BenchError."""
    with Stack(folder, url, settings={"WEB_CONCURRENCY": "1"}) as stack:
        stack.start("web")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        key = stack.api_key
        accepted: dict[str, float] = {}
        _accept(stack, key, range(STREAMS), "warm", accepted)
        [process] = machine.children(stack.pid("web"))
        idle = machine.resident_bytes(process)
        delays: list[float] = []
        with _opened(stack, key) as connections:
            posting = Thread(target=_accept_steadily, args=(stack, key, accepted))
            posting.start()
            most = _listen(connections, posting, accepted, delays, process)
        if len(delays) < 0.99 * STREAMS * _SECONDS:
            raise BenchError(f"{len(delays)} events came of {STREAMS * _SECONDS}")
    facts[f"{STREAMS} streams, delay p50; p99; longest"] = (
        "; ".join(f"{1000 * measures.percentile(delays, share):.0f}" for share in (0.5, 0.99, 1)) + " ms"
    )
    return {
        "events_delay_p99_ms": 1000 * measures.percentile(delays, 0.99),
        "events_added_mb": (most - idle) / 1e6,
    }


def _accept_steadily(stack: Stack, key: str, accepted: dict[str, float]) -> None:
    began = perf_counter()
    for turn in range(_SECONDS * _PARTS):
        sleep(max(0.0, began + turn / _PARTS - perf_counter()))
        _accept(stack, key, range(turn % _PARTS, STREAMS, _PARTS), f"turn-{turn}", accepted)


def _accept(stack: Stack, key: str, places: range, salt: str, accepted: dict[str, float]) -> None:
    """One message for each of these streams. When it was there is noted by its id."""
    messages = [
        {"recipients": [str(447700000000 + place)], "text": salt, "clientRef": f"stream-{place}"} for place in places
    ]
    answer = requests.post(
        f"{stack.url}/v1/messages",
        json={"messages": messages},
        headers={"Authorization": f"Bearer {key}"},
        timeout=_TIMEOUT_SECONDS,
    )
    now = perf_counter()
    if answer.status_code != 202:
        raise BenchError(f"messages were answered {answer.status_code}")
    accepted.update({message["id"]: now for message in answer.json()["messages"]})


@contextmanager
def _opened(stack: Stack, key: str) -> Iterator[list[socket.socket]]:
    parts = urlsplit(stack.url)
    with ExitStack() as ends:
        connections = []
        for place in range(STREAMS):
            path = f"/v1/events?clientRef=stream-{place}"
            ask = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
            one = ends.enter_context(
                socket.create_connection((parts.hostname or "", parts.port or 80), _TIMEOUT_SECONDS)
            )
            one.sendall(ask.encode())
            if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchError("an event stream was refused")
            connections.append(one)
        yield connections


def _listen(
    connections: list[socket.socket], posting: Thread, accepted: dict[str, float], delays: list[float], process: int
) -> int:
    """Read all streams until the last message is a while ago; the most memory that the process had."""
    arrived: dict[str, float] = {}
    most = 0
    with selectors.DefaultSelector() as ready:
        kept = {one: bytearray() for one in connections}
        for one in connections:
            ready.register(one, selectors.EVENT_READ, one)
        looked_at = quiet_since = perf_counter()
        while posting.is_alive() or perf_counter() - quiet_since < 2:
            for found, _ in ready.select(0.1):
                one = found.data
                piece, now = one.recv(65536), perf_counter()
                if not piece:
                    raise BenchError("an event stream was cut")
                quiet_since = now
                kept[one] += piece
                while _WHOLE in kept[one]:
                    event, _, rest = bytes(kept[one]).partition(_WHOLE)
                    kept[one] = bytearray(rest)
                    for line in event.splitlines():
                        if line.startswith(b"data:"):
                            arrived[_message_of(json.loads(line[5:]))] = now
            if perf_counter() - looked_at > 0.5:
                looked_at = perf_counter()
                most = max(most, machine.resident_bytes(process))
    delays += [now - accepted[message] for message, now in arrived.items() if message in accepted]
    return most


def _message_of(event: dict[str, object]) -> str:
    """The id of the message that an event is about."""
    return str(event.get("messageId") or event.get("id"))
