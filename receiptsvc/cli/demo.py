"""`demo`: the main job, shown on real processes and the sandbox: a conversation goes out, its receipts come back.

It ends well only if every message reached the status that it should have, and the ledger balances.
"""

import math
import os
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import psycopg
import requests
from rich.console import Console
from sqlalchemy.engine import make_url

from receiptsvc import tokens
from receiptsvc.cli.terminal import display
from receiptsvc.client import Client, Json
from receiptsvc.config import DATA, Settings, key_path
from receiptsvc.demo.processes import Stack, free_port, is_free
from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.worker import single_instance

ADA, BEN, CLEO = "447700900001", "447700900002", "447700900003"
SHOP = "Mayflower"

_SETTLED_SECONDS = 90.0
_SLOWLY = ("--delay-ms", "150", "--late-seconds", "3")  # a message is sent again before its receipts come
_WEB_PORT, _SANDBOX_PORT = 8000, 9100


class DemoFailed(ReceiptsvcError):
    """The demo did not end as it should; says what was otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One message of the conversation, what the sandbox does to it, and where it should end."""

    recipient: str
    text: str
    behaviour: tuple[str, ...]  # names of the sandbox's
    expected: str


STORY = (
    Step(recipient=ADA, text="Your order is on its way.", behaviour=("delivered",), expected="delivered"),
    Step(recipient=BEN, text="A parcel for Ada comes today.", behaviour=("undelivered",), expected="undelivered"),
    Step(recipient=CLEO, text="Could you take in a parcel for Ada?", behaviour=("expired",), expected="expired"),
    Step(recipient=ADA, text="It will be there by noon.", behaviour=("duplicate",), expected="delivered"),
    Step(recipient=BEN, text="No need to wait, Ada is at home.", behaviour=("reorder",), expected="delivered"),
    Step(recipient=CLEO, text="Thanks all the same!", behaviour=("delay", "lost-answer"), expected="delivered"),
)  # fmt: skip
ANSWER = "Wonderful, thank you!"


@click.command()
@click.option("--stay", is_flag=True, help="Stay up afterwards and keep the data, until Ctrl-C.")
def demo(stay: bool) -> None:
    """Send a conversation through the sandbox and watch its receipts come back.

    On a scratch SQLite file, or in a scratch schema of the PostgreSQL that DATABASE_URL names. DYNMARK_* is ignored.
    """
    console = display.console()
    with _database(keep=stay) as url, _folder(keep=stay) as folder, _stack(folder, url, stay=stay) as stack:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: stack.interrupt(number))
        console.print(f"Starting web, worker and sandbox on {'SQLite' if url.startswith('sqlite') else 'PostgreSQL'} …")
        stack.start_all()
        play(stack, console, reference=f"order-{secrets.token_hex(4)}")
        if stay:
            _stay(stack, console)


def play(
    stack: Stack, console: Console, *, reference: str, interlude: Callable[[Step], object] = lambda _: None
) -> None:
    """Send the story as the conversation `reference`, wait for it to unfold, and print it. Raises DemoFailed.

    `interlude` is called after each message was accepted, while it is on its way.
    """
    client = stack.client()
    before = client.ledger()
    _order(stack, "behaviour", reply_url=_reply_url(stack))
    for step in STORY:
        _order(stack, "behaviour", numbers={step.recipient: list(step.behaviour)})
        wanted = {"recipients": [step.recipient], "text": step.text, "originator": SHOP, "clientRef": reference}
        (item,) = client.send([wanted])
        interlude(step)
        stack.wait_until("the gateway has it", partial(_was_offered, client, str(item["id"])), seconds=_SETTLED_SECONDS)
    stack.wait_until("every message is settled", lambda: _is_over(stack, client, reference), seconds=_SETTLED_SECONDS)
    _let_a_second_begin(stack)  # the time of a reply has no fractions: it would seem to come before what it answers
    _order(stack, "reply", sender=ADA, recipient=SHOP, content=ANSWER, clientRef=reference)
    stack.wait_until("the reply is processed", lambda: _is_over(stack, client, reference), seconds=_SETTLED_SECONDS)
    display.print_conversation(console, client.conversation(reference))
    ledger = client.ledger()
    display.print_ledger(console, ledger)
    faults = _faults(client, reference, _report(stack)) + _ledger_faults(before, ledger)
    if faults:
        raise DemoFailed("the demo did not end as it should:\n" + "\n".join(f"  - {fault}" for fault in faults))
    console.print(f"All {len(STORY)} messages reached the status they should have, and the ledger balances.")


def _faults(client: Client, reference: str, report: Json) -> list[str]:
    items = sorted(client.messages(clientRef=reference), key=lambda item: str(item["id"]))
    faults = [
        f"{step.text!r} is {item['status']}, not {step.expected}"
        for step, item in zip(STORY, items, strict=True)
        if item["status"] != step.expected
    ]
    replies = [event for event in client.conversation(reference)["timeline"] if event["type"] == "reply"]
    if len(replies) != 1:
        faults.append(f"{len(replies)} replies in the conversation, not 1")
    if not report["duplicates"]:
        faults.append("the message whose answer was lost was not sent again")
    if report["doubles"]:
        faults.append(f"{report['doubles']} messages were sent twice")
    return faults


