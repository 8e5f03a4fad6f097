"""How callbacks are answered while the same processes serve an API under load, against how they are answered alone."""

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
    """Rounds of idle and busy loads; what kept the service busy; how long the big POSTs took, in seconds."""

    idle: Sequence[Report]
    busy: Sequence[Report]
    calls: Sequence[str]
    post_seconds: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Api:
    """A service and a key to it."""

    url: str
    key: str

    def session(self) -> requests.Session:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.key}"
        return session

    def has(self, path: str) -> bool:
        with self.session() as session, session.get(self.url + path, stream=True, timeout=10) as answer:
            return answer.status_code == 200


def measure(generator: Path, folder: Path, server_url: str, *, rounds: int, plan: Plan) -> Outcome:
    """Idle and busy in turns, on two web processes and a new database; no worker runs. Raises BenchError."""
    api_key = secrets.token_urlsafe(24)
    idle, busy, taken = [], [], list[float]()
    with databases.scratch_postgresql(server_url) as url:
        stack = Stack(folder / "busy", url, api_key=api_key, settings={"WEB_CONCURRENCY": "2"})
        with stack:
            stack.migrate()
            settings = Settings.from_env(stack.environ)
            targets = receipts.write_targets(
                folder / "busy.targets", settings, receipts.accept_messages(url, _RECEIVERS)
            )
            stack.start("web")
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            site = Site(name="busy", port=settings.port, targets=targets)
            api = _Api(url=stack.url, key=api_key)
            has_export, has_events = api.has(_EXPORT), api.has(_EVENTS)
            calls = [partial(_post, api, taken), partial(_walk, api), *[partial(_export, api)] * has_export]
            with _streams(api, STREAMS if has_events else 0):
                for _ in range(rounds):
                    idle.append(site.load(generator, plan))
                    with _repeated(calls):
                        busy.append(site.load(generator, plan))
    named = [f"POST of {MESSAGES:,} messages", "list walk", *["export"] * has_export]
    return Outcome(idle=idle, busy=busy, calls=[*named, *[f"{STREAMS} idle streams"] * has_events], post_seconds=taken)


@contextmanager
def _repeated(calls: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Make each of these calls again and again on a thread of its own until the block ends."""
    over = Event()

    def repeat(call: Callable[[], object]) -> None:
        while not over.is_set():
            call()

    with ThreadPoolExecutor(len(calls)) as threads:
        repeating: list[Future[None]] = [threads.submit(repeat, call) for call in calls]
        try:
            yield
        finally:
            over.set()
        for one in repeating:
            one.result()


@contextmanager
def _streams(api: _Api, count: int) -> Iterator[None]:
    """Keep so many event streams open that nobody reads."""
    parts = urlsplit(api.url)
    ask = f"GET {_EVENTS} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode()
    with ExitStack() as ends:
        for _ in range(count):
            stream = ends.enter_context(socket.create_connection((parts.hostname or "", parts.port or 80), 10))
            stream.sendall(ask)
            if not stream.recv(1024).startswith(b"HTTP/1.1 200"):
                raise BenchError("an event stream was refused")
        yield


def _post(api: _Api, taken: list[float]) -> None:
    messages = [
        {"recipients": [str(447700900000 + place)], "text": "Your order is on its way."} for place in range(MESSAGES)
    ]
    began = monotonic()
    with api.session() as session:
        answer = session.post(f"{api.url}/v1/messages", json={"messages": messages}, timeout=_TIMEOUT_SECONDS)
    if answer.status_code != 202:
        raise BenchError(f"the POST of {MESSAGES} messages was answered {answer.status_code}")
    taken.append(monotonic() - began)


def _walk(api: _Api) -> None:
    with api.session() as session:
        cursor = ""
        for _ in range(20):
            answer = session.get(f"{api.url}{_LIST}{cursor}", timeout=_TIMEOUT_SECONDS)
            answer.raise_for_status()
            following = answer.json()["nextCursor"]
            if following is None:
                return
            cursor = f"&cursor={following}"


def _export(api: _Api) -> None:
    with api.session() as session, session.get(api.url + _EXPORT, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
        answer.raise_for_status()
        for _ in answer.iter_content(64 * 1024):
            pass
