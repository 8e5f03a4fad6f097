"""How the client talks HTTP: the key, time limits, answers and refusals, pages, and streams of events.

It knows the form of the API's answers, and none of its addresses.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from receiptsvc.domain.errors import ReceiptsvcError

Json = dict[str, Any]  # an object of the API, as docs/api.md tells it

_CONNECT_SECONDS = 5.0
_SILENT_SECONDS = 40.0  # of a stream that says something every 15
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ApiError(ReceiptsvcError):
    """The service refused a call, or answered what is none of its answers.

    `detail` and `errors` (field path → what is wrong with it) are the service's words and may quote what was sent;
    the exception's own text does not hold them. `retry_after_seconds`: when the service would be asked again, if it
    said so.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        errors: Mapping[str, Any] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors or {}
        self.retry_after_seconds = retry_after_seconds
        self.retry_helps = status >= 500 or (status in {409, 429} and retry_after_seconds is not None)
        super().__init__(f"the service answered {status}: {title}")


class Unreachable(ReceiptsvcError):
    """No answer came. Whether the service did what was asked is not known."""

    retry_helps = True


class Event(NamedTuple):
    """Something that happened, as documented at /docs. `kind`: `status` or `reply`."""

    id: str
    kind: str
    data: Json


class Wire:
    """A way to one service with one key. Not for use by several threads at once."""

    def __init__(self, url: str, key: str, *, timeout_seconds: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._timeout = (min(_CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        self._session = requests.Session()
        self._session.trust_env = urlsplit(url).hostname not in _LOOPBACK  # no proxy leads to this machine
        self._session.auth = _Bearer(key)

    def fingerprint(self, salt: str) -> str:
        """16 hexadecimal digits that tell this service and this key from others. Nothing can be had back from them."""
        return hashlib.blake2b(f"{self.url} {self._key}".encode(), key=salt.encode(), digest_size=8).hexdigest()

    def call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """What the service answers. Raises ApiError and Unreachable."""
        try:
            answer = self._session.request(
                method,
                self.url + path,
                params=parameters,
                json=body,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,  # a redirected POST would become a GET
            )
        except requests.Timeout as error:
            raise Unreachable(f"no answer from {self.url} in time") from error
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} can't be reached") from error
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.ok and answer.status_code < 300 and isinstance(content, dict):
            return content
        raise _refusal(answer, content)

    def listed(self, path: str, filters: Mapping[str, str], *, name: str = "items") -> Iterator[Json]:
        """The objects of a list, or of what else its pages have under `name`; asks for more pages as it goes."""
        for page in self.pages(path, filters):
            yield from objects(page, name)

    def pages(self, path: str, parameters: Mapping[str, str]) -> Iterator[Json]:
        """The pages of a list, as long as each names the next."""
        parameters = dict(parameters)
        while True:
            page = self.call("GET", path, parameters)
            yield page
            cursor = page.get("nextCursor")
            if not cursor or cursor == parameters.get("cursor"):
                return
            parameters["cursor"] = str(cursor)

    def follow(self, path: str, last_event_id: str | None, filters: Mapping[str, str]) -> Iterator[Event]:
        """The events of a stream without end: where it is cut, it comes again after what it gave last."""
        feed = _Feed(last_event_id)
        while True:
            try:
                with self._stream(path, feed.last_id, filters) as answer:
                    feed.is_open = True
                    yield from feed.read(answer)
            except (ApiError, Unreachable) as error:
                if not error.retry_helps or not feed.is_open:
                    raise
            time.sleep(feed.retry_seconds)

    def _stream(self, path: str, last_event_id: str | None, filters: Mapping[str, str]) -> requests.Response:
        try:
            answer = self._session.get(
                self.url + path,
                params=filters,
                headers={"Last-Event-ID": last_event_id} if last_event_id is not None else None,
                timeout=(self._timeout[0], _SILENT_SECONDS),
                stream=True,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} can't be reached") from error
        if answer.status_code == 200 and answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return answer
        try:
            content = answer.json()
        except (ValueError, requests.RequestException):
            content = None
        raise _refusal(answer, content)


def objects(answer: Json, name: str) -> list[Json]:
    """The list of objects that an answer must hold under `name`."""
    listed = answer.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ApiError(200, f"an answer without {name}; is RECEIPTSVC_URL the address of receiptsvc?")
    return listed


class _Feed:
    """What a stream of server-sent events says, and where it goes on when it was cut."""

    def __init__(self, last_id: str | None) -> None:
        self.last_id, self.retry_seconds, self.is_open = last_id, 1.0, False

    def read(self, answer: requests.Response) -> Iterator[Event]:
        """Its events, until it ends or is cut."""
        said: dict[str, str] = {}
        try:
            for line in answer.iter_lines(chunk_size=None, decode_unicode=False):
                name, _, value = line.decode().partition(":")
                if name:
                    said[name] = value.removeprefix(" ")
                elif not line:
                    event = self._heard(said)
                    said = {}
                    if event is not None:
                        yield event
        except requests.RequestException:
            return

    def _heard(self, said: Mapping[str, str]) -> Event | None:
        self.last_id = said.get("id", self.last_id)
        if said.get("retry", "").isdecimal():
            self.retry_seconds = int(said["retry"]) / 1000
        if "data" not in said:
            return None
        return Event(id=str(self.last_id), kind=said.get("event", "message"), data=json.loads(said["data"]))


class _Bearer(requests.auth.AuthBase):
    """Adds the key. As a header of the session's, a .netrc would replace it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _refusal(answer: requests.Response, content: object) -> ApiError:
    """The error that an answer tells of (RFC 9457), or that it tells nothing we know."""
    if not isinstance(content, dict) or answer.status_code < 400:
        title = "not an answer of receiptsvc; is RECEIPTSVC_URL its address?"
        return ApiError(answer.status_code, title, retry_after_seconds=_retry_after(answer))
    errors = content.get("errors")
    return ApiError(
        answer.status_code,
        str(content.get("title") or answer.reason),
        str(content.get("detail") or ""),
        errors if isinstance(errors, dict) else {},
        _retry_after(answer),
    )


def _retry_after(answer: requests.Response) -> int | None:
    given = answer.headers.get("Retry-After", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 6 else None
