"""What the commands have in common: options with the same words everywhere, and how their values are read."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Any], Any]

DEFAULT_LIMIT = 50

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAYS_AGO = {"today": 0, "yesterday": 1}


def with_all(options: Sequence[Decorator]) -> Decorator:
    """A decorator that adds all options; the command's help lists them in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as filters of the API: their parameters have the API's names."""
    return {
        name: write_time(value) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }


def write_time(time: datetime) -> str:
    """A time as the API takes it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Word(click.Choice[str]):
    """One of some words. The error of any other names the nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        message = super().get_invalid_choice_message(value, ctx)
        nearest = get_close_matches(str(value).lower(), [choice.lower() for choice in self.choices], n=1)
        return f"{message} Did you mean {nearest[0]!r}?" if nearest else message


class Words(Word):
    """One or several of some words, with commas between them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        convert = super().convert
        return ",".join(convert(each.strip(), param, ctx) for each in str(value).split(","))


class Time(click.ParamType[datetime]):
    """A time with its offset; a day, which begins at midnight UTC; `today`, `yesterday`; or how long ago, as `2h`."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        time = _read_time(str(value).strip())
        if time is None:
            self.fail(
                "must be a time with its offset, such as 2026-01-31T09:30:00Z, a day such as 2026-01-31, today, "
                "yesterday, or how long ago, such as 2h",
                param,
                ctx,
            )
        return time


class Duration(click.ParamType[int]):
    """A number of seconds, or a duration such as `90m`. Gives seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        seconds = int(text) if re.fullmatch("[0-9]{1,9}", text) else _read_duration(text)
        if seconds is None:
            self.fail("must be a number of seconds, or a duration such as 90m, 6h or 2d", param, ctx)
        return seconds


def _read_time(text: str) -> datetime | None:
    now = datetime.now(UTC)
    if text in _DAYS_AGO:
        return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=_DAYS_AGO[text])
    seconds = _read_duration(text)
    try:
        if seconds is not None:
            return now - timedelta(seconds=seconds)
        time = datetime.fromisoformat(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _read_duration(text: str) -> int | None:
    """The seconds of a duration such as `90m`."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _SECONDS[match[2]] if match else None


json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
client_ref_option = click.option("--client-ref", "clientRef", help="Of this clientRef.")
client_ref_prefix_option = click.option(
    "--client-ref-prefix", "clientRefPrefix", metavar="TEXT", help="Whose clientRef begins so."
)
transaction_option = click.option(
    "--transaction-id", "transactionID", metavar="DIGITS", help="Ever given this transactionID."
)
to_ends_option = click.option("--to-ends", "recipientEnds", metavar="DIGITS", help="To numbers that end so.")
reason_option = click.option("--reason", help="Why; it is kept with the record of this.")
needed_reason_option = click.option("--reason", required=True, help="Why; it is kept with the record of this.")
limit_option = click.option(
    "--limit",
    default=DEFAULT_LIMIT,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Show at most so many, the newest.",
)


def words_option(flag: str, name: str, words: Sequence[str], help_text: str) -> Decorator:
    """An option that takes some of these words and may be repeated; the command gets them as the API takes them."""

    def join(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> str | None:
        return ",".join(value) or None

    return click.option(
        flag,
        name,
        multiple=True,
        type=Words(words),
        callback=join,
        help=f"{help_text} Several with commas between them; may be repeated.",
    )


def since_option(what: str) -> Decorator:
    """`--since`, for what was accepted, received or changed from then on."""
    help_text = f"{what} at this time or later: 2026-01-31T09:30:00Z, 2026-01-31, yesterday, or 2h (ago)."
    return click.option("--since", type=Time(), metavar="TIME", help=help_text)


def until_option(what: str) -> Decorator:
    """`--until`, for what was accepted, received or changed before then."""
    return click.option("--until", type=Time(), metavar="TIME", help=f"{what} before this time.")


def to_option(name: str, help_text: str) -> Decorator:
    """`--to`: a recipient's number."""
    return click.option("--to", name, metavar="NUMBER", help=help_text)


def from_option(help_text: str) -> Decorator:
    """`--from`: the sender that is shown with a message."""
    return click.option("--from", "--originator", "originator", help=help_text)
