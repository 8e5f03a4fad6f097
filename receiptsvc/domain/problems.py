"""Problems: what needs attention, by cause. What each kind is called, what harm it does, and what to do about it. Pure.

What is seen now is `store.health.causes`' to say, and `store.health.problems` keeps it. Which states follow each other,
and when a problem that was resolved comes back, is decided here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from hashlib import blake2b
from uuid import UUID

from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.sentences import agree

MAX_COUNTED = 10_000  # rows of one problem

_STANDS = timedelta(seconds=30)  # for so long a condition that was resolved may still hold: what mends it takes effect
_MISSED_FOR = timedelta(seconds=45)  # three looks: a parked receipt is away for a moment when it is worked on again
_STOPPED_AFTER = timedelta(seconds=90)  # without another one; looks are 25 s apart
_MAX_SHOWN = 60  # characters of a word of others, in a title

Cause = Mapping[str, str]
"""What a problem's kind leaves open, such as a code. It may hold what is personal: no address has it."""

OTHERS: Cause = {"others": "yes"}  # of a kind that has too many causes to name each


class State(StrEnum):
    """Where a problem stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # somebody works on it
    RESOLVED = "resolved"  # somebody says so, or it has ended


class Harm(StrEnum):
    """What a problem does meanwhile."""

    NOW = "now"  # messages or receipts do not get on, or are misread
    WAITS = "waits"  # the rest goes on


class Basis(Enum):
    """What shows that a problem that was resolved is there again."""

    CONDITION = auto()  # it still holds after a while
    EVENTS = auto()  # one happened after that, or there are more
    ROWS = auto()  # one is newer than those that were there, or there are more


class Kind(StrEnum):
    """The kinds of problems, in the order in which they are listed."""

    DATABASE_AWAY = "database_away"
    WORKER_UNSEEN = "worker_unseen"
    SPOOL_WAITING = "spool_waiting"
    CREDENTIALS_REFUSED = "credentials_refused"
    GATEWAY_AMISS = "gateway_amiss"
    ACCOUNT_REFUSED = "account_refused"
    CALLBACKS_REFUSED = "callbacks_refused"
    NO_RECEIPTS = "no_receipts"
    RECEIPTS_LATE = "receipts_late"
    MESSAGES_LATE = "messages_late"
    TIMEZONE_WRONG = "timezone_wrong"
    ACCOUNT_SUSPECTED = "account_suspected"
    SEND_UNKNOWN = "send_unknown"
    SENDING_PAUSED = "sending_paused"
    OVERDUE = "overdue"
    UNMAPPED = "unmapped"
    UNMATCHED = "unmatched"
    QUARANTINED = "quarantined"
    DEAD = "dead"
    RECEIPTS_CROWD = "receipts_crowd"
    CALLBACKS_MISROUTED = "callbacks_misrouted"
    SPOOL_UNREADABLE = "spool_unreadable"
    SPOOL_ASIDE = "spool_aside"
    TIME_SLICE_MISSING = "time_slice_missing"
    CONNECTIONS_EXCEED = "connections_exceed"
    WORKER_CLOCK = "worker_clock"
    WEB_CLOCK = "web_clock"


OF_A_HOST = frozenset(  # which only its web processes see
    {Kind.SPOOL_WAITING, Kind.SPOOL_UNREADABLE, Kind.SPOOL_ASIDE, Kind.WEB_CLOCK}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What is said of a kind. `name`: without anything of its cause. `remedies`: of causes that have their own.

    `titles`, `remedies`: by the first member of the cause that has one; title "": of every other cause. `counted`: one
    row, several.
    """

    name: str
    harm: Harm
    remedy: str
    basis: Basis = Basis.CONDITION
    titles: Mapping[str, str] = field(default_factory=dict)
    remedies: Mapping[str, str] = field(default_factory=dict)
    counted: tuple[str, str] = ("receipt", "receipts")


