"""`rebuild`: reads all kept receipts and replies again by today's rules, and shows or applies the differences.

The work is in `worker.reprocess`, `worker.reply_repair` and `worker.activity_repair`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from receiptsvc.cli.terminal import databases, display
from receiptsvc.cli.terminal.options import json_option
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.dynmark.readers import open_reader
from receiptsvc.store.core import database_faults
from receiptsvc.store.health import service_state
from receiptsvc.store.inbox import counters
from receiptsvc.worker import reprocess
from receiptsvc.worker.activity_repair import repair_activity
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.reply_repair import Missed, repair_replies
from receiptsvc.worker.reprocess import Difference, Move

_MAX_SHOWN = 20
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

    It also finds receipts that were adopted as another system's and are about a message of ours, as after a corrected
    DYNMARK_TIMEZONE; with --apply they are moved to it.

    It also adds missing activity of conversations, which messages and replies may lack that came while one release
    replaced another.
    """
    settings = Settings.from_env()
    now = datetime.now(UTC)
    rules = ReceiptRules.of(settings, open_reader(settings))
    with databases.opened(settings, is_written=True) as database:
        with display.progress("receipts read", is_shown=not as_json) as advance:
            changes = reprocess.reprocess(database, rules, now, is_applied=is_applied, on_progress=advance)
            counts, moves = _sort(changes)
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
            "adopted": [
                {"receipt": move.receipt, "adoptedAs": move.adopted_as, "message": move.message, "rule": move.rule}
                for move in moves
            ],
            "replies": _counts(missed),
            "conversations": repaired,
        }
        click.echo(json.dumps(found, indent=2))
        return
    for (status_id, description, before, after), count in counts.most_common():
        click.echo(f"{display.count(count, 'receipt')} with statusid {status_id}, {description!r}: {before} → {after}")
    _show_moves(moves)
    for what, count in _counts(missed).items():
        if count:
            click.echo(f"{_WHAT[what]}: {count}")
    if repaired:
        click.echo(f"activity of {display.count(repaired, 'conversation')}")
    total = display.count(counts.total() + len(moves), "receipt")
    name = database_faults.describe(settings.database_url)
    click.echo(
        f"{total} put right in {name}" if is_applied else f"{total} would change in {name}; --apply puts them right"
    )
    if unmapped and not any(before == "unmapped" for _, _, before, _ in counts):
        named = f"code {codes}" if codes else "a code"
        click.echo(f"{display.count(unmapped, 'receipt')} unmapped: {named}, which STATUS_MAP does not name")


def _sort(changes: Iterable[Difference | Move]) -> tuple[Counter[tuple[str, str, str, str]], list[Move]]:
    """Counts of receipts by code and statuses, and those that are moved."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    moves: list[Move] = []
    for change in changes:
        if isinstance(change, Move):
            moves.append(change)
            continue
        code = (change.provider_status_id or "-", change.provider_description or "-")
        counts[*code, change.was or "unmapped", change.now or "unmapped"] += 1
    return counts, moves


def _show_moves(moves: Sequence[Move]) -> None:
    for move in moves[:_MAX_SHOWN]:
        click.echo(f"{move.receipt}, adopted as {move.adopted_as}, is about {move.message}: {move.rule}")
    if len(moves) > _MAX_SHOWN:
        click.echo(f"and {display.count(len(moves) - _MAX_SHOWN, 'more adopted receipt')}; --json lists all")


def _counts(missed: Missed) -> dict[str, int]:
    return {
        "optOuts": missed.opt_outs,
        "optIns": missed.opt_ins,
        "links": missed.links,
        "times": missed.times,
        "suppressed": len(missed.suppressed),
        "allowedAgain": len(missed.allowed_again),
    }
