"""The settings: read once from the environment, frozen, and refused in one message that lists every fault.

What a set-up needs that would otherwise lose data in silence is checked here too, except what only an open
database connection can tell (`store.durability`).
"""

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from receiptsvc import keys
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.statuses import GATEWAY_STATUSES, Status
from receiptsvc.keys import SCOPES, ApiKey, CallbackKey

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "data"

TRANSPORTS = ("soap", "rest")
CALLBACK_ELEMENTS = ("both", "deliveryStatusUrl", "deliveryStatusURL")
UNAUTHENTICATED_ACTIONS = ("refuse", "quarantine")
SCHEDULERS = ("gateway", "service")
OPT_OUT_ACTIONS = ("mark", "suppress")
SUPPRESSED_ACTIONS = ("refuse", "skip")
OPT_OUT_WORDS = ("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "opt out", "optout")
RETURN_CODE_MEANINGS = ("failed", "retry", "duplicate", "stop")

SOAP_URL = "https://services.dynmark.com/WebServices/MessagingServicesWS.asmx"
REST_URL = "https://services.dynmark.com/webapi/message/send"
MAX_PUBLIC_URL = 100  # the callback URL must stay within 200 characters

# A name that a setting had before → its name now. One that is still set stops the start.
RENAMED = {
    "CALLBACK_STRANGERS": "UNAUTHENTICATED_CALLBACKS",
    "CALLS_AT_ONCE": "SEND_CONCURRENCY",
    "DELIVER_AFTER_KEPT_BY": "SCHEDULED_BY",
    "MOST_MEBIBYTES": "MAX_BODY_MIB",
    "MOST_RECIPIENTS": "MAX_RECIPIENTS",
}

# Every setting there is.
# fmt: off
NAMES = frozenset({
    "DATABASE_URL", "DATABASE_LISTEN_URL", "PUBLIC_URL", "PORT", "LISTEN_ADDRESS", "WEB_CONCURRENCY", "CALLBACK_KEYS",
    "CALLBACK_BUDGET_SECONDS", "UNAUTHENTICATED_CALLBACKS",
    "API_KEYS", "DYNMARK_USERNAME", "DYNMARK_PASSWORD", "DYNMARK_TRANSPORT", "DYNMARK_SOAP_URL",
    "DYNMARK_REST_URL", "DYNMARK_WSDL", "DYNMARK_CALLBACK_ELEMENT", "DYNMARK_TIMEOUT_SECONDS",
    "RESEND_AFTER_SECONDS", "RESEND_FOR_SECONDS", "RETURN_CODES", "DYNMARK_TIMEZONE", "STATUS_MAP", "SPOOL_DIR",
    "ADOPT_AFTER_SECONDS", "BATCH_SIZE", "SEND_CONCURRENCY", "SENDS_PER_SECOND", "SEND_ONLY_TO", "SCHEDULED_BY",
    "DYNMARK_REST_VALIDITY", "MAX_RECIPIENTS", "MAX_BODY_MIB", "OPT_OUT_WORDS", "OPT_OUT_ACTION",
    "SUPPRESSED_ACTION", "REPLY_WINDOW_DAYS", "RECEIPTSVC_URL", "RECEIPTSVC_API_KEY",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Account:
    """Our account with the gateway."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set. Durations are in seconds. No secret shows in its repr."""

    database_url: str = field(repr=False)
    listen_url: str = field(repr=False)  # where PostgreSQL can be listened to: past a pooler
    public_url: str
    port: int
    listen_address: str | None  # where the web process listens; none: all, IPv6 and IPv4
    web_concurrency: int
    callback_keys: tuple[CallbackKey, ...] = field(repr=False)  # the first signs, all verify
    callback_budget_seconds: float
    keeps_unauthenticated: bool  # whether a callback with a wrong key is kept, as quarantined, and answered 200
    api_keys: tuple[ApiKey, ...] = field(repr=False)
    api_key_file: Path | None  # where the key stands that a desk made for itself
    account: Account | None
    transport: str
    soap_url: str
    rest_url: str
    wsdl: str | None
    callback_element: str
    timeout_seconds: float
    resend_after_seconds: float
    resend_for_seconds: float
    return_codes: Mapping[str, str]
    timezone: ZoneInfo
    status_map: Mapping[str, Status]
    adopt_after: timedelta | None  # how old a receipt is when it is taken for another system's; none: never
    spool_dir: Path | None
    batch_size: int  # messages in one call
    send_concurrency: int  # of one worker
    sends_per_second: float | None  # messages, of all workers together; none: no limit
    send_only_to: tuple[str, ...] | None  # how a recipient must begin, digits; none: anybody
    schedules_messages: bool  # whether a message waits here until its deliverAfter, and can be cancelled until then
    rest_validity: str  # how the REST transport spells validUntil
    max_recipients: int  # of one request
    max_bytes: int  # of a request's body
    reply_window: timedelta  # how long after a message a reply without a clientRef belongs to it
    opt_out_words: frozenset[str]  # casefolded, words parted by one blank
    suppresses_opt_outs: bool  # whether a reply of such a word suppresses its sender for whom it answered
    skips_suppressed: bool  # whether a suppressed recipient is left out with a warning; else the request is refused

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file at a desk."""
        return self.database_url.startswith("sqlite")

    @property
    def lease_seconds(self) -> float:
        """How long a call to the gateway may be unheard of before it counts as lost."""
        return self.timeout_seconds + 30

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment. Raises SettingsError with every fault at once."""
        read = _Reader(os.environ if environ is None else environ)
        settings = cls._read(read)
        read.refuse_renamed()
        if read.faults:
            raise SettingsError(read.faults)
        return settings

    @classmethod
    def _read(cls, read: "_Reader") -> "Settings":
        port = read.whole("PORT", 8000, least=1, most=65_535)
        database_url = read.database_url()
        on_sqlite = database_url.startswith("sqlite")
        spool = read.text("SPOOL_DIR")
        return cls(
            database_url=database_url,
            listen_url=read.database_url("DATABASE_LISTEN_URL", otherwise=database_url),
            public_url=read.public_url(f"http://127.0.0.1:{port}"),
            port=port,
            listen_address=read.ip_address("LISTEN_ADDRESS"),
            web_concurrency=read.whole("WEB_CONCURRENCY", 1 if on_sqlite else 2, least=1, most=64),
            callback_keys=read.callback_keys(may_make=on_sqlite),
            callback_budget_seconds=read.seconds("CALLBACK_BUDGET_SECONDS", 2 if spool else 7, most=9),
            keeps_unauthenticated=read.choice("UNAUTHENTICATED_CALLBACKS", UNAUTHENTICATED_ACTIONS) == "quarantine",
            api_keys=read.api_keys(may_make=on_sqlite),
            api_key_file=key_path() if on_sqlite and read.text("API_KEYS") is None else None,
            account=read.account(),
            transport=read.choice("DYNMARK_TRANSPORT", TRANSPORTS),
            soap_url=read.url("DYNMARK_SOAP_URL", SOAP_URL),
            rest_url=read.url("DYNMARK_REST_URL", REST_URL),
            wsdl=read.text("DYNMARK_WSDL"),
            callback_element=read.choice("DYNMARK_CALLBACK_ELEMENT", CALLBACK_ELEMENTS),
            timeout_seconds=read.seconds("DYNMARK_TIMEOUT_SECONDS", 130, most=3600),
            resend_after_seconds=read.seconds("RESEND_AFTER_SECONDS", 60, most=86_400),
            resend_for_seconds=read.seconds("RESEND_FOR_SECONDS", 3600, most=7 * 86_400),
            return_codes=read.words("RETURN_CODES", RETURN_CODE_MEANINGS),
            timezone=read.timezone("DYNMARK_TIMEZONE"),
            status_map={
                code: Status(word)
                for code, word in read.words("STATUS_MAP", sorted(map(str, GATEWAY_STATUSES))).items()
            },
            adopt_after=None
            if read.text("ADOPT_AFTER_SECONDS") == "never"
            else timedelta(seconds=read.seconds("ADOPT_AFTER_SECONDS", 600, most=30 * 86_400)),
            spool_dir=PROJECT / spool if spool else None,
            batch_size=read.whole("BATCH_SIZE", 250, least=1, most=250),
            send_concurrency=read.whole("SEND_CONCURRENCY", 4, least=1, most=32),
            sends_per_second=read.seconds("SENDS_PER_SECOND", 50, most=100_000, of="messages") or None,
            send_only_to=read.prefixes("SEND_ONLY_TO"),
            schedules_messages=read.choice("SCHEDULED_BY", SCHEDULERS) == "service",
            rest_validity=read.name("DYNMARK_REST_VALIDITY", "validiUntil"),
            max_recipients=read.whole("MAX_RECIPIENTS", 10_000, least=1, most=100_000),
            max_bytes=read.whole("MAX_BODY_MIB", 16, least=1, most=64) * 1024 * 1024,
            reply_window=timedelta(days=read.whole("REPLY_WINDOW_DAYS", 30, least=1, most=3650)),
            opt_out_words=read.phrases("OPT_OUT_WORDS", OPT_OUT_WORDS),
            suppresses_opt_outs=read.choice("OPT_OUT_ACTION", OPT_OUT_ACTIONS) == "suppress",
            skips_suppressed=read.choice("SUPPRESSED_ACTION", SUPPRESSED_ACTIONS) == "skip",
        )


class _Reader:
    """Reads one setting after another and collects what is wrong with them, never a value that may be secret."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []

    def fault(self, name: str, what: str) -> None:
        self.faults.append(f"{name}: {what}")

    def refuse_renamed(self) -> None:
        for name, new_name in RENAMED.items():
            if self.text(name) is not None:
                self.fault(name, f"is called {new_name} now")

    def text(self, name: str) -> str | None:
        """The setting without its outer blanks; None if it is unset or empty."""
        return self._environ.get(name, "").strip() or None

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        given = self.text(name)
        if given is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", given) or not least <= int(given) <= most:
            self.fault(name, f"must be a whole number from {least} to {most}")
            return default
        return int(given)

    def seconds(self, name: str, default: float, *, most: float, of: str = "seconds") -> float:
        given = self.text(name)
        if given is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", given) or not 0 < float(given) <= most:
            self.fault(name, f"must be a number of {of} above 0 and at most {most:g}")
            return default
        return float(given)

    def prefixes(self, name: str) -> tuple[str, ...] | None:
        """Beginnings of international numbers, or whole ones, as digits."""
        given = self.text(name)
        if given is None:
            return None
        prefixes = tuple(re.sub(r"[\s()-]", "", one).removeprefix("+") for one in given.split(","))
        if not all(re.fullmatch(r"[1-9][0-9]{0,14}", one) for one in prefixes):
            self.fault(name, "must be international numbers or their beginnings, such as 447700900123,4479")
        return prefixes

    def phrases(self, name: str, default: tuple[str, ...]) -> frozenset[str]:
        """Words or phrases parted by commas, without regard to case and blanks."""
        given = self.text(name)
        phrases = default if given is None else tuple(" ".join(one.casefold().split()) for one in given.split(","))
        if not all(phrases):
            self.fault(name, "must be words or phrases parted by commas, such as STOP,UNSUBSCRIBE")
        return frozenset(phrases)

    def name(self, name: str, default: str) -> str:
        """The name of a JSON member."""
        given = self.text(name) or default
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", given):
            self.fault(name, f"must be a name of letters and digits such as {default}")
            return default
        return given

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        given = self.text(name) or allowed[0]
        if given not in allowed:
            self.fault(name, f"must be one of {', '.join(allowed)}")
            return allowed[0]
        return given

    def url(self, name: str, default: str) -> str:
        given = self.text(name) or default
        if not _is_http_url(given):
            self.fault(name, "must be an http:// or https:// address without user, password or fragment")
            return default
        return given

    def ip_address(self, name: str) -> str | None:
        given = self.text(name)
        if given is None:
            return None
        try:
            return str(ipaddress.ip_address(given.removeprefix("[").removesuffix("]")))
        except ValueError:
            self.fault(name, "must be an IPv6 or IPv4 address such as ::1 or 127.0.0.1")
            return None

    def words(self, name: str, allowed: "tuple[str, ...] | list[str]") -> dict[str, str]:
        """A JSON object of code → one of `allowed`."""
        given = self.text(name)
        if given is None:
            return {}
        wanted = f'must be a JSON object such as {{"1": "{allowed[0]}"}} with the words {", ".join(allowed)}'
        try:
            parsed: Any = json.loads(given)
        except (ValueError, RecursionError):
            self.fault(name, wanted)
            return {}
        if not isinstance(parsed, dict) or not all(
            isinstance(word, str) and word in allowed for word in parsed.values()
        ):
            self.fault(name, wanted)
            return {}
        return {code.strip(): word for code, word in parsed.items()}

    def timezone(self, name: str) -> ZoneInfo:
        given = self.text(name) or "UTC"
        try:
            return ZoneInfo(given)
        except (KeyError, ValueError, OSError):
            self.fault(name, "must be a time zone's name such as UTC or Europe/London")
            return ZoneInfo("UTC")

    def database_url(self, name: str = "DATABASE_URL", *, otherwise: str | None = None) -> str:
        """The SQLAlchemy URL with its driver named. PostgreSQL is reached with psycopg 3.

        `otherwise`: what stands for it when it is unset; without it, a file at a desk.
        """
        given = self.text(name)
        default = otherwise or f"sqlite:///{DATA / 'receiptsvc.db'}"
        if given is None:
            if self.text("DYNO") and otherwise is None:
                self.fault(name, "must be set on a dyno: a file on its disk is lost at every restart")
            return default
        try:
            url = make_url(given)
        except (ArgumentError, ValueError):
            self.fault(name, "must be a URL such as postgresql://user:password@host/name")
            return default
        if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
            return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        if url.drivername in {"sqlite", "sqlite+pysqlite"} and otherwise is None:
            return self._sqlite_url(url) or default
        self.fault(name, "must begin with postgresql:// or postgres://" + ("" if otherwise else ", or sqlite:///"))
        return default

    def _sqlite_url(self, url: URL) -> str | None:
        if self.text("DYNO"):
            self.fault("DATABASE_URL", "must not be SQLite on a dyno: its disk is lost at every restart")
        if not url.database or url.database.startswith((":memory:", "file:")):
            self.fault("DATABASE_URL", "must name a file by its plain path: SQLite in memory keeps nothing")
            return None
        path = Path(url.database)
        return url.set(database=str(path if path.is_absolute() else PROJECT / path)).render_as_string()

    def public_url(self, default: str) -> str:
        given = (self.text("PUBLIC_URL") or default).rstrip("/")
        if not _is_http_url(given) or "?" in given:
            self.fault("PUBLIC_URL", "must be an http:// or https:// address without user, query or fragment")
            return default
        if len(given) > MAX_PUBLIC_URL:
            self.fault("PUBLIC_URL", f"must be at most {MAX_PUBLIC_URL} characters long")
        gateway = "DYNMARK_REST_URL" if self.text("DYNMARK_TRANSPORT") == "rest" else "DYNMARK_SOAP_URL"
        address = self.text(gateway) or (REST_URL if gateway == "DYNMARK_REST_URL" else SOAP_URL)
        may_send = self.text("DYNMARK_USERNAME") and _is_http_url(address)
        if may_send and _is_private(given) and not _is_private(address):
            self.fault(
                "PUBLIC_URL",
                "must be an address that the gateway can reach, because DYNMARK_USERNAME is set and "
                f"{gateway} is public: with a private one no receipt would ever arrive",
            )
        return given

    def account(self) -> Account | None:
        username, password = self.text("DYNMARK_USERNAME"), self._environ.get("DYNMARK_PASSWORD", "")
        if username and password:
            return Account(username, password)
        if username or password:
            missing = "DYNMARK_PASSWORD" if username else "DYNMARK_USERNAME"
            self.fault(missing, "must be set too: username and password go together")
        return None

    def callback_keys(self, *, may_make: bool) -> tuple[CallbackKey, ...]:
        given = self._secret(
            "CALLBACK_KEYS", "[kid:]secret[,…]: the first signs, all verify", "callback_keys", may_make
        )
        return keys.parse_callback_keys(given, partial(self.fault, "CALLBACK_KEYS")) if given is not None else ()

    def api_keys(self, *, may_make: bool) -> tuple[ApiKey, ...]:
        form = "name:scope+scope:secret[,…] with the scopes send, read, ops"
        given = self._secret("API_KEYS", form, "api_key", may_make)
        if given is not None and self.text("API_KEYS") is None:
            given = f"desk:{'+'.join(sorted(SCOPES))}:{given}"
        return keys.parse_api_keys(given, partial(self.fault, "API_KEYS")) if given is not None else ()

    def _secret(self, name: str, form: str, file: str, may_make: bool) -> str | None:
        """A setting that holds secrets, or the one that is made in the data folder at the first start at a desk."""
        given = self.text(name)
        if given is None and not may_make:
            self.fault(name, f"must be set: {form}")
        elif given is None:
            try:
                return keys.read_or_make(DATA / file)
            except OSError as error:
                self.fault(name, f"could not be made in the data folder ({error.strerror}); set it: {form}")
        return given


def key_path() -> Path:
    """Where the API key stands that is made when API_KEYS is unset."""
    return DATA / "api_key"


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text
    bare = parts.username is None and not parts.fragment
    return plain and bare and port_is_fine and parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_private(url: str) -> bool:
    """Whether an address can only be reached from nearby. Names are not looked up."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".test", ".example"))
