"""The commands of the docs run as they stand, on one running service. New ones are found by themselves.

A block marked `sh` is run as one script, so that a line may use what the one before it has set. It is changed in this
only: the service is at a port of its own, and `msg_…` is a message's id.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
import requests

from receiptsvc import tokens
from receiptsvc.cli.main import commands
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.locations import PROJECT
from tests.test_docs import PAGES, name_of

MESSAGES = "recipient,text\n447700900005,Hello\n"
LINE = '{"recipients": ["447700900006"], "text": "Hello"}'

# Lines that are not run, and why.
NOT_RUN = {
    r"make \w": "sets up and starts all by itself; that there is such a target is tested below, what it does elsewhere",
    r"(heroku|git push heroku)\b": "it needs an account there",
    r"export (DATABASE_URL|DYNMARK_SOAP_URL)=|\.venv/bin/python -m receiptsvc (sandbox|migrate|web|worker)$": (
        "they are started here already, by the same commands and settings, and stay up"
    ),
    r"pip install '?\.": "it would change the environment of these tests; tests/test_installed.py installs the wheel",
}
# Lines that may end with 1 here, and why.
MAY_END_WITH_1 = {
    r"python -m receiptsvc cancel msg_…": "the gateway has the message already, and cancel says so",
    r"python -m receiptsvc resolve msg_…": "the message's answer was not lost, and resolve says so",
}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAMS = r"make|curl|pip|python3?|\.venv/bin/\S+|receiptsvc|gunicorn|heroku|psql|pg_dump|alembic|export|git|sudo|apt(?:-get)?"
_COMMAND = re.compile(rf"^(?:\$ |[A-Z_]+=\S+ )?(?:{_PROGRAMS}) (?!\s)", re.MULTILINE)
_INLINE = re.compile(r"`((?:python -m receiptsvc|receiptsvc|make) [^`…]*)`")
_TARGETS = re.compile(r"^([a-z0-9-]+):", re.MULTILINE)


def blocks() -> Iterator[tuple[str, str]]:
    """Each block's place and script, each of its commands in one line."""
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            if found[1] == "sh":
                line = text.count("\n", 0, found.start()) + 1
                yield f"{name_of(page)}:{line}", found[2].replace("\\\n", " ")


def lines() -> Iterator[str]:
    for _, block in blocks():
        yield from block.splitlines()


def runnable(block: str) -> str:
    """What of a block is run here."""
    wanted = [line for line in block.splitlines() if not _is_of(NOT_RUN, line)]
    return "\n".join(
        f"{line.partition('  #')[0]} || [ $? = 1 ]" if _is_of(MAY_END_WITH_1, line) else line for line in wanted
    )


def _at(stack: Stack, script: str) -> str:
    """The script with the addresses of these processes, in place of the usual ones and of what a template fills in."""
    addresses = {"http://127.0.0.1:8000": stack.url, "{{ url }}": stack.url, "http://127.0.0.1:9100": stack.sandbox_url}
    for usual, address in addresses.items():
        script = script.replace(usual, address)
    return script


def _is_of(patterns: Iterable[str], line: str) -> bool:
    return any(re.match(pattern, line) for pattern in patterns)


@pytest.fixture(scope="module")
def stack(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(sqlite_template, folder / "docs.db")
    with Stack(folder / "stack", f"sqlite:///{folder}/docs.db") as stack:
        stack.start("sandbox", "web", "worker")
        stack.wait_until("the sandbox", lambda: answers(f"{stack.sandbox_url}/sandbox/report"))
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        reply_url = tokens.static_urls(Settings.from_env(stack.environ)).inbound  # as `make run` sets it
        requests.post(f"{stack.sandbox_url}/sandbox/behaviour", json={"reply_url": reply_url}, timeout=10)
        yield stack


@pytest.fixture(scope="module")
def checkout(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is to the commands as the project's own, and the message whose id they are given."""
    folder = tmp_path_factory.mktemp("checkout")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in {
        "python": f'exec {shlex.quote(sys.executable)} "$@"',
        "receiptsvc": f'exec {shlex.quote(sys.executable)} -m receiptsvc "$@"',
        "some-program": f"echo {shlex.quote(LINE)}",
        "curl": f'exec {shutil.which("curl")} --silent --show-error --fail-with-body "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (folder / "messages.csv").write_text(MESSAGES)
    (folder / "data").mkdir()
    (folder / "data" / "api_key").write_text(stack.api_key)
    (folder / "data" / "callback_keys").write_text(stack.environ["CALLBACK_KEYS"])
    return folder


@pytest.mark.slow
def test_the_commands_of_the_docs_run(stack: Stack, checkout: Path) -> None:
    """All in one test, so that one service is enough."""
    scripts = {place: script for place, block in blocks() if (script := runnable(block))}
    assert len(scripts) > 4
    faults = {place: fault for place, script in scripts.items() if (fault := run(stack, checkout, script))}
    assert not faults, "\n\n".join(f"{place}:\n{fault}" for place, fault in faults.items())


def run(stack: Stack, checkout: Path, script: str) -> str | None:
    """Run a script as a person would in the checkout; what went wrong, if anything did."""
    if "msg_…" in script:
        (item,) = stack.client().send([{"recipients": ["447700900004"], "text": "Hello"}])
        script = script.replace("msg_…", str(item["id"]))
    environ = {
        **stack.environ,
        "PATH": f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "RECEIPTSVC_URL": stack.url,
        "RECEIPTSVC_API_KEY": stack.api_key,
        "URL": stack.url,
        "KEY": stack.api_key,
    }
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", _at(stack, script)],
        cwd=checkout,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return f"exit code {done.returncode} of\n{script}\n{done.stdout}" if done.returncode else None


@pytest.mark.parametrize("pattern", [*NOT_RUN, *MAY_END_WITH_1])
def test_the_exceptions_are_still_needed(pattern: str) -> None:
    assert any(re.match(pattern, line) for line in lines())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_of_commands_is_marked_as_one(page: Path) -> None:
    unmarked = [block for mark, block in _BLOCK.findall(page.read_text()) if mark != "sh" and _COMMAND.search(block)]
    assert unmarked == [], "begin it with ```sh, so that it is run"


def test_each_make_target_that_the_docs_name_exists() -> None:
    targets = set(_TARGETS.findall((PROJECT / "Makefile").read_text()))
    named = {line.split()[1] for line in (*lines(), *inline()) if line.startswith("make ")}
    assert len(named) > 5
    assert named <= targets


def test_each_command_within_the_text_exists_with_its_options() -> None:
    found = [line.partition("receiptsvc ")[2] for line in inline() if not line.startswith("make ")]
    assert len(found) > 8
    for words in map(shlex.split, found):
        name, *rest = words
        if name.startswith("-"):
            continue
        command = commands.get_command(click.Context(commands), name)
        assert command is not None, words
        while isinstance(command, click.Group) and rest:
            command = command.commands[rest.pop(0)]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= options | {"--help"}, words


def inline() -> Iterator[str]:
    for page in PAGES:
        text = _BLOCK.sub("", page.read_text())
        yield from (" ".join(found.split()) for found in _INLINE.findall(text))
