"""`demo`: runs the demo on real processes and shows it. Story and processes are in `receiptsvc.demo`."""

import math
import secrets
import signal
import threading
from functools import partial

import click
from rich.console import Console

from receiptsvc.cli.terminal import display
from receiptsvc.client import Json
from receiptsvc.demo import kept, setup
from receiptsvc.demo.processes import Stack
from receiptsvc.demo.story import ADA, KEPT_REFERENCE, STORY, is_wanted, let_replies_through, play
from receiptsvc.locations import DATA, IS_CHECKED_OUT, key_path

_EXPORT_KEYS = 'export CALLBACK_KEYS="$(cat {0}/callback_keys)" API_KEYS="desk:ops+read+send:$(cat {0}/api_key)"'


@click.command()
@click.option("--stay", is_flag=True, help="Stay up afterwards and keep the data, until Ctrl-C.")
@click.option("--empty", "is_empty", is_flag=True, help="With --stay: send nothing.")
def demo(stay: bool, is_empty: bool) -> None:
    """Send a conversation through the sandbox and watch its receipts come back.

    On a scratch SQLite file, or in a scratch schema of the PostgreSQL that DATABASE_URL names. DYNMARK_* is ignored.
    With --stay, on the port PORT and in the database that DATABASE_URL names, where the conversation is sent once only;
    it must hold no messages of a real service. It can be reached from this machine only.
    """
    if is_empty and not stay:
        raise click.UsageError("--empty goes with --stay.")
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
        if stay:
            kept.mark(url)
        reference = KEPT_REFERENCE if stay else f"order-{secrets.token_hex(4)}"
        if is_wanted(stack, reference, is_empty=is_empty, is_kept=stay):
            play(stack, reference=reference, show=partial(_show, console))
            console.print(f"All {len(STORY)} messages reached the status they should have, and the ledger balances.")
        else:
            let_replies_through(stack)
        if stay:
            _stay(stack, console)


def _show(console: Console, conversation: Json, ledger: Json) -> None:
    display.print_conversation(console, conversation)
    console.print()
    display.print_ledger(console, ledger)


def _stay(stack: Stack, console: Console) -> None:
    console.print(f"\n  Page      {stack.url}/ops       (sign in with the key in {key_path()}, without a name)")
    console.print(f"  API       {stack.url}/docs      (the same key)")
    console.print(f"  Sandbox   {stack.sandbox_url}/sandbox/report")
    console.print(f"  Logs      {stack.folder}")
    port = stack.environ["PORT"]
    variable = "" if port == "8000" else f"PORT={port} "
    command = ".venv/bin/python -m receiptsvc" if IS_CHECKED_OUT else "receiptsvc"
    console.print(f"\nTry: {variable}{command} status {ADA}")
    if not stack.database_url.startswith("sqlite"):
        console.print(f"{command} verify and others that use the database need its keys, beside DATABASE_URL:")
        console.print(f"  {_EXPORT_KEYS.format(DATA)}", soft_wrap=True)  # to be copied as it is
    is_over = threading.Event()  # as a KeyboardInterrupt is lost if Python collects garbage when it comes
    usual = signal.signal(signal.SIGINT, lambda *_: is_over.set())
    console.print("Ctrl-C ends it; the data stays.")
    stack.wait_until("the end", is_over.is_set, seconds=math.inf)
    signal.signal(signal.SIGINT, usual)
    console.print("Stopping …")
