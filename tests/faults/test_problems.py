"""Each fault that is staged with real processes is named by its problem within its minute, and its end is seen."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import requests

from receiptsvc import ids, tokens
from receiptsvc.client import Client
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from tests.support.callers import bearer
from tests.support.forked import Stack
from tests.support.postgres import Server

SECONDS = 60.0  # within which a problem is to be named
UNKNOWN = "statusid=17&statusdescription=Foo"

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(postgresql_url: str, tmp_path: Path) -> Iterator[Stack]:
    settings = {"WEB_CONCURRENCY": "1", "DYNMARK_TIMEOUT_SECONDS": "2"}
    flags = ("--default", "no-receipts")
    with Stack(tmp_path / "stack", postgresql_url, settings=settings, sandbox_flags=flags) as made:
        made.start("sandbox", "web", "worker")
        made.wait_until("the web process", lambda: answers(f"{made.url}/readyz"))
        made.wait_until("the sandbox", lambda: answers(f"{made.sandbox_url}/sandbox/report"))
        yield made


def problems(stack: Stack) -> list[dict[str, Any]]:
    answer = requests.get(f"{stack.url}/v1/problems", headers=bearer(stack.api_key), timeout=10)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def named(stack: Stack, kind: str, is_it: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    """Wait until a problem of this kind is named, for its minute at most."""
    found: list[dict[str, Any]] = []

    def is_named() -> bool:
        found[:] = [item for item in problems(stack) if item["kind"] == kind and is_it(item)]
        return bool(found)

    began = monotonic()
    stack.wait_until(f"{kind} is named", is_named, seconds=SECONDS)
    assert monotonic() - began <= SECONDS
    return found[0]


def ended(stack: Stack, kind: str) -> None:
    def is_over() -> bool:
        return kind not in {item["kind"] for item in problems(stack)}

    stack.wait_until(f"{kind} is over", is_over, seconds=1.5 * SECONDS)  # looks must have missed it for 45 s


def send(client: Client) -> str:
    [item] = client.send([{"recipients": ["447700900001"], "text": "Hello"}])
    return str(item["id"])


def call_back(stack: Stack, message_id: str, query: str, **environ: str) -> int:
    identifier = ids.parse("msg", message_id)
    assert identifier is not None
    url = tokens.receipt_url(Settings.from_env({**stack.environ, **environ}), identifier)
    return requests.get(f"{url}?{query}", timeout=10).status_code


def test_a_killed_worker_is_named_and_the_end_of_that_is_seen(stack: Stack) -> None:
    client = stack.client()
    stack.kill("worker")
    problem = named(stack, "worker_unseen")
    assert (problem["harm"], problem["state"]) == ("now", "open")
    resolved = client.resolve_problem(problem["id"], "restarted")
    assert resolved["state"] == "resolved"
    assert named(stack, "worker_unseen")["state"] == "open", "it still holds"
    stack.start("worker")
    ended(stack, "worker_unseen")
    [over] = [item for item in client.problems(state="resolved") if item["kind"] == "worker_unseen"]
    assert over["changedBy"] is None


def test_a_gateway_that_is_away_and_one_that_refuses_our_credentials_are_named(stack: Stack) -> None:
    stack.stop("sandbox")
    send(stack.client())
    problem = named(stack, "gateway_amiss")
    assert "no connection to the gateway" in problem["detail"]
    stack.start("sandbox")
    stack.wait_until("the sandbox", lambda: answers(f"{stack.sandbox_url}/sandbox/report"))
    ended(stack, "gateway_amiss")
    change = requests.post(f"{stack.sandbox_url}/sandbox/behaviour", json={"password": "another"}, timeout=5)
    change.raise_for_status()
    sent = [{"recipients": [recipient], "text": "Hello"} for recipient in ("447700900002", "447700900003")]
    stack.client().send(sent)
    assert named(stack, "credentials_refused")["title"] == "The gateway refuses our credentials"


def test_an_unknown_code_a_key_that_was_rotated_wrongly_and_a_wrong_zone_are_named(stack: Stack) -> None:
    client = stack.client()
    message_id = send(client)
    kid = Settings.from_env(stack.environ).callback_keys[0].kid
    assert call_back(stack, message_id, UNKNOWN) == 200
    for keys in ("old:0123456789abcdef", f"{kid}:0123456789abcdef"):
        assert call_back(stack, message_id, "statusid=1", CALLBACK_KEYS=keys) == 403
    report_two_hours_ago(stack, client)
    unmapped = named(stack, "unmapped")
    assert unmapped["title"] == "1 receipt with the unknown code 17"
    assert "2 hours behind" in named(stack, "timezone_wrong")["detail"]
    named(stack, "callbacks_refused", lambda item: "refused for key old, which is not listed" in item["title"])
    named(stack, "callbacks_refused", lambda item: f"for key {kid}, which is listed now" in item["title"])
    client.resolve_problem(unmapped["id"])
    assert not [item for item in problems(stack) if item["kind"] == "unmapped"]
    assert call_back(stack, message_id, UNKNOWN) == 200
    assert named(stack, "unmapped")["title"] == "2 receipts with the unknown code 17"
    [*_, last] = client.problem(unmapped["id"])["audits"]
    assert (last["actor"], last["action"]) == ("service", "reopened")


def report_two_hours_ago(stack: Stack, client: Client) -> None:
    """Receipts of five messages, whose times are two hours behind."""
    for _ in range(5):
        message_id = send(client)
        stack.wait_until("it is submitted", lambda: client.message(message_id)["status"] == "submitted")  # noqa: B023
        at = datetime.fromisoformat(client.message(message_id)["statusAt"]) - timedelta(hours=2)
        query = f"statusid=1&statusdescription=Delivered&datetime={at:%Y-%m-%dT%H:%M:%S}.000"
        assert call_back(stack, message_id, query) == 200


def test_a_frozen_database_is_named_and_the_end_of_that_is_seen(server: Server, stack: Stack) -> None:
    with server.frozen():
        problem = named(stack, "database_away")
        assert problem["harm"] == "now"
    ended(stack, "database_away")
    assert requests.get(f"{stack.url}/v1/problems", headers=bearer(stack.api_key), timeout=10).json()["isComplete"]
