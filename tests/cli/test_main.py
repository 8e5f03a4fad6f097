"""The table of commands, exit codes, and that no command loads what it does not need."""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from socket import create_server

import click
import pytest

from receiptsvc.cli.main import OVER_HTTP, commands
from receiptsvc.locations import PROJECT
from tests.cli.conftest import Run, Service

PYTHON = (sys.executable, "-m", "receiptsvc")


def test_every_command_of_the_table_can_be_loaded_and_has_a_help_text() -> None:
    context = click.Context(commands)
    for name in commands.list_commands(context):
        command = commands.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(limit=80)


@pytest.mark.parametrize("arguments", [["nonsense"], ["send"], ["status"], ["verify", "--nonsense"]])
def test_wrong_use_ends_with_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("statsu", "order-1"), "'status'"),
        (("recipts", "list"), "'receipts'"),
        (("receipts", "lits"), "'list'"),
        (("suppressions", "remove", "447700900001"), None),
        (("status", "order-1", "--jsno"), "'--json'"),
        (("receipts", "list", "--outcome", "unmatchd"), "'unmatched'"),
        (("stats", "--by", "DAYS"), "'day'"),
        (("resolve", "msg_1", "deliverd", "--reason", "x"), "'delivered'"),
        (("export", "message"), "'messages'"),
        (("send", "--format", "cvs"), "'csv'"),
    ],
)
def test_an_unknown_command_option_or_word_names_the_nearest(
    run: Run, arguments: tuple[str, ...], nearest: str | None
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    _, _, suggestion = result.stderr.partition("Did you mean")
    assert (nearest in suggestion) if nearest else not suggestion


def test_every_command_that_asks_or_acts_over_http_has_json_and_an_example(run: Run) -> None:
    context = click.Context(commands)
    for name in OVER_HTTP:
        command = commands.get_command(context, name)
        assert command is not None
        parts = command.commands.values() if isinstance(command, click.Group) else [command]
        for part in parts:
            assert "as_json" in {parameter.name for parameter in part.params}, (name, part.name)
        if name not in {"send", "sending", "ledger"}:
            assert f"python -m receiptsvc {name}" in run(name, "--help").stdout, name


def test_help_lists_every_command_once_under_what_it_is_for(run: Run) -> None:
    shown = run("--help").stdout
    assert [line for line in shown.splitlines() if line.startswith(("Ask", "Send (", "Operate", "Try"))] == [
        *("Ask (over HTTP):", "Send (over HTTP):", "Operate (on settings and database):", "Try (by themselves):")
    ]
    for name in commands.list_commands(click.Context(commands)):
        assert len(re.findall(rf"^  {name} +[A-Z]", shown, re.MULTILINE)) == 1, name


def test_every_command_stands_in_the_docs_by_its_question() -> None:
    page = (PROJECT / "docs" / "commands.md").read_text()
    assert [name for name in commands.list_commands(click.Context(commands)) if f"`{name}" not in page] == []


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("name", "value", "code"), [("RECEIPTSVC_URL", "http://127.0.0.1:9", 1), ("RECEIPTSVC_URL", "x", 2)]
)
def test_usage_lines_are_not_shown_for_a_request_that_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, code: int
) -> None:
    monkeypatch.setenv(name, value)
    result = run("status", "order-1")
    assert (result.exit_code, "Usage" in result.stderr) == (code, False)


@pytest.mark.slow
def test_what_does_not_fit_a_terminal_stands_beneath_its_row(service: Service, environ: dict[str, str]) -> None:
    columns = 60
    message = service.accept("Hello", client_ref="order-1", recipient="447700900001")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [*PYTHON, "status", "order-1"],
        env={**os.environ, **environ, "RECEIPTSVC_URL": service.url, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal's output, on Linux
            while part := os.read(ours, 65_536):
                shown += part
        assert process.wait(timeout=30) == 0
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert any(line.startswith(f"{message}  447700900001") for line in lines)
    assert max(map(len, lines)) <= columns
    assert "  statusAt: 2026-01-05T12:00:00Z  clientRef: order-1" in lines


@pytest.mark.parametrize("command", ["urls", "verify", "worker"])
def test_bad_settings_end_with_2_and_every_fault_in_one_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("BATCH_SIZE", "251")
    result = run(command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage" not in result.stderr
    assert "PORT: must be" in result.stderr
    assert "BATCH_SIZE: must be" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "unneeded"),
    [
        (["urls"], {"zeep", "requests", "flask", "lxml"}),
        ([*OVER_HTTP], {"zeep", "flask", "lxml", "psycopg", "receiptsvc.store"}),
    ],
)
def test_a_command_loads_only_what_it_needs(environ: dict[str, str], names: list[str], unneeded: set[str]) -> None:
    code = f"""
import sys
import click
from receiptsvc.cli.main import commands
for name in {names!r}:
    command = commands.get_command(click.Context(commands), name)
if {names!r} == ["urls"]:
    command.main([], standalone_mode=False)
print(sorted(sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environ}, capture_output=True, text=True, check=True
    )
    assert "'click'" in done.stderr
    assert not {name for name in unneeded if repr(name) in done.stderr}


@pytest.mark.slow
def test_an_interrupt_ends_with_130(environ: dict[str, str]) -> None:
    with create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [*PYTHON, "status", "order-1"],
            env={**os.environ, **environ, "RECEIPTSVC_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = silent.accept()  # the command now waits for an answer
            with connection:
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_closed_standard_output_ends_with_1_and_no_message(environ: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*PYTHON, "urls", "--json"],
            env={**os.environ, **environ},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
