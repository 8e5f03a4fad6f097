"""The demo's story: a conversation of six messages and a reply, played on real processes and the sandbox.

It fails unless every message reached its expected status and the ledger balances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from receiptsvc import tokens
from receiptsvc.client import Client, Json
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, local_session
from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.domain.statuses import FINAL

ADA, BEN, CLEO = "447700900001", "447700900002", "447700900003"
SHOP = "Mayflower"

_MAX_WAIT_SECONDS = 90.0


class DemoFailed(ReceiptsvcError):
    """The demo did not end as expected. The text lists the differences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One message of the conversation, the sandbox's behaviour for it, and its expected final status."""

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
KEPT_REFERENCE = "order-demo"  # the conversation's, where it is sent once only


def play(
    stack: Stack,
    *,
    reference: str,
    show: Callable[[Json, Json], object],
    interlude: Callable[[Step], object] | None = None,
) -> None:
    """Send the story as the conversation `reference` and wait until it is over. Raises DemoFailed.

    `show` gets the conversation and the ledger as the API answers them. `interlude` is called after each message was
    accepted, while it is on its way.
    """
    client = stack.client()
    ledger_before = client.ledger()
    let_replies_through(stack)
    # By text, and once for all: a call that is repeated after a fault may come beside the next message to that number.
    _control_sandbox(stack, "behaviour", texts={step.text: list(step.behaviour) for step in STORY})
    for step in STORY:
        message = {"recipients": [step.recipient], "text": step.text, "originator": SHOP, "clientRef": reference}
        (item,) = client.send([message])
        if interlude is not None:
            interlude(step)
        was_offered = partial(_was_offered, client, str(item["id"]))
        stack.wait_until("the gateway has it", was_offered, seconds=_MAX_WAIT_SECONDS)
    is_over = partial(_is_over, stack, client, reference)
    stack.wait_until("every message is settled", is_over, seconds=_MAX_WAIT_SECONDS)
    _wait_for_next_second(stack)  # a reply's time has no fractions, and would else be before the message it answers
    _control_sandbox(stack, "reply", sender=ADA, recipient=SHOP, content=ANSWER, clientRef=reference)
    stack.wait_until("the reply is processed", is_over, seconds=_MAX_WAIT_SECONDS)
    ledger = client.ledger()
    show(client.conversation(reference), ledger)
    seen = _read_report(stack)
    faults = _find_faults(client, reference, seen) + _find_ledger_faults(ledger_before, ledger)
    if interlude is None and not seen["duplicates"]:  # after one a receipt may come before it is sent again
        faults.append("the message whose answer was lost was not sent again")
    if faults:
        raise DemoFailed("the demo did not end as it should:\n" + "\n".join(f"  - {fault}" for fault in faults))


def let_replies_through(stack: Stack) -> None:
    """Tell the sandbox where replies go, which a gateway's customer enters in its portal."""
    _control_sandbox(stack, "behaviour", reply_url=tokens.static_urls(Settings.from_env(stack.environ)).inbound)


def is_wanted(stack: Stack, reference: str, *, is_empty: bool, is_kept: bool) -> bool:
    """Whether the story is to be sent: not if nothing is, nor if it is kept and was sent before, even a part of it."""
    if is_empty or not is_kept:
        return not is_empty
    return not any(True for _ in stack.client().messages(clientRef=reference, limit="1"))


def _find_faults(client: Client, reference: str, report: Json) -> list[str]:
    """How messages, replies and the sandbox's report differ from the story."""
    items = sorted(client.messages(clientRef=reference), key=lambda item: str(item["id"]))
    faults = [
        f"{step.text!r} is {item['status']}, not {step.expected}"
        for step, item in zip(STORY, items, strict=True)
        if item["status"] != step.expected
    ]
    replies = [event for event in client.conversation(reference)["timeline"] if event["type"] == "reply"]
    if len(replies) != 1:
        faults.append(f"{len(replies)} replies in the conversation, not 1")
    if report["doubles"]:
        faults.append(f"{report['doubles']} messages were sent twice")
    return faults


def _find_ledger_faults(before: Json, after: Json) -> list[str]:
    """Whether the ledger balances, and the story added only receipts that found their message."""
    faults = [] if after["balanced"] else ["the ledger does not balance"]
    if any(after[outcome] > before[outcome] for outcome in ("pending", "unmatched", "quarantined", "dead")):
        faults.append("not every receipt was applied to its message")
    return faults


def _is_over(stack: Stack, client: Client, reference: str) -> bool:
    """Whether everything has settled: no receipt is to come or to be processed, and no message to be repeated."""
    if _read_report(stack)["pending"] or client.ledger()["pending"]:
        return False
    items = list(client.messages(clientRef=reference))
    return all(item["status"] in FINAL for item in items)


def _wait_for_next_second(stack: Stack) -> None:
    now = datetime.now(UTC)
    stack.wait_until("a new second", lambda: datetime.now(UTC).replace(microsecond=0) > now)


def _was_offered(client: Client, message_id: str) -> bool:
    return bool(client.message(message_id)["status"] != "accepted")


def _control_sandbox(stack: Stack, command: str, **members: object) -> None:
    """Send a command to the sandbox's control API."""
    with local_session() as session:
        session.post(f"{stack.sandbox_url}/sandbox/{command}", json=members, timeout=15).raise_for_status()


def _read_report(stack: Stack) -> Json:
    with local_session() as session:
        report: Json = session.get(f"{stack.sandbox_url}/sandbox/report", timeout=15).json()
    return report