def _ledger_faults(before: Json, after: Json) -> list[str]:
    """What the story added to the ledger that it should not have."""
    faults = [] if after["balanced"] else ["the ledger does not balance"]
    if any(after[outcome] > before[outcome] for outcome in ("pending", "unmatched", "quarantined", "dead")):
        faults.append("not every receipt was applied to its message")
    return faults


def _is_over(stack: Stack, client: Client, reference: str) -> bool:
    """Whether nothing is on its way any more: no receipt to come, none to process, no message to repeat."""
    if _report(stack)["pending"] or client.ledger()["pending"]:
        return False
    items = list(client.messages(clientRef=reference))
    return all(item["status"] not in {"accepted", "send_unknown", "submitted", "sent"} for item in items)


def _let_a_second_begin(stack: Stack) -> None:
    now = datetime.now(UTC)
    stack.wait_until("a new second", lambda: datetime.now(UTC).replace(microsecond=0) > now)


def _was_offered(client: Client, message_id: str) -> bool:
    return bool(client.message(message_id)["status"] != "accepted")


def _reply_url(stack: Stack) -> str:
    return tokens.static_urls(Settings.from_env(stack.environ)).inbound


def _order(stack: Stack, order: str, **wanted: object) -> Json:
    """Tell the sandbox what to do; what came of it."""
    answer = requests.post(f"{stack.sandbox_url}/sandbox/{order}", json=wanted, timeout=15)
    answer.raise_for_status()
    told: Json = answer.json()
    return told


def _report(stack: Stack) -> Json:
    report: Json = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=15).json()
    return report


def _stack(folder: Path, url: str, *, stay: bool) -> Stack:
    if not stay:
        return Stack(folder, url, sandbox_flags=_SLOWLY)
    desk = Settings.from_env({})  # its keys in the data folder, which the command line finds by itself
    web, sandbox = (port if is_free(port) else free_port() for port in (_WEB_PORT, _SANDBOX_PORT))
    if desk.is_sqlite:
        _refuse_second(desk.database_url)
    now = str(int(time.time()))
    signing = ",".join(f"{key.kid}:{key.secret}" for key in desk.callback_keys)
    return Stack(
        folder,
        url,
        ports=(web, sandbox),
        api_key=desk.api_keys[0].secret,
        settings={"CALLBACK_KEYS": signing},
        # Its ids go on where an earlier run's ended: the kept data knows those.
        sandbox_flags=(*_SLOWLY, "--transaction-start", now, "--msgid-start", now),
    )


def _refuse_second(database_url: str) -> None:
    """Raise DemoFailed if a worker is at work on the desk's database."""
    Path(make_url(database_url).database or "").parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = single_instance.lock_worker(database_url, patience_seconds=0, stop=threading.Event())
    except single_instance.WorkerAlreadyRunning:
        raise DemoFailed("it is up already: end the other one first") from None
    if lock is not None:
        lock.close()


def _stay(stack: Stack, console: Console) -> None:
    console.print(f"\n  API       {stack.url}/docs      (key: {key_path()})")
    console.print(f"  Sandbox   {stack.sandbox_url}/sandbox/report")
    console.print(f"  Logs      {stack.folder}")
    elsewhere = "" if stack.url.endswith(f":{_WEB_PORT}") else f"RECEIPTSVC_URL={stack.url} "
    console.print(f"\nTry: {elsewhere}.venv/bin/python -m receiptsvc status {ADA}\nCtrl-C ends it; the data stays.")
    try:
        stack.wait_until("the end", lambda: False, seconds=math.inf)
    except KeyboardInterrupt:
        console.print("Stopping …")


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Where the logs go."""
    if keep:
        yield DATA / "logs"
    else:
        with tempfile.TemporaryDirectory(prefix="receiptsvc-demo-") as folder:
            yield Path(folder)


@contextmanager
def _database(*, keep: bool) -> Iterator[str]:
    """A scratch SQLite file, or a scratch schema in the PostgreSQL that DATABASE_URL names; `keep`: always the same."""
    given = os.environ.get("DATABASE_URL", "").strip()
    if given.startswith(("postgres://", "postgresql")):
        with _schema(given, keep=keep) as url:
            yield url
    elif keep:
        yield Settings.from_env({}).database_url
    else:
        with tempfile.TemporaryDirectory(prefix="receiptsvc-demo-") as folder:
            yield f"sqlite:///{folder}/demo.db"


@contextmanager
def _schema(given: str, *, keep: bool) -> Iterator[str]:
    url = make_url(given.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql")
    name = "receiptsvc_run" if keep else f"receiptsvc_demo_{secrets.token_hex(6)}"
    try:
        admin = psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise DemoFailed("the PostgreSQL that DATABASE_URL names can't be reached") from error
    with admin:
        admin.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
        try:
            scratch = url.update_query_dict({"options": f"-csearch_path={name}"})
            yield scratch.render_as_string(hide_password=False)
        finally:
            if not keep:
                admin.execute(f'DROP SCHEMA "{name}" CASCADE')
