"""How single values look on every page: numbers, times, statuses. Templates use these as filters."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from flask import Blueprint
from markupsafe import Markup

from receiptsvc import ids
from receiptsvc.domain import meanings, numbers, sentences, waiting
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Status
from receiptsvc.domain.times import describe_delay, describe_duration
from receiptsvc.store.core.models import Message
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
# Of a receipt: its shape, and the status in whose colour it is.
OUTCOME_SHAPES = {
    ReceiptOutcome.PENDING: ("○", "submitted"),
    ReceiptOutcome.APPLIED: ("✓", "delivered"),
    ReceiptOutcome.DUPLICATE: ("=", "sent"),
    ReceiptOutcome.STALE: ("↓", "sent"),
    ReceiptOutcome.CONFLICTING: ("≠", "send_unknown"),
    ReceiptOutcome.UNMAPPED: ("?", "send_unknown"),
    ReceiptOutcome.UNMATCHED: ("◌", "send_unknown"),
    ReceiptOutcome.QUARANTINED: ("!", "failed"),
    ReceiptOutcome.DEAD: ("✗", "failed"),
    ReceiptOutcome.DISMISSED: ("⊖", "cancelled"),
}
_SHOWN = "%d %b %Y %H:%M:%S UTC"
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)")  # as `domain.times.write_time` has them


def register(blueprint: Blueprint, *, is_revealed: Callable[[], bool]) -> None:
    """Give the templates these filters. `is_revealed`: whether the current page shows numbers whole."""

    def number(text: str | None) -> str:
        return "" if text is None else numbers.write(text) if is_revealed() else numbers.mask(text)

    def ending(text: str | None) -> str:
        return "" if text is None else text if is_revealed() else numbers.mask_ending(text)

    def free(text: str | None) -> str:
        return "" if text is None else text if is_revealed() else numbers.hide_all(text)

    def told(sentence: str) -> Markup:
        """A sentence of our own that may quote others: its times as `when` has them, the rest as `free` has it."""
        return timed(sentence, free)

    filters: dict[str, Callable[..., str]] = {
        "number": number,
        "ending": ending,
        "free": free,
        "told": told,
        "timed": timed,
        "when": when,
        "status": status,
        "outcome": outcome,
        "age": age,
        "agree": sentences.agree,
        "delay": describe_delay,
        "sentence": sentence,
    }
    for name, write in filters.items():
        blueprint.add_app_template_filter(write, name)
    for use, word in ((ids.public, "public_id"), (scheduled_at, "scheduled_at"), (is_coming, "is_coming")):
        blueprint.add_app_template_global(use, word)


def timed(sentence: str, write_rest: Callable[[str], str] = str) -> Markup:
    """A sentence of our own: its times as `when` has them. What it quotes of others may only look like a time."""

    def write_time(text: str) -> str:
        try:
            return when(datetime.fromisoformat(text))
        except ValueError:
            return write_rest(text)

    parts = _TIME.split(sentence)
    return Markup("").join(write_time(part) if index % 2 else write_rest(part) for index, part in enumerate(parts))


def when(time: datetime | None) -> Markup:
    """A time as all pages have it: in the reader's zone where there is script, else UTC. The exact one stands in it."""
    if time is None:
        return Markup("")
    utc = time.astimezone(UTC)
    exact = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = utc.strftime(_SHOWN)
    title = f"{exact[:10]} {exact[11:-1]} UTC"
    return Markup(f'<time datetime="{exact}" title="{title}">{shown}</time>')  # noqa: S704 - all is ours


@cache
def status(word: str) -> Markup:
    """A status, told apart by shape as by colour, with what it means."""
    return _badge(word.replace("_", " "), SHAPES[Status(word)], word, meanings.STATUSES[Status(word)].means)


def outcome(word: str) -> Markup:
    """What became of a receipt, told apart by shape as by colour, with what that means."""
    shape, colour = OUTCOME_SHAPES[ReceiptOutcome(word)]
    return _badge(word, shape, colour, meanings.OUTCOMES[ReceiptOutcome(word)].means)


def sentence(text: str) -> str:
    """Words of ours as a sentence on a page, where no code is marked."""
    plain = text.replace("`", "")
    return sentences.end(f"{plain[:1].upper()}{plain[1:]}")


def age(time: datetime | None) -> str:
    """How long ago a time was, such as `4 min`."""
    return "" if time is None else describe_duration((context.now() - time).total_seconds())


def scheduled_at(message: Message) -> datetime | None:
    """When a message is to go out later, here or at the gateway; None: it is not scheduled any more."""
    return waiting.find_scheduled_at(Status(message.status), deliver_after=message.deliver_after, now=context.now())


def is_coming(time: datetime | None) -> bool:
    """Whether a time is still to come."""
    return time is not None and time > context.now()


def _badge(word: str, shape: str, colour: str, means: str) -> Markup:
    return Markup(
        '<span class="status status-{}" title="{}"><span aria-hidden="true">{}</span> {}'
        '<span class="unseen">: {}</span></span>'
    ).format(colour, means, shape, word, means)
