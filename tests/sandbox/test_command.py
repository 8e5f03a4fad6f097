"""The command `sandbox`, as a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from click.testing import CliRunner

from receiptsvc.cli.sandbox import sandbox
from receiptsvc.sandbox import REST_PATH, SOAP_PATH, behaviour
from tests.sandbox.receiver import Receiver, envelope, message, post, send


@contextmanager
def process(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; gives the process and its URL."""
    given = [sys.executable, "-m", "receiptsvc.cli.sandbox", "--port", "0", *flags]
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            words, _, url = running.stdout.readline().strip().rpartition(" ")
            assert words == "sandbox listening on"
            named = [running.stdout.readline().strip() for _ in range(2)]
            assert named == [f"DYNMARK_SOAP_URL={url}{SOAP_PATH}", f"DYNMARK_REST_URL={url}{REST_PATH}"]
            yield running, url
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_its_report(receiver: Receiver, number: signal.Signals) -> None:
    with process("--delay-ms", "60000", "--retries", "3") as (running, url):
        send(url + "/any.asmx", message("447700900000", url=receiver.url))
        running.send_signal(number)
        out, err = running.communicate(timeout=10)
    report = json.loads(err)
    assert (running.returncode, out) == (0, "")
    assert (report["submissions"], report["pending"], report["callbacks"]["made"]) == (1, 1, 0)


def test_a_signal_ends_it_in_the_middle_of_a_slow_answer() -> None:
    with process("--default", "slow-answer", "--slow-seconds", "600") as (running, url):
        with pytest.raises(requests.exceptions.ReadTimeout):
            post(url + "/any.asmx", envelope(message("447700900000")), timeout=0.3)
        running.terminate()
        running.communicate(timeout=10)
    assert running.returncode == 0


def test_flags_reach_the_gateway(receiver: Receiver) -> None:
    behaviours = ("--default", "undelivered", "--default", "post-form", "--chance", "duplicate=1")
    with process("--ignore-numbers", "--delay-ms", "1", *behaviours) as (_, url):
        send(url + "/any.asmx", message("447700900902", url=receiver.url))
        [taken] = requests.get(url + "/sandbox/messages", timeout=5).json()
    assert taken["behaviours"] == ["undelivered", "post-form", "duplicate"]
    assert taken["planned"] == ["undelivered", "undelivered"]


def test_help_shows_each_behaviour_on_its_own_line() -> None:
    shown = CliRunner().invoke(sandbox, ["--help"])
    assert shown.exit_code == 0
    lines = [line.split()[:2] for line in shown.output.splitlines()]
    assert all([row.tail, row.name] in lines for row in behaviour.TABLE.values())
    assert ["SOAP", SOAP_PATH] in lines
    assert ["REST", REST_PATH] in lines


@pytest.mark.parametrize(("flag", "value", "word"), [
    ("--default", "nonsense", "--default: must be names"),
    ("--chance", "duplicate", "such as duplicate=0.1"),
    ("--chance", "duplicate=2", "--chance, --lose-answers: must be"),
    ("--chance", "nonsense=0.1", "--chance, --lose-answers: must be"),
    ("--lose-answers", "2", "--chance, --lose-answers: must be"),
    ("--delay-ms", "-1", "--delay-ms: must be a number of milliseconds from 0 to 86400000"),
    ("--retry-gap-ms", "-1", "--retry-gap-ms: must be a number of milliseconds"),
    ("--late-seconds", "-1", "--late-seconds: must be a number of seconds from 0 to 86400"),
    ("--port", "70000", "--port: must be"),
    ("--reply-url", "nowhere", "--reply-url: must be"),
])  # fmt: skip
def test_wrong_flags_are_wrong_use(flag: str, value: str, word: str) -> None:
    shown = CliRunner().invoke(sandbox, ["--port", "0", flag, value])
    assert shown.exit_code == 2
    assert word in " ".join(shown.output.split())


def test_a_used_port_ends_with_one_message() -> None:
    with process() as (_, url):
        port = url.rpartition(":")[2]
        shown = CliRunner().invoke(sandbox, ["--port", port])
    assert shown.exit_code == 1
    assert f"can't listen on 127.0.0.1, port {port}: Address already in use. Give another --port" in shown.output
