"""A small client of the API over HTTP: what the command line stands on, and a sample for other programs.

It knows the API's addresses and errors, and nothing of the store, the gateway or the screen.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import requests

from receiptsvc.config import key_path
from receiptsvc.domain.errors import ReceiptsvcError, SettingsError

Json = dict[str, Any]  # an object of the API, as documented at /docs

_CONNECT_SECONDS = 5.0
_SILENT_SECONDS = 40.0  # of a stream that says something every 15
_MOST_LOOKED_UP = 500  # messages in one call
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


class Client:
    """A way to one service with one key. Not for use by several threads at once.

    Every method raises ApiError if the service refuses, and Unreachable if no answer comes within `timeout_seconds`.
    """

    def __init__(self, url: str, key: str, *, timeout_seconds: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._key = key
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

    def fingerprint(self, salt: str) -> str:
        """16 hexadecimal digits that tell this service and this key from others. Nothing can be had back from them."""
        return hashlib.blake2b(f"{self.url} {self._key}".encode(), key=salt.encode(), digest_size=8).hexdigest()

    def send(
        self, messages: Sequence[Json], idempotency_key: str | None = None, *, dry_run: bool = False
    ) -> list[Json]:
        """What `submit` does, giving the items only."""
        items: list[Json] = self.submit(messages, idempotency_key, dry_run=dry_run)["messages"]
        return items

    def submit(self, messages: Sequence[Json], idempotency_key: str | None = None, *, dry_run: bool = False) -> Json:
        """Send messages, all or none of them: `messages` has one item for each recipient, `warnings` who was left out.

        With the same `idempotency_key` the same messages go out once, however often this is called: each call gives
        the same items, with their present statuses. `dry_run`: only tell what would be sent, and what it would cost.
        """
        answer = self._call(
            "POST",
            "/v1/messages",
            {"dryRun": "true"} if dry_run else None,
            body={"messages": list(messages)},
            headers={"Idempotency-Key": idempotency_key} if idempotency_key is not None else None,
        )
        items = _objects(answer, "messages")
        if dry_run and any("id" in item for item in items):
            raise ApiError(202, "it is older than this client, knows no dry run, and has taken the messages")
        return answer

    def message(self, message_id: str) -> Json:
        """One message with its transitions."""
        return self._call("GET", f"/v1/messages/{_segment(message_id)}")

    def explain(self, message_id: str) -> Json:
        """Why a message has its status."""
        return self._call("GET", f"/v1/messages/{_segment(message_id)}/explain")

    def messages(self, **filters: str) -> Iterator[Json]:
        """The messages that every filter fits, the newest first; asks for more pages as it goes."""
        yield from self._listed("/v1/messages", filters)

    def lookup(self, message_ids: Sequence[str]) -> Iterator[Json]:
        """The messages that have these ids, in no order; ids that are not known are left out."""
        for start in range(0, len(message_ids), _MOST_LOOKED_UP):
            some = list(message_ids[start : start + _MOST_LOOKED_UP])
            yield from _objects(self._call("POST", "/v1/messages/lookup", body={"ids": some}), "items")

    def cancel(self, message_id: str, reason: str | None = None) -> Json:
        """Cancel a message that was not given to the gateway. ApiError 409: it is too late."""
        return self._call("POST", f"/v1/messages/{_segment(message_id)}/cancel", body=_given(reason=reason))

    def cancel_all(self, *, dry_run: bool = False, **filters: str) -> Json:
        """Cancel the messages that every filter fits and that were not given to the gateway; or only count them.

        Some thousands a call: go on until the answer's `isComplete` is true.
        """
        return self._call("POST", "/v1/messages/cancel", body={**filters, "dryRun": dry_run})

    def resolve(self, message_id: str, status: str, reason: str) -> Json:
        """Say what became of a message whose send was never answered; a receipt that comes later still wins."""
        body = {"status": status, "reason": reason}
        return self._call("POST", f"/v1/messages/{_segment(message_id)}/resolve", body=body)

    def sending(self) -> Json:
        """Whether messages go out, and what holds them."""
        return self._call("GET", "/v1/sending")

    def pause(self, reason: str) -> Json:
        """Give nothing to the gateway until `resume`."""
        return self._call("POST", "/v1/sending/pause", body={"reason": reason})

    def resume(self, reason: str | None = None) -> Json:
        """Let messages go out again."""
        return self._call("POST", "/v1/sending/resume", body=_given(reason=reason))

    def suppressions(self, **filters: str) -> Iterator[Json]:
        """Who may not be written to by whom, as far as every filter fits."""
        yield from self._listed("/v1/suppressions", filters)

    def suppress(self, recipient: str, originator: str | None = None, reason: str | None = None) -> Json:
        """Keep a sender (none: the account's own number) from writing to a person any more."""
        body = _given(recipient=recipient, originator=originator, reason=reason)
        return self._call("POST", "/v1/suppressions", body=body)

    def allow(self, recipient: str, originator: str | None = None, reason: str | None = None) -> Json:
        """Let a sender write to a person again. ApiError 404: nothing kept it from that."""
        parameters = _given(recipient=recipient, originator=originator, reason=reason)
        return self._call("DELETE", "/v1/suppressions", parameters)

    def receipts(self, **filters: str) -> Iterator[Json]:
        """The ledger's rows that every filter fits, the newest first."""
        yield from self._listed("/v1/receipts", filters)

    def receipt(self, receipt_id: str) -> Json:
        """One receipt as it came, with what it led to and what was done to it."""
        return self._call("GET", f"/v1/receipts/{_segment(receipt_id)}")

    def match(self, receipt_id: str, message_id: str, reason: str | None = None) -> Json:
        """Say which message a receipt is about."""
        body = _given(message=message_id, reason=reason)
        return self._call("POST", f"/v1/receipts/{_segment(receipt_id)}/match", body=body)

    def retry(self, receipt_id: str, reason: str | None = None) -> Json:
        """Have a receipt worked on again."""
        return self._call("POST", f"/v1/receipts/{_segment(receipt_id)}/retry", body=_given(reason=reason))

    def dismiss(self, receipt_id: str, reason: str) -> Json:
        """Give a receipt up; it is kept."""
        return self._call("POST", f"/v1/receipts/{_segment(receipt_id)}/dismiss", body={"reason": reason})

    def replay(self, **selection: object) -> Json:
        """Have many receipts worked on again: one call's bounded number of them, with `nextCursor` to go on."""
        return self._call("POST", "/v1/receipts/replay", body=selection)

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

    def events(self, last_event_id: str | None = None, **filters: str) -> Iterator[Event]:
        """What happens from now on, or after an event that is known by its id; as far as every filter fits.

        It never ends: when the stream is cut, it comes again after what it gave last. Keep the id of an event when you
        are done with it. ApiError 410: not everything after this id is kept. Unreachable: at the first try only.
        """
        feed = _Feed(last_event_id)
        while True:
            try:
                with self._stream(feed.last_id, filters) as answer:
                    feed.is_open = True
                    yield from feed.read(answer)
            except (ApiError, Unreachable) as error:
                if not error.retry_helps or not feed.is_open:
                    raise
            time.sleep(feed.retry_seconds)

    def _stream(self, last_event_id: str | None, filters: Mapping[str, str]) -> requests.Response:
        try:
            answer = self._session.get(
                self.url + "/v1/events",
                params=filters,
                headers=_given(**{"Last-Event-ID": last_event_id}),
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

    def ledger(self) -> Json:
        """The counters of what was received and what became of it."""
        return self._call("GET", "/v1/ledger")

    def _listed(self, path: str, filters: Mapping[str, str]) -> Iterator[Json]:
        for page in self._pages(path, filters):
            yield from _objects(page, "items")

    def _pages(self, path: str, parameters: Mapping[str, str]) -> Iterator[Json]:
        parameters = dict(parameters)
        while True:
            page = self._call("GET", path, parameters)
            yield page
            cursor = page.get("nextCursor")
            if not cursor or cursor == parameters.get("cursor"):
                return
            parameters["cursor"] = str(cursor)

    def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
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


def _objects(answer: Json, name: str) -> list[Json]:
    """The list of objects that an answer must hold under `name`."""
    listed = answer.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ApiError(200, f"an answer without {name}; is RECEIPTSVC_URL the address of receiptsvc?")
    return listed


def _segment(text: str) -> str:
    return quote(text, safe="")


def _given(**members: str | None) -> Json:
    return {name: value for name, value in members.items() if value is not None}


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
