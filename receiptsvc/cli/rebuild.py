"""`rebuild`: reads all kept receipts again with today's status map, and shows or applies the differences.

The work is in `worker.reprocess` and `worker.activity_repair`.
"""

import json
from collections import Counter
from datetime import UTC, datetime

import click

from receiptsvc.cli.terminal import databases, display
from receiptsvc.config import Settings
from receiptsvc.dynmark.registry import open_reader
from receiptsvc.worker import reprocess
from receiptsvc.worker.activity_repair import repair_activity
from receiptsvc.worker.receipt_processor import ReceiptRules


@click.command()
@click.option("--apply", "is_applied", is_flag=True, help="Put right what is read differently today.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def rebuild(*, is_applied: bool, as_json: bool) -> None:
    """Read all receipts again, and show what is read differently today.

    For use after STATUS_MAP or the reader has learnt something new. With --apply a new transition replaces each old
    one, which stays visible. It may run beside the service, be stopped at any point, and be run again.

    It also adds missing activity of conversations, which messages and replies may lack that came while one release
    replaced another.
    """
    settings = Settings.from_env()
    now = datetime.now(UTC)
    rules = ReceiptRules.of(settings, open_reader(settings))
    counts: Counter[tuple[str, str, str, str]] = Counter()
    with databases.opened(settings, is_written=True) as database:
        with display.progress("receipts read", is_shown=not as_json) as advance:
            for change in reprocess.reprocess(database, rules, now, is_applied=is_applied, on_progress=advance):
                code = (change.provider_status_id or "-", change.provider_description or "-")
                counts[*code, change.was or "unmapped", change.now or "unmapped"] += 1
        repaired = len(set(repair_activity(database, is_applied=is_applied)))
    names = ("statusId", "description", "was", "now")
    if as_json:
        differences = [{**dict(zip(names, key, strict=True)), "receipts": count} for key, count in counts.most_common()]
        click.echo(json.dumps({"applied": is_applied, "differences": differences, "conversations": repaired}, indent=2))
        return
    for (status_id, description, before, after), count in counts.most_common():
        click.echo(f"{display.count(count, 'receipt')} with statusid {status_id}, {description!r}: {before} → {after}")
    if repaired:
        click.echo(f"activity of {display.count(repaired, 'conversation')}")
    total = display.count(counts.total(), "receipt")
    click.echo(f"{total} {'put right' if is_applied else 'would change; --apply puts them right'}")
