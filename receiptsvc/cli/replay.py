"""`replay`: makes unmatched, quarantined or dead receipts pending again. The worker then processes them."""

import json
from datetime import UTC, datetime

import click

from receiptsvc import bulk_actions
from receiptsvc.cli.terminal import databases, display
from receiptsvc.cli.terminal.options import Word, json_option, reason_option, since_option, until_option
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import database_faults
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.inbox import receipts


@click.command()
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=Word([outcome.value for outcome in receipts.RETRIABLE]),
    help="Only those of this outcome. May be given several times; without it: of all three.",
)
@since_option("Received")
@until_option("Received")
@click.option("--all", "is_all", is_flag=True, help="Every one: needed without --outcome, --since and --until.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only count them.")
@reason_option
@json_option
def replay(
    *,
    outcomes: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    is_all: bool,
    is_dry_run: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Process receipts again that are unmatched, quarantined or dead.

    They become pending, some hundreds in each transaction, and the worker processes them. It may run beside the
    service; if it is stopped, what it has done stays done.
    """
    if not (outcomes or since or until or is_all or is_dry_run):
        raise click.UsageError("say which are meant: --outcome, --since or --until; or --all")
    meant = sorted({ReceiptOutcome(outcome) for outcome in outcomes}) or receipts.RETRIABLE
    where = receipts.ReceiptFilter(outcomes=meant, since=since, until=until)
    actor = Actor(actor="command line", reason=reason)
    settings = Settings.from_env()
    with databases.opened(settings, is_written=True) as database:
        count, rest = bulk_actions.replay(database, where, actor, _now, is_dry_run=is_dry_run)
        while rest is not None:
            more, rest = bulk_actions.replay(database, where, actor, _now, after=rest, is_dry_run=is_dry_run)
            count += more
    if as_json:
        click.echo(json.dumps({"count": count, "dryRun": is_dry_run, "isComplete": True}))
    else:
        done, name = "would be" if is_dry_run else "became", database_faults.describe(settings.database_url)
        click.echo(f"{display.count(count, 'receipt')} {done} pending in {name}")


def _now() -> datetime:
    return datetime.now(UTC)
