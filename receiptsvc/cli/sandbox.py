"""`sandbox`: runs the simulated gateway as a process of its own.

Here flags become options. What the options do is in `receiptsvc.sandbox`.
"""

import json
import signal
import sys
import threading
from typing import Any

import click

from receiptsvc.cli.terminal.options import Word
from receiptsvc.sandbox import REST_PATH, SOAP_PATH, behaviour, options, running, wire

_STATUSES = "\n".join(f"{number}  {phrase}" for number, phrase in behaviour.STATUSES.values())
_CODES = "\n".join(f"{code}  {meaning}" for code, meaning in wire.RETURN_CODES.items())
_IN_MILLISECONDS = {  # options in seconds → their flags
    f"{name.replace('-', '_')}_seconds": f"--{name}-ms" for name in ("answer", "drip", "delay", "spread", "retry-gap")
}
_EPILOG = f"""
\b
It listens at http://HOST:PORT, and prints both addresses as settings when it starts:
SOAP  {SOAP_PATH}  (and any path that ends with .asmx; ?wsdl gives the WSDL)
REST  {REST_PATH}
\b

\b
Behaviours, by the last three digits of a recipient's number or by name:
{behaviour.describe()}
\b

\b
Its statusid and statusdescription (the gateway documents none; the sandbox's invention):
{_STATUSES}

\b
Its returnCodes (the same):
{_CODES}

\b
While it runs (JSON):
GET  /sandbox/report      counts, and callbacks not answered 200 in time
GET  /sandbox/messages    what was taken, with its callbacks
POST /sandbox/reply       sender, recipient, content, clientRef: a person's reply
POST /sandbox/behaviour   any option by its name, e.g. {{"default": "lost-answer"}}
POST /sandbox/callback    url and fields, or url, method, contentType, body: one callback by hand
"""


class _Chance(click.ParamType[tuple[str, float]]):
    """A parameter of the form NAME=PROBABILITY."""

    name = "name=probability"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        name, equals, probability = str(value).partition("=")
        try:
            return name, float(probability)
        except ValueError:
            self.fail(
                f"must be a behaviour and a probability, such as duplicate=0.1{'' if equals else ' (no = found)'}",
                param,
                ctx,
            )


def _describe_fault(name: str, demand: str) -> str:
    """What is wrong with an option, by the flag that sets it, in the flag's unit."""
    if name in _IN_MILLISECONDS:
        return f"{_IN_MILLISECONDS[name]}: must be a number of milliseconds from 0 to {options.MAX_SECONDS * 1000}"
    flag = "--chance, --lose-answers" if name == "chances" else f"--{name.replace('_', '-')}"
    return f"{flag}: must be {demand}"


def _stop_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    return stop


