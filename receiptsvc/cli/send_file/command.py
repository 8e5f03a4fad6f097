"""Sending a file of messages from a desk: what is asked of it, and what is said of it on the screen."""

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from receiptsvc.cli.send_file import bulk_sender, parser, state
from receiptsvc.cli.send_file.bulk_sender import Cost, Sent, Warnings
from receiptsvc.cli.send_file.parser import InvalidFile, Row
from receiptsvc.cli.send_file.state import Job, StateError
from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import print_json, refusal
from receiptsvc.client import ApiError, Client, Json, Unreachable
from receiptsvc.config import DATA

_JOB_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_SHOWN_FAULTS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class SendFileRequest:
    """What is asked of a file. `wait_seconds`: how long to follow its receipts; none: not at all."""

    source: str  # a path, or - for standard input
    form: str | None  # csv or jsonl; none: by the end of its name
    job: str | None  # the name of its state in the data folder; none: beside the file
    is_again: bool
    wait_seconds: float | None
    as_json: bool

    @property
    def name(self) -> str:
        """What to call it on the screen."""
        return "standard input" if self.source == "-" else display.plain(self.source)


def estimate(order: SendFileRequest) -> None:
    """Check a file and tell what it would cost. Raises ClickException if there is a fault in it."""
    form = _form(order)
    client = Client.from_env()
    with _faults_told(order):
        cost = _check(client, parser.read(_read(order), form), order)
    if order.as_json:
        totals = {"messages": cost.messages, "segments": cost.segments, "encodings": cost.encodings}
        print_json({**totals, "warnings": _listed(cost.warnings)})
        return
    out = display.console()
    display.print_cost(out, messages=cost.messages, segments=cost.segments, encodings=cost.encodings)
    display.print_warnings(out, _listed(cost.warnings))
    out.print("Nothing was sent.")


def send(order: SendFileRequest) -> None:
    """Send a file, or go on with it. Raises ClickException or Exit if that did not end well."""
    form, path = _form(order), _state_path(order)
    client = Client.from_env()
    data = _read(order)
    with _faults_told(order):
        rows = parser.read(data, form)
        job = _job(client, rows, path, hashlib.sha256(data).hexdigest(), order)
    before = job.taken
    items: dict[str, Json] = {message_id: {} for message_id in job.ids}
    warnings = Warnings()
    if not job.is_done:
        sent = _offer(client, rows, job, order)
        items |= sent.items
        warnings = sent.warnings
    is_settled = _look(client, items, order)
    _tell(order, job, items, warnings, sent=job.taken - before)
    if order.wait_seconds is not None and not is_settled:
        raise click.exceptions.Exit(1)


def _form(order: SendFileRequest) -> str:
    form = order.form or parser.FORMS.get(Path(order.source).suffix.lower())
    if form is None:
        raise click.UsageError(f"--format must say csv or jsonl: the name does not end in {', '.join(parser.FORMS)}.")
    return form


def _read(order: SendFileRequest) -> bytes:
    try:
        return sys.stdin.buffer.read() if order.source == "-" else Path(order.source).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{order.name}: can't be read ({error.strerror}).") from error


def _state_path(order: SendFileRequest) -> Path:
    """Where the state stands."""
    if order.job is None and order.source == "-":
        raise click.UsageError(
            "--job NAME is needed for standard input: under that name it is kept what was sent already, so that the "
            "same command can be run again after it was stopped."
        )
    if order.job is None:
        return Path(f"{order.source}{state.SUFFIX}")
    if not _JOB_NAME.fullmatch(order.job):
        raise click.UsageError("--job must be 1 to 64 letters, digits, dots, dashes and underscores.")
    folder = DATA / "jobs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{folder}: can't be made ({error.strerror})") from error
    return folder / f"{order.job}{state.SUFFIX}"


def _job(client: Client, rows: list[Row], path: Path, digest: str, order: SendFileRequest) -> Job:
    """The job to go on with, or a new one once the whole file was found faultless."""
    sender = client.fingerprint(digest)
    job = None if order.is_again else state.load(path)
    if job is None:
        _check(client, rows, order)
        sizes = [len(chunk) for chunk in bulk_sender.chunks(rows)]
        return state.start(path, digest=digest, chunks=sizes, sender=sender, is_again=order.is_again)
    if job.digest != digest or job.messages != len(rows):
        advice = (
            "--again sends all that stands in it now"
            if job.is_done
            else "put the old content back and run this again to go on; or put what was not sent into another file; "
            "--again sends all that stands in it now, also what was sent already"
        )
        raise StateError(
            f"{order.name} is not what it was when it was sent on {job.started_at} ({job.taken} of {job.messages} "
            f"messages were taken): {advice}. The state is kept in {path}"
        )
    if job.sender != sender and job.is_unclear:
        raise StateError(
            f"line {rows[job.taken].line} and some after it were offered with another RECEIPTSVC_API_KEY or "
            "RECEIPTSVC_URL, and the answer was lost: run this with those to go on, or they could go out twice"
        )
    job.sender = sender
    return job


