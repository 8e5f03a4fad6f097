"""The WSGI application that receives the gateway's callbacks: method, address, key, bounded read, keep, answer.

Nothing here reads what a callback says.
"""

import base64
import binascii
import re
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple
from urllib.parse import unquote_plus, unquote_to_bytes
from uuid import UUID
from wsgiref.types import StartResponse, WSGIEnvironment

from receiptsvc import ids, metrics, tokens
from receiptsvc.config import Settings
from receiptsvc.domain.compression import unpack
from receiptsvc.domain.errors import StorageUnavailable, Unreadable
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.intake.ack_stats import AckStats
from receiptsvc.intake.group_commit import GroupCommit
from receiptsvc.key_uses import KeyUses
from receiptsvc.server.admission import BodyFault, BodyRefused, ByteBudget, has_body, read_body
from receiptsvc.server.application import ROUTE, UNAUTHENTICATED, connection_of
from receiptsvc.server.threads import NativeThreads
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.inbox.rejected import RejectedCallback

MAX_BYTES = 1024 * 1024  # of a body, counted while reading

_BASE_PATHS = (tokens.RECEIPTS, tokens.INBOUND)
_CALLBACK_PREFIXES = tuple(f"{base}/" for base in _BASE_PATHS)
_METHODS = ("GET", "POST", "HEAD")
_RETRY_LATER = [("Retry-After", "5")]
_MAX_BYTES_OF_BODIES = 64 * 1024 * 1024  # from their first byte to their commit
_SLASHES = re.compile("//+")
_MAX_KEYS = 4  # that are tried for one request
_BETWEEN_PARAMETERS = b"&;?"  # a query of nothing else has no parameter; `=` is one, without a name and a value
_KEY = re.compile(rb"key=[^&]*", re.IGNORECASE)
# Of a request that is not HTTP: after its target there may be anything, or nothing.
_REQUEST_LINE = re.compile(rb"(?:\r\n)?([!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}) (/[^\r\n]*?)(?: HTTP/[^ \r\n]*)?(?=[\r\n]|$)")
_CALLBACKS = "/callbacks/"
_UNCUT = re.compile(rb"[0-9a-f]{32}|key=(?!\[cut\])", re.IGNORECASE)  # every token and key has so many digits
_MAX_WRITTEN_SECRET = 256  # bytes, with each character escaped
# `?` too: some senders append their query to an address that has one.
_SEPARATORS = re.compile(rb"(?:[&?]|%3[Ff])*")
_KEY_PARAMETER = re.compile(rb"(\A|[&?]|%3[Ff])key=((?:(?!%3[Ff])[^&?])*)", re.IGNORECASE)
_CUT = b"[cut]"  # replaces a secret


class _Address(NamedTuple):
    """The address of a callback that may be kept. `secrets`: the parts of its URL that must not be."""

    channel: Channel
    message_id: UUID | None
    secrets: Sequence[str]
    claimed_kid: str | None = None  # as in `Arrival`

    @property
    def credential(self) -> Hashable:
        """What connections and bytes are shared out by: the same for every spelling of a token."""
        return UNAUTHENTICATED if self.claimed_kid is not None else self.message_id or self.channel


