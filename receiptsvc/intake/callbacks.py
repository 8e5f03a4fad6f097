"""The WSGI application that receives the gateway's callbacks: method, address, key, bounded read, keep, answer.

It stands in front of Flask and hands it everything else. It knows nothing of what a callback says.
"""

import base64
import binascii
import re
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple
from urllib.parse import unquote_plus
from uuid import UUID
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from receiptsvc import ids, metrics, tokens
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.intake.ack_stats import AckStats
from receiptsvc.intake.group_commit import GroupCommit
from receiptsvc.server.admission import BodyFault, BodyRefused, ByteBudget, has_body, read_body
from receiptsvc.server.application import ROUTE, UNAUTHENTICATED, connection_of
from receiptsvc.store.inbox.rejected import RejectedCallback

MAX_BYTES = 1024 * 1024  # of a body, counted while reading

_BARE = (tokens.RECEIPTS, tokens.INBOUND)
_OURS = tuple(f"{base}/" for base in _BARE)
_METHODS = ("GET", "POST", "HEAD")
_LATER = [("Retry-After", "5")]
_MAX_BYTES_OF_BODIES = 64 * 1024 * 1024  # from their first byte to their commit
_SLASHES = re.compile("//+")
_MAX_KEYS = 4  # that are tried of one request
_KEY = re.compile(rb"key=[^&]*", re.IGNORECASE)
_JOINT = re.compile(rb"([&?]|%3[Ff])")  # a `?` where a sender appends its query to an address that has one
_CUT = b"[cut]"  # stands where a secret stood


class _Address(NamedTuple):
    """Where a callback came to, its key being right. `secrets`: what of its URL must not be kept."""

    channel: Channel
    message_id: UUID | None
    secrets: Sequence[str]
    is_unauthenticated: bool = False

    @property
    def credential(self) -> Hashable:
        """What proved it, by which connections and bytes are shared out: the same however a token is written."""
        return UNAUTHENTICATED if self.is_unauthenticated else self.message_id or self.channel


class Intake:
    """Answers `/callbacks/receipts…` and `/callbacks/inbound/…`; anything else is `inner`'s."""

    def __init__(self, inner: WSGIApplication, settings: Settings, keeper: GroupCommit, tally: AckStats) -> None:
        self._inner = inner
        self._keys = settings.callback_keys
        self._keeps_unauthenticated = settings.keeps_unauthenticated
        self._keeper, self._tally = keeper, tally
        self._budget = ByteBudget(_MAX_BYTES_OF_BODIES)

    @staticmethod
    def answers_fast(path: str) -> bool:
        """Whether a request for this path, as it came, needs no more than `plain.Plain` gives."""
        return path.startswith(_OURS)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        path = environ.get("PATH_INFO", "").rstrip("/")
        if not _is_ours(path):
            path = _SLASHES.sub("/", path).lower()  # as somebody may have written it into the gateway's portal
            if not _is_ours(path):
                return self._inner(environ, start_response)
        started = monotonic()
        environ[ROUTE] = _shown(path)
        status, headers = self._answer(environ, path)
        seconds = monotonic() - started
        self._tally.count_answer(seconds)
        metrics.answers(status[:3]).observe(seconds)
        body = b"OK\n" if status.startswith("200") else status[4:].encode() + b"\n"
        plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(status, plain + headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: WSGIEnvironment, path: str) -> tuple[str, list[tuple[str, str]]]:
        method = environ["REQUEST_METHOD"]
        if method not in _METHODS:
            return "405 Method Not Allowed", [("Allow", ", ".join(_METHODS))]
        query = _query(environ)
        address = self._address(environ, path, query)
        if address is None:
            claim, token = _claimed(environ, path, query)
            self._tally.count_refused(_stranger(method, path, _without(query, [token]), claim))
            if not self._keeps_unauthenticated:
                return "403 Forbidden", []
            address = _Address(channel=_channel(path, claim), message_id=None, secrets=[token], is_unauthenticated=True)
        credential = address.credential
        connection = connection_of(environ)
        if connection is not None:
            connection.prove(credential)
        if not has_body(environ):
            return self._keep(environ, address, query, b"")
        with self._budget.incoming(credential) as incoming:
            try:
                body = read_body(environ, incoming, MAX_BYTES)
            except BodyRefused as refused:
                if connection is not None:
                    connection.stop_reading()
                return refused.fault.value, _LATER if refused.fault is BodyFault.FULL else []
            return self._keep(environ, address, query, body)

    def _keep(
        self, environ: WSGIEnvironment, address: _Address, query: bytes, body: bytes
    ) -> tuple[str, list[tuple[str, str]]]:
        method = environ["REQUEST_METHOD"]
        query = _without_secrets(query, address)
        if method != "POST" and not query and not body:
            return "200 OK", []  # a probe
        callback = Callback(
            method=method,
            query=query,
            content_type=_text(environ.get("CONTENT_TYPE")),
            body=_without(body, address.secrets),
        )
        try:
            self._keeper.keep(
                Arrival(
                    id=ids.new(),
                    channel=address.channel,
                    message_id=address.message_id,
                    received_at=datetime.now(UTC),
                    callback=callback,
                    is_unauthenticated=address.is_unauthenticated,
                )
            )
        except StorageUnavailable:
            return BodyFault.FULL.value, _LATER
        return "200 OK", []

    def _address(self, environ: WSGIEnvironment, path: str, query: bytes) -> _Address | None:
        if path == tokens.RECEIPTS:
            return self._account(_given_keys(environ, query))
        base, _, token = path.rpartition("/")
        if base == tokens.RECEIPTS:
            message_id = tokens.message_of(self._keys, token)
            if message_id is not None:
                return _Address(channel=Channel.MESSAGE, message_id=message_id, secrets=(token,))
            return self._account([token])
        if base == tokens.INBOUND and tokens.opens_inbound(self._keys, token):
            return _Address(channel=Channel.INBOUND, message_id=None, secrets=(token,))
        return None

    def _account(self, given: Sequence[str]) -> _Address | None:
        right = [key for key in given if tokens.opens_account(self._keys, key)]
        return _Address(channel=Channel.ACCOUNT, message_id=None, secrets=right) if right else None


