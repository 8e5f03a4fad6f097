"""End to end through real processes: out by SOAP, back by HTTP, whatever is killed meanwhile."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import requests
from rich.console import Console

from receiptsvc.cli.terminal import display
from receiptsvc.client import Json
from receiptsvc.demo.processes import Stack
from receiptsvc.demo.story import STORY, Step, is_wanted, play
from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import verification
from tests.whole.conftest import MakeStack


def told(stack: Stack, **interlude: object) -> str:
    """Run the demo's story, and return what it printed."""
    console = Console(file=io.StringIO(), width=120)

    def show(conversation: Json, ledger: Json) -> None:
        display.print_conversation(console, conversation)
        display.print_ledger(console, ledger)

    play(stack, reference="order-7", show=show, **interlude)  # type: ignore[arg-type]  # passed on
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def report(stack: Stack) -> dict[str, object]:
    answer: dict[str, object] = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
    return answer


def assert_verified(database_url: str) -> None:
    database = Database(database_url)
    try:
        assert list(verification.verify(database)) == []
    finally:
        database.close()


def test_the_demo_reaches_every_expected_status(make_stack: MakeStack, database_url: str) -> None:
    stack = make_stack()
    stack.start_all()
    page = requests.get(stack.url, headers={"Accept": "text/html"}, timeout=5)
    assert (page.url, page.status_code) == (f"{stack.url}/ops/sign-in", 200)
    assert requests.get(f"{stack.url}/docs", timeout=5).ok
    assert requests.get(f"{stack.url}/docs/guides/operations", timeout=5).ok
    printed = told(stack)
    for step in STORY:
        assert step.text[:20] in printed
    assert_verified(database_url)
    callbacks = report(stack)["callbacks"]
    assert isinstance(callbacks, dict)
    assert callbacks["made"] == callbacks["answered200"]
    for name in ("worker", "web", "sandbox"):
        assert stack.stop(name) == 0, stack.tail(name)
    assert_logs_are_discreet(stack)


def assert_logs_are_discreet(stack: Stack) -> None:
    """Each log line of our own processes is JSON with an action, and has no number, text, token or secret."""
    secret = re.compile(
        r"4477009000|Mayflower|parcel|/callbacks/receipts/[0-9a-z]{20}|"
        + "|".join(re.escape(stack.environ[name]) for name in ("DYNMARK_PASSWORD", "CALLBACK_KEYS"))
    )
    for name in ("web", "worker"):
        lines = (stack.folder / f"{name}.log").read_text().splitlines()
        assert lines, name
        for line in lines:
            assert json.loads(line)["action"]
            assert not secret.search(line), line


def test_killing_the_worker_in_the_middle_changes_no_result(make_stack: MakeStack, database_url: str) -> None:
    stack = make_stack(sandbox_flags=["--answer-ms", "300"])
    stack.start_all()
    client = stack.client()

    def kill_while_it_calls(step: Step) -> None:
        before = int(str(report(stack)["submissions"]))

        def has_begun() -> bool:  # unless it had begun before it was asked for: then it ends soon
            newest = next(client.messages(clientRef="order-7"))
            return int(str(report(stack)["submissions"])) > before or newest["status"] != "accepted"

        if STORY.index(step) % 2 == 0:
            stack.wait_until("a call has begun", has_begun)
        stack.kill("worker")
        stack.start("worker")

    told(stack, interlude=kill_while_it_calls)
    assert [item["status"] for item in client.messages(clientRef="order-7")] == [s.expected for s in reversed(STORY)]
    seen = report(stack)
    assert (seen["doubles"], seen["lookalikes"], seen["messageGuids"]) == (0, 0, len(STORY))
    assert_verified(database_url)


def test_killing_the_web_process_loses_no_acknowledged_receipt(make_stack: MakeStack, database_url: str) -> None:
    stack = make_stack(sandbox_flags=["--retries", "50", "--delay-ms", "5", "--spread-ms", "4000", "--ignore-numbers"])
    stack.start_all()
    client = stack.client()
    items = client.send([{"recipients": [f"44770090{n:04}" for n in range(200)], "text": "Hello"}])
    for _ in range(3):
        enough = min(int(client.ledger()["received"]) + 10, 2 * len(items))  # there are two of each
        stack.wait_until("receipts come in", partial(has_received, stack, enough))
        stack.kill("web")
        stack.start("web")
        stack.wait_until("the web process", lambda: is_up(stack))
    stack.wait_until("every message is delivered", lambda: counts(stack) == {"delivered": len(items)})
    stack.wait_until("nothing is pending", lambda: not report(stack)["pending"] and not client.ledger()["pending"])
    callbacks = report(stack)["callbacks"]
    assert isinstance(callbacks, dict)
    ledger = client.ledger()
    assert ledger["balanced"]
    assert ledger["received"] >= callbacks["answered200"]
    assert_verified(database_url)


