"""The command `send --file`: checks, sends or resumes a file, and reports on the screen or as JSON."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from receiptsvc import private_files
from receiptsvc.cli.send_file import bulk_sender, parser, state
from receiptsvc.cli.send_file.bulk_sender import Cost, Sent, Warnings
from receiptsvc.cli.send_file.faults import InvalidFile
from receiptsvc.cli.send_file.parser import Options
from receiptsvc.cli.send_file.rows import Row
from receiptsvc.cli.send_file.state import Job, StateError
from receiptsvc.cli.terminal import display, holds
from receiptsvc.cli.terminal.answers import click_error, print_json
from receiptsvc.cli.terminal.wrong_use import WrongUse
from receiptsvc.client import ApiError, Client, Json, Unreachable
from receiptsvc.domain import encoding
from receiptsvc.domain.sentences import agree
from receiptsvc.domain.statuses import Status
from receiptsvc.locations import DATA

_JOB_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_MAX_SHOWN_FAULTS = 50
_EXAMPLES = 3  # texts that a dry run shows


@dataclass(frozen=True, kw_only=True, slots=True)
class SendFileRequest:
    """The command's arguments. `wait_seconds`: how long to follow the receipts; None: do not."""

    source: str  # a path, or - for standard input
    form: str | None  # csv or jsonl; None: by the file's extension
    job: str | None  # the name of the state in the data folder; None: the state is beside the file
    is_again: bool
    wait_seconds: float | None
    as_json: bool
    options: Options = field(default_factory=Options)  # how the file is read

    @property
    def name(self) -> str:
        """The file's name for messages."""
        return "standard input" if self.source == "-" else display.plain(self.source)


def estimate(request: SendFileRequest) -> None:
    """Check a file and show its cost; nothing is sent. Raises ClickException if the file has faults."""
    form = _choose_form(request)
    client = Client.from_env()
    with _file_faults_shown(request):
        parsed = parser.parse(_read_source(request), form, request.options)
        cost = _check(client, parsed.rows, request)
    cost.warnings.note_file(parsed.notices)
    filled = _describe_texts(parsed.rows) if request.options.template is not None else {}
    if request.as_json:
        totals = {"messages": cost.messages, "segments": cost.segments, "encodings": cost.encodings}
        print_json({**totals, **filled, "warnings": _list_warnings(cost.warnings)})
        return
    out = display.console()
    display.print_cost(out, messages=cost.messages, segments=cost.segments, encodings=cost.encodings)
    if filled:
        display.print_texts(out, longest=filled["longest"], examples=filled["examples"])
    display.print_warnings(out, _list_warnings(cost.warnings))
    out.print("Nothing was sent.")


def _describe_texts(rows: list[Row]) -> Json:
    """The text that takes most segments, of those the longest, and the first few, each with its line."""

    def describe(row: Row) -> Json:
        text = str(row.message["text"])
        measured = encoding.measure(text)
        return {
            "line": row.line,
            "characters": len(text),
            "segments": measured.segments,
            "encoding": measured.encoding.value,
            "text": text,
        }

    described = [describe(row) for row in rows]
    longest = max(described, key=lambda each: (each["segments"], each["characters"]))
    return {"longest": longest, "examples": described[:_EXAMPLES]}


def send(request: SendFileRequest) -> None:
    """Send a file, or resume sending it. Raises ClickException or Exit if it could not send or settle everything."""
    form, path = _choose_form(request), _state_path(request)
    client = Client.from_env()
    data = _read_source(request)
    with _file_faults_shown(request):
        parsed = parser.parse(data, form, request.options)
        rows = parsed.rows
        job = _load_or_start_job(client, rows, path, _digest(data, request.options), request)
    taken_before = job.taken
    items: dict[str, Json] = {message_id: {} for message_id in job.ids}
    warnings = Warnings()
    if not job.is_done:
        sent = _send_remaining(client, rows, job, request)
        items |= sent.items
        warnings = sent.warnings
    is_settled = _update_statuses(client, items, request)
    if job.taken > taken_before:
        warnings.note_file(parsed.notices)
    _report(request, job, items, warnings, sent=job.taken - taken_before)
    if not request.as_json and any(item.get("status") == Status.ACCEPTED.value for item in items.values()):
        holds.say(client)
    if request.wait_seconds is not None and not is_settled:
        raise click.exceptions.Exit(1)


