"""The settings as this process uses them, each with what it means. Of a secret only whether it is set."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from receiptsvc.config import Settings
from receiptsvc.dynmark.transports import TRANSPORTS

_SET, _UNSET = "set", "not set"
_MIB = 1024 * 1024


class Line(NamedTuple):
    """A setting: its value in words, and what it means in one line."""

    name: str
    value: str
    means: str


def list_settings(settings: Settings) -> Sequence[Line]:
    """All of them, in the order in which .env.example explains them."""
    return [
        *(Line(name, write(settings), means) for name, write, means in _BEFORE),
        *_list_gateways(settings),
        *(Line(name, write(settings), means) for name, write, means in _AFTER),
    ]


def _list_gateways(settings: Settings) -> Sequence[Line]:
    return [
        Line(
            transport.url_setting, _address(settings.gateway_urls[name]), f"where the gateway takes messages by {name}"
        )
        for name, transport in TRANSPORTS.items()
    ]


def _place(url: str) -> str:
    """Where a database is, without user, password and options."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return f"SQLite, {parsed.database}"
    port = f":{parsed.port}" if parsed.port is not None else ""
    return f"PostgreSQL, {parsed.database} at {parsed.host or 'this machine'}{port}"


def _address(url: str) -> str:
    """An address without its query, which may hold a secret."""
    return urlsplit(url)._replace(query="").geturl()


def _is_set(given: object) -> str:
    return _SET if given else _UNSET


def _either(is_first: bool, first: str, other: str) -> str:
    return first if is_first else other


def _join(words: Sequence[str] | frozenset[str], none: str) -> str:
    return ", ".join(sorted(words)) or none


def _map(codes: Mapping[str, str]) -> str:
    return json.dumps({code: str(word) for code, word in codes.items()}, ensure_ascii=False) if codes else "none"


def _seconds(length: timedelta | None) -> str:
    return "never" if length is None else f"{length.total_seconds():g}"


def _listen_place(settings: Settings) -> str:
    is_same = settings.database_listen_url == settings.database_url
    return "as DATABASE_URL" if is_same else _place(settings.database_listen_url)


def _allowed(settings: Settings) -> str:
    """Whom may be sent to: numbers are nobody's business here."""
    prefixes = settings.send_only_to
    return "anybody" if prefixes is None else f"only {len(prefixes)} numbers or beginnings of numbers"


_Setting = tuple[str, Callable[[Settings], str], str]