def _is_ours(path: str) -> bool:
    return path.startswith(_OURS) or path in _BARE


def _given_keys(environ: WSGIEnvironment, query: bytes) -> list[str]:
    """What may be the key of the static address: the password of HTTP Basic, and each `key=`."""
    given: list[str] = []
    scheme, _, encoded = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            given.append(base64.b64decode(encoded, validate=True).decode().partition(":")[2])
    return [*given, *_cut_keys(query)[1]][:_MAX_KEYS]


def _cut_keys(query: bytes) -> tuple[bytes, list[str]]:
    """A query without its `key=` parameters, and what they hold. Everything else stays as it came.

    A key ends at a second `?` too, and what follows is parameters. Behind one only what has the form of a key is taken
    for it: a text may hold a `?`.
    """
    if b"key=" not in query.lower():
        return query, []
    kept, keys, is_behind_key = b"", list[str](), False
    pieces = _JOINT.split(query)
    for joint, piece in zip([b"&", *pieces[1::2]], pieces[::2], strict=True):
        name, equals, value = piece.partition(b"=")
        key = unquote_plus(value.decode("latin-1"))
        if name.lower() == b"key" and equals and (joint == b"&" or tokens.claim(key)):
            keys.append(key)
            is_behind_key = True
        elif piece or not is_behind_key:
            kept += (b"&" if is_behind_key else joint) + piece if kept else piece
            is_behind_key = False
    return kept, keys


def _without_secrets(query: bytes, address: _Address) -> bytes:
    """The query as it came, but for our own secrets in it."""
    if address.channel is Channel.ACCOUNT:
        query, _ = _cut_keys(query)
    return _without(query, address.secrets)


def _without(data: bytes, secrets: Sequence[str]) -> bytes:
    for secret in secrets:
        data = data.replace(secret.encode(), _CUT) if secret else data
    return data


def _claimed(environ: WSGIEnvironment, path: str, query: bytes) -> tuple[tokens.Claim | None, str]:
    """What a refused callback claims, and the token or key by which it does; empty if it has the form of none."""
    given = _given_keys(environ, query) if path in _BARE else [path.rpartition("/")[2]]
    claims = ((tokens.claim(one), one) for one in given)
    return next(((claim, one) for claim, one in claims if claim is not None), (None, ""))


def _channel(path: str, claim: tokens.Claim | None) -> Channel:
    if path.startswith(tokens.INBOUND):
        return Channel.INBOUND
    is_static = path == tokens.RECEIPTS or (claim is not None and not claim.has_message)
    return Channel.ACCOUNT if is_static else Channel.MESSAGE


def _shown(path: str) -> str:
    """An address without its token."""
    if path == tokens.RECEIPTS:
        return path
    return f"{tokens.INBOUND if path.startswith(tokens.INBOUND) else tokens.RECEIPTS}/<token>"


def _stranger(method: str, path: str, query: bytes, claim: tokens.Claim | None) -> RejectedCallback:
    """What may be kept of a callback with a wrong key: not the key, but which one it claims to be."""
    return RejectedCallback(
        received_at=datetime.now(UTC),
        method=method,
        address=_shown(path),
        kid=claim.kid if claim is not None else None,
        query=_KEY.sub(b"key=" + _CUT, query),
    )


def _query(environ: WSGIEnvironment) -> bytes:
    """The query as it came. QUERY_STRING is not: servers take it for part of a URL, and cut it at a `#`."""
    raw = environ.get("RAW_URI")
    query: str = raw.partition("?")[2] if raw is not None else environ.get("QUERY_STRING", "")
    return query.encode("latin-1", "replace")


def _text(header: str | None) -> str | None:
    """A header that a database can hold, whatever was sent in it."""
    return header[:500].encode("ascii", "replace").decode().replace("\0", "?") if header else None