def _digest(data: bytes, options: Options) -> str:
    """Of the file, and of what else decides which messages it has."""
    digest = hashlib.sha256(data)
    if options != Options():
        text = options.template.text if options.template is not None else None
        chosen = [options.encoding, dict(options.columns), text, options.duplicates]
        digest.update(b"\0" + json.dumps(chosen, sort_keys=True).encode())
    return digest.hexdigest()


def _choose_form(request: SendFileRequest) -> str:
    form = request.form or parser.FORMS.get(Path(request.source).suffix.lower())
    if form is None:
        raise click.UsageError(f"--format must say csv or jsonl: the name does not end in {', '.join(parser.FORMS)}.")
    return form


def _read_source(request: SendFileRequest) -> bytes:
    try:
        return sys.stdin.buffer.read() if request.source == "-" else Path(request.source).read_bytes()
    except OSError as error:
        raise WrongUse(f"{request.name}: can't be read ({error.strerror}).") from error


def _state_path(request: SendFileRequest) -> Path:
    """The path of the job's state file."""
    if request.job is None and request.source == "-":
        raise click.UsageError(
            "--job NAME is needed for standard input: what was sent is kept under that name, so that the same command "
            "can be run again after it was stopped."
        )
    if request.job is None:
        return Path(f"{request.source}{state.SUFFIX}")
    if not _JOB_NAME.fullmatch(request.job):
        raise click.UsageError("--job must be 1 to 64 letters, digits, dots, dashes and underscores.")
    folder = DATA / "jobs"
    try:
        private_files.make_folder(folder)
    except OSError as error:
        raise click.ClickException(f"{folder}: can't be made ({error.strerror})") from error
    return folder / f"{request.job}{state.SUFFIX}"


def _load_or_start_job(client: Client, rows: list[Row], path: Path, digest: str, request: SendFileRequest) -> Job:
    """The job to resume, or a new one after the whole file was checked.

    Raises StateError if the file has changed, or if another key or service can't safely resume it.
    """
    sender = client.fingerprint(digest)
    job = None if request.is_again else state.load(path)
    if job is None:
        _check(client, rows, request)
        sizes = [len(chunk) for chunk in bulk_sender.chunks(rows)]
        return state.start(path, digest=digest, chunks=sizes, sender=sender, is_again=request.is_again)
    if job.digest != digest or job.messages != len(rows):
        advice = (
            "--again sends all of its present content"
            if job.is_done
            else "put the old content back and run this again to continue; or put what was not sent into another file; "
            "--again sends all of its present content, also what was sent already"
        )
        raise StateError(
            f"{request.name} has changed since it was sent on {job.started_at}, or the options with it ({job.taken} of "
            f"{agree(job.messages, 'message was', 'messages were')} taken): {advice}. The state is kept in {path}"
        )
    if job.sender != sender and job.is_unclear:
        raise StateError(
            f"line {rows[job.taken].line} and some after it were offered with another RECEIPTSVC_API_KEY or "
            "RECEIPTSVC_URL, and the answer was lost: run this with those to continue, or they could go out twice"
        )
    job.sender = sender
    return job


def _check(client: Client, rows: list[Row], request: SendFileRequest) -> Cost:
    try:
        with display.progress("messages checked", is_shown=not request.as_json, total=len(rows)) as advance:
            return bulk_sender.check(client, rows, advance)
    except ApiError as error:
        raise click_error(error, hint="Nothing was sent.") from error
    except Unreachable as error:
        raise click.ClickException(f"{error}; nothing was sent") from error


