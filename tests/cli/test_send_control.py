"""`sending`, `pause`, `resume`, `cancel`, `resolve` and `suppressions` against the real API."""

import json
import re

import pytest
from sqlalchemy import select, update

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.statuses import RESOLUTIONS
from receiptsvc.store.core.models import Audit, Message, SendingAccount
from receiptsvc.store.health import heartbeats
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import send_gate
from tests.cli.conftest import READER, Run, Service
from tests.support import rows, work


def statuses(service: Service) -> list[str]:
    with service.database.reading() as session:
        return list(session.scalars(select(Message.status).order_by(Message.id)))


def audits(service: Service) -> list[tuple[str, str, str | None]]:
    with service.database.reading() as session:
        return [
            (audit.actor, audit.action, audit.reason) for audit in session.scalars(select(Audit).order_by(Audit.id))
        ]


def send_unknown(service: Service, recipient: str = "447700900001") -> str:
    """The id of a message whose send call was never answered."""
    return ids.public("msg", work.send(service.database, rows.message(recipient), SendOutcome.UNCLEAR))


@pytest.fixture
def worker(service: Service) -> None:
    """A worker that has just shown itself."""
    with service.database.transaction() as session:
        heartbeats.beat(session, "worker:1", service.database.clock.now())


def test_without_a_worker_nothing_goes_out(service: Service, run: Run) -> None:
    service.accept("Hello")
    result = run("sending")
    nobody, waits = result.stdout.splitlines()
    assert (result.exit_code, nobody) == (
        1,
        "Nothing goes out: no worker is at work. Start it; its log says why it ended.",
    )
    assert re.fullmatch(r"1 message waits, the oldest \d+ d\.", waits)
    with service.database.transaction() as session:
        at, fault = rows.T0, "no connection to the gateway: ConnectionRefusedError"
        now = service.database.clock.now()
        heartbeats.beat(session, "worker:1", now, gateway_fault=fault, gateway_fault_at=at)
    result = run("sending")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (
        1,
        "Nothing goes out since 2026-01-05T12:00:00Z: no connection to the gateway: ConnectionRefusedError. "
        "Check DYNMARK_SOAP_URL, network, proxy, firewall.",
    )
    assert result.stdout.count("ConnectionRefusedError") == 1
    told = json.loads(run("sending", "--json").stdout)
    assert [finding["name"] for finding in told["findings"]] == ["gateway_amiss", "messages_late"]
    assert told["degraded"] == [finding["text"] for finding in told["findings"]]
    [told] = json.loads(run("sending", "--json").stdout)["gatewayFaults"]
    assert told == {"fault": fault, "since": "2026-01-05T12:00:00.000000Z"}


@pytest.mark.usefixtures("worker")
def test_a_pause_is_shown_with_its_reason_until_it_ends(service: Service, run: Run) -> None:
    fine = run("sending")
    assert (fine.exit_code, fine.stdout) == (0, "Messages go out.\n")
    paused = run("pause", "--reason", "wrong [red]texts\u202e")
    assert paused.exit_code == 0
    assert paused.stdout.startswith("Paused since 20")
    assert paused.stdout.endswith(" by all: wrong [red]texts\ufffd\n")
    held = run("sending")
    assert (held.exit_code, held.stdout) == (1, paused.stdout)
    again = run("pause", "--reason", "again")
    assert (again.stdout, again.stderr) == (
        paused.stdout,
        "It was paused already; who did it and the reason stay.\n",
    )
    assert json.loads(run("sending", "--json").stdout)["pausedBy"] == "all"
    resumed = run("resume", "--reason", "cancelled").stdout.splitlines()
    assert resumed[0] == "Messages go out."
    assert re.fullmatch(
        r"Resumed 20\S+Z by all \(cancelled\); had been paused since 20\S+Z by all: wrong .*", resumed[1]
    )
    assert run("sending").stdout.splitlines() == resumed
    assert audits(service) == [("all", "pause", "wrong [red]texts\u202e"), ("all", "resume", "cancelled")]
    assert run("pause").exit_code == 2, "a pause must say why"
    assert run("resume").stdout.splitlines() == resumed, "nothing was paused, so nothing was resumed"