@click.command("sandbox", epilog=_EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9100, show_default=True, help="Port to listen on; 0: any free one.")
@click.option("--username", help="The only name that may log on. Unset: any.")
@click.option("--password", help="The only password that will do. Unset: any.")
@click.option(
    "--logon-style",
    type=Word(options.CHOICES["logon_style"]),
    default="code",
    show_default=True,
    help="Wrong credentials: a returnCode on each item, a SOAP fault, a 403 page, a bare 401. By REST: 202, 403, 401.",
)
@click.option(
    "--callback-element",
    type=Word(options.CHOICES["callback_element"]),
    default="any",
    show_default=True,
    help="Which spelling of the callback's element is understood; the other is ignored.",
)
@click.option(
    "--rest-validity",
    type=Word(options.CHOICES["rest_validity"]),
    default=options.CHOICES["rest_validity"][0],
    show_default=True,
    help="How validUntil is spelled by REST; any other spelling fails the whole call.",
)
@click.option(
    "--duplicate-answer",
    type=Word(options.CHOICES["duplicate_answer"]),
    default="first",
    show_default=True,
    help="What a repeated messageGuid is answered: the first transactionID, a new one, none, or a returnCode.",
)
@click.option("--guid-memory-seconds", type=float, help="How long a messageGuid is remembered. Unset: for ever.")
@click.option("--transaction-start", default=70_000_001, show_default=True, help="The first transactionID.")
@click.option("--msgid-start", default=1, show_default=True, help="The first msgid of a reply.")
@click.option("--transaction-per-recipient", is_flag=True, help="One transactionID a recipient, not a Message object.")
@click.option("--default", multiple=True, metavar="NAME", help="A behaviour of every message; may be repeated.")
@click.option(
    "--chance",
    "chances",
    multiple=True,
    type=_Chance(),
    help="A behaviour's probability; one draw a message, or a call where it befalls calls.",
)
@click.option("--lose-answers", type=float, metavar="P", help="The same as --chance lost-answer=P.")
@click.option(
    "--seed", default=1, show_default=True, help="Chance repeats itself for the same seed and order of calls."
)
@click.option(
    "--ignore-numbers", is_flag=True, help="The last digits of a number mean nothing: for numbers that just count up."
)
@click.option("--answer-ms", default=0.0, show_default=True, help="Wait before every answer.")
@click.option("--slow-seconds", default=3.0, show_default=True, help="For slow-answer.")
@click.option("--drip-ms", default=50.0, show_default=True, help="Between two bytes, for drip-answer.")
@click.option("--huge-bytes", default=100_000_000, show_default=True, help="For huge-answer.")
@click.option("--delay-ms", default=30.0, show_default=True, help="Before each receipt.")
@click.option("--spread-ms", default=20.0, show_default=True, help="At most this much more before each receipt.")
@click.option("--late-seconds", default=2.0, show_default=True, help="For delay.")
@click.option(
    "--callback-limit-seconds", default=10.0, show_default=True, help="How soon a callback must be answered 200."
)
@click.option("--retries", default=0, show_default=True, help="How often a failed receipt is tried again.")
@click.option("--retry-gap-ms", default=200.0, show_default=True, help="Before it is tried again.")
@click.option("--senders", default=32, show_default=True, help="Callbacks under way at the same time.")
@click.option("--reply-url", help="Where replies are forwarded to.")
def sandbox(
    *,
    chances: tuple[tuple[str, float], ...],
    lose_answers: float | None,
    ignore_numbers: bool,
    answer_ms: float,
    drip_ms: float,
    delay_ms: float,
    spread_ms: float,
    retry_gap_ms: float,
    **others: Any,
) -> None:
    """Run a simulated gateway: it takes messages by SOAP and REST, sends receipts, and never sends an SMS.

    It stops on SIGTERM or Ctrl-C with exit code 0 and its report on stderr, one line of JSON.
    """
    lost_answers = () if lose_answers is None else (("lost-answer", lose_answers),)
    values: dict[str, Any] = {
        **others,
        "chances": dict((*chances, *lost_answers)),
        "by_number": not ignore_numbers,
        "answer_seconds": answer_ms / 1000,
        "drip_seconds": drip_ms / 1000,
        "delay_seconds": delay_ms / 1000,
        "spread_seconds": spread_ms / 1000,
        "retry_gap_seconds": retry_gap_ms / 1000,
    }
    try:
        box_options = options.Options(**values)
    except options.BadOptions as error:
        raise click.UsageError("\n".join(_describe_fault(*fault) for fault in error.faults.items())) from error
    try:
        with running(box_options) as box:
            stop = _stop_event()
            click.echo(f"sandbox listening on {box.url}")
            click.echo(f"DYNMARK_SOAP_URL={box.soap_url}\nDYNMARK_REST_URL={box.rest_url}")
            sys.stdout.flush()
            stop.wait()
    except OSError as error:
        where = f"{box_options.host}, port {box_options.port}"
        raise click.ClickException(
            f"can't listen on {where}: {error.strerror}. Give another --port or --host"
        ) from error
    click.echo(json.dumps(box.report()), err=True)


if __name__ == "__main__":
    sandbox()
