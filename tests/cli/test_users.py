"""`users`: passwords come from a terminal or a pipe, never from the command line."""

import json
import os
import pty
import subprocess
import sys

import pytest

from receiptsvc import passwords
from receiptsvc.store.access import users
from tests.cli.conftest import Run, Service

PASSWORD = b"correct horse battery\n"


def stored(service: Service, name: str) -> str:
    with service.database.reading() as session:
        found = users.find(session, name)
    assert found is not None
    return found.password_hash


def test_a_user_is_added_listed_and_disabled(service: Service, run: Run) -> None:
    result = run("users", "add", "Anna", "--password-stdin", stdin=PASSWORD)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("anna can sign in at http")
    assert passwords.is_right("correct horse battery", stored(service, "anna"))
    assert "anna                 can sign in" in run("users", "list").stdout
    assert run("users", "disable", "anna", "--reason", "has left").stdout == "anna is disabled; no sessions ended\n"
    (item,) = json.loads(run("users", "list", "--json").stdout)["items"]
    assert item["name"] == "anna"
    assert item["disabledAt"] is not None


def test_a_generated_password_is_printed_once(service: Service, run: Run) -> None:
    result = run("users", "add", "ben", "--generate")
    assert passwords.is_right(result.stdout.splitlines()[-1], stored(service, "ben"))
    assert result.stdout.splitlines()[-1] not in run("users", "list").output


def test_a_new_password_replaces_the_old_one(service: Service, run: Run) -> None:
    run("users", "add", "anna", "--password-stdin", stdin=PASSWORD)
    result = run("users", "password", "anna", "--password-stdin", stdin=b"another horse battery")
    assert result.stdout == "anna has a new password; no sessions ended\n"
    assert passwords.is_right("another horse battery", stored(service, "anna"))


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "why"),
    [
        (("add", "anna", "--password-stdin"), b"short\n", 1, "12 to 1024"),
        (("add", "anna", "--password-stdin"), b"\xff long enough to be one\n", 1, "a password is UTF-8"),
        (("add", "anna smith", "--generate"), b"", 1, "a name has"),
        (("add", "anna"), b"", 2, "--password-stdin"),
        (("add", "anna", "--generate", "--password-stdin"), PASSWORD, 2, "not both"),
        (("disable", "nobody"), b"", 1, "there is no user nobody"),
    ],
)
def test_what_can_not_be_is_refused(
    service: Service, run: Run, arguments: tuple[str, ...], stdin: bytes, code: int, why: str
) -> None:
    result = run("users", *arguments, stdin=stdin)
    assert (result.exit_code, why in result.stderr) == (code, True), result.stderr
    with service.database.reading() as session:
        assert not users.list_all(session)


@pytest.mark.slow
def test_a_password_is_asked_for_twice_and_never_shown(service: Service) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "receiptsvc", "users", "add", "anna"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    for question in (b"Password:", b"Repeat for confirmation:"):
        while question not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, PASSWORD)
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the end of a terminal, on Linux
        pass
    assert process.wait(60) == 0, shown
    assert PASSWORD.strip() not in shown
    assert passwords.is_right(PASSWORD.decode().strip(), stored(service, "anna"))