@pytest.mark.usefixtures("worker")
def test_a_refused_account_and_what_is_to_be_resolved_are_shown(service: Service, run: Run) -> None:
    send_unknown(service)
    work.send(service.database, rows.message("447700900002"), SendOutcome.TAKEN)
    with service.database.transaction() as session:
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, rows.T0, was_probe=False)
    lines = run("sending").stdout.splitlines()
    assert lines[0].startswith("The gateway refuses our credentials since 2026-01-05T12:00:00Z")
    assert lines[1].startswith("1 message to `resolve`")
    assert lines[2:] == [
        'No receipt has come ever, although messages wait for theirs: see "When receipts stop" in docs/operations.md.'
    ]


@pytest.mark.usefixtures("worker")
def test_a_refused_or_suspected_account_is_shown_by_name(service: Service, run: Run) -> None:
    with service.database.transaction() as session:
        for name, times in (("", {"suspected_at": rows.T0}), ("client-7", {"refused_at": rows.T0})):
            session.add(SendingAccount(name=name, since_number=1, try_at=rows.T0, probe_at=rows.T0, **times))
    assert run("sending").stdout.splitlines() == [
        "The gateway refuses the account client-7 since 2026-01-05T12:00:00Z; one message tries it again at 2026-01-05T12:00:00Z",
        "The gateway may refuse our credentials since 2026-01-05T12:00:00Z: no messages wait until another one is taken or refused",
        "Other messages go out.",
    ]  # fmt: skip
    waiting = ids.parse("msg", service.accept("Hello"))
    with service.database.transaction() as session:
        session.execute(update(Message).where(Message.id == waiting).values(suspicion=1))
    assert ": 1 message waits until another one is taken or refused" in run("sending").stdout


