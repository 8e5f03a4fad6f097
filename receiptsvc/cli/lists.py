"""`inbound`, `overdue` and `stats`: lists and counts of the service, over the API."""

from collections.abc import Callable
from functools import partial

import click
from rich.console import Console

from receiptsvc.cli.terminal import display, figures, findings, national, tables
from receiptsvc.cli.terminal.answers import api_errors_shown, newest, print_json
from receiptsvc.cli.terminal.options import (
    Duration,
    Word,
    from_option,
    json_option,
    limit_option,
    since_option,
    to_option,
    until_option,
    without_none,
    words_option,
)
from receiptsvc.client import Client, Json
from receiptsvc.domain.statuses import Status
from receiptsvc.domain.waiting import OVERDUE_AFTER

_PERIODS = ("hour", "day")
_GROUPS = {
    "sender": "originator",
    "country": "country",
    "prefix": "prefix",
    "code": "providerStatusId",
    "reason": "reason",
}
_BY = (*_PERIODS, "recipient", *_GROUPS)


@click.command(short_help="What did people write back? Who opted out?")
@click.option("--from", "--sender", "sender", metavar="NUMBER", help="Written by this number, in any usual writing.")
@to_option("recipient", "Sent to this number, in any usual writing.")
@click.option("--client-ref", "clientRef", help="In the conversation of this clientRef.")
@click.option("--opt-outs", "is_opt_out", is_flag=True, help="Only opt-outs, such as STOP.")
@since_option("Received")
@until_option("Received")
@limit_option
@json_option
def inbound(*, is_opt_out: bool, limit: int, as_json: bool, **filter_options: object) -> None:
    """What did people write back? Replies that fit every option, the newest first, opt-outs marked.

    \b
      python -m receiptsvc inbound --since yesterday
      python -m receiptsvc inbound --opt-outs
    """
    filters = without_none({**filter_options, "isOptOut": "true" if is_opt_out else None})
    client = Client.from_env()
    with api_errors_shown():
        replies, is_complete = newest(client.replies(**filters), limit)
    written = national.describe(client, filters.get("sender"), filters.get("recipient"))
    if written:
        click.echo(written, err=True)
    if as_json:
        print_json({"items": replies, "isComplete": is_complete})
        return
    out = display.console()
    opt_outs = sum(1 for reply in replies if reply.get("isOptOut"))
    marked = f", {display.count(opt_outs, 'opt-out')} among them" if opt_outs else ""
    tables.say(out, f"{display.describe_length(len(replies), 'reply', 'replies', is_complete=is_complete)}{marked}.")
    findings.print_replies(out, replies)


@click.command(short_help="What should have ended, and has not?")
@click.option(
    "--older-than",
    "older_than",
    type=Duration(),
    default=int(OVERDUE_AFTER.total_seconds()),
    show_default="1h",
    metavar="DURATION",
    help="How long a message may wait for its final report: seconds, or such as 90m, 6h, 2d.",
)
@json_option
@click.pass_context
def overdue(ctx: click.Context, *, older_than: int, as_json: bool) -> None:
    """What should have ended, and has not? Messages without a final report, by status and age.

    Exit code 1 if there are any.

    \b
      python -m receiptsvc overdue --older-than 6h
    """
    with api_errors_shown():
        answer = Client.from_env().overdue(older_than)
    if as_json:
        print_json(answer)
    else:
        figures.print_overdue(display.console(), answer)
    ctx.exit(1 if figures.count_overdue(answer) else 0)


@click.command(short_help="How many, and how fast? Which numbers failed most?")
@since_option("Accepted")
@until_option("Accepted")
@click.option("--by", type=Word(_BY), default="hour", show_default=True, help="What each line counts.")
@from_option("Only messages of this sender, exactly as it was given. Not by country, prefix, code or reason.")
@words_option(
    "--status",
    "status",
    [status.value for status in Status],
    "Count only messages of this status. Not by country, prefix, code or reason.",
)
@click.option("--limit", type=click.IntRange(1, 500), help="At most so many lines, the greatest. Not by hour or day.")
@json_option
def stats(*, by: str, as_json: bool, **filter_options: object) -> None:
    """How many, and how fast? Messages by status, delivery rate and times, by hour or day.

    Without --since the last day, or by day the last 30 days. Hours and days are UTC and whole. By recipient: which
    numbers failed most. By sender and country: final messages; by prefix: failed ones; by code: receipts with each
    code of the gateway; by reason: why messages failed.

    \b
      python -m receiptsvc stats --by day --since 30d
      python -m receiptsvc stats --by recipient --since yesterday --until today
      python -m receiptsvc stats --by country
    """
    filters = without_none(filter_options)
    ask, show, refused = _ways_to_count(by)
    wrong = sorted(filters.keys() & refused)
    if wrong:
        flag = "--from" if wrong[0] == "originator" else f"--{wrong[0]}"
        fitting = ", ".join(each for each in _BY if wrong[0] not in _ways_to_count(each)[2])
        raise click.UsageError(f"{flag} does not go with --by {by}; it goes with --by {fitting}.")
    with api_errors_shown():
        answer = ask(Client.from_env(), **{name: str(value) for name, value in filters.items()})
    if as_json:
        print_json(answer)
    else:
        show(display.console(), answer)


def _ways_to_count(by: str) -> tuple[Callable[..., Json], Callable[[Console, Json], None], set[str]]:
    """The client's call for this `--by`, what prints its answer, and the options that it does not take."""
    if by in _PERIODS:
        return partial(Client.statistics, by=by), figures.print_statistics, {"limit"}
    if by == "recipient":
        return Client.failures, figures.print_failures, set()
    return partial(Client.breakdown, by=_GROUPS[by]), figures.print_breakdown, {"originator", "status"}
