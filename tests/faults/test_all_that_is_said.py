"""Every metric, health word and event of the log is seen on the whole stack as it is deployed, or named with its test.

One stack is led through its troubles. A name that the code has, and neither this stack nor the table below, fails.
"""

import ast
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from sqlalchemy import update

from receiptsvc import ids, tokens
from receiptsvc.client import Client
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, Message, SendGate, SendingAccount
from receiptsvc.web.http.readiness import GAUGES
from tests.support import rows
from tests.support.callers import bearer
from tests.support.postgres import Server
from tests.support.processes import children, until
from tests.support.time_slices import drop_all

# What this stack does not say, and the test that has it said.
ELSEWHERE = {
    "process.names_unread": "tests/worker/test_poison.py",
    "events.not_kept": "tests/server/test_event_streams.py",
    "fault.repeats": "tests/test_logs.py",  # it takes a minute
    "files.open_to_others": "tests/faults/test_private_files.py",
    "health.look_failed": "tests/web/test_problem_watch.py",
    "health.not_read": "tests/store/health/test_service_state.py",
    "health.part_failed": "tests/store/health/test_causes.py",
    "intake.group_failed": "tests/intake/test_group_commit.py",
    "intake.not_kept": "tests/faults/test_database_names.py",
    "intake.not_spooled": "tests/intake/test_group_commit.py",
    "intake.spool_trial_failed": "tests/intake/test_group_commit.py",
    "intake.trial_failed": "tests/intake/test_group_commit.py",
    "ops.database_away": "tests/web/ops/test_incident.py",
    "ops.page_not_read": "tests/web/ops/test_now.py",
    "ops.pages_not_fed": "tests/server/test_page_feed.py",
    "ops.presence_not_shown": "tests/web/ops/test_presence.py",
    "ops.sign_in_refused": "tests/web/ops/test_sign_in.py",
    "ops.signed_in": "tests/web/ops/test_sign_in.py",
    "process.batch_failed": "tests/worker/test_poison.py",
    "process.row_failed": "tests/worker/test_poison.py",
    "request.failed": "tests/web/test_errors.py",
    "request.value_refused": "tests/faults/test_input.py",
    "logs.dropped": "tests/attacks/test_log_readers.py",
    "send.account_suspected": "tests/whole/test_suspected_account.py",
    "send.result_not_recorded_yet": "tests/worker/test_sender.py",
    "spool.drain_failed": "tests/spool/test_drainer.py",
    "spool.drain_stopped": "tests/spool/test_drainer.py",
    "spool.file_given_up": "tests/spool/test_writer.py",
    "spool.not_drained": "tests/spool/test_drainer.py",
    "spool.refused": "tests/spool/test_drainer.py",
    "time_slices.left_to_default": "tests/worker/test_loop.py",
    "web.connections_closed": "tests/faults/test_connections.py",
    "web.counts_not_shared": "tests/faults/test_disk.py",
    "web.database_fits": "tests/upgrade/test_start.py",
    "web.not_migrated": "tests/faults/test_database_names.py",
    "web.storage_unavailable": "tests/faults/test_database_names.py",
    "web.key_uses_not_written": "tests/test_key_uses.py",
    "worker.clock_differs": "tests/attacks/test_clocks.py",
    "worker.does_not_listen": "tests/faults/test_idle.py",
    "worker.duty_failed": "tests/worker/test_loop.py",
    "worker.one_of_sets": "tests/upgrade/test_start.py",
    "worker.waits_for_another": "tests/whole/test_way_through.py",
    "worker.waits_for_migrations": "tests/faults/test_database_names.py",
    # words of /readyz
    "callbacks_misrouted": "tests/whole/test_roles.py",
    "clock_differs": "tests/attacks/test_clocks.py",
    "database_misfit": "tests/web/test_health.py",
    "database_unreadable": "tests/faults/test_database.py",
    "gateway_clock": "tests/worker/test_shifted_clock.py",
    "receipts_unmapped": "tests/store/health/test_service_state.py",
    "sending_held": "tests/web/test_health.py",
    "sending_not_configured": "tests/web/test_health.py",
    "spool_unreadable": "tests/spool/test_backlog.py",
    "time_slice_missing": "tests/web/test_health.py",
}
# What only a fault of our own code could bring, or would harm what the tests run on.
NOT_TO_BE_HAD = {
    "idempotency.not_freed",  # the database goes away between two statements of one request
    "intake.writer_failed",
    "web.api_key_made_here",  # it would write a key into the project
    "web.connections_nearly_full",  # 4,096 connections that are all beyond doubt
    "web.request_failed",
}
# What this stack has /readyz say, by the names of the findings.
FINDINGS = {
    "callbacks_refused": "for a key that is not listed",
    "connections_exceed": "may open 60 connections",
    "database_away": "database away",
    "database_fault": "nothing listens there",
    "gateway_amiss": "Z: no connection to the gateway",
    "messages_late": "messages wait to be sent",
    "no_receipts": "although messages wait for theirs",
    "receipts_crowd": "crowd the queue",
    "receipts_for_a_person": "receipts need a person: 1 unmatched",
    "receipts_late": "receipts wait to be worked on",
    "send_unknown_overdue": "message stays send_unknown",
    "sending_paused": "sending is paused by",
    "settings_unknown": "unknown settings: DYNMARK_COLOUR",
    "spool_aside": "file needs a person",
    "spool_in_use": "spool in use",
    "worker_unseen": "worker unseen",
}
_NAME = re.compile(
    r"(?:events|fault|files|health|idempotency|intake|logs|ops|process|readiness|request|send|settings|spool|storage"
    r"|time_slices|web|worker)\.[a-z_]+"
)
_HOUR = timedelta(hours=1)


