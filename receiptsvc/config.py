"""The settings: read once from the environment, checked, and frozen. Every fault is reported in one error.

A set-up that would lose data unnoticed is refused here too. What only an open database connection can tell is
checked by `store.core.durability`.
"""

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from receiptsvc import connection_shares, keys, locations
from receiptsvc.connection_shares import Bounds, ConnectionShares
from receiptsvc.domain import numbers, opt_outs
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.statuses import GATEWAY_STATUSES, Status
from receiptsvc.dynmark.transports import TRANSPORTS
from receiptsvc.keys import SCOPES, ApiKey, CallbackKey
from receiptsvc.web_role import WebRole

_CALLBACK_KEYS_FILE = "callback_keys"

CALLBACK_ELEMENTS = ("both", "deliveryStatusUrl", "deliveryStatusURL")
UNAUTHENTICATED_ACTIONS = ("refuse", "quarantine")
SCHEDULERS = ("gateway", "service")
OPT_OUT_ACTIONS = ("mark", "suppress")
SUPPRESSED_ACTIONS = ("refuse", "skip")
SWITCH = ("on", "off")
# What carriers (CTIA), regulators (47 CFR 64.1200) and gateways list in English.
OPT_OUT_WORDS = (
    *("stop", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "remove"),
    *("opt out", "please opt me out"),
)
OPT_IN_WORDS = ("start", "unstop", "subscribe", "resubscribe", "opt in")  # not YES: it answers a question
RETURN_CODE_MEANINGS = ("failed", "retry", "duplicate", "stop")

MAX_PUBLIC_URL = 100  # characters: the callback URL that is built on it must stay within 200

# Former name of a setting → its name now. A former name that is still set is a fault, so it can't be ignored.
RENAMED = {
    "CALLBACK_STRANGERS": "UNAUTHENTICATED_CALLBACKS",
    "CALLS_AT_ONCE": "SEND_CONCURRENCY",
    "DELIVER_AFTER_KEPT_BY": "SCHEDULED_BY",
    "MOST_MEBIBYTES": "MAX_BODY_MIB",
    "MOST_RECIPIENTS": "MAX_RECIPIENTS",
}

# One line, since then nothing else can be set up either.
_NO_DATABASE = (
    "DATABASE_URL: must be set, such as postgresql://user:password@host/name: an installed receiptsvc has no project "
    "folder for a SQLite file. Without it only the commands that ask a running service work, such as send and status"
)

_NOT_UTF_8 = "holds bytes that are not UTF-8"

# Every setting. A test holds .env.example to this list.
# fmt: off
NAMES = frozenset({
    "DATABASE_URL", "DATABASE_LISTEN_URL", "DATABASE_CONNECTIONS", "PUBLIC_URL", "PORT", "LISTEN_ADDRESS",
    "TRUSTED_PROXIES", "WEB_ROLE", "WEB_CONCURRENCY", "CALLBACK_KEYS", "CALLBACK_BUDGET_SECONDS",
    "UNAUTHENTICATED_CALLBACKS", "API_KEYS", "DYNMARK_USERNAME", "DYNMARK_PASSWORD", "DYNMARK_TRANSPORT",
    *(transport.url_setting for transport in TRANSPORTS.values()),
    "DYNMARK_WSDL", "DYNMARK_CALLBACK_ELEMENT", "DYNMARK_TIMEOUT_SECONDS",
    "RESEND_AFTER_SECONDS", "RESEND_FOR_SECONDS", "RETURN_CODES", "DYNMARK_TIMEZONE", "STATUS_MAP", "SPOOL_DIR",
    "ADOPT_AFTER_SECONDS", "BATCH_SIZE", "SEND_CONCURRENCY", "SENDS_PER_SECOND", "SEND_ONLY_TO", "SCHEDULED_BY",
    "DYNMARK_REST_VALIDITY", "MAX_RECIPIENTS", "MAX_BODY_MIB", "OPT_OUT_WORDS", "OPT_IN_WORDS", "OPT_OUT_ACTION",
    "SUPPRESSED_ACTION", "REPLY_WINDOW_DAYS", "KEEP_EVENTS_DAYS", "OPS_PAGE",
    "RECEIPTSVC_URL", "RECEIPTSVC_API_KEY",
})
# fmt: on