_QUARANTINE = (
    " Until then `UNAUTHENTICATED_CALLBACKS=quarantine`, and a restart of web, keeps what comes, answered 200, for a "
    "person to match; switch it back afterwards, since meanwhile anybody can fill the database."
)

KINDS: Mapping[Kind, About] = {
    Kind.DATABASE_AWAY: About(
        name="The database can't be used",
        harm=Harm.NOW,
        remedy="Do as its fault says; docs/operations.md lists all. Callbacks go to the spool meanwhile, where there "
        "is one, or are answered 503.",
    ),
    Kind.WORKER_UNSEEN: About(
        name="No worker is at work",
        harm=Harm.NOW,
        remedy="Start it: `python -m receiptsvc worker`. The log of the last one says why it ended. Receipts are kept "
        "and wait; nothing is sent.",
    ),
    Kind.SPOOL_WAITING: About(
        name="Callbacks wait in the spool",
        harm=Harm.NOW,
        titles={"": "{count} in the spool of {host}"},
        counted=("callback waits", "callbacks wait"),
        remedy="Mend the database; they are safe on disk, and go into it by themselves once it is back.",
    ),
    Kind.CREDENTIALS_REFUSED: About(
        name="The gateway refuses our credentials",
        harm=Harm.NOW,
        remedy="Mend `DYNMARK_USERNAME` and `DYNMARK_PASSWORD`, then restart the worker. All sending is held; one "
        "message probes from time to time, and all go out once it is taken.",
    ),
    Kind.GATEWAY_AMISS: About(
        name="Calls to the gateway fail",
        harm=Harm.NOW,
        remedy="Look at the network, a proxy or firewall, and the gateway's own status page. If it answers with a web "
        "page, see whether `DYNMARK_SOAP_URL` or `DYNMARK_REST_URL` is right. Messages wait, and go out "
        "once it answers.",
    ),
    Kind.ACCOUNT_REFUSED: About(
        name="The gateway refuses an account",
        harm=Harm.NOW,
        titles={"account": "The gateway refuses the account {account}"},
        remedy="Ask the gateway whether the account may still send by this `impersonateUserName`. Its messages wait; "
        "one of them probes from time to time.",
    ),
    Kind.CALLBACKS_REFUSED: About(
        name="Callbacks are refused",
        harm=Harm.NOW,
        basis=Basis.EVENTS,
        titles={
            "listed": "{count} refused for key {kid}, which is listed now",
            "kid": "{count} refused for key {kid}, which is not listed",
            "": "{count} refused for other keys that are not listed",
        },
        counted=("callback", "callbacks"),
        remedy="List the key in `CALLBACK_KEYS` again, with the secret that it had, and restart web: `python -m "
        "receiptsvc callback-keys` shows which are listed. Once it is mended, it harms no more, and leaves the list "
        f"within the hour. What was refused is lost unless the gateway repeats it.{_QUARANTINE}",
        remedies={
            "listed": "If more are refused, web was started with other `CALLBACK_KEYS` than the worker, or its secret "
            "was changed: put the old one back, list the new one under another id, and restart both. Else it is "
            f"mended, and leaves the list within the hour. What was refused is lost unless the gateway repeats it."
            f"{_QUARANTINE}"
        },
    ),
    Kind.NO_RECEIPTS: About(
        name="No receipt comes, although messages wait for theirs",
        harm=Harm.NOW,
        remedy='Go through "When receipts stop" in docs/operations.md: do callbacks arrive, are they refused, can the '
        "gateway reach us?",
    ),
    Kind.RECEIPTS_LATE: About(
        name="Receipts wait to be worked on",
        harm=Harm.NOW,
        remedy="See the worker's log. On PostgreSQL more workers share the work.",
    ),
    Kind.MESSAGES_LATE: About(
        name="Messages wait to be sent, though nothing holds them",
        harm=Harm.NOW,
        remedy="See the worker's log, and whether `SEND_CONCURRENCY` is too low for how slowly the gateway answers.",
    ),
    Kind.TIMEZONE_WRONG: About(
        name="The gateway's times are in another zone than DYNMARK_TIMEZONE says",
        harm=Harm.NOW,
        basis=Basis.EVENTS,
        remedy="Put `DYNMARK_TIMEZONE` right for web and worker, and restart both. Then have read again what came "
        "meanwhile: what was recorded or adopted by `python -m receiptsvc rebuild --apply`, what is parked by `python "
        "-m receiptsvc replay --outcome unmatched`, or by Retry in the parking lot.",
    ),
    Kind.ACCOUNT_SUSPECTED: About(
        name="The gateway may refuse an account",
        harm=Harm.WAITS,
        titles={
            "account": "The gateway may refuse the account {account}",
            "": "The gateway may refuse our credentials",
        },
        counted=("message", "messages"),
        remedy="The next message of the account shows it. If it stays so, read in a waiting message what the gateway "
        "answered.",
    ),
    Kind.SEND_UNKNOWN: About(
        name="It is not known whether messages were sent",
        harm=Harm.WAITS,
        basis=Basis.EVENTS,
        titles={"": "{count} may have been sent or not"},
        counted=("message", "messages"),
        remedy="Look each up in the gateway's portal and settle it. They are not offered again; a "
        "receipt settles one, too.",
    ),
    Kind.SENDING_PAUSED: About(
        name="Sending has been paused for long",
        harm=Harm.WAITS,
        remedy="Resume it if the reason is over: `python -m receiptsvc resume`. Messages wait, and expire where their "
        "`validUntil` goes by.",
    ),
    Kind.OVERDUE: About(
        name="Messages of a sender are overdue",
        harm=Harm.WAITS,
        basis=Basis.EVENTS,
        titles={
            "others": "{count} of other senders overdue",
            "originator": "{count} from {originator} overdue",
            "": "{count} from the account's own number overdue",
        },
        counted=("message", "messages"),
        remedy="If other senders have theirs, ask the gateway about this one: a route without receipts, or a sender "
        "that is filtered. If none has, see whether receipts have stopped.",
    ),
    Kind.UNMAPPED: About(
        name="Receipts have an unknown code",
        harm=Harm.WAITS,
        basis=Basis.ROWS,
        titles={
            "others": "{count} with other unknown codes",
            "code": "{count} with the unknown code {code}",
            "description": "{count} with the unknown description “{description}”",
            "": "{count} with neither code nor description",
        },
        remedy="Ask the gateway what it means. Name a code in `STATUS_MAP`, restart, and run `python -m receiptsvc "
        "rebuild --apply`; or dismiss them.",
    ),
    Kind.UNMATCHED: About(
        name="Receipts fit no message",
        harm=Harm.WAITS,
        basis=Basis.ROWS,
        titles={"": "{count} on {channel} unmatched"},
        remedy="Those of messages that another system sent are taken over after `ADOPT_AFTER_SECONDS`, if they name "
        "their number. Match the others by hand, retry them once their message is here, or dismiss them.",
    ),
    Kind.QUARANTINED: About(
        name="Receipts are quarantined",
        harm=Harm.WAITS,
        basis=Basis.ROWS,
        titles={
            "others": "{count} quarantined for other keys",
            "unclaimed": "{count} quarantined that claim no key",
            "kid": "{count} quarantined for key {kid}",
            "": "{count} on {channel} can't be read",
        },
        remedy="With a wrong key: list the key again, or match those that you know to be real, and dismiss the rest. "
        "What can't be read is kept as it came: retry it after an update that can.",
    ),
    Kind.DEAD: About(
        name="Work on receipts failed again and again",
        harm=Harm.WAITS,
        basis=Basis.ROWS,
        titles={"others": "Work on {count} failed for other reasons", "": "Work on {count} failed: {error}"},
        remedy="Mend what the worker's log says of `process.row_failed`, then retry them.",
    ),
    Kind.RECEIPTS_CROWD: About(
        name="The receipts of one sender, or replies, crowd the queue",
        harm=Harm.WAITS,
        remedy="A gateway in a loop, a callback URL in wrong hands, or an answer to many messages. They have a turn of "
        "their own, so the others get on.",
    ),
    Kind.CALLBACKS_MISROUTED: About(
        name="Callbacks come to processes that are for the API",
        harm=Harm.WAITS,
        basis=Basis.EVENTS,
        titles={"": "{count} kept by processes with WEB_ROLE=api"},
        counted=("callback", "callbacks"),
        remedy="Lead them to the processes with `WEB_ROLE=callbacks`: the proxy's rule for `/callbacks/`, `PUBLIC_URL` "
        "of the worker, the addresses in the gateway's portal. They are kept all the same. An hour after the last "
        "one this ends.",
    ),
    Kind.SPOOL_UNREADABLE: About(
        name="The spool can't be looked at",
        harm=Harm.WAITS,
        titles={"host": "The spool of {host} can't be looked at"},
        remedy="See the folder `SPOOL_DIR` and its rights.",
    ),
    Kind.SPOOL_ASIDE: About(
        name="Files of the spool need a person",
        harm=Harm.WAITS,
        titles={"": "{count} of the spool of {host} set aside"},
        counted=("file", "files"),
        remedy="Keep them: they hold callbacks. Renamed to `.spool`, a `.refused` file is tried again; in a `.torn` "
        "one no record could be read.",
    ),
    Kind.TIME_SLICE_MISSING: About(
        name="There is no time slice for next month's receipts",
        harm=Harm.WAITS,
        remedy="End the transaction that holds the table for hours (`pg_stat_activity`): a worker then makes the "
        "slice. Receipts are kept all the same.",
    ),
    Kind.CONNECTIONS_EXCEED: About(
        name="More connections may be opened than the database allows",
        harm=Harm.WAITS,
        remedy="Lower `DATABASE_CONNECTIONS`, or raise the limit of the role or server.",
    ),
    Kind.WORKER_CLOCK: About(
        name="A worker's clock is wrong",
        harm=Harm.WAITS,
        titles={"host": "The clock of the worker on {host} is wrong"},
        remedy="Set that machine's clock right. What is due goes by the database's clock meanwhile.",
    ),
    Kind.WEB_CLOCK: About(
        name="A web process's clock is wrong",
        harm=Harm.WAITS,
        titles={"host": "The clock of the web process on {host} is wrong"},
        remedy="Set that machine's clock right: times of receipt are read from it.",
    ),
}

