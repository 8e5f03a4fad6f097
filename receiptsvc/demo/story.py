"""The demo's story: a conversation of six messages and a reply, played on real processes and the sandbox.

It ends well only if every message reached the status that it should have, and the ledger balances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import requests

from receiptsvc import tokens
from receiptsvc.client import Client, Json
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack
from receiptsvc.domain.errors import ReceiptsvcError

ADA, BEN, CLEO = "447700900001", "447700900002", "447700900003"
SHOP = "Mayflower"

_SETTLED_SECONDS = 90.0


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


def play(
    stack: Stack,
    *,
    reference: str,
    show: Callable[[Json, Json], object],
    interlude: Callable[[Step], object] = lambda _: None,
) -> None:
    """Send the story as the conversation `reference` and wait until it is over. Raises DemoFailed.

    `show` is given the conversation and the ledger as the API answers them. `interlude` is called after each message
    was accepted, while it is on its way.
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
    ledger = client.ledger()
    show(client.conversation(reference), ledger)
    faults = _faults(client, reference, _report(stack)) + _ledger_faults(before, ledger)
    if faults:
        raise DemoFailed("the demo did not end as it should:\n" + "\n".join(f"  - {fault}" for fault in faults))


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
