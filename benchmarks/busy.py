"""Measures callbacks while the same processes serve API calls under load, compared with callbacks alone."""

import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from urllib.parse import urlsplit

import requests

from benchmarks import receipts
from benchmarks.generator import Plan, Report, Site
from benchmarks.tools import BenchError
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from tests.support import databases

MESSAGES = 10_000  # in one POST
STREAMS = 100

_RECEIVERS = 1000
_TIMEOUT_SECONDS = 120.0
_LIST, _EXPORT, _EVENTS = "/v1/messages?limit=500", "/v1/export/messages.csv", "/v1/events"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The rounds' reports, idle and busy; the names of the API calls; how long each large POST took, in seconds."""

    idle: Sequence[Report]
    busy: Sequence[Report]
    calls: Sequence[str]
    post_seconds: Sequence[float]

    @property
    def reports(self) -> Sequence[Report]:
        """All of them."""
        return [*self.idle, *self.busy]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Api:
    """A service's address and a key to it."""

    url: str
    key: str

    def session(self) -> requests.Session:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.key}"
        return session

    def has(self, path: str) -> bool:
        with self.session() as session, session.get(self.url + path, stream=True, timeout=10) as response:
            return response.status_code == 200


def measure(
    generator: Path, folder: Path, server_url: str, *, rounds: int, plan: Plan, is_split: bool = False
) -> Outcome:
    """Measure idle and busy in turns, on two web processes and a new database, without a worker. Raises BenchError.

    `is_split`: one of the two serves the callbacks alone, the other one the API (`WEB_ROLE`).
    """
    name = "split" if is_split else "busy"
    idle, busy, post_seconds = [], [], list[float]()
    with databases.scratch_postgresql(server_url) as url, ExitStack() as stacks:
        roles = ("callbacks", "api") if is_split else ("all",)
        shared = {"WEB_CONCURRENCY": str(2 // len(roles)), "CALLBACK_KEYS": secrets.token_urlsafe(24)}
        made = [
            stacks.enter_context(Stack(folder / f"{name}-{role}", url, settings={"WEB_ROLE": role, **shared}))
            for role in roles
        ]
        receiving, asked = made[0], made[-1]
        receiving.migrate()
        settings = Settings.from_env(receiving.environ)
        targets = receipts.write_targets(
            folder / f"{name}.targets", settings, receipts.accept_messages(url, _RECEIVERS)
        )
        for each in made:
            each.start("web")
            each.wait_until("the web process", partial(answers, f"{each.url}/readyz"))
        site = Site(name=name, port=settings.port, targets=targets)
        api = _Api(url=asked.url, key=asked.api_key)
        has_export, has_events = api.has(_EXPORT), api.has(_EVENTS)
        calls = [partial(_post, api, post_seconds), partial(_list, api), *[partial(_export, api)] * has_export]
        with _open_streams(api, STREAMS if has_events else 0):
            for _ in range(rounds):
                idle.append(site.load(generator, plan))
                with _repeating(calls):
                    busy.append(site.load(generator, plan))
    names = [f"POST of {MESSAGES:,} messages", "list walk", *["export"] * has_export]
    names += [f"{STREAMS} idle streams"] * has_events
    return Outcome(idle=idle, busy=busy, calls=names, post_seconds=post_seconds)


@contextmanager
def _repeating(calls: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Repeat each of these calls on a thread of its own until the block ends."""
    is_over = Event()

    def repeat(call: Callable[[], object]) -> None:
        while not is_over.is_set():
            call()

    with ThreadPoolExecutor(len(calls)) as threads:
        futures: list[Future[None]] = [threads.submit(repeat, call) for call in calls]
        try:
            yield
        finally:
            is_over.set()
        for future in futures:
            future.result()


@contextmanager
def _open_streams(api: _Api, count: int) -> Iterator[None]:
    """Keep `count` event streams open, and read nothing from them."""
    parts = urlsplit(api.url)
    request = f"GET {_EVENTS} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(count):
            stream = stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 80), 10))
            stream.sendall(request)
            if not stream.recv(1024).startswith(b"HTTP/1.1 200"):
                raise BenchError("an event stream was refused")
        yield


def _post(api: _Api, post_seconds: list[float]) -> None:
    messages = [
        {"recipients": [str(447700900000 + number)], "text": "Your order is on its way."} for number in range(MESSAGES)
    ]
    started = monotonic()
    with api.session() as session:
        response = session.post(f"{api.url}/v1/messages", json={"messages": messages}, timeout=_TIMEOUT_SECONDS)
    if response.status_code != 202:
        raise BenchError(f"the POST of {MESSAGES} messages was answered {response.status_code}")
    post_seconds.append(monotonic() - started)


def _list(api: _Api) -> None:
    """Read up to 20 pages of the list of messages."""
    with api.session() as session:
        parameter = ""
        for _ in range(20):
            response = session.get(f"{api.url}{_LIST}{parameter}", timeout=_TIMEOUT_SECONDS)
            response.raise_for_status()
            cursor = response.json()["nextCursor"]
            if cursor is None:
                return
            parameter = f"&cursor={cursor}"


def _export(api: _Api) -> None:
    with api.session() as session, session.get(api.url + _EXPORT, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        response.raise_for_status()
        for _ in response.iter_content(64 * 1024):
            pass
