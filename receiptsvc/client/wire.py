"""The client's HTTP layer: the key, time-outs, errors, pages and event streams.

It knows the form of the API's answers; the addresses are in `Client`.
"""

import hashlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from receiptsvc.domain.errors import ReceiptsvcError

Json = dict[str, Any]  # an object of the API, as documented in docs/api.md

_CONNECT_SECONDS = 5.0
_MAX_SILENCE_SECONDS = 40.0  # of a stream; the service sends something every 15 s
_FLAGS = frozenset({"bom", "estimate", "isOptIn", "isOptOut", "positions"})  # parameters that are true or false
_LISTS = frozenset({"status", "outcome"})  # parameters that may have several words, separated by commas
_POSITION = " at "  # how a comment begins that tells where a stream stands
_PIECE = 65_536  # bytes of a download
_OF_THE_KEY = frozenset({401, 403})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ApiError(ReceiptsvcError):
    """The service refused a call, or the answer is not one of receiptsvc's.

    `detail` and `errors` (field path → faults) are the service's words and may quote what was sent; the exception's own
    text does not hold them. `retry_after_seconds`: the service's Retry-After, if it gave one. `key_source`: where the
    key came from, if the service refused that.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        errors: Mapping[str, Any] | None = None,
        retry_after_seconds: int | None = None,
        *,
        key_source: str | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors or {}
        self.retry_after_seconds = retry_after_seconds
        self.key_source = key_source
        self.retry_helps = status >= 500 or (status in {409, 429} and retry_after_seconds is not None)
        super().__init__(f"{title} (HTTP {status})")


class Unreachable(ReceiptsvcError):
    """No answer came. Whether the service carried out the request is not known."""

    retry_helps = True


class Event(NamedTuple):
    """A server-sent event, as documented at /docs. `kind`: `status` or `reply`."""

    id: str
    kind: str
    data: Json


class Wire:
    """An HTTP session with one service and one key. Not thread-safe.

    `url_source`, `key_source`: in words where the address and the key came from, for errors.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_seconds: float = 30.0,
        url_source: str | None = None,
        key_source: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._named = f"{self.url} ({url_source})" if url_source is not None else self.url
        self._key, self._key_source = key, key_source
        self._timeout = (min(_CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        self._session = requests.Session()
        self._session.trust_env = urlsplit(url).hostname not in _LOOPBACK  # a proxy can't reach this machine's loopback
        self._session.auth = _Bearer(key)

    def fingerprint(self, salt: str) -> str:
        """16 hexadecimal digits that identify this service and key, and do not reveal them."""
        return hashlib.blake2b(f"{self.url} {self._key}".encode(), key=salt.encode(), digest_size=8).hexdigest()

    def call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Make one request and return the JSON object of its answer. Raises ApiError and Unreachable."""
        try:
            response = self._session.request(
                method,
                self.url + path,
                params=parameters,
                json=body,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,  # a redirected POST would become a GET
            )
        except requests.Timeout as error:
            raise Unreachable(f"no answer from {self._named} in time") from error
        except requests.RequestException as error:
            raise Unreachable(f"{self._named} can't be reached: {_describe_failure(error)}") from error
        try:
            content = response.json()
        except ValueError:
            content = None
        if response.ok and response.status_code < 300 and isinstance(content, dict):
            return content
        raise self._api_error(response, content)

    def listed(
        self, path: str, filters: Mapping[str, str], *, name: str = "items", method: str = "GET"
    ) -> Iterator[Json]:
        """The objects that a list's pages have under `name`. Requests further pages as needed."""
        for page in self.pages(path, filters, method=method):
            yield from objects(page, name)

    def pages(self, path: str, parameters: Mapping[str, str], *, method: str = "GET") -> Iterator[Json]:
        """The pages of a list, one after the other by `nextCursor`. By POST the parameters are in the body."""
        parameters = dict(parameters)
        while True:
            if method == "POST":
                page = self.call("POST", path, body=as_members(parameters))
            else:
                page = self.call(method, path, parameters)
            yield page
            cursor = page.get("nextCursor")
            if not cursor or cursor == parameters.get("cursor"):
                return
            parameters["cursor"] = str(cursor)

    def follow(self, path: str, last_event_id: str | None, filters: Mapping[str, str]) -> Iterator[Event]:
        """The events of an endless stream. When it is cut, it reconnects after the last event it gave.

        With filters it asks by POST: they may be a person's, and stand in no URL.
        """
        feed = _Feed(last_event_id)
        while True:
            try:
                with self._open_events(path, feed.last_id, filters) as response:
                    feed.is_open = True
                    yield from feed.read(response)
            except (ApiError, Unreachable) as error:
                if not error.retry_helps or not feed.is_open:
                    raise
            time.sleep(feed.retry_seconds)

    def download(self, path: str, filters: Mapping[str, str], media: str) -> Iterator[bytes]:
        """The bytes of an answer of any length, in pieces. Unreachable: it broke off before its end."""
        with self._open("POST", path, media, json=as_members(filters), timeout=self._timeout) as response:
            try:
                yield from response.iter_content(_PIECE)
            except requests.RequestException as error:
                raise Unreachable(f"the answer from {self.url} broke off before its end") from error

    def _open_events(self, path: str, last_event_id: str | None, filters: Mapping[str, str]) -> requests.Response:
        return self._open(
            "POST" if filters else "GET",
            path,
            "text/event-stream",
            json=as_members(filters) if filters else None,
            headers={"Last-Event-ID": last_event_id} if last_event_id is not None else None,
            timeout=(self._timeout[0], _MAX_SILENCE_SECONDS),
        )

    def _open(self, method: str, path: str, media: str, **options: Any) -> requests.Response:
        """An answer of this media type, of which only the head was read. Raises ApiError and Unreachable."""
        try:
            response = self._session.request(method, self.url + path, stream=True, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise Unreachable(f"{self._named} can't be reached: {_describe_failure(error)}") from error
        if response.status_code == 200 and response.headers.get("Content-Type", "").startswith(media):
            return response
        try:
            content = response.json()
        except (ValueError, requests.RequestException):
            content = None
        raise self._api_error(response, content)

    def _api_error(self, response: requests.Response, content: object) -> ApiError:
        """The error of a problem document (RFC 9457), or of an answer that receiptsvc would not give."""
        if not isinstance(content, dict) or response.status_code < 400:
            title = f"{self._named} gives no answer of receiptsvc: let RECEIPTSVC_URL be its address"
            return ApiError(response.status_code, title, retry_after_seconds=_retry_after(response))
        errors = content.get("errors")
        return ApiError(
            response.status_code,
            str(content.get("title") or response.reason),
            str(content.get("detail") or ""),
            errors if isinstance(errors, dict) else {},
            _retry_after(response),
            key_source=self._key_source if response.status_code in _OF_THE_KEY else None,
        )


def objects(answer: Json, name: str) -> list[Json]:
    """The list of objects that an answer must have under `name`. Raises ApiError."""
    members = answer.get(name)
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise ApiError(200, f"an answer without {name}; is RECEIPTSVC_URL the address of receiptsvc?")
    return members


def as_members(parameters: Mapping[str, str]) -> Json:
    """The parameters of a query as the members of a JSON object."""
    return {name: _as_member(name, value) for name, value in parameters.items()}


def _as_member(name: str, value: str) -> str | int | bool | list[str]:
    if name in _LISTS:
        return value.split(",")
    if name in _FLAGS and value in {"true", "false"}:
        return value == "true"
    return int(value) if name == "limit" and value.isascii() and value.isdigit() else value


class _Feed:
    """Parses server-sent events, and remembers the id and the pause to reconnect with."""

    def __init__(self, last_id: str | None) -> None:
        self.last_id, self.retry_seconds, self.is_open = last_id, 1.0, False

    def read(self, response: requests.Response) -> Iterator[Event]:
        """The response's events, until it ends or is cut."""
        fields: dict[str, str] = {}
        try:
            for line in response.iter_lines(chunk_size=None, decode_unicode=False):
                name, _, value = line.decode().partition(":")
                if name:
                    fields[name] = value.removeprefix(" ")
                    self._note_retry(fields)
                elif value.startswith(_POSITION):  # all before it was given; a comment, so between two events
                    self.last_id = value.removeprefix(_POSITION)
                elif not line:
                    event = self._dispatch(fields)
                    fields = {}
                    if event is not None:
                        yield event
        except requests.RequestException:
            return

    def _dispatch(self, fields: Mapping[str, str]) -> Event | None:
        """The event of these fields; None if it has no data. Notes its id."""
        self.last_id = fields.get("id", self.last_id)
        if "data" not in fields:
            return None
        return Event(id=str(self.last_id), kind=fields.get("event", "message"), data=json.loads(fields["data"]))

    def _note_retry(self, fields: Mapping[str, str]) -> None:
        if fields.get("retry", "").isdecimal():
            self.retry_seconds = int(fields["retry"]) / 1000


class _Bearer(requests.auth.AuthBase):
    """Adds the key to each request. As a session header it would be replaced by a .netrc's credentials."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _retry_after(response: requests.Response) -> int | None:
    seconds = response.headers.get("Retry-After", "")
    return int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 6 else None


def _describe_failure(error: requests.RequestException) -> str:
    """Why no request reached the service, in words that hold nothing of its address."""
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed: is it really https, and is its certificate trusted here?"
    if isinstance(error, requests.exceptions.ProxyError):
        return "a proxy that the environment names does not let it through"
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return "there is no such host"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there"
    return "no answer in time" if isinstance(error, requests.Timeout) else "there is no connection, or it broke off"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What lies beneath an exception: requests and urllib3 wrap each other's."""
    beneath: object = error
    while isinstance(beneath, BaseException):
        yield beneath
        inner = (getattr(beneath, "reason", None), beneath.__cause__, *beneath.args, beneath.__context__)
        beneath = next((each for each in inner if isinstance(each, BaseException)), None)
