"""How single values look on every page: numbers, times, statuses. Templates use these as filters."""

from collections.abc import Callable
from datetime import UTC, datetime

from flask import Blueprint
from markupsafe import Markup

from receiptsvc.domain import meanings, numbers
from receiptsvc.domain.statuses import Status
from receiptsvc.domain.times import describe_duration
from receiptsvc.web.http import context

# A shape for each status, so that nobody needs the colours.
SHAPES = {
    Status.ACCEPTED: "○",
    Status.SEND_UNKNOWN: "?",
    Status.SUBMITTED: "◔",
    Status.SENT: "◑",
    Status.DELIVERED: "✓",
    Status.UNDELIVERED: "✗",
    Status.EXPIRED: "◷",
    Status.REJECTED: "⊘",
    Status.FAILED: "!",
    Status.CANCELLED: "⊖",
}


def register(blueprint: Blueprint, *, is_revealed: Callable[[], bool]) -> None:
    """Give the templates these filters. `is_revealed`: whether the current page shows numbers whole."""

    def number(text: str | None) -> str:
        return "" if text is None else text if is_revealed() else numbers.mask(text)

    filters: dict[str, Callable[..., str]] = {"number": number, "when": when, "status": status, "age": age}
    for name, write in filters.items():
        blueprint.add_app_template_filter(write, name)


def when(time: datetime | None) -> Markup:
    """A time: in the reader's zone where there is script, else UTC; the exact one stands in it."""
    if time is None:
        return Markup("")
    utc = time.astimezone(UTC)
    exact = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        exact,
        utc.strftime("%Y-%m-%d %H:%M:%S.") + f"{utc.microsecond // 1000:03}",
        utc.strftime("%d %b %Y %H:%M:%S UTC"),
    )


def status(word: str) -> Markup:
    """A status, told apart by shape as by colour, with what it means."""
    means = meanings.STATUSES[Status(word)].means
    return Markup(
        '<span class="status status-{}" title="{}"><span aria-hidden="true">{}</span> {}'
        '<span class="unseen">: {}</span></span>'
    ).format(word, means, SHAPES[Status(word)], word.replace("_", " "), means)


def age(time: datetime | None) -> str:
    """How long ago a time was, such as `4 min`."""
    return "" if time is None else describe_duration((context.now() - time).total_seconds())