def test_a_message_is_cancelled_once(service: Service, run: Run) -> None:
    message = service.accept("Hello")
    result = run("cancel", message, "--reason", "too early")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{message} to 447700900001 is cancelled (since ")
    again = run("cancel", message)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "It is cancelled, and can't be cancelled any more." in again.stderr
    assert "Usage" not in again.stderr
    assert run("cancel", "msg_01h45ytscbebyvny4gc8cr8ma2").exit_code == 1
    number = run("cancel", "447700900001")
    assert (number.exit_code, "cancel with --to, --client-ref or" in number.stderr) == (2, True)
    other = service.accept("Hello")
    assert json.loads(run("cancel", other, "--json").stdout)["status"] == "cancelled"
    assert audits(service) == [("all", "cancel", "too early"), ("all", "cancel", None)]


def test_many_are_counted_confirmed_and_cancelled(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        service.accept("wrong", recipient=f"4477009000{index:02}", client_ref="spring", originator="SHOP")
    service.accept("right", recipient="447700900000", client_ref="summer", originator="SHOP")
    command = ("cancel", "--client-ref", "spring", "--from", "SHOP", "--since", "2026-01-05T12:00:00Z")
    assert run(*command, "--dry-run").stdout == "5 messages would be cancelled\n"
    for answer in (b"n\n", b""):
        refused = run(*command, stdin=answer)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "Cancel 5 messages? They never go out then. [y/N]" in refused.stderr
    assert statuses(service) == ["accepted"] * 6
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 2)
    assert run(*command, "--dry-run").stdout == "at least 2 messages would be cancelled\n"
    done = run(*command, "--reason", "wrong texts", stdin=b"y\n")
    assert (done.exit_code, done.stdout) == (0, "5 messages were cancelled\n")
    assert statuses(service) == ["cancelled"] * 5 + ["accepted"]
    assert {reason for _, _, reason in audits(service)} == {"wrong texts"}
    assert run(*command).stdout == "no messages were cancelled\n", "nothing to confirm"
    last = run("cancel", "--to", "+44 7700 900000", "--yes", "--json")
    assert json.loads(last.stdout) == {"cancelled": 1, "isComplete": True, "dryRun": False}


def test_many_are_cancelled_by_the_beginning_of_their_client_ref(service: Service, run: Run) -> None:
    for index in range(3):
        service.accept("wrong", client_ref=f"winter-2026/{index}", originator="ACME")
    service.accept("right", client_ref="winter-2027", originator="ACME")
    refused = run("cancel", "--client-ref", "winter-2026", "--dry-run")
    assert (refused.exit_code, refused.stdout) == (0, "no messages would be cancelled\n")
    assert refused.stderr == (
        "Nothing that waits has the clientRef winter-2026; 3 messages that wait begin with it: "
        "--client-ref-prefix winter-2026\n"
    )
    assert run("cancel", "--from", "acme", "--yes").stderr == "--from is exact; did you mean ACME?\n"
    done = run("cancel", "--client-ref-prefix", "winter-2026", "--yes")
    assert (done.stdout, done.stderr) == ("3 messages were cancelled\n", "")
    assert statuses(service) == ["cancelled"] * 3 + ["accepted"]


def test_each_filter_reaches_the_service(service: Service, run: Run) -> None:
    service.accept("Hello")
    filters = {
        "--client-ref": "spring",
        "--client-ref-prefix": "spring",
        "--to": "447700900002",
        "--from": "SHOP",
        "--created-by": "shop",
        "--since": "2026-01-05T12:00:01Z",
        "--until": "2026-01-05T12:00:00Z",
    }
    for name, value in filters.items():
        assert run("cancel", name, value, "--yes").stdout == "no messages were cancelled\n", name
    assert run("cancel", "--since", "yesterday", "--yes").stdout == "no messages were cancelled\n"
    wrong = run("cancel", "--since", "soon", "--yes")
    assert (wrong.exit_code, "'--since': must be a time" in wrong.stderr) == (2, True)
    refused = run("cancel", "--to", "Ada", "--yes")
    assert (refused.exit_code, "recipient: " in refused.stderr, "Usage" in refused.stderr) == (2, True, False)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--yes",),
        ("--reason", "all of them"),
        ("msg_01h45ytscbebyvny4gc8cr8ma2", "--client-ref", "spring"),
        ("msg_01h45ytscbebyvny4gc8cr8ma2", "--dry-run"),
    ],
)
def test_cancel_without_an_id_or_a_filter_is_wrong_use(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("cancel", *arguments).exit_code == 2


def test_what_the_gateway_reports_too_is_not_only_a_person_s_word(service: Service, run: Run) -> None:
    message = send_unknown(service)
    run("resolve", message, "delivered", "--reason", "seen in the portal")
    service.report(message, statusdescription="delivered")
    assert run("status", message).stdout.splitlines()[0].endswith("): on the handset.")


@pytest.mark.parametrize("status", [status.value for status in RESOLUTIONS])
def test_a_send_unknown_message_is_resolved(service: Service, run: Run, status: str) -> None:
    message = send_unknown(service)
    assert run("resolve", message, status).exit_code == 2, "it must say why"
    result = run("resolve", message, status, "--reason", "seen in the portal", "--json")
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, status)
    assert audits(service) == [("all", "resolve", "seen in the portal")]
    for shown in (run("status", message), run("explain", message)):
        first = shown.stdout.splitlines()[0]
        assert first.endswith("): a person settled it so (all: seen in the portal)."), "and the gateway said nothing"
    assert f"A person settled it as {status} at " in run("explain", message).stdout
    conversation = run("conversation", "447700900001").stdout
    assert f"{status}: a person settled it so (all: seen in the portal)" in conversation
    again = run("resolve", message, status, "--reason", "once more")
    assert (again.exit_code, "can be resolved" in again.stderr) == (1, True)
    assert run("resolve", message, "sent", "--reason", "no such choice").exit_code == 2


def test_what_is_to_be_resolved_is_listed_and_found_by_any_term(service: Service, run: Run) -> None:
    message, other = send_unknown(service), send_unknown(service, "447700900002")
    settled = service.accept("Hello", client_ref="order-1")
    listed = run("resolve").stdout
    assert listed.startswith("2 messages to resolve.\n")
    assert (message in listed, other in listed, settled in listed) == (True, True, False)
    how = ("failed", "--reason", "seen in the portal")
    national = run("resolve", "07700 900001", *how)
    assert (national.exit_code, "Last digits 7700900001 fit" in national.stderr) == (2, True)
    assert run("resolve", "nothing", *how).exit_code == 1
    assert "can be resolved" in run("resolve", "order-1", *how).stderr
    done = run("resolve", "0001", *how, "--json")
    assert (json.loads(done.stdout)["id"], json.loads(done.stdout)["status"]) == (message, "failed")
    assert run("resolve").stdout.startswith("1 message to resolve.\n")


