"""`demo`: runs the demo on real processes and shows it. Story and processes are in `receiptsvc.demo`."""

import math
import secrets
import signal
from functools import partial

import click
from rich.console import Console

from receiptsvc.cli.terminal import display
from receiptsvc.client import Json
from receiptsvc.config import key_path
from receiptsvc.demo import setup
from receiptsvc.demo.processes import Stack
from receiptsvc.demo.story import ADA, STORY, play


@click.command()
@click.option("--stay", is_flag=True, help="Stay up afterwards and keep the data, until Ctrl-C.")
def demo(stay: bool) -> None:
    """Send a conversation through the sandbox and watch its receipts come back.

    On a scratch SQLite file, or in a scratch schema of the PostgreSQL that DATABASE_URL names. DYNMARK_* is ignored.
    """
    console = display.console()
    with (
        setup.database(keep=stay) as url,
        setup.folder(keep=stay) as folder,
        setup.make_stack(folder, url, stay=stay) as stack,
    ):
        for signal_number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, lambda number, _: stack.interrupt(number))
        console.print(f"Starting web, worker and sandbox on {'SQLite' if url.startswith('sqlite') else 'PostgreSQL'} …")
        stack.start_all()
        play(stack, reference=f"order-{secrets.token_hex(4)}", show=partial(_show, console))
        console.print(f"All {len(STORY)} messages reached the status they should have, and the ledger balances.")
        if stay:
            _stay(stack, console)


def _show(console: Console, conversation: Json, ledger: Json) -> None:
    display.print_conversation(console, conversation)
    console.print()
    display.print_ledger(console, ledger)


def _stay(stack: Stack, console: Console) -> None:
    console.print(f"\n  API       {stack.url}/docs      (key: {key_path()})")
    console.print(f"  Sandbox   {stack.sandbox_url}/sandbox/report")
    console.print(f"  Logs      {stack.folder}")
    variable = "" if stack.url.endswith(f":{setup.WEB_PORT}") else f"RECEIPTSVC_URL={stack.url} "
    console.print(f"\nTry: {variable}.venv/bin/python -m receiptsvc status {ADA}\nCtrl-C ends it; the data stays.")
    try:
        stack.wait_until("the end", lambda: False, seconds=math.inf)
    except KeyboardInterrupt:
        console.print("Stopping …")
