"""`rebuild`: reads all kept receipts and replies again by today's rules, and shows or applies the differences.

The work is in `worker.reprocess`, `worker.reply_repair` and `worker.activity_repair`.
"""

import json
from collections import Counter
from datetime import UTC, datetime

import click

from receiptsvc.cli.terminal import databases, display
from receiptsvc.cli.terminal.options import json_option
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.dynmark.registry import open_reader
from receiptsvc.store.core import database_faults
from receiptsvc.store.health import service_state
from receiptsvc.store.inbox import counters
from receiptsvc.worker import reprocess
from receiptsvc.worker.activity_repair import repair_activity
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.reply_repair import Missed, repair_replies

_WHAT = {
    "optOuts": "replies that are opt-outs, and were not taken for it",
    "optIns": "replies that are opt-ins, and were not taken for it",
    "links": "replies whose sender or message was not found",
    "times": "replies whose time was not read",
    "suppressed": "people whom an opt-out suppresses for a sender",
    "allowedAgain": "people whom an opt-in allows again for a sender",
}


@click.command()
@click.option("--apply", "is_applied", is_flag=True, help="Put right what is read differently today.")
@json_option
def rebuild(*, is_applied: bool, as_json: bool) -> None:
    """Read all receipts and replies again, and show what is read differently today.

    For use after STATUS_MAP, OPT_OUT_WORDS, OPT_IN_WORDS or the reader has learnt something new. With --apply a new
    transition replaces each old one, which stays visible. Of replies it finds opt-outs, opt-ins and links that were
    missed; with --apply and OPT_OUT_ACTION=suppress it does what they ask for, unless a later word or a change by hand
    says otherwise. It may run beside the service, be stopped at any point, and be run again.

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
        with display.progress("replies read", is_shown=not as_json) as advance:
            missed = repair_replies(database, rules, now, is_applied=is_applied, on_progress=advance)
        repaired = len(set(repair_activity(database, is_applied=is_applied)))
        with database.reading() as session:
            unmapped = counters.read(session).outcomes[ReceiptOutcome.UNMAPPED]
            codes = ", ".join(service_state.find_unmapped_codes(session))
    names = ("statusId", "description", "was", "now")
    if as_json:
        differences = [{**dict(zip(names, key, strict=True)), "receipts": count} for key, count in counts.most_common()]
        found = {
            "applied": is_applied,
            "differences": differences,
            "replies": _counts(missed),
            "conversations": repaired,
        }
        click.echo(json.dumps(found, indent=2))
        return
    for (status_id, description, before, after), count in counts.most_common():
        click.echo(f"{display.count(count, 'receipt')} with statusid {status_id}, {description!r}: {before} → {after}")
    for what, count in _counts(missed).items():
        if count:
            click.echo(f"{_WHAT[what]}: {count}")
    if repaired:
        click.echo(f"activity of {display.count(repaired, 'conversation')}")
    total, name = display.count(counts.total(), "receipt"), database_faults.describe(settings.database_url)
    click.echo(
        f"{total} put right in {name}" if is_applied else f"{total} would change in {name}; --apply puts them right"
    )
    if unmapped and not any(before == "unmapped" for _, _, before, _ in counts):
        named = f"code {codes}" if codes else "a code"
        click.echo(f"{display.count(unmapped, 'receipt')} unmapped: {named}, which STATUS_MAP does not name")


def _counts(missed: Missed) -> dict[str, int]:
    return {
        "optOuts": missed.opt_outs,
        "optIns": missed.opt_ins,
        "links": missed.links,
        "times": missed.times,
        "suppressed": len(missed.suppressed),
        "allowedAgain": len(missed.allowed_again),
    }