def _check(client: Client, rows: list[Row], order: SendFileRequest) -> Cost:
    try:
        with display.progress("messages checked", is_shown=not order.as_json, total=len(rows)) as advance:
            return bulk_sender.check(client, rows, advance)
    except ApiError as error:
        raise refusal(error, then="Nothing was sent.") from error
    except Unreachable as error:
        raise click.ClickException(f"{error}; nothing was sent") from error


def _offer(client: Client, rows: list[Row], job: Job, order: SendFileRequest) -> Sent:
    """Send what is left of a job."""
    try:
        with display.progress(
            "messages sent", is_shown=not order.as_json, total=job.messages, done=job.taken
        ) as advance:
            return bulk_sender.send(client, rows, job, advance)
    except InvalidFile as faulty:
        then = "nothing was sent"
        if job.taken:
            then = (
                f"{display.count(job.taken, 'message')} before line {rows[job.taken].line} went out, and nothing from "
                "there on; put the rest, mended, into another file"
            )
        raise _refusal(order, faulty, then) from faulty
    except ApiError as error:
        raise refusal(error, then=_halfway(job)) from error
    except (Unreachable, StateError) as error:
        raise click.ClickException(f"{error}\n{_halfway(job)}") from error
    except KeyboardInterrupt:
        click.echo(f"\n{_halfway(job)}", err=True)
        raise


def _halfway(job: Job) -> str:
    return (
        f"{job.taken} of {job.messages} messages were taken for certain. Run the same command again to go on: "
        "nothing goes out twice."
    )


def _look(client: Client, items: dict[str, Json], order: SendFileRequest) -> bool:
    """Bring the statuses up to date as far as that is asked; whether all are final."""
    try:
        if order.wait_seconds is not None:
            return wait(client, items, seconds=order.wait_seconds, is_shown=not order.as_json)
        bulk_sender.refresh(client, items, [message_id for message_id, item in items.items() if not item])
    except ApiError as error:
        if order.wait_seconds is not None:
            raise refusal(error, then="All messages were sent; only what becomes of them can't be followed.") from error
    except Unreachable:
        pass  # only the summary is the poorer for it
    return False


def wait(client: Client, items: dict[str, Json], *, seconds: float, is_shown: bool) -> bool:
    """Follow messages, by their ids, with a live table of their statuses; whether all became final in time."""
    with display.live_counts(is_shown=is_shown) as show:
        return bulk_sender.follow(client, items, seconds=seconds, on_change=show)


def _tell(order: SendFileRequest, job: Job, items: dict[str, Json], warnings: Warnings, *, sent: int) -> None:
    counts = bulk_sender.count(items)
    if order.as_json:
        told = {"job": job.id, "state": str(job.path), "sentNow": sent, "messages": len(items), "statuses": counts}
        print_json({**told, "ids": list(items), "warnings": _listed(warnings)})
        return
    out = display.console()
    if not sent:
        out.print(
            f"All of {order.name} was sent before, in a job of {job.started_at}; nothing was sent now. "
            "--again sends it once more."
        )
    elif sent < job.messages:
        out.print(f"Sent the last {sent} of {display.count(job.messages, 'message')} in {order.name}.")
    else:
        out.print(f"Sent {display.count(sent, 'message')} of {order.name}.")
    display.print_counts(out, counts)
    display.print_warnings(out, _listed(warnings))


def _listed(warnings: Warnings) -> list[Json]:
    return [{"warning": text, **asdict(warned)} for text, warned in warnings.items()]


@contextmanager
def _faults_told(order: SendFileRequest) -> Iterator[None]:
    """Tell of the faults of a file of which nothing was sent."""
    try:
        yield
    except InvalidFile as faulty:
        raise _refusal(order, faulty, "nothing was sent") from faulty


def _refusal(order: SendFileRequest, faulty: InvalidFile, then: str) -> click.ClickException:
    """A file's faults by their lines, and what that means for it."""
    if order.as_json:
        faults = [{"line": fault.line, "field": fault.field or None, "problem": fault.what} for fault in faulty.faults]
        print_json({"faults": faults})
    shown = faulty.faults[: 0 if order.as_json else _SHOWN_FAULTS]
    lines = [f"{order.name} has {display.count(len(faulty.faults), 'fault')}: {then}."]
    lines += [f"  {display.plain(fault)}" for fault in shown]
    if shown and len(shown) < len(faulty.faults):
        lines.append(f"  and {len(faulty.faults) - len(shown)} more")
    return click.ClickException("\n".join(lines))
