"""`urls`, `callback-keys`, `verify`, `replay`: on settings and database alone, without a running service."""

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime

import click

from receiptsvc import tokens
from receiptsvc.cli.terminal import databases, display
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.health import verification
from receiptsvc.store.inbox import receipts, rejected


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def urls(*, as_json: bool) -> None:
    """Print the gateway portal's addresses.

    They go into the gateway's portal once, and they hold secrets. The last part of the receipts' address also opens
    /callbacks/receipts, as ?key= or as the password of HTTP Basic.
    """
    static = tokens.static_urls(Settings.from_env())
    if as_json:
        click.echo(json.dumps(asdict(static), indent=2))
        return
    click.echo(f"receipts  {static.receipts}")
    click.echo(f"replies   {static.inbound}")
    click.echo("Whoever knows these addresses can report receipts and replies: keep them secret.", err=True)


@click.command(name="callback-keys")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def callback_keys(*, as_json: bool) -> None:
    """Show the keys of callback URLs, and what came with others.

    By their kids: the secrets stay where they are. A kid that was refused and is not listed was taken away too early:
    messages that it signed are still on their way. List it again, behind the first.
    """
    settings = Settings.from_env()
    with databases.opened(settings) as database, database.reading() as session:
        refused = rejected.count_by_kid(session)
    listed = [key.kid for key in settings.callback_keys]
    if as_json:
        seen = [{"kid": one.kid, "callbacks": one.callbacks, "lastAt": one.last_at.isoformat()} for one in refused]
        click.echo(json.dumps({"listed": listed, "refused": seen}, indent=2))
        return
    for place, kid in enumerate(listed):
        click.echo(f"{kid:<10}{'signs and verifies' if place == 0 else 'verifies'}")
    for one in refused:
        what = "not listed"
        if one.kid is None or one.kid in listed:
            what = "not of our form" if one.kid is None else "its secret is another"
        came = f"{display.count(one.callbacks, 'callback')}, last {one.last_at:%Y-%m-%d %H:%M:%SZ}"
        click.echo(f"{one.kid or '-':<10}refused {came}: {what}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.pass_context
def verify(ctx: click.Context, *, as_json: bool) -> None:
    """Prove that statuses, outcomes and counters add up.

    Derives again what was derived from the kept receipts, counts again what was counted, and names each difference.
    It may run beside the service. Exit code 1 if there is any fault.
    """
    tally: Counter[str] = Counter()
    faults: list[verification.Fault] = []
    with databases.opened(Settings.from_env()) as database:
        for fault in verification.verify(database, tally=tally):
            faults.append(fault)
            if not as_json:
                click.echo(f"{fault.what}, {fault.where}: expected {fault.expected}, found {fault.found}")
    if as_json:
        click.echo(json.dumps({"checked": tally, "faults": [asdict(fault) for fault in faults]}, indent=2))
    else:
        checked = ", ".join(f"{kind} {count}" for kind, count in tally.items())
        click.echo(f"{display.count(len(faults), 'fault')} ({checked})")
    ctx.exit(1 if faults else 0)


def _read_moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise click.BadParameter("must be a time with its offset, such as 2026-01-31T09:30:00Z")


@click.command()
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice([outcome.value for outcome in receipts.RETRIABLE]),
    help="Only those of this outcome. May be given several times; without it: all three.",
)
@click.option("--since", metavar="TIME", callback=_read_moment, help="Received at this time or later.")
@click.option("--until", metavar="TIME", callback=_read_moment, help="Received before this time.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only count them.")
@click.option("--reason", help="Why; it is kept with the record of this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def replay(
    *,
    outcomes: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    is_dry_run: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Have receipts worked on again that are unmatched, quarantined or dead.

    They become pending some hundred at a time, each time for good, and the worker takes them up. It may run beside the
    service.
    """
    which = receipts.ReplaySelection(
        outcomes=sorted({ReceiptOutcome(word) for word in outcomes}) or receipts.RETRIABLE, since=since, until=until
    )
    by = Actor(actor="command line", reason=reason)
    count = 0
    with databases.opened(Settings.from_env(), is_written=True) as database:
        done = receipts.replay(database, which, by, _now, is_dry_run=is_dry_run)
        count += done.count
        while done.next is not None:
            done = receipts.replay(database, which, by, _now, after=done.next, is_dry_run=is_dry_run)
            count += done.count
    if as_json:
        click.echo(json.dumps({"count": count, "dryRun": is_dry_run, "isComplete": True}))
    else:
        click.echo(f"{display.count(count, 'receipt')} {'would be' if is_dry_run else 'became'} pending")


def _now() -> datetime:
    return datetime.now(UTC)
