"""The sandbox's options and their validation.

Callers get the values from flags, JSON or a test; none of that is read here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import isfinite
from typing import Any

from receiptsvc.sandbox import behaviour, rest

CHOICES: Mapping[str, tuple[str, ...]] = {
    "logon_style": ("code", "fault", "forbidden", "http"),
    "callback_element": ("any", "deliveryStatusUrl", "deliveryStatusURL"),
    "duplicate_answer": ("first", "new", "none", "code"),
    "rest_validity": rest.VALIDITY_SPELLINGS,
}
MAX_SECONDS = 86_400  # of an option
_FIXED = frozenset({"host", "port", "senders", "keep_messages"})  # cannot change while it runs
_OPTIONAL = frozenset({"username", "password", "reply_url", "guid_memory_seconds"})
_URL = re.compile(r"https?://[^\s/?#@]+(/\S*)?")


class BadOptions(ValueError):
    """Options that can't be. `faults`: the name of each → what it must be."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{name}: must be {demand}" for name, demand in faults.items()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Durations are in seconds. Raises ValueError with every fault at once, one a line."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    username: str | None = None  # None: any name is accepted
    password: str | None = field(default=None, repr=False)
    logon_style: str = "code"  # the answer to wrong credentials; REST answers 401 for http, else 202
    callback_element: str = "any"  # which spelling of deliveryStatusUrl is understood by SOAP
    rest_validity: str = rest.VALIDITY_SPELLINGS[0]  # which spelling of validUntil is understood by REST
    duplicate_answer: str = "first"
    guid_memory_seconds: float | None = None  # None: for ever
    transaction_start: int = 70_000_001
    msgid_start: int = 1
    transaction_per_recipient: bool = False
    default: tuple[str, ...] = ()  # behaviours of every message
    chances: Mapping[str, float] = field(default_factory=dict)  # behaviour → probability
    numbers: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # whole number → behaviours, instead of those of its last digits
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # whole text → behaviours
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # impersonateUserName ("": none) → behaviours
    by_number: bool = True  # whether the last digits of a number mean anything
    seed: int = 1
    answer_seconds: float = 0  # before each answer
    slow_seconds: float = 3
    drip_seconds: float = 0.05  # between two bytes
    huge_bytes: int = 100_000_000
    delay_seconds: float = 0.03  # before each receipt
    spread_seconds: float = 0.02  # at most this much more, at random
    late_seconds: float = 2
    callback_limit_seconds: float = 10  # documented: 200 within 10 seconds is what "accepted" means
    retries: int = 0
    retry_gap_seconds: float = 0.2
    reply_url: str | None = None
    senders: int = 32  # callbacks at the same time
    keep_messages: int = 100_000  # how many of the newest are shown; messageGuids are remembered separately

    def __post_init__(self) -> None:
        faults = {
            option.name: _RULES[option.name][1]
            for option in fields(self)
            if not (option.name in _OPTIONAL and getattr(self, option.name) is None)
            and not _RULES[option.name][0](getattr(self, option.name))
        }
        if faults:
            raise BadOptions(faults)


def apply_changes(options: Options, changes: Mapping[str, object]) -> Options:
    """`options` with `changes` from JSON, by the names of Options. Raises ValueError that names every fault."""
    known = {option.name for option in fields(Options)} - _FIXED
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise ValueError(
            "\n".join(f"{name[:40]}: no such option; there are {', '.join(sorted(known))}" for name in unknown)
        )
    values: dict[str, Any] = dict(changes)
    if "default" in values:
        values["default"] = _parse_names(values["default"])
    for name in ("numbers", "texts", "accounts"):
        if isinstance(values.get(name), dict):
            values[name] = {key: _parse_names(names) for key, names in values[name].items()}
    return replace(options, **values)


def _parse_names(value: object) -> object:
    """Names of behaviours in JSON (one, a list, null for none) as a tuple; anything else unchanged, to be refused."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_url(value: object) -> bool:
    return isinstance(value, str) and _URL.fullmatch(value) is not None


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_choice(words: tuple[str, ...], value: object) -> bool:
    return value in words


def _is_integer(minimum: int, maximum: int, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum


def _is_number(maximum: float, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and 0 <= value <= maximum


def _are_names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) and name in behaviour.TABLE for name in value)


def _are_chances(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _are_names((name,)) and _is_number(1, chance) for name, chance in value.items()
    )


def _is_name_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_are_names, value.values()))


_Rule = tuple[Callable[[object], bool], str]  # a check, and what it demands
_RANGES: Mapping[str, tuple[int, int]] = {
    "port": (0, 65_535),
    "transaction_start": (1, 2**40),
    "msgid_start": (1, 2**40),
    "seed": (0, 2**40),
    "huge_bytes": (0, 2**40),
    "retries": (0, 100),
    "senders": (1, 512),
    "keep_messages": (1, 2**40),
}
_RULES: Mapping[str, _Rule] = {
    **{name: (partial(_is_choice, words), f"one of {', '.join(words)}") for name, words in CHOICES.items()},
    **{
        name: (partial(_is_integer, minimum, maximum), f"a whole number from {minimum} to {maximum}")
        for name, (minimum, maximum) in _RANGES.items()
    },
    **{
        option.name: (partial(_is_number, MAX_SECONDS), f"a number of seconds from 0 to {MAX_SECONDS}")
        for option in fields(Options)
        if option.name.endswith("_seconds")
    },
    **dict.fromkeys(("host", "username", "password"), (_is_text, "a text that is not empty")),
    **dict.fromkeys(("transaction_per_recipient", "by_number"), (_is_flag, "true or false")),
    "reply_url": (_is_url, "an http:// or https:// address"),
    "default": (_are_names, "names of behaviours"),
    "chances": (_are_chances, "behaviours, each with its probability from 0 to 1"),
    "numbers": (_is_name_map, "recipients' numbers, each with names of behaviours"),
    "texts": (_is_name_map, "texts, each with names of behaviours"),
    "accounts": (_is_name_map, "impersonateUserNames, each with names of behaviours"),
}