def names_in_the_code() -> tuple[set[str], set[str]]:
    """Every event of the log, and the name of every finding, that stands in the code."""
    events, findings = {"request"}, set()
    for path in [*(PROJECT / "receiptsvc").rglob("*.py"), PROJECT / "wsgi.py", PROJECT / "gunicorn.conf.py"]:
        tree = ast.parse(path.read_text())
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        if any(isinstance(node, ast.Name) and node.id in {"logs", "_faults"} for node in ast.walk(tree)):
            events |= {text for text in texts if _NAME.fullmatch(text)}
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding" and node.args:
                name = node.args[0]
                findings.add(str(name.value if isinstance(name, ast.Constant) else constants[ast.unparse(name)]))
    return events, findings


class Seen:
    """What one stack has said."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.texts: set[str] = set()  # what /readyz has said

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A process's log."""
        text = (self._stack.folder / f"{name}.log").read_text()
        assert "Traceback" not in text
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def events(self) -> set[str]:
        return {line["action"] for name in ("web", "worker") for line in self.lines(name)}

    def degraded(self) -> list[str]:
        """What is degraded now, in whole lines."""
        answer = requests.get(f"{self._stack.url}/readyz", headers=bearer(self._stack.api_key), timeout=10)
        found: list[str] = answer.json()["degraded"]
        self.texts.update(found)
        return found

    def says(self, *parts: str) -> None:
        """Wait until /readyz says all of this."""
        until(
            f"{parts} are said, beside {sorted(self.texts)}",
            lambda: all(any(part in text for text in found) for found in [self.degraded()] for part in parts),
            seconds=60,
        )

    def logs(self, *actions: str) -> None:
        """Wait until all of this was logged; some of it is said when /readyz is asked."""

        def are_logged() -> bool:
            if set(actions) <= self.events():
                return True
            self.degraded()
            return False

        until(f"{actions} are logged", are_logged, seconds=60)


@pytest.fixture
def stack(server: Server, postgresql_url: str, tmp_path: Path) -> Iterator[Stack]:
    assert server
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    settings = {
        "WEB_CONCURRENCY": "1",
        "SPOOL_DIR": str(spool),
        "DATABASE_CONNECTIONS": "60",  # more than the server has
        "DYNMARK_COLOUR": "blue",  # no setting
        "RESEND_FOR_SECONDS": "3",
        "CALLBACK_BUDGET_SECONDS": "1",
    }
    with Stack(
        tmp_path / "stack", postgresql_url, settings=settings, sandbox_flags=("--default", "no-receipts")
    ) as made:
        yield made


def test_every_name_is_said_by_one_stack_that_goes_through_its_troubles(
    server: Server, stack: Stack, postgresql_url: str, tmp_path: Path
) -> None:
    with closing(Database(postgresql_url)) as database:
        go_through_troubles(server, stack, database, tmp_path)


