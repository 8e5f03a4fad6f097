"""The table of commands, exit codes, and that no command loads what it does not need."""

import os
import signal
import subprocess
import sys
from socket import create_server

import click
import pytest

from receiptsvc.cli.main import commands
from tests.cli.conftest import Run

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


@pytest.mark.parametrize("command", ["urls", "verify", "worker"])
def test_bad_settings_end_with_2_and_every_fault_in_one_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("BATCH_SIZE", "251")
    result = run(command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "PORT: must be" in result.stderr
    assert "BATCH_SIZE: must be" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["urls"], {"zeep", "requests", "flask", "lxml"}),
        (["send", "--help"], {"zeep", "flask", "lxml", "receiptsvc.store"}),
    ],
)
def test_a_command_loads_only_what_it_needs(environ: dict[str, str], arguments: list[str], unneeded: set[str]) -> None:
    code = f"""
import sys
from receiptsvc.cli.main import commands
commands({arguments!r}, standalone_mode=False)
print(sorted(sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environ}, capture_output=True, text=True, check=True
    )
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