# A name that begins so is meant for us; another one may be anybody's.
_PREFIXES = ("DYNMARK_", "CALLBACK_", "RECEIPTSVC_")
# What Kubernetes and Docker put into the environment for a service that is called receiptsvc.
_OF_ORCHESTRATOR = re.compile(r"\w+_(?:SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(?:TCP|UDP)\w*)")
_MIN_GUESSED = 8  # characters of a name that a misspelling is looked for: one edit makes PORT a POST, or PORTS


@dataclass(frozen=True, slots=True)
class Account:
    """Our account with the gateway."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The service's settings; .env.example explains each. Durations are in seconds. The repr holds no secret."""

    database_url: str = field(repr=False)
    database_listen_url: str = field(repr=False)  # for LISTEN, which does not work through a pooler
    database_connections: int  # of one set of processes, on PostgreSQL
    public_url: str
    port: int
    listen_address: str | None  # of the web process; None: every address, IPv6 and IPv4
    trusted_proxies: tuple[str, ...]  # addresses and networks of peers whose X-Forwarded-* and SCRIPT_NAME count
    web_role: WebRole
    web_concurrency: int
    callback_keys: tuple[CallbackKey, ...] = field(repr=False)  # the first signs, all verify
    callback_budget_seconds: float
    quarantines_unauthenticated: bool  # a callback with a wrong key is kept in quarantine and answered 200
    api_keys: tuple[ApiKey, ...] = field(repr=False)
    api_key_file: Path | None  # the file of the key that a local set-up made for itself
    account: Account | None
    transport: str
    gateway_urls: Mapping[str, str]  # by transport
    wsdl: str | None
    callback_element: str
    gateway_timeout_seconds: float
    resend_after_seconds: float
    resend_for_seconds: float
    return_codes: Mapping[str, str]
    gateway_timezone: ZoneInfo  # of a receipt's or reply's time that comes without an offset
    status_map: Mapping[str, Status]
    adopt_after: timedelta | None  # the age at which an unmatched receipt counts as another system's; None: never
    spool_dir: Path | None
    batch_size: int  # messages in one call to the gateway
    send_concurrency: int  # calls at a time, of one worker
    sends_per_second: float | None  # messages, of all workers together; None: no limit
    send_only_to: tuple[str, ...] | None  # the prefixes that a recipient must have, digits; None: any recipient
    is_scheduled_by_service: bool  # a message waits here until its deliverAfter, and can be cancelled until then
    rest_validity: str  # the REST transport's JSON member for validUntil
    max_recipients: int  # of one request
    max_body_bytes: int  # of one request
    reply_window: timedelta  # how long after a message a reply without a clientRef is linked to it
    opt_out_words: frozenset[str]  # as `domain.opt_outs.normalise` gives them
    opt_in_words: frozenset[str]
    suppresses_opt_outs: bool  # whether replies of such words suppress their sender for the originator answered
    skips_suppressed: bool  # a suppressed recipient is left out with a warning; else the request is refused
    keep_events: timedelta  # how long a stream can be continued after an event
    has_ops_page: bool
    unknown_names: tuple[str, ...]  # of the environment: meant for us by their beginning, and no setting

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a local SQLite file, not PostgreSQL."""
        return self.database_url.startswith("sqlite")

    @property
    def public_path(self) -> str:
        """The path of PUBLIC_URL, without a slash at its end; mostly empty."""
        return urlsplit(self.public_url).path.rstrip("/")

    @property
    def connection_shares(self) -> ConnectionShares:
        """How many connections each process may have in its pool. On SQLite a connection costs next to nothing."""
        if self.is_sqlite:
            return connection_shares.one_each(send_concurrency=self.send_concurrency)
        shares = connection_shares.share(
            self.database_connections,
            web_processes=self.web_concurrency,
            has_spool=self.spool_dir is not None,
            send_concurrency=self.send_concurrency,
            has_page=self.has_ops_page,
        )
        return shares if self.web_role.serves_api else shares.without_api()

    @property
    def connection_bounds(self) -> Bounds:
        """How many connections to PostgreSQL the processes that run may open, as far as this one knows."""
        least = connection_shares.count_least_of_web(has_spool=self.spool_dir is not None)
        return Bounds(of_set=self.database_connections, of_callbacks_process=least)

    @property
    def private_paths(self) -> Sequence[Path]:
        """What only its owner may read of what may be on this machine's disk. Not all of it need exist."""
        paths = [locations.DATA, locations.key_path(), locations.DATA / _CALLBACK_KEYS_FILE]
        if self.is_sqlite:
            database = make_url(self.database_url).database
            paths += [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", ".worker")]
        return paths if self.spool_dir is None else [*paths, self.spool_dir]

    @property
    def lease_seconds(self) -> float:
        """How long a call to the gateway may go without a result before it counts as lost."""
        return self.gateway_timeout_seconds + 30

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment. Raises SettingsError with every fault at once."""
        env = _EnvReader(os.environ if environ is None else environ)
        if not locations.IS_CHECKED_OUT and env.text("DATABASE_URL") is None:
            raise SettingsError(env.faults or [_NO_DATABASE])
        settings = cls._read(env)
        env.refuse_former_names()
        env.refuse_misspelled_names()
        if env.faults:
            raise SettingsError(env.faults)
        return settings

    @classmethod
    def _read(cls, env: "_EnvReader") -> "Settings":
        port = env.integer("PORT", 8000, minimum=1, maximum=65_535)
        database_url = env.database_url()
        is_sqlite = database_url.startswith("sqlite")
        spool = env.text("SPOOL_DIR")
        web_concurrency = env.integer("WEB_CONCURRENCY", 1 if is_sqlite else 2, minimum=1, maximum=64)
        opt_out_words = env.phrases("OPT_OUT_WORDS", OPT_OUT_WORDS)
        return cls(
            database_url=database_url,
            database_listen_url=env.database_url("DATABASE_LISTEN_URL", default=database_url),
            database_connections=env.connections(
                connection_shares.minimum(web_processes=web_concurrency, has_spool=spool is not None),
                is_sqlite=is_sqlite,
            ),
            public_url=env.public_url(f"http://127.0.0.1:{port}"),
            port=port,
            listen_address=env.ip_address("LISTEN_ADDRESS"),
            trusted_proxies=env.networks("TRUSTED_PROXIES"),
            web_role=WebRole(env.choice("WEB_ROLE", tuple(WebRole))),
            web_concurrency=web_concurrency,
            callback_keys=env.callback_keys(may_create=is_sqlite),
            callback_budget_seconds=env.number("CALLBACK_BUDGET_SECONDS", 2 if spool else 7, maximum=9),
            quarantines_unauthenticated=env.choice("UNAUTHENTICATED_CALLBACKS", UNAUTHENTICATED_ACTIONS)
            == "quarantine",
            api_keys=env.api_keys(may_create=is_sqlite),
            api_key_file=locations.key_path() if is_sqlite and env.text("API_KEYS") is None else None,
            account=env.account(),
            transport=env.choice("DYNMARK_TRANSPORT", tuple(TRANSPORTS)),
            gateway_urls={
                name: env.url(transport.url_setting, transport.default_url) for name, transport in TRANSPORTS.items()
            },
            wsdl=env.text("DYNMARK_WSDL"),
            callback_element=env.choice("DYNMARK_CALLBACK_ELEMENT", CALLBACK_ELEMENTS),
            gateway_timeout_seconds=env.number("DYNMARK_TIMEOUT_SECONDS", 130, maximum=3600),
            resend_after_seconds=env.number("RESEND_AFTER_SECONDS", 60, maximum=86_400),
            resend_for_seconds=env.number("RESEND_FOR_SECONDS", 3600, maximum=7 * 86_400),
            return_codes=env.code_map("RETURN_CODES", RETURN_CODE_MEANINGS),
            gateway_timezone=env.timezone("DYNMARK_TIMEZONE"),
            status_map={
                code: Status(word)
                for code, word in env.code_map("STATUS_MAP", sorted(map(str, GATEWAY_STATUSES))).items()
            },
            adopt_after=None
            if env.text("ADOPT_AFTER_SECONDS") == "never"
            else timedelta(seconds=env.number("ADOPT_AFTER_SECONDS", 600, maximum=30 * 86_400)),
            spool_dir=env.folder("SPOOL_DIR"),
            batch_size=env.integer("BATCH_SIZE", 250, minimum=1, maximum=250),
            send_concurrency=env.integer("SEND_CONCURRENCY", 4, minimum=1, maximum=32),
            sends_per_second=env.number("SENDS_PER_SECOND", 50, maximum=100_000, unit="messages") or None,
            send_only_to=env.prefixes("SEND_ONLY_TO"),
            is_scheduled_by_service=env.choice("SCHEDULED_BY", SCHEDULERS) == "service",
            rest_validity=env.json_name("DYNMARK_REST_VALIDITY", "validiUntil"),
            max_recipients=env.integer("MAX_RECIPIENTS", 10_000, minimum=1, maximum=100_000),
            max_body_bytes=env.integer("MAX_BODY_MIB", 16, minimum=1, maximum=64) * 1024 * 1024,
            reply_window=timedelta(days=env.integer("REPLY_WINDOW_DAYS", 30, minimum=1, maximum=3650)),
            opt_out_words=opt_out_words,
            opt_in_words=env.phrases("OPT_IN_WORDS", OPT_IN_WORDS, besides=opt_out_words),
            suppresses_opt_outs=env.choice("OPT_OUT_ACTION", OPT_OUT_ACTIONS) == "suppress",
            skips_suppressed=env.choice("SUPPRESSED_ACTION", SUPPRESSED_ACTIONS) == "skip",
            # At least a day, so that a reader that was away for a night can go on; at most ten years, as for replies.
            keep_events=timedelta(days=env.integer("KEEP_EVENTS_DAYS", 3, minimum=1, maximum=3650)),
            has_ops_page=env.choice("OPS_PAGE", SWITCH) == "on",
            unknown_names=env.unknown_names(),
        )


class _EnvReader:
    """Reads and checks single settings and collects the faults. A fault never holds a value, which may be secret.

    After a fault a reader returns the default, so that the remaining settings can be checked too.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._not_utf_8 = {name for name in NAMES & environ.keys() if not _is_utf_8(environ[name])}
        self._environ = {name: value for name, value in environ.items() if name not in self._not_utf_8}
        self.faults = [f"{name}: {_NOT_UTF_8}" for name in sorted(self._not_utf_8)]

    def fault(self, name: str, problem: str) -> None:
        if name not in self._not_utf_8:  # which is said already
            self.faults.append(f"{name}: {problem}")

    def refuse_former_names(self) -> None:
        for name, new_name in RENAMED.items():
            if self.text(name) is not None:
                self.fault(name, f"is called {new_name} now")

    def refuse_misspelled_names(self) -> None:
        """Refuse each name that is one edit from a setting which is unset: a default would be taken in silence."""
        for written in self._strangers():
            meant = next((name for name in sorted(NAMES) if self._is_misspelled(written, name)), None)
            if meant is not None:
                self.fault(written, f"is no setting, and {meant} is unset: if that is meant, correct the name")

    def unknown_names(self) -> tuple[str, ...]:
        """The names that only can be meant for us, and are no settings, sorted."""
        return tuple(
            name
            for name in self._strangers()
            if name.startswith(_PREFIXES)
            and not _OF_ORCHESTRATOR.fullmatch(name)
            and not (name.endswith("_PORT") and self._environ[name].startswith(("tcp://", "udp://")))
        )

    def _strangers(self) -> list[str]:
        known = NAMES | RENAMED.keys()
        return sorted(name for name in self._environ if name not in known and self.text(name) is not None)

    def _is_misspelled(self, written: str, name: str) -> bool:
        if self.text(name) is not None or len(name) < _MIN_GUESSED or not _is_one_edit(written.upper(), name):
            return False
        # API_KEY is a usual name for the key of any other service; ours have three parts.
        return name != "API_KEYS" or self._environ[written].count(":") >= 2

    def text(self, name: str) -> str | None:
        """The setting without spaces around it; None if it is unset or empty."""
        return self._environ.get(name, "").strip() or None

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not minimum <= int(value) <= maximum:
            self.fault(name, f"must be a whole number from {minimum} to {maximum}")
            return default
        return int(value)

    def number(self, name: str, default: float, *, maximum: float, unit: str = "seconds") -> float:
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not 0 < float(value) <= maximum:
            self.fault(name, f"must be a number of {unit} above 0 and at most {maximum:g}")
            return default
        return float(value)

    def connections(self, minimum: int, *, is_sqlite: bool) -> int:
        """DATABASE_CONNECTIONS. `minimum`: what the set of processes needs."""
        value = self.integer("DATABASE_CONNECTIONS", connection_shares.DEFAULT, minimum=1, maximum=1000)
        if value < minimum and not is_sqlite:
            self.fault(
                "DATABASE_CONNECTIONS",
                f"must be at least {minimum} with this WEB_CONCURRENCY and SPOOL_DIR, or fewer web processes",
            )
            return minimum
        return value

    def prefixes(self, name: str) -> tuple[str, ...] | None:
        """International numbers or prefixes of them, as digits; None if unset."""
        value = self.text(name)
        if value is None:
            return None
        prefixes = tuple(numbers.digits(part) or "" for part in value.split(","))
        if not all(re.fullmatch(r"[1-9][0-9]{0,14}", prefix) for prefix in prefixes):
            self.fault(name, "must be international numbers or their beginnings, such as 447700900123,4479")
        return prefixes

    def phrases(self, name: str, default: tuple[str, ...], *, besides: frozenset[str] = frozenset()) -> frozenset[str]:
        """Words or phrases separated by commas, normalised. `besides`: those that have another meaning already."""
        value = self.text(name)
        phrases = frozenset(map(opt_outs.normalise, default if value is None else value.split(",")))
        if not all(phrases):
            self.fault(name, "must be words or phrases separated by commas, such as STOP,UNSUBSCRIBE")
        if phrases & besides:
            self.fault(name, "must have no word of OPT_OUT_WORDS")
        return phrases

    def json_name(self, name: str, default: str) -> str:
        """The name of a JSON member."""
        value = self.text(name) or default
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", value):
            self.fault(name, f"must be a name of letters and digits such as {default}")
            return default
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name) or allowed[0]
        if value not in allowed:
            self.fault(name, f"must be one of {', '.join(allowed)}")
            return allowed[0]
        return value

    def url(self, name: str, default: str) -> str:
        value = self.text(name) or default
        if not _is_http_url(value):
            self.fault(name, "must be an http:// or https:// address without user, password or fragment")
            return default
        return value

    def ip_address(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
        except ValueError:
            self.fault(name, "must be an IPv6 or IPv4 address such as ::1 or 127.0.0.1")
            return None

    def networks(self, name: str) -> tuple[str, ...]:
        """IP addresses and networks, separated by commas; empty if unset."""
        value = self.text(name)
        if value is None:
            return ()
        try:
            return tuple(str(ipaddress.ip_network(part.strip())) for part in value.split(","))
        except ValueError:
            self.fault(name, "must be IP addresses or networks such as 10.0.0.1,192.168.0.0/16,fd00::/8")
            return ()

    def code_map(self, name: str, allowed: "tuple[str, ...] | list[str]") -> dict[str, str]:
        """A JSON object that maps codes to words of `allowed`; empty if unset."""
        value = self.text(name)
        if value is None:
            return {}
        problem = f'must be a JSON object such as {{"1": "{allowed[0]}"}} with the words {", ".join(allowed)}'
        try:
            parsed: Any = json.loads(value)
        except (ValueError, RecursionError):
            self.fault(name, problem)
            return {}
        if not isinstance(parsed, dict) or not all(
            isinstance(word, str) and word in allowed for word in parsed.values()
        ):
            self.fault(name, problem)
            return {}
        return {code.strip(): word for code, word in parsed.items()}

    def timezone(self, name: str) -> ZoneInfo:
        value = self.text(name) or "UTC"
        try:
            return ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            self.fault(name, "must be a time zone's name such as UTC or Europe/London")
            return ZoneInfo("UTC")

    def database_url(self, name: str = "DATABASE_URL", *, default: str | None = None) -> str:
        """A SQLAlchemy URL that names its driver, psycopg 3 for PostgreSQL.

        `default`: the URL if the setting is unset; then only PostgreSQL may be set. Without it, SQLite is allowed and
        a local file is the default.
        """
        value = self.text(name)
        may_be_sqlite = default is None
        default = default or f"sqlite:///{locations.DATA / 'receiptsvc.db'}"
        if value is None:
            if self.text("DYNO") and may_be_sqlite:
                self.fault(name, "must be set on a dyno: a file on its disk is lost at every restart")
            return default
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            self.fault(name, "must be a URL such as postgresql://user:password@host/name")
            return default
        if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
            if "@" in f"{url.host}{url.database}":  # else a part of the password would be shown as the host
                self.fault(
                    name, "has more than one @: in user and password write @ : / # ? % as %40 %3A %2F %23 %3F %25"
                )
                return default
            return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        if url.drivername in {"sqlite", "sqlite+pysqlite"} and may_be_sqlite:
            return self._sqlite_url(url) or default
        self.fault(name, "must begin with postgresql:// or postgres://" + (", or sqlite:///" if may_be_sqlite else ""))
        return default

    def _sqlite_url(self, url: URL) -> str | None:
        if self.text("DYNO"):
            self.fault("DATABASE_URL", "must not be SQLite on a dyno: its disk is lost at every restart")
        if not url.database or url.database.startswith((":memory:", "file:")):
            self.fault("DATABASE_URL", "must name a file by its plain path: SQLite in memory keeps nothing")
            return None
        path = self._absolute("DATABASE_URL", Path(url.database), such_as="sqlite:////var/lib/receiptsvc/receiptsvc.db")
        return url.set(database=str(path)).render_as_string()

    def folder(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else self._absolute(name, Path(value), such_as="/var/lib/receiptsvc/spool")

    def _absolute(self, name: str, path: Path, *, such_as: str) -> Path:
        """The path as seen from the project's folder. Installed, there is none: then only an absolute path will do."""
        if not (path.is_absolute() or locations.IS_CHECKED_OUT):
            self.fault(
                name, f"must be an absolute path such as {such_as}: an installed receiptsvc has no project folder"
            )
        return locations.PROJECT / path

    def public_url(self, default: str) -> str:
        value = (self.text("PUBLIC_URL") or default).rstrip("/")
        if not _is_http_url(value) or "?" in value:
            self.fault("PUBLIC_URL", "must be an http:// or https:// address without user, query or fragment")
            return default
        if len(value) > MAX_PUBLIC_URL:
            self.fault("PUBLIC_URL", f"must be at most {MAX_PUBLIC_URL} characters long")
        names = list(TRANSPORTS)
        transport = TRANSPORTS.get(self.text("DYNMARK_TRANSPORT") or names[0], TRANSPORTS[names[0]])
        gateway_setting = transport.url_setting
        gateway_url = self.text(gateway_setting) or transport.default_url
        may_send = self.text("DYNMARK_USERNAME") and _is_http_url(gateway_url)
        if may_send and _is_private(value) and not _is_private(gateway_url):
            self.fault(
                "PUBLIC_URL",
                "must be an address that the gateway can reach, because DYNMARK_USERNAME is set and "
                f"{gateway_setting} is public: with a private one no receipt would ever arrive",
            )
        return value

    def account(self) -> Account | None:
        username, password = self.text("DYNMARK_USERNAME"), self._environ.get("DYNMARK_PASSWORD", "")
        if username and password:
            return Account(username, password)
        if username or password:
            missing = "DYNMARK_PASSWORD" if username else "DYNMARK_USERNAME"
            self.fault(missing, "must be set too: username and password go together")
        return None

    def callback_keys(self, *, may_create: bool) -> tuple[CallbackKey, ...]:
        syntax = "[kid:]secret[,…]: the first signs, all verify"
        text = self._secret("CALLBACK_KEYS", syntax, _CALLBACK_KEYS_FILE, may_create=may_create)
        return keys.parse_callback_keys(text, partial(self.fault, "CALLBACK_KEYS")) if text is not None else ()

    def api_keys(self, *, may_create: bool) -> tuple[ApiKey, ...]:
        syntax = "name:scope+scope:secret[,…] with the scopes send, read, ops"
        text = self._secret("API_KEYS", syntax, "api_key", may_create=may_create)
        if text is not None and self.text("API_KEYS") is None:
            text = f"desk:{'+'.join(sorted(SCOPES))}:{text}"
        return keys.parse_api_keys(text, partial(self.fault, "API_KEYS")) if text is not None else ()

    def _secret(self, name: str, syntax: str, file_name: str, *, may_create: bool) -> str | None:
        """A setting that holds secrets. If it is unset and `may_create`: the file in the data folder, created once."""
        value = self.text(name)
        if value is None and not may_create:
            self.fault(name, f"must be set: {syntax}; `python -m receiptsvc new-secret` makes one")
        elif value is None:
            try:
                return keys.read_or_make(locations.DATA / file_name)
            except OSError as error:
                self.fault(name, f"could not be made in the data folder ({error.strerror}); set it: {syntax}")
            except UnicodeDecodeError:
                self.fault(name, f"its file {file_name} in the data folder {_NOT_UTF_8}; set it: {syntax}")
        return value


def _is_utf_8(text: str) -> bool:
    """Whether a text of the environment came as UTF-8: Python keeps other bytes as halves of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_one_edit(written: str, name: str) -> bool:
    """Whether a name is another one, or that with one character more, fewer or replaced, or two neighbours swapped."""
    same = next((place for place, pair in enumerate(zip(written, name, strict=False)) if pair[0] != pair[1]), None)
    left, right = (written[same:], name[same:]) if same is not None else (written[len(name) :], name[len(written) :])
    is_swapped = left[:2] == right[1::-1] and left[2:] == right[2:]
    return left[1:] == right or left == right[1:] or left[1:] == right[1:] or is_swapped


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_port_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    is_bare = parts.username is None and not parts.fragment
    return is_plain and is_bare and is_port_valid and parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_private(url: str) -> bool:
    """Whether an address can be reached only from this machine or network. Names are not looked up."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".test", ".example"))