def go_through_troubles(server: Server, stack: Stack, database: Database, tmp_path: Path) -> None:
    seen = Seen(stack)
    drop_all(database)
    client = stack.client()
    stack.start("web", "worker")
    stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
    seen.says("unknown settings: DYNMARK_COLOUR", "may open 60 connections")
    seen.logs("web.listening", "web.connections", "settings.unknown", "worker.started", "worker.listens")
    seen.logs("worker.too_many_connections", "time_slices.made")
    the_port_is_taken(stack, seen, tmp_path)
    callbacks_are_refused(stack, seen)
    the_gateway_fails(stack, client, seen, database)
    work_waits(stack, client, seen, database)
    the_database_goes_away(server, stack, client, seen, tmp_path / "spool")
    stack.environ["DYNMARK_USERNAME"] = stack.environ["DYNMARK_PASSWORD"] = ""
    stack.kill("worker")
    stack.start("worker")
    seen.logs("worker.cannot_send", "worker.others_were_killed")
    stack.stop("worker")
    seen.logs("worker.stopped")
    metrics = requests.get(f"{stack.url}/metrics", timeout=5).text
    told = set(re.findall(r"^# TYPE receiptsvc_(\w+)", metrics, re.MULTILINE))
    assert told >= GAUGES.keys()
    spool = {"spool_records", "spool_bytes", "spool_age_seconds", "spool_aside_files"}
    assert told - GAUGES.keys() == {"callback_answer_seconds", "connections_closed_total", *spool}
    events, findings = names_in_the_code()
    unseen = events - seen.events() - ELSEWHERE.keys() - NOT_TO_BE_HAD
    assert not unseen, f"no test has seen these events of the log: {sorted(unseen)}"
    unseen = findings - FINDINGS.keys() - ELSEWHERE.keys()
    assert not unseen, f"no test has seen these words of /readyz: {sorted(unseen)}"
    silent = {name for name, part in FINDINGS.items() if not any(part in text for text in seen.texts)}
    assert not silent, f"{silent} were not said: {sorted(seen.texts)}"
    assert not (ELSEWHERE.keys() | NOT_TO_BE_HAD) - events - findings, "there are no such names any more"


def the_port_is_taken(stack: Stack, seen: Seen, tmp_path: Path) -> None:
    """gunicorn says by which process it is served; a second start says once which address the first one has."""
    texts = [line["text"] for line in seen.lines("web") if line["action"] == "gunicorn.info"]
    assert f"Booting worker with pid: {children(stack.pid('web'))[0]}" in texts
    port = stack.environ["PORT"]
    with Stack(tmp_path / "second", stack.environ["DATABASE_URL"], settings=stack.environ) as second:
        second.start("web")
        until("it is told", lambda: "can't listen on " in second.tail("web"))
        second.kill("web")
        assert re.search(rf"can't listen on [\w.:\[\]]+:{port}: in use by another process: ", second.tail("web"))
        assert "Connection in use" not in second.tail("web")


