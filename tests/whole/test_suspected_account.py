"""An answer in the words of a refused logon, or a 403: one text stops nobody else, and a refused account holds its own.

The service as the Procfile starts it, on either database; the gateway is the sandbox over HTTP. What goes out is counted
in calls, never in time.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from sqlalchemy import func, select, update

from receiptsvc.demo.processes import Stack
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message, SendingAccount
from receiptsvc.store.health.verification import verify
from tests.support.processes import until
from tests.whole.conftest import MakeStack
from tests.whole.test_gateway_troubles import change, is_any_due, report, send, statuses, taken

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # what is not the database's
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
BOTH = pytest.mark.parametrize("transport", ["soap", "rest"])

POISON = "447700909999"
TEXT = "your password is 1234"
OTHERS = [f"4477009{place:05}" for place in range(1000, 1030)]
QUIET = ("--default", "no-receipts")
REFUSED = "the gateway refuses our credentials"


def start(make_stack: MakeStack, **settings: str) -> Stack:
    """Everything, with calls of one message unless told otherwise, and repeats at once."""
    own = {"BATCH_SIZE": "1", "RESEND_AFTER_SECONDS": "0.2", **settings}
    stack = make_stack(settings=own, sandbox_flags=QUIET)
    stack.start_all()
    return stack


def degraded(stack: Stack) -> list[str]:
    told: list[str] = requests.get(f"{stack.url}/readyz", timeout=5).json()["degraded"]
    return told


def sending(stack: Stack) -> Any:
    return stack.client().sending()


def log_of(stack: Stack) -> str:
    """All that the worker has logged."""
    return (stack.folder / "worker.log").read_text()


def status_of(database: Database, recipient: str) -> str | None:
    with database.reading() as session:
        return session.scalar(select(Message.status).where(Message.recipient == recipient))


def tries_of(database: Database, recipient: str) -> int:
    with database.reading() as session:
        return session.scalar(select(Message.tries).where(Message.recipient == recipient)) or 0


def outcomes_of(database: Database, recipient: str) -> list[str | None]:
    with database.reading() as session:
        query = select(Attempt.outcome).join(Message).where(Message.recipient == recipient).order_by(Attempt.number)
        return list(session.scalars(query))


def soon() -> str:
    """Some seconds from now, as the API takes it."""
    return (datetime.now(UTC) + timedelta(seconds=6)).isoformat()


def let_time_go_by(database: Database) -> None:
    """What is to be tried at growing gaps is due now."""
    with database.transaction() as session:
        account = SendingAccount
        session.execute(update(account).values(probe_at=account.refused_at, try_at=account.suspected_at))


def test_a_fault_that_quotes_a_text_with_a_password_stops_no_other(make_stack: MakeStack, database: Database) -> None:
    stack = start(make_stack)
    change(stack, numbers={POISON: ["fault-quoting"]})
    send(stack, POISON, text=TEXT)
    until("it had its answer", lambda: status_of(database, POISON) == "send_unknown")
    assert outcomes_of(database, POISON)[0] == "unclear", "what the gateway quotes of ours is no word of its own"
    send(stack, *OTHERS)
    until("all others are sent", lambda: statuses(database) == {"submitted": len(OTHERS), "send_unknown": 1})
    assert REFUSED not in degraded(stack)
    assert "send.account" not in log_of(stack)
    assert taken(stack) == (len(OTHERS), 0)
    assert list(verify(database)) == []


# What befalls a text, and what becomes of its message in the end.
TROUBLES = {
    "soap": {"fault-logon": "send_unknown", "forbidden": "send_unknown", "refuse-logon": "failed"},
    "rest": {"forbidden": "send_unknown", "refuse-logon": "failed"},
}


@BOTH
def test_a_message_that_is_refused_as_an_account_is_waits_until_another_shows_that_it_is_not(
    make_stack: MakeStack, database: Database, transport: str
) -> None:
    stack = start(make_stack, DYNMARK_TRANSPORT=transport)
    change(stack, texts={trouble: [trouble] for trouble in TROUBLES[transport]})
    for place, (trouble, ends) in enumerate(TROUBLES[transport].items()):
        poison, others = f"44770090999{place}", OTHERS[place * 5 : place * 5 + 5]
        send(stack, poison, text=trouble)
        until("it waits, and that is told", lambda: bool(sending(stack)["accounts"]))
        assert status_of(database, poison) == "accepted"
        [account] = sending(stack)["accounts"]
        assert (account["name"], account["refusedAt"], account["waiting"]) == (None, None, 1)
        assert account["suspectedAt"]
        assert any("may refuse our credentials" in one for one in degraded(stack))
        send(stack, *others)
        until("it is decided", lambda: status_of(database, poison) == ends)  # noqa: B023
        until("nothing is amiss", lambda: sending(stack)["accounts"] == [])
        outcomes = outcomes_of(database, poison)
        assert outcomes[0] == ("suspect_refused" if ends == "failed" else "suspect_unclear")
        if ends == "failed":
            assert outcomes[-1] == "refused", "it was offered once more, alone, after another was taken"
        if transport == "rest":
            assert tries_of(database, poison) == (2 if ends == "failed" else 1), "without a guid nothing goes twice"
    sent = 5 * len(TROUBLES[transport])
    until("all others are sent", lambda: statuses(database)["submitted"] == sent)
    assert "send.account_refused" not in log_of(stack)
    assert "send.account_suspected" in log_of(stack)
    assert taken(stack) == (sent, 0)
    assert list(verify(database)) == []


@ON_POSTGRESQL
@pytest.mark.parametrize(
    ("transport", "styles"), [("soap", ("code", "fault", "forbidden")), ("rest", ("code", "forbidden"))]
)
def test_an_account_that_two_calls_find_refused_is_held_and_all_goes_out_once_it_works(
    make_stack: MakeStack, database: Database, transport: str, styles: tuple[str, ...]
) -> None:
    stack = start(make_stack, DYNMARK_TRANSPORT=transport, SEND_CONCURRENCY="2")
    for place, style in enumerate(styles):
        sent, calls = 10 * place, report(stack)["calls"]
        change(stack, password="another", logon_style=style)
        send(stack, *OTHERS[sent : sent + 10])
        until("it is told", lambda: REFUSED in degraded(stack))
        assert "receiptsvc_sending_account_refused 1.0" in requests.get(f"{stack.url}/metrics", timeout=5).text
        assert sending(stack)["accountRefusedAt"]
        assert report(stack)["calls"] - calls <= 2 + 2 + 2, "those that ran, and those that were to decide"
        assert statuses(database) == {"accepted": 10} | ({"submitted": sent} if sent else {})
        change(stack, password=None)
        let_time_go_by(database)
        until("all are sent", lambda: statuses(database) == {"submitted": sent + 10})  # noqa: B023
        until("nothing is degraded", lambda: degraded(stack) == [])
    assert log_of(stack).count('"send.account_refused"') == len(styles), "once each time, however many calls"
    assert taken(stack) == (10 * len(styles), 0)
    assert list(verify(database)) == []


@ON_SQLITE
def test_while_no_other_message_is_due_what_waits_is_tried_by_itself(make_stack: MakeStack, database: Database) -> None:
    stack = start(make_stack)
    change(stack, texts={TEXT: ["refuse-logon"]})
    send(stack, POISON, text=TEXT)
    until("it was tried again", lambda: tries_of(database, POISON) >= 3)
    assert statuses(database) == {"accepted": 1}
    [account] = sending(stack)["accounts"]
    assert (account["waiting"], account["refusedAt"]) == (1, None)
    assert account["nextTryAt"]
    change(stack, texts={})
    let_time_go_by(database)
    until("it is sent", lambda: statuses(database) == {"submitted": 1})
    until("nothing is amiss", lambda: sending(stack)["accounts"] == [])
    assert taken(stack) == (1, 0)


@ON_POSTGRESQL
def test_what_waits_after_a_kill_waits_still_and_is_never_called_never_sent(
    make_stack: MakeStack, database: Database
) -> None:
    stack = start(make_stack, DYNMARK_TRANSPORT="rest")
    change(stack, numbers={POISON: ["forbidden"]})
    stack.client().send([{"recipients": [POISON], "text": "Hello", "validUntil": soon()}])
    until("it waits", lambda: bool(sending(stack)["accounts"]))
    stack.kill("worker")
    message_id = next(iter(stack.client().messages(recipient=POISON)))["id"]
    answer = requests.post(
        f"{stack.url}/v1/messages/{message_id}/cancel",
        json={},
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=5,
    )
    assert (answer.status_code, "may have it" in answer.json()["detail"]) == (409, True)
    stack.start("worker")
    until("its time has gone by", lambda: status_of(database, POISON) == "send_unknown")
    until("nothing is amiss", lambda: sending(stack)["accounts"] == [])
    assert (tries_of(database, POISON), is_any_due(database)) == (1, False)


@ON_POSTGRESQL
def test_a_client_s_account_that_is_refused_holds_no_other_client_s(make_stack: MakeStack, database: Database) -> None:
    stack = start(make_stack, BATCH_SIZE="5")
    change(stack, accounts={"client-a": ["refuse-logon"]})
    send(stack, *OTHERS[:10], impersonateUserName="client-a")
    send(stack, *OTHERS[10:20], impersonateUserName="client-b")
    send(stack, *OTHERS[20:])
    until("the others are sent", lambda: statuses(database) == {"accepted": 10, "submitted": 20})
    until("it is told", lambda: "the gateway refuses the account client-a" in degraded(stack))
    assert sending(stack)["accountRefusedAt"] is None
    with database.reading() as session:
        sent_by_a = select(func.count()).where(
            Message.impersonate_user_name == "client-a", Message.status != "accepted"
        )
        assert session.scalar(sent_by_a) == 0
    change(stack, accounts={})
    let_time_go_by(database)
    until("all are sent", lambda: statuses(database) == {"submitted": 30})
    assert taken(stack) == (30, 0)