def _send_remaining(client: Client, rows: list[Row], job: Job, request: SendFileRequest) -> Sent:
    """Send the job's remaining chunks. Raises ClickException that says how far it came."""
    try:
        with display.progress(
            "messages sent", is_shown=not request.as_json, total=job.messages, done=job.taken
        ) as advance:
            return bulk_sender.send(client, rows, job, advance)
    except InvalidFile as error:
        result = "nothing was sent"
        if job.taken:
            result = (
                f"{display.count(job.taken, 'message')} before line {rows[job.taken].line} went out, and nothing from "
                "there on; put the rest, corrected, into another file"
            )
        raise _show_file_faults(request, error, result) from error
    except ApiError as error:
        raise click_error(error, hint=_describe_progress(job)) from error
    except (Unreachable, StateError) as error:
        raise click.ClickException(f"{error}\n{_describe_progress(job)}") from error
    except KeyboardInterrupt:
        click.echo(f"\n{_describe_progress(job)}", err=True)
        raise


def _describe_progress(job: Job) -> str:
    return (
        f"{job.taken} of {agree(job.messages, 'message was', 'messages were')} taken for certain. "
        "Run the same command again to continue: nothing goes out twice."
    )


def _update_statuses(client: Client, items: dict[str, Json], request: SendFileRequest) -> bool:
    """Update the statuses once, or with --wait until all are final. Returns whether all are final."""
    try:
        if request.wait_seconds is not None:
            return wait(client, items, seconds=request.wait_seconds, is_shown=not request.as_json)
        bulk_sender.refresh(client, items, [message_id for message_id, item in items.items() if not item])
    except ApiError as error:
        if request.wait_seconds is not None:
            raise click_error(error, hint="All messages were sent; only their statuses can't be followed.") from error
    except Unreachable:
        pass  # the summary then shows statuses as not known
    return False


def wait(client: Client, items: dict[str, Json], *, seconds: float, is_shown: bool) -> bool:
    """Follow messages (by id) with a live table of their statuses. Returns whether all became final in time."""
    with display.live_counts(is_shown=is_shown) as show:
        return bulk_sender.follow(client, items, seconds=seconds, on_change=show)


def _report(request: SendFileRequest, job: Job, items: dict[str, Json], warnings: Warnings, *, sent: int) -> None:
    """Print what was sent. `sent`: the number of messages that this run sent."""
    counts = bulk_sender.count(items)
    if request.as_json:
        summary = {"job": job.id, "state": str(job.path), "sentNow": sent, "messages": len(items), "statuses": counts}
        print_json({**summary, "ids": list(items), "warnings": _list_warnings(warnings)})
        return
    out = display.console()
    if not sent:
        out.print(
            f"All of {request.name} was sent before, in a job of {job.started_at}; nothing was sent now. "
            "--again sends it once more."
        )
    elif sent < job.messages:
        out.print(f"Sent the last {sent} of {display.count(job.messages, 'message')} in {request.name}.")
    else:
        out.print(f"Sent {display.count(sent, 'message')} of {request.name}.")
    display.print_counts(out, counts)
    display.print_warnings(out, _list_warnings(warnings))


def _list_warnings(warnings: Warnings) -> list[Json]:
    return [{"warning": text, **asdict(affected)} for text, affected in warnings.items()]


@contextmanager
def _file_faults_shown(request: SendFileRequest) -> Iterator[None]:
    """Turn an InvalidFile within the block into a ClickException that says nothing was sent."""
    try:
        yield
    except InvalidFile as error:
        raise _show_file_faults(request, error, "nothing was sent") from error


def _show_file_faults(request: SendFileRequest, error: InvalidFile, result: str) -> click.ClickException:
    """The exception that lists a file's faults by line. `result`: what was sent. With --json, prints them as JSON."""
    if request.as_json:
        faults = [{"line": fault.line, "field": fault.field or None, "problem": fault.what} for fault in error.faults]
        print_json({"faults": faults})
    shown = error.faults[: 0 if request.as_json else _MAX_SHOWN_FAULTS]
    lines = [f"{request.name} has {display.count(len(error.faults), 'fault')}: {result}."]
    lines += [f"  {display.plain(fault)}" for fault in shown]
    if shown and len(shown) < len(error.faults):
        lines.append(f"  and {len(error.faults) - len(shown)} more")
    is_wrong_use = any(fault.is_wrong_use for fault in error.faults)
    return (WrongUse if is_wrong_use else click.ClickException)("\n".join(lines))
