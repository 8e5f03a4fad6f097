"""`rebuild`: what today's reading makes of the receipts that were kept, as a difference first."""

import json
from collections import Counter
from datetime import UTC, datetime

import click

from receiptsvc.cli.terminal import databases, display
from receiptsvc.config import Settings
from receiptsvc.dynmark import status_map
from receiptsvc.worker import reprocess as reading_again
from receiptsvc.worker.activity_repair import repair_activity
from receiptsvc.worker.process import ReceiptRules


@click.command()
@click.option("--apply", "is_applied", is_flag=True, help="Put right what is read otherwise today.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def rebuild(*, is_applied: bool, as_json: bool) -> None:
    """Read all receipts again, and show what is read otherwise today.

    After STATUS_MAP has learnt a code, or the reader a form. With --apply a new transition takes the place of each old
    one, which stays visible. It may run beside the service, be stopped at any point, and be begun again.

    It also looks whether the activity of each conversation is noted: that of what came while one release replaced
    another may not be.
    """
    settings = Settings.from_env()
    now = datetime.now(UTC)
    rules = ReceiptRules(status_map=status_map.load(settings.status_map), zone=settings.timezone)
    counts: Counter[tuple[str, str, str, str]] = Counter()
    with databases.opened(settings, is_written=True) as database:
        with display.progress("receipts read", is_shown=not as_json) as advance:
            for one in reading_again.reprocess(database, rules, now, is_applied=is_applied, on_progress=advance):
                said = (one.provider_status_id or "-", one.provider_description or "-")
                counts[*said, one.was or "unmapped", one.now or "unmapped"] += 1
        recalled = len(set(repair_activity(database, is_applied=is_applied)))
    names = ("statusId", "description", "was", "now")
    if as_json:
        told = [{**dict(zip(names, key, strict=True)), "receipts": count} for key, count in counts.most_common()]
        click.echo(json.dumps({"applied": is_applied, "differences": told, "conversations": recalled}, indent=2))
        return
    for (status_id, description, was, is_now), count in counts.most_common():
        click.echo(f"{display.count(count, 'receipt')} with statusid {status_id}, {description!r}: {was} → {is_now}")
    if recalled:
        click.echo(f"activity of {display.count(recalled, 'conversation')}")
    total = display.count(counts.total(), "receipt")
    click.echo(f"{total} {'put right' if is_applied else 'would change; --apply puts them right'}")