_BEFORE: Sequence[_Setting] = (
    ("DATABASE_URL", lambda each: _place(each.database_url), "the database"),
    ("DATABASE_LISTEN_URL", _listen_place, "past a pooler, on which the worker hears of new work"),
    ("DATABASE_CONNECTIONS", lambda each: str(each.database_connections), "connections of one set of processes"),
    ("PUBLIC_URL", lambda each: each.public_url, "where the gateway reaches us; every receipt comes back to it"),
    ("PORT", lambda each: str(each.port), "the port at which the web process listens"),
    ("LISTEN_ADDRESS", lambda each: each.listen_address or "all", "the address at which it listens"),
    ("TRUSTED_PROXIES", lambda each: _join(each.trusted_proxies, "none"), "peers whose X-Forwarded-* count"),
    ("WEB_ROLE", lambda each: each.web_role, "what this web process serves"),
    ("WEB_CONCURRENCY", lambda each: str(each.web_concurrency), "web processes"),
    ("CALLBACK_KEYS", lambda each: _is_set(each.callback_keys), "sign callback URLs; their kids are above"),
    (
        "CALLBACK_BUDGET_SECONDS",
        lambda each: f"{each.callback_budget_seconds:g}",
        "how long keeping a callback may take",
    ),
    (
        "UNAUTHENTICATED_CALLBACKS",
        lambda each: _either(each.quarantines_unauthenticated, "quarantine", "refuse"),
        "what is done with a callback that has a wrong key",
    ),
    ("API_KEYS", lambda each: _is_set(each.api_keys), "keys of the API; their names are above"),
    (
        "DYNMARK_USERNAME",
        lambda each: _is_set(each.account),
        "our account with the gateway; without it nothing is sent",
    ),
    ("DYNMARK_PASSWORD", lambda each: _is_set(each.account), "its password"),
    ("DYNMARK_TRANSPORT", lambda each: each.transport, "by which messages go out that are accepted from now on"),
)
_AFTER: Sequence[_Setting] = (
    (
        "DYNMARK_WSDL",
        lambda each: _either(each.wsdl is None, "the bundled one", _SET),
        "the WSDL by which SOAP is spoken",
    ),
    ("DYNMARK_CALLBACK_ELEMENT", lambda each: each.callback_element, "how the callback element is spelled on the wire"),
    ("DYNMARK_TIMEOUT_SECONDS", lambda each: f"{each.gateway_timeout_seconds:g}", "how long one call may take in all"),
    ("RESEND_AFTER_SECONDS", lambda each: f"{each.resend_after_seconds:g}", "the first gap after a lost answer"),
    ("RESEND_FOR_SECONDS", lambda each: f"{each.resend_for_seconds:g}", "how long such repeats go on"),
    ("RETURN_CODES", lambda each: _map(each.return_codes), "what a code of the gateway's answer means"),
    ("STATUS_MAP", lambda each: _map(each.status_map), "what a statusid means, before its description counts"),
    ("DYNMARK_TIMEZONE", lambda each: each.gateway_timezone.key, "the zone of the gateway's times, which name none"),
    ("ADOPT_AFTER_SECONDS", lambda each: _seconds(each.adopt_after), "when an unmatched receipt is another system's"),
    ("SPOOL_DIR", lambda each: str(each.spool_dir or "none"), "takes callbacks while the database can't"),
    ("BATCH_SIZE", lambda each: str(each.batch_size), "messages in one call to the gateway"),
    ("SEND_CONCURRENCY", lambda each: str(each.send_concurrency), "calls at once of one worker"),
    (
        "SENDS_PER_SECOND",
        lambda each: f"{each.sends_per_second:g}" if each.sends_per_second else "no limit",
        "messages a second, of all workers together",
    ),
    ("SEND_ONLY_TO", _allowed, "for staging: who can be sent to at all"),
    (
        "SCHEDULED_BY",
        lambda each: _either(each.is_scheduled_by_service, "service", "gateway"),
        "who keeps a message until its deliverAfter; here it can be cancelled until then",
    ),
    ("DYNMARK_REST_VALIDITY", lambda each: each.rest_validity, "how the REST transport spells validUntil"),
    ("MAX_RECIPIENTS", lambda each: str(each.max_recipients), "of one request"),
    ("MAX_BODY_MIB", lambda each: f"{each.max_body_bytes / _MIB:g}", "of one request"),
    ("REPLY_WINDOW_DAYS", lambda each: str(each.reply_window.days), "how long after a message a reply belongs to it"),
    ("KEEP_EVENTS_DAYS", lambda each: str(each.keep_events.days), "how long an event stream can be continued"),
    ("OPT_OUT_WORDS", lambda each: _join(each.opt_out_words, "none"), "replies that are opt-outs"),
    ("OPT_IN_WORDS", lambda each: _join(each.opt_in_words, "none"), "replies that are opt-ins"),
    (
        "OPT_OUT_ACTION",
        lambda each: _either(each.suppresses_opt_outs, "suppress", "mark"),
        "what an opt-out does",
    ),
    (
        "SUPPRESSED_ACTION",
        lambda each: _either(each.skips_suppressed, "skip", "refuse"),
        "what becomes of a request to a suppressed recipient",
    ),
    ("OPS_PAGE", lambda each: _either(each.has_ops_page, "on", "off"), "this page"),
    ("RECEIPTSVC_URL", lambda _: "not read here", "for commands: where the API is"),
    ("RECEIPTSVC_API_KEY", lambda _: "not read here", "for commands: their key to the API"),
)
