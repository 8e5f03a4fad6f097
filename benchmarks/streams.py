"""Measures 500 event streams on one web process: the memory they add, and how late a change reaches them.

Each stream is filtered to one clientRef. Messages are accepted so that each stream gets about one event a second.
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
_REQUESTS_PER_SECOND = 10  # that submit a second's messages
_TIMEOUT_SECONDS = 30
_EVENT_END = b"\n\n"


def measure(folder: Path, url: str, facts: dict[str, str]) -> dict[str, float]:
    """Measure on a new database, without a worker. Raises BenchError."""
    with Stack(folder, url, settings={"WEB_CONCURRENCY": "1"}) as stack:
        stack.start("web")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        key = stack.api_key
        accepted: dict[str, float] = {}
        _accept(stack, key, range(STREAMS), "warm", accepted)
        [pid] = machine.children(stack.pid("web"))
        idle = machine.resident_bytes(pid)
        delays: list[float] = []
        with _open_streams(stack, key) as connections:
            posting = Thread(target=_accept_steadily, args=(stack, key, accepted))
            posting.start()
            max_memory = _listen(connections, posting, accepted, delays, pid)
        if len(delays) < 0.99 * STREAMS * _SECONDS:
            raise BenchError(f"{len(delays)} events came of {STREAMS * _SECONDS}")
    facts[f"{STREAMS} streams, delay p50; p99; longest"] = (
        "; ".join(f"{1000 * measures.percentile(delays, share):.0f}" for share in (0.5, 0.99, 1)) + " ms"
    )
    return {
        "events_delay_p99_ms": 1000 * measures.percentile(delays, 0.99),
        "events_added_mb": (max_memory - idle) / 1e6,
    }


def _accept_steadily(stack: Stack, key: str, accepted: dict[str, float]) -> None:
    started = perf_counter()
    for turn in range(_SECONDS * _REQUESTS_PER_SECOND):
        sleep(max(0.0, started + turn / _REQUESTS_PER_SECOND - perf_counter()))
        streams = range(turn % _REQUESTS_PER_SECOND, STREAMS, _REQUESTS_PER_SECOND)
        _accept(stack, key, streams, f"turn-{turn}", accepted)


def _accept(stack: Stack, key: str, streams: range, text: str, accepted: dict[str, float]) -> None:
    """Submit one message for each of these streams, and note in `accepted` when, by the message's id."""
    messages = [
        {"recipients": [str(447700000000 + stream)], "text": text, "clientRef": f"stream-{stream}"}
        for stream in streams
    ]
    response = requests.post(
        f"{stack.url}/v1/messages",
        json={"messages": messages},
        headers={"Authorization": f"Bearer {key}"},
        timeout=_TIMEOUT_SECONDS,
    )
    now = perf_counter()
    if response.status_code != 202:
        raise BenchError(f"messages were answered {response.status_code}")
    accepted.update({message["id"]: now for message in response.json()["messages"]})


@contextmanager
def _open_streams(stack: Stack, key: str) -> Iterator[list[socket.socket]]:
    parts = urlsplit(stack.url)
    with ExitStack() as contexts:
        connections = []
        for stream in range(STREAMS):
            path = f"/v1/events?clientRef=stream-{stream}"
            request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
            connection = contexts.enter_context(
                socket.create_connection((parts.hostname or "", parts.port or 80), _TIMEOUT_SECONDS)
            )
            connection.sendall(request.encode())
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchError("an event stream was refused")
            connections.append(connection)
        yield connections


def _listen(
    connections: list[socket.socket], posting: Thread, accepted: dict[str, float], delays: list[float], pid: int
) -> int:
    """Read all streams until 2 s after the last event, and add each event's delay to `delays`.

    Returns the process's largest memory in bytes.
    """
    arrived: dict[str, float] = {}
    max_memory = 0
    with selectors.DefaultSelector() as selector:
        buffers = {connection: bytearray() for connection in connections}
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
        sampled_at = quiet_since = perf_counter()
        while posting.is_alive() or perf_counter() - quiet_since < 2:
            for key, _ in selector.select(0.1):
                connection = key.data
                data, now = connection.recv(65536), perf_counter()
                if not data:
                    raise BenchError("an event stream was cut")
                quiet_since = now
                buffers[connection] += data
                while _EVENT_END in buffers[connection]:
                    event, _, rest = bytes(buffers[connection]).partition(_EVENT_END)
                    buffers[connection] = bytearray(rest)
                    for line in event.splitlines():
                        if line.startswith(b"data:"):
                            arrived[_message_id(json.loads(line[5:]))] = now
            if perf_counter() - sampled_at > 0.5:
                sampled_at = perf_counter()
                max_memory = max(max_memory, machine.resident_bytes(pid))
    delays += [now - accepted[message_id] for message_id, now in arrived.items() if message_id in accepted]
    return max_memory


def _message_id(event: dict[str, object]) -> str:
    return str(event.get("messageId") or event.get("id"))