def callbacks_are_refused(stack: Stack, seen: Seen) -> None:
    """By a key that is not listed, and for what is not HTTP."""
    others = Settings.from_env({**stack.environ, "CALLBACK_KEYS": "old:0123456789abcdef"})
    url = tokens.receipt_url(others, ids.new())
    assert requests.get(f"{url}?statusid=1", timeout=5).status_code == 403
    with socket.create_connection(("127.0.0.1", int(stack.environ["PORT"]))) as connection:
        connection.sendall(b"NO HTTP\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    seen.says("for a key that is not listed: old (1) in the last hour")
    assert client_says(stack, "callbacksRefused") == 1
    seen.logs("web.request_refused", "request")


def client_says(stack: Stack, name: str) -> Any:
    return stack.client().sending()[name]


def send(client: Client, *recipients: str) -> list[UUID]:
    sent = client.send([{"recipients": [recipient], "text": "Hello"} for recipient in recipients])
    found = [ids.parse("msg", str(one["id"])) for one in sent]
    return [one for one in found if one is not None]


def the_gateway_fails(stack: Stack, client: Client, seen: Seen, database: Database) -> None:
    """It can't be reached; then it answers with pages, with faults, and refuses the account."""
    send(client, "447700900001")
    seen.logs("send.gateway_unreachable", "send.called")
    seen.says("Z: no connection to the gateway: ")
    [fault] = client_says(stack, "gatewayFaults")
    assert fault["fault"].startswith("no connection to the gateway: ")
    metrics = requests.get(f"{stack.url}/metrics", timeout=5).text
    assert float(re.findall(r"^receiptsvc_gateway_amiss_seconds (\S+)", metrics, re.MULTILINE)[0]) > 0
    stack.start("sandbox")
    stack.wait_until("the sandbox", lambda: answers(f"{stack.sandbox_url}/sandbox/report"))
    seen.logs("fault.over")
    send(client, "447700900953")
    seen.logs("send.gateway_is_a_web_page")
    [page] = [line for line in seen.lines("worker") if line["action"] == "send.gateway_is_a_web_page"]
    assert page["error"] == "HTTP 500 with a web page: is DYNMARK_SOAP_URL right?"
    send(client, "447700900950")
    seen.logs("send.gateway_unclear")
    seen.says("1 message stays send_unknown")
    change(stack, password="another")
    send(client, "447700900002", "447700900003")
    seen.says("the gateway refuses our credentials")
    change(stack, password=None)
    with database.transaction() as session:
        for held in (SendGate, SendingAccount):
            session.execute(update(held).values(probe_at=held.refused_at))
    seen.logs("send.account_refused", "send.account_works_again")


def change(stack: Stack, **options: object) -> None:
    requests.post(f"{stack.sandbox_url}/sandbox/behaviour", json=options, timeout=5).raise_for_status()


def work_waits(stack: Stack, client: Client, seen: Seen, database: Database) -> None:
    """No worker is at work; receipts and messages wait, and need a person."""
    stack.stop("worker")
    seen.says("worker unseen")
    client.pause("to see it")
    seen.says("sending is paused by demo")
    client.resume()
    (waiting,) = send(client, "447700900004")
    now = database.clock.now()
    (silent,) = rows.accept(database, rows.message("447700900005"), now=now - _HOUR)
    crowd = [rows.arrival("statusid=1", message_id=silent, now=now - 2 * _HOUR) for _ in range(1100)]
    unmatched = rows.arrival("statusid=1&clientref=nobody-s", now=now - 2 * _HOUR)
    with database.transaction() as session:
        rows.insert_arrivals(session, [unmatched, *crowd])
        session.execute(update(InboxRow).values(received_at=now - 2 * _HOUR))
        session.execute(update(Message).where(Message.id == waiting).values(due_at=now - _HOUR))
        values = {"status": "submitted", "status_at": now - _HOUR, "due_at": None}
        session.execute(update(Message).where(Message.id == silent).values(values))
        session.execute(update(SendGate).values(next_free_at=now - _HOUR))
    seen.says("receipts wait to be worked on", "messages wait to be sent", "although messages wait for theirs")
    seen.says("crowd the queue: 1100 or more")
    assert client_says(stack, "workers") == 0
    assert "no worker is at work" in client_says(stack, "degraded")
    seen.logs("health.degraded")
    stack.start("worker")
    seen.logs("health.recovered")
    seen.says("receipts need a person: 1 unmatched")
    assert client_says(stack, "unmatched") == 1


def the_database_goes_away(server: Server, stack: Stack, client: Client, seen: Seen, spool: Path) -> None:
    """Callbacks go to the spool, and are handed over when it is back, but for what is no record."""
    url = tokens.receipt_url(Settings.from_env(stack.environ), ids.new())
    events = requests.get(f"{stack.url}/v1/events", headers=bearer(stack.api_key), stream=True, timeout=30)
    with events:
        server.stop()
        assert requests.get(f"{url}?statusid=1", timeout=10).status_code == 200
        with suppress(ReceiptsvcError):
            client.ledger()
        seen.says("database away", "spool in use: 1 callback waits", "nothing listens there")
        assert requests.get(f"{url}0", timeout=10).status_code == 403  # that is to be counted
        seen.logs("intake.spooled", "intake.trial_not_in_database", "intake.ack_stats_not_kept", "readiness.failed")
        seen.logs("storage.unavailable", "worker.storage_unavailable", "events.not_read")
        (spool / "0.spool").write_bytes(b"this is no record" * 100)
        server.start()
        seen.logs("spool.drained", "spool.torn")
    seen.says("spool: 1 file needs a person")


def test_the_tests_that_the_table_names_say_what_it_says() -> None:
    for name, path in ELSEWHERE.items():
        if "." in name:
            assert name in (PROJECT / path).read_text(), f"{path} does not look for {name}"