class Intake:
    """Answers `/callbacks/receipts…` and `/callbacks/inbound/…`. It is called for no other paths.

    `is_callback`: whether a path, as the client wrote it or decoded, is an address of callbacks. `uses`: where it is
    noted which keys callbacks come with.
    """

    def __init__(
        self, settings: Settings, group_commit: GroupCommit, stats: AckStats, uses: KeyUses | None = None
    ) -> None:
        self._keys = settings.callback_keys
        self._keeps_unauthenticated = settings.quarantines_unauthenticated
        self._expects_callbacks = settings.web_role.expects_callbacks
        self._uses = uses or KeyUses()
        self._addresses = _Addresses(settings.public_path)
        self.is_callback = self._addresses.is_callback  # asked for each request
        self._group_commit, self._stats = group_commit, stats
        self._budget = ByteBudget(_MAX_BYTES_OF_BODIES)
        self._unpacking = NativeThreads(1, is_low_priority=True)  # a kilobyte may unpack to a mebibyte, twice

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        path = self._addresses.normalise(environ["PATH_INFO"])
        started_at = monotonic()
        environ[ROUTE] = _route(path)
        status, headers = self._answer(environ, path)
        seconds = monotonic() - started_at
        self._stats.count_answer(seconds)
        metrics.answers(status[:3]).observe(seconds)
        body = b"OK\n" if status.startswith("200") else status[4:].encode() + b"\n"
        content_headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(status, content_headers + headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def count_unparsed(self, head: bytes) -> None:
        """Count a request that the server refused by itself, if it is a callback. `head`: its first bytes."""
        line = _REQUEST_LINE.match(head)
        if line is None:
            return
        target, is_cut_off = line[2], line.end() == len(head)
        raw_path, mark, query = target.partition(b"?")
        path = self._addresses.normalise(unquote_to_bytes(raw_path).decode("latin-1"))
        if not f"{path}/".startswith(_CALLBACKS):
            return
        if is_cut_off:  # its end may be a part of a secret
            query = query[:-_MAX_WRITTEN_SECRET]
        is_told = bool(mark) or not is_cut_off
        self._stats.count_refused(_unparsed_sample(line[1].decode(), path, query) if is_told else None)

    def _answer(self, environ: WSGIEnvironment, path: str) -> tuple[str, list[tuple[str, str]]]:
        method = environ["REQUEST_METHOD"]
        if method not in _METHODS:
            return "405 Method Not Allowed", [("Allow", ", ".join(_METHODS))]
        query = _query(environ)
        address = self._authenticate(environ, path, query)
        if address is None:
            claim, token = _find_claim(environ, path, query)
            self._stats.count_refused(_rejected(method, path, _cut_secrets(query, [token]), claim))
            if not self._keeps_unauthenticated:
                return "403 Forbidden", []
            address = _Address(
                channel=_channel(path, claim),
                message_id=None,
                secrets=[token],
                claimed_kid=claim.kid if claim is not None else "",
            )
        credential = address.credential
        connection = connection_of(environ)
        if connection is not None:
            connection.prove(credential)
        if not has_body(environ):
            return self._keep(environ, address, query, b"")
        with self._budget.incoming(credential) as incoming:
            try:
                body = read_body(environ, incoming, MAX_BYTES, may_have_tiny_chunks=True)
            except BodyRefused as refused:
                if connection is not None:
                    connection.stop_reading()
                return refused.fault.value, _RETRY_LATER if refused.fault is BodyFault.FULL else []
            return self._keep(environ, address, query, body)

    def _keep(
        self, environ: WSGIEnvironment, address: _Address, query: bytes, body: bytes
    ) -> tuple[str, list[tuple[str, str]]]:
        method = environ["REQUEST_METHOD"]
        query = _clean_query(query, address)
        if method != "POST" and not body and not query.strip(_BETWEEN_PARAMETERS):
            return "200 OK", []  # a probe of the address
        encoding = environ.get("HTTP_CONTENT_ENCODING")
        callback = Callback(
            method=method,
            query=query,
            content_type=_storable(environ.get("CONTENT_TYPE")),
            body=_cut_secrets(body, address.secrets),
            content_encoding=None if encoding is None else _storable(encoding),
        )
        if encoding is not None:
            callback = self._unpacking.run(_cut_inside, callback, address.secrets)
        try:
            self._group_commit.keep(
                Arrival(
                    id=ids.new(),
                    channel=address.channel,
                    message_id=address.message_id,
                    received_at=datetime.now(UTC),
                    callback=callback,
                    claimed_kid=address.claimed_kid,
                )
            )
        except StorageUnavailable:
            return BodyFault.FULL.value, _RETRY_LATER
        if not self._expects_callbacks and address.claimed_kid is None:  # anybody can send one with a wrong key
            self._stats.count_misrouted()
        return "200 OK", []

    def _authenticate(self, environ: WSGIEnvironment, path: str, query: bytes) -> _Address | None:
        """The address of a callback whose token or key is right, else None."""
        if path == tokens.RECEIPTS:
            return self._account_address(_find_keys(environ, query))
        base, _, token = path.rpartition("/")
        if base == tokens.RECEIPTS:
            message_id = tokens.message_of(self._keys, token)
            if message_id is not None:
                self._uses.note(Kind.CALLBACK, tokens.kid_of(token, has_message=True))
                return _Address(channel=Channel.MESSAGE, message_id=message_id, secrets=(token,))
            return self._account_address([token])
        if base == tokens.INBOUND and tokens.opens_inbound(self._keys, token):
            self._uses.note(Kind.CALLBACK, tokens.kid_of(token))
            return _Address(channel=Channel.INBOUND, message_id=None, secrets=(token,))
        return None

    def _account_address(self, candidates: Sequence[str]) -> _Address | None:
        keys = [key for key in candidates if tokens.opens_account(self._keys, key)]
        if not keys:
            return None
        self._uses.note(Kind.CALLBACK, tokens.kid_of(keys[0]))
        return _Address(channel=Channel.ACCOUNT, message_id=None, secrets=keys)


class _Addresses:
    """The paths of callbacks, with the path of PUBLIC_URL before them or without: a proxy may take it off."""

    def __init__(self, public_path: str) -> None:
        decoded = unquote_to_bytes(public_path).decode("latin-1")
        self._before = _SLASHES.sub("/", decoded).lower()
        self._prefixed = tuple(f"{self._before}{base}/" for base in _BASE_PATHS) if self._before else ()

    def is_callback(self, path: str) -> bool:
        return path.startswith(_CALLBACK_PREFIXES) or _is_normal(self.normalise(path))

    def normalise(self, path: str) -> str:
        """A path without slashes at its end and without the path of PUBLIC_URL.

        In lower case and with single slashes if it is no address of ours as it is: a person may have typed it so into
        the gateway's portal.
        """
        path = path.rstrip("/")
        if _is_normal(path) and not (self._prefixed and f"{path}/".startswith(self._prefixed)):
            return path
        folded = _SLASHES.sub("/", path).lower()
        return folded.removeprefix(self._before) if f"{folded}/".startswith(self._prefixed) else folded


def _is_normal(path: str) -> bool:
    return path.startswith(_CALLBACK_PREFIXES) or path in _BASE_PATHS


def _find_keys(environ: WSGIEnvironment, query: bytes) -> list[str]:
    """Candidates for the key of the static address: the password of HTTP Basic, and each `key=`."""
    passwords: list[str] = []
    scheme, _, encoded = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            passwords.append(base64.b64decode(encoded, validate=True).decode().partition(":")[2])
    return [*passwords, *_split_keys(query)[1]][:_MAX_KEYS]


def _split_keys(query: bytes) -> tuple[bytes, list[str]]:
    """A query without its `key=` parameters, and their values. Everything else stays as it came.

    A second `?` ends a key too, and parameters follow it. After a `?` a `key=` counts only if its value has the form of
    a key, since a message's text may hold a `?`.

    Only what looks like a key is taken apart: this runs on the loop, for anybody who sends 8 KiB of parameters.
    """
    if b"key=" not in query.lower():
        return query, []
    between, keys, end = list[bytes](), list[str](), 0
    for found in _KEY_PARAMETER.finditer(query):
        key = unquote_plus(found[2].decode("latin-1"))
        if found[1] in {b"", b"&"} or tokens.claim(key):
            keys.append(key)
            between.append(query[end : found.start()])
            end = found.end()
    between.append(query[end:])
    return b"&".join(filter(None, map(_without_leading_separators, between))), keys


def _without_leading_separators(part: bytes) -> bytes:
    return _SEPARATORS.sub(b"", part, count=1)


def _clean_query(query: bytes, address: _Address) -> bytes:
    """The query as it came, without our own secrets."""
    if address.channel is Channel.ACCOUNT:
        query, _ = _split_keys(query)
    return _cut_secrets(query, address.secrets)


def _cut_secrets(data: bytes, secrets: Sequence[str]) -> bytes:
    for secret in secrets:
        data = data.replace(secret.encode(), _CUT) if secret else data
    return data


def _cut_inside(callback: Callback, secrets: Sequence[str]) -> Callback:
    """The callback; unpacked, if its compressed body holds a secret of ours. What can't be unpacked stays as it is."""
    try:
        body = unpack(callback)
    except Unreadable:
        return callback
    cut = _cut_secrets(body, secrets)
    return callback if cut == body else callback._replace(body=cut, content_encoding=None)


def _find_claim(environ: WSGIEnvironment, path: str, query: bytes) -> tuple[tokens.Claim | None, str]:
    """The claim of a refused callback and the token or key that makes it; (None, "") if nothing has that form."""
    candidates = _find_keys(environ, query) if path in _BASE_PATHS else [path.rpartition("/")[2]]
    claims = ((tokens.claim(token), token) for token in candidates)
    return next(((claim, token) for claim, token in claims if claim is not None), (None, ""))


def _channel(path: str, claim: tokens.Claim | None) -> Channel:
    if path.startswith(tokens.INBOUND):
        return Channel.INBOUND
    is_static = path == tokens.RECEIPTS or (claim is not None and not claim.has_message)
    return Channel.ACCOUNT if is_static else Channel.MESSAGE


def _route(path: str) -> str:
    """A path without its token."""
    if path == tokens.RECEIPTS:
        return path
    return f"{tokens.INBOUND if path.startswith(tokens.INBOUND) else tokens.RECEIPTS}/<token>"


def _rejected(method: str, path: str, query: bytes, claim: tokens.Claim | None) -> RejectedCallback:
    """What may be kept of a callback with a wrong key: the kid that it claims, never the key."""
    return RejectedCallback(
        received_at=datetime.now(UTC),
        method=method,
        address=_route(path),
        kid=claim.kid if claim is not None else None,
        query=_KEY.sub(b"key=" + _CUT, query),
    )


def _unparsed_sample(method: str, path: str, query: bytes) -> RejectedCallback | None:
    """What may be kept of a callback that the server refused; None if a token or key may be left in it."""
    claim, token = _find_claim({}, path, query)
    if method not in _METHODS or not (path in _BASE_PATHS or (claim is not None and _is_normal(path))):
        return None
    sample = _rejected(method, path, _cut_secrets(query, [token]), claim)
    written = unquote_to_bytes(unquote_to_bytes(sample.query))  # some senders escape twice
    return None if _UNCUT.search(sample.query) or _UNCUT.search(written) else sample


def _query(environ: WSGIEnvironment) -> bytes:
    """The query as it came. QUERY_STRING may be shorter: servers parse it as part of a URL, and cut it at a `#`."""
    raw = environ.get("RAW_URI")
    query: str = raw.partition("?")[2] if raw is not None else environ.get("QUERY_STRING", "")
    return query.encode("latin-1", "replace")


def _storable(header: str | None) -> str | None:
    """A header as text that every database can hold: ASCII without NUL, at most 500 characters."""
    return header[:500].encode("ascii", "replace").decode().replace("\0", "?") if header else None