_STOPS = frozenset({Kind.CALLBACKS_REFUSED})  # of those that harm now: each harms once, as it happens
_CHANNELS = {
    Channel.MESSAGE.value: "signed URLs",
    Channel.ACCOUNT.value: "the static URL",
    Channel.INBOUND.value: "the replies' URL",
}
_RANKS = {kind: number for number, kind in enumerate(Kind)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A problem as a look sees it. `first_at`, `last_at`: of its rows or events; of a condition, since when, and now.

    `count`: of its rows, at most MAX_COUNTED; None: it has none. `is_all`: whether these are all of them. `newest_id`:
    of its newest row.
    """

    kind: Kind
    first_at: datetime
    last_at: datetime
    cause: Cause = field(default_factory=dict)
    detail: str | None = None
    count: int | None = None
    is_all: bool = True
    newest_id: UUID | None = None

    @property
    def id(self) -> UUID:
        """The problem's id: always the same for this kind and cause."""
        return id_of(self.kind, self.cause)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What is known of a problem that was resolved `at` a time: what was there then, of its rows.

    `has_ended`: it was seen no more since, or ended by itself.
    """

    at: datetime
    has_ended: bool
    count: int | None = None
    is_all: bool = True
    newest_id: UUID | None = None


class _Named(dict[str, str]):
    """What a title names. Another release may have kept a cause without it."""

    def __missing__(self, name: str) -> str:
        return "?"


def id_of(kind: Kind, cause: Cause) -> UUID:
    """The id of the problem of this kind and cause. It tells neither."""
    text = json.dumps([kind.value, dict(cause)], sort_keys=True)
    return UUID(bytes=blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def rank(kind: Kind, harm: Harm) -> tuple[bool, int]:
    """By which problems are listed: what harms now first."""
    return harm is not Harm.NOW, _RANKS[kind]


def has_stopped(kind: Kind, last_at: datetime, now: datetime) -> bool:
    """Whether what a problem is about has happened no more for a while. It is kept in mind for longer than that."""
    return kind in _STOPS and now - last_at >= _STOPPED_AFTER


def harm_of(kind: Kind, last_at: datetime, now: datetime) -> Harm:
    """What a problem does meanwhile, of which the last was seen at a time."""
    return Harm.WAITS if has_stopped(kind, last_at, now) else KINDS[kind].harm


def title(kind: Kind, cause: Cause, count: int | None, *, is_all: bool) -> str:
    """The problem in words. They may quote others, as a cause does."""
    about = KINDS[kind]
    words = next((text for name, text in about.titles.items() if not name or name in cause), about.name)
    named = _Named({name: _shown(value) for name, value in cause.items()})
    named["channel"] = _CHANNELS.get(cause.get("channel", ""), "?")
    named["count"] = _count(about, count, is_all=is_all)
    text = words.format_map(named)
    return f"{text[:1].upper()}{text[1:]}"


def remedy(kind: Kind, cause: Cause) -> str:
    """What to do about a problem of this kind and cause."""
    about = KINDS[kind]
    return next((text for name, text in about.remedies.items() if name in cause), about.remedy)


def comes_back(seen: Seen, known: Resolved, looked_at: datetime) -> bool:
    """Whether a problem that was resolved is open again, as it is seen.

    More rows than there were show it too, whatever their age: an old message becomes overdue, an old receipt fails.
    """
    if known.has_ended:
        return True
    basis = KINDS[seen.kind].basis
    if basis is Basis.CONDITION:
        return looked_at > known.at + _STANDS
    if _has_grown(seen, known):
        return True
    if basis is Basis.ROWS:
        return seen.newest_id is not None and (known.newest_id is None or seen.newest_id > known.newest_id)
    return seen.last_at > known.at


def is_over(missed_at: datetime, looked_at: datetime) -> bool:
    """Whether what was missed first at `missed_at`, and in each look since, is gone: some are away for a moment."""
    return looked_at - missed_at >= _MISSED_FOR


def refuse(state: State, to: State, by: str | None) -> str | None:
    """Why a problem can't be made what it is to be; None: it can. `by`: who made it what it is; None: the service."""
    if state is to:
        return f"It is {state} already{f', by {by}' if by is not None and to is not State.OPEN else ''}."
    if state is State.RESOLVED and to is State.ACKNOWLEDGED:
        return f"It is resolved{f' by {by}' if by is not None else ''}: reopen it first."
    return None


def _has_grown(seen: Seen, known: Resolved) -> bool:
    """Whether there are more rows. Of some only, it is not known."""
    is_known = seen.is_all and known.is_all and seen.count is not None and known.count is not None
    return is_known and (seen.count or 0) > (known.count or 0)


def _count(about: About, count: int | None, *, is_all: bool) -> str:
    one, several = about.counted
    number = count or 0
    if is_all and number < 1000:
        return agree(number, one, several)
    return f"{number:,}{'' if is_all else ' or more'} {several}"


def _shown(value: str) -> str:
    return value if len(value) <= _MAX_SHOWN else f"{value[: _MAX_SHOWN - 1]}…"
