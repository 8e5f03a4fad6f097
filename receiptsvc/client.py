"""A small client of the API over HTTP: what the command line stands on, and a sample for other programs.

It knows the API's addresses and errors, and nothing of the store, the gateway or the screen.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from receiptsvc.config import key_path
from receiptsvc.domain.errors import ReceiptsvcError, SettingsError

Json = dict[str, Any]  # an object of the API, as documented at /docs

_CONNECT_SECONDS = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ApiError(ReceiptsvcError):
    """The service refused a call, or answered what is none of its answers.

    `detail` and `errors` (field path → what is wrong with it) are the service's words and may quote what was sent;
    the exception's own text does not hold them.
    """

    def __init__(self, status: int, title: str, detail: str = "", errors: Mapping[str, Any] | None = None) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors or {}
        super().__init__(f"the service answered {status}: {title}")


class Unreachable(ReceiptsvcError):
    """No answer came. Whether the service did what was asked is not known."""

    retry_helps = True


class Client:
    """A way to one service with one key. Not for use by several threads at once.

    Every method raises ApiError if the service refuses, and Unreachable if no answer comes within `timeout_seconds`.
    """

    def __init__(self, url: str, key: str, *, timeout_seconds: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = (min(_CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        self._session = requests.Session()
        self._session.trust_env = urlsplit(url).hostname not in _LOOPBACK  # no proxy leads to this machine
        self._session.auth = _Bearer(key)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Client":
        """The client that the environment describes. Raises SettingsError."""
        environ = os.environ if environ is None else environ
        faults: list[str] = []
        url, key = _url(environ, faults), _key(environ, faults)
        if faults:
            raise SettingsError(faults)
        return cls(url, key)

    def send(self, messages: Sequence[Json]) -> list[Json]:
        """Send messages, all or none of them: one item for each recipient."""
        return _objects(self._call("POST", "/v1/messages", body={"messages": list(messages)}), "messages")

    def message(self, message_id: str) -> Json:
        """One message with its transitions."""
        return self._call("GET", f"/v1/messages/{_segment(message_id)}")

    def messages(self, **filters: str) -> Iterator[Json]:
        """The messages that every filter fits, the newest first; asks for more pages as it goes."""
        for page in self._pages("/v1/messages", filters):
            yield from _objects(page, "items")

    def transaction(self, transaction_id: str) -> Json:
        """The messages of a transactionID, with their transitions."""
        return self._call("GET", f"/v1/transactions/{_segment(transaction_id)}")

    def conversation(self, reference: str) -> Json:
        """A conversation by its clientRef or `cnv_` id, with the whole of its timeline."""
        # Not in the path: a clientRef such as ".." would be taken for a way to another address.
        pages = self._pages("/v1/conversations", {"clientRef": reference})
        conversation = next(pages)
        timeline = _objects(conversation, "timeline")
        for page in pages:
            timeline += _objects(page, "timeline")
        return {**conversation, "timeline": timeline, "nextCursor": None}

    def ledger(self) -> Json:
        """The counters of what was received and what became of it."""
        return self._call("GET", "/v1/ledger")

    def _pages(self, path: str, parameters: Mapping[str, str]) -> Iterator[Json]:
        parameters = dict(parameters)
        while True:
            page = self._call("GET", path, parameters)
            yield page
            cursor = page.get("nextCursor")
            if not cursor or cursor == parameters.get("cursor"):
                return
            parameters["cursor"] = str(cursor)

    def _call(self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: object = None) -> Json:
        try:
            answer = self._session.request(
                method,
                self.url + path,
                params=parameters,
                json=body,
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
        return ApiError(answer.status_code, "not an answer of receiptsvc; is RECEIPTSVC_URL its address?")
    errors = content.get("errors")
    return ApiError(
        answer.status_code,
        str(content.get("title") or answer.reason),
        str(content.get("detail") or ""),
        errors if isinstance(errors, dict) else {},
    )


def _objects(answer: Json, name: str) -> list[Json]:
    """The list of objects that an answer must hold under `name`."""
    listed = answer.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ApiError(200, f"an answer without {name}; is RECEIPTSVC_URL the address of receiptsvc?")
    return listed


def _segment(text: str) -> str:
    return quote(text, safe="")


def _url(environ: Mapping[str, str], faults: list[str]) -> str:
    name = next((name for name in ("RECEIPTSVC_URL", "PUBLIC_URL") if environ.get(name, "").strip()), "PORT")
    given = environ.get(name, "").strip()
    url = f"http://127.0.0.1:{given or 8000}" if name == "PORT" else given
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or parts.query or parts.fragment or parts.username or not (url.isascii() and url.isprintable()):
        wanted = "a port's number" if name == "PORT" else "an http:// or https:// address without user or query"
        faults.append(f"{name}: must be {wanted}")
    return url


def _key(environ: Mapping[str, str], faults: list[str]) -> str:
    name = "RECEIPTSVC_API_KEY"
    key = environ.get(name, "").strip()
    if not key:
        try:
            key = key_path().read_text().strip()
        except (OSError, UnicodeDecodeError):
            faults.append(f"{name}: must be set to the secret of an API key, because there is none in {key_path()}")
            return ""
    if not (key.isascii() and key.isprintable()):
        faults.append(f"{name}: must be plain ASCII without line breaks")
    return key