def test_a_suppression_is_added_listed_and_deleted(service: Service, run: Run) -> None:
    added = run("suppressions", "add", "+44 7700 900001", "--from", "SHOP", "--reason", "asked us")
    assert added.exit_code == 0
    heading, line = added.stdout.splitlines()
    assert heading.split() == ["recipient", "originator", "since", "by", "reason"]
    assert (line.split()[:2], line.split()[3:]) == (["447700900001", "shop"], ["all", "asked", "us"])
    run("suppressions", "add", "447700900002", "--json")
    assert [line.split()[:2] for line in run("suppressions", "list").stdout.splitlines()[2:]] == [
        ["447700900001", "shop"],
        ["447700900002", "-"],
    ]
    listed = run("suppressions", "list", "--to", "447700900001", "--from", "Shop", "--json")
    (only,) = json.loads(listed.stdout)["items"]
    assert (only["recipient"], only["reason"]) == ("447700900001", "asked us")
    assert (
        run("suppressions", "list", "--to", "447700900001", "--from", "ACME", "--json").stdout.count("recipient") == 0
    )
    refused = run("suppressions", "delete", "447700900001")
    assert (refused.exit_code, "not suppressed for this originator" in refused.stderr) == (1, True)
    gone = run("suppressions", "delete", "447700900001", "--from", "SHOP", "--reason", "came back")
    assert (gone.exit_code, "447700900001" in gone.stdout) == (0, True)
    assert run("suppressions", "list").stdout.splitlines()[0] == "1 opt-out."
    assert run("suppressions", "add", "12").exit_code == 2
    assert len(audits(service)) == 3


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "--reason", "x"),
        ("resume",),
        ("cancel", "msg_01h45ytscbebyvny4gc8cr8ma2"),
        ("cancel", "--client-ref", "spring", "--yes"),
        ("resolve", "msg_01h45ytscbebyvny4gc8cr8ma2", "failed", "--reason", "x"),
        ("suppressions", "add", "447700900001"),
        ("suppressions", "delete", "447700900001"),
        ("receipts", "list"),
        ("receipts", "retry", "rcp_01h45ytscbebyvny4gc8cr8ma2"),
        ("ledger",),
    ],
)
def test_a_key_without_the_scope_is_wrong_use(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RECEIPTSVC_API_KEY", READER)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the key reader has read. (HTTP 403)" in result.stderr


def test_no_sentence_ends_in_two_marks(service: Service, run: Run) -> None:
    message, now = service.accept("Hello"), service.database.clock.now()
    fault = "HTTP 500 with a web page: is DYNMARK_SOAP_URL right?"
    with service.database.transaction() as session:
        heartbeats.beat(session, "worker:1", now, gateway_fault=fault, gateway_fault_at=rows.T0)
    for shown in (run("sending"), run("explain", message)):
        assert "DYNMARK_SOAP_URL right?" in shown.stdout
        assert not re.search(r"[.?!]\.", shown.stdout)


def test_what_waits_for_its_deliver_after_is_cancelled_by_itself(service: Service, run: Run) -> None:
    service.accept("Hello", client_ref="spring")
    later = rows.message("447700900002", client_ref="spring", deliver_after=rows.seconds(9000))
    with service.database.transaction() as session:
        transitions.accept(session, [later], rows.T0, schedules_messages=True)
    assert run("cancel", "--client-ref", "spring", "--dry-run").stdout == "2 messages would be cancelled\n"
    done = run("cancel", "--client-ref", "spring", "--scheduled", "--yes", "--reason", "wrong price")
    assert (done.exit_code, done.stdout) == (0, "1 message was cancelled\n")
    assert statuses(service) == ["accepted", "cancelled"]
    alone = run("cancel", "--scheduled", "--dry-run")
    assert (alone.exit_code, "Must name at least one of" in alone.stderr) == (2, True)