def has_received(stack: Stack, receipts: int) -> bool:
    return bool(stack.client().ledger()["received"] >= receipts)


def is_up(stack: Stack) -> bool:
    try:
        return requests.get(f"{stack.url}/healthz", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def counts(stack: Stack) -> dict[str, int]:
    statuses = [str(item["status"]) for item in stack.client().messages()]
    return {status: statuses.count(status) for status in set(statuses)}


def test_a_stopped_worker_leaves_a_hanging_call_to_its_lease(sqlite_url: str, tmp_path: Path) -> None:
    flags, settings = ["--answer-ms", "60000"], {"DYNMARK_TIMEOUT_SECONDS": "60"}
    with Stack(tmp_path / "stack", sqlite_url, sandbox_flags=flags, settings=settings) as stack:
        stack.start_all()
        (item,) = stack.client().send([{"recipients": ["447700900001"], "text": "Hello"}])
        stack.wait_until("its receipts have come", lambda: counts(stack) == {"delivered": 1})
        stopping = time.monotonic()
        assert stack.stop("worker") == 0
        assert time.monotonic() - stopping < 25
        assert '"unfinished": ["send-' in stack.tail("worker")
        stack.start("worker")
        stack.wait_until("the call counts as lost", lambda: "send_unknown" in recorded(stack, item))
        assert counts(stack) == {"delivered": 1}


def recorded(stack: Stack, item: dict[str, object]) -> list[str]:
    return [str(transition["status"]) for transition in stack.client().message(str(item["id"]))["transitions"]]


def test_a_second_worker_on_sqlite_exits(sqlite_url: str, tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", sqlite_url) as stack:
        stack.start("worker")
        stack.wait_until("the worker works", lambda: "worker.started" in stack.tail("worker"))
        second = subprocess.run(
            [sys.executable, "-m", "receiptsvc", "worker"],
            cwd=PROJECT,
            env=stack.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "another worker is at work" in second.stderr
        assert second.stderr.count('"worker.waits_for_another"') == 1


@pytest.mark.parametrize(
    "command", [["-m", "receiptsvc", "worker"], ["-m", "gunicorn", "wsgi"], ["-m", "receiptsvc", "urls"]]
)
def test_bad_settings_stop_every_process_with_one_message(command: list[str], tmp_path: Path) -> None:
    environ = {**Stack(tmp_path, f"sqlite:///{tmp_path}/x.db").environ, "PORT": "none", "BATCH_SIZE": "0"}
    done = subprocess.run(
        [sys.executable, *command], cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "PORT: must be" in done.stderr
    assert "BATCH_SIZE: must be" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["-m", "receiptsvc", "worker"], ["-m", "gunicorn", "wsgi"]])
def test_a_postgresql_without_fsync_is_refused(postgresql_url: str, tmp_path: Path, command: list[str]) -> None:
    forgetful = f"{postgresql_url}{'&' if '?' in postgresql_url else '?'}options=-csynchronous_commit%3Doff"
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env=Stack(tmp_path, forgetful).environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "synchronous_commit off" in done.stderr


def test_a_dead_workers_call_is_sent_again_when_its_lease_ends(postgresql_url: str, tmp_path: Path) -> None:
    settings = {"DYNMARK_TIMEOUT_SECONDS": "1"}  # and so a lease of 31 s
    flags = ["--answer-ms", "800", "--default", "no-receipts"]
    with Stack(tmp_path / "stack", postgresql_url, settings=settings, sandbox_flags=flags) as stack:
        stack.start_all()
        stack.client().send([{"recipients": ["447700900001"], "text": "Hello"}])
        stack.wait_until("the call has begun", lambda: report(stack)["submissions"] == 1)
        stack.kill("worker")
        stack.start("worker")
        stack.wait_until("it is sent again", lambda: counts(stack) == {"submitted": 1})
        assert (report(stack)["submissions"], report(stack)["duplicates"], report(stack)["doubles"]) == (2, 1, 0)


def test_the_demo_can_run_again_on_kept_data(sqlite_url: str, tmp_path: Path) -> None:
    for start in ("1000", "2000"):
        flags = ["--transaction-start", start, "--msgid-start", start, "--late-seconds", "3"]
        with Stack(tmp_path / start, sqlite_url, sandbox_flags=flags) as stack:
            stack.start_all()
            wanted = partial(is_wanted, stack, f"order-{start}")
            assert [wanted(is_empty=False, is_kept=True), wanted(is_empty=True, is_kept=True)] == [True, False]
            play(stack, reference=f"order-{start}", show=lambda *_: None)
            assert [wanted(is_empty=False, is_kept=True), wanted(is_empty=False, is_kept=False)] == [False, True]


# What could lead a process elsewhere than to this machine's own, or make it another one.
ELSEWHERE = {
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("DYNMARK_SOAP_URL", "DYNMARK_REST_URL", "DYNMARK_WSDL"), "http://127.0.0.1:9/x"),
    **dict.fromkeys(("DYNMARK_USERNAME", "DYNMARK_PASSWORD", "DYNMARK_TRANSPORT", "API_KEYS", "CALLBACK_KEYS"), "real"),
    **dict.fromkeys(("DATABASE_LISTEN_URL", "READ_DATABASE_URL", "WITNESS_DATABASE_URL"), "postgresql://127.0.0.1:9/x"),
    **dict.fromkeys(("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPASSFILE", "PGOPTIONS"), "real"),
    **dict.fromkeys(("SPOOL_DIR", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NETRC"), "/nowhere"),
    **dict.fromkeys(("WEBHOOKS", "WEBHOOK_URL", "ENCRYPTION_KEYS", "SEND_ONLY_TO"), "real"),
    **dict.fromkeys(("RECEIPTSVC_URL", "PUBLIC_URL", "BROKER_URL", "SENTRY_DSN"), "https://real.example.org"),
    **dict.fromkeys(("GUNICORN_CMD_ARGS", "FORWARDED_ALLOW_IPS", "SCRIPT_NAME", "DYNO", "PORT"), "real"),
    "WEB_ROLE": "callbacks",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "A_SETTING_OF_TOMORROW": "real",
}


def test_the_stack_takes_only_what_is_listed_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: Stack(tmp_path, url).environ for name, url in URLS.items()}
    for name, value in (*ELSEWHERE.items(), ("LC_TIME", "C"), ("TMPDIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
    for name, url in URLS.items():
        environ = Stack(tmp_path, url).environ
        added = environ.keys() - before[name].keys() - {"LC_TIME", "TMPDIR"}
        assert added == ({one for one in ELSEWHERE if one.startswith("PG")} if name == "PostgreSQL" else set())
        assert "real" not in {value for key, value in environ.items() if not key.startswith("PG")}
        assert environ["TMPDIR"] == str(tmp_path)


URLS = {"SQLite": "sqlite:////nowhere/x.db", "PostgreSQL": "postgresql://127.0.0.1:9/x"}


def test_the_demo_ends_well_whatever_the_environment_says(tmp_path: Path) -> None:
    environ = {**os.environ, **ELSEWHERE, "TMPDIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/real.db"}
    done = subprocess.run(
        [sys.executable, "-m", "receiptsvc", "demo"],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the ledger balances" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_stopped_leaves_no_process_running(number: signal.Signals, tmp_path: Path) -> None:
    mark = str(tmp_path)  # by their folder for scratch files its processes are known
    environ = {**os.environ, "TMPDIR": mark}
    demo = subprocess.Popen(
        [sys.executable, "-m", "receiptsvc", "demo"], cwd=PROJECT, env=environ, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while len(marked(mark)) < 4:
        assert time.monotonic() < deadline
    demo.send_signal(number)
    assert demo.wait(30) == 128 + number
    assert demo.stdout is not None
    demo.stdout.close()
    assert marked(mark) == []


def marked(mark: str) -> list[Path]:
    """The running processes with this marker in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(folder)
        except OSError:
            continue  # it ended meanwhile
    return found
