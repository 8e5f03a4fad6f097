"""`make run`: what it keeps, what it sends, and in which database the other commands find it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from sqlalchemy import func, select

from receiptsvc import locations
from receiptsvc.cli.demo import demo
from receiptsvc.client import Client
from receiptsvc.demo import kept, setup
from receiptsvc.demo.processes import Stack, free_port
from receiptsvc.demo.story import KEPT_REFERENCE, DemoFailed
from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from tests.support import rows

# The command as it is, with another data folder than the checkout's.
COMMAND = """
import sys
from pathlib import Path
from receiptsvc import locations
locations.DATA = Path(sys.argv.pop(1))
from receiptsvc.cli.main import commands
commands(prog_name="receiptsvc")
"""


@contextmanager
def run(folder: Path, url: str, *flags: str) -> Iterator[str]:
    """`make run` while the block lasts; gives what it has printed until it was up."""
    command = [sys.executable, "-c", COMMAND, str(folder / "data"), "demo", "--stay", *flags]
    environ = {**os.environ, "DATABASE_URL": url, "PORT": str(free_port())}
    with subprocess.Popen(
        command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C ends it" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        try:
            yield said
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert process.returncode == 0


def test_nothing_is_sent_again_and_other_commands_look_at_the_same_database(
    postgresql_url: str, postgresql_database: Database, tmp_path: Path
) -> None:
    """On a database in which the first message of an earlier run is: the story is not sent a second time."""
    kept.mark(postgresql_url)
    rows.accept(postgresql_database, rows.message("447700900001", "Hello", client_ref=KEPT_REFERENCE))
    with run(tmp_path, postgresql_url) as said:
        assert "messages reached" not in said
        (page,) = re.findall(r"Page +(\S+)", said)
        key = {"secret": (tmp_path / "data" / "api_key").read_text().strip()}
        signed_in = requests.post(f"{page}/sign-in", data=key, headers={"Sec-Fetch-Site": "same-origin"}, timeout=15)
        assert (signed_in.url, signed_in.status_code) == (page, 200)
        (sandbox,) = re.findall(r"Sandbox +(\S+)/report", said)
        reply = {"sender": "447700900001", "recipient": "Mayflower", "content": "Yes"}
        assert requests.post(f"{sandbox}/reply", json=reply, timeout=15).json()["answer"] == 200
        assert '"addresses": ["127.0.0.1:' in (tmp_path / "data" / "logs" / "web.log").read_text()
        assert [item["clientRef"] for item in client_of(said, tmp_path).messages()] == [KEPT_REFERENCE]
        (export,) = re.findall(r"^  (export .*)$", said, re.MULTILINE)
        verified = subprocess.run(
            ["/bin/sh", "-c", f'{export} && exec "$0" -m receiptsvc verify', sys.executable],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": postgresql_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (verified.returncode, verified.stderr) == (0, "")
        assert "messages 1" in verified.stdout


@pytest.mark.usefixtures("postgresql_database")
def test_a_port_that_is_taken_is_named_and_no_other_chosen(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        monkeypatch.setenv("DATABASE_URL", postgresql_url)
        monkeypatch.setattr(locations, "DATA", tmp_path)
        with pytest.raises(DemoFailed, match=f"port {port} is taken by another program: .* in PORT"):
            setup.make_stack(tmp_path, postgresql_url, stay=True)


def client_of(said: str, folder: Path) -> Client:
    (url,) = re.findall(r"API +(\S+)/docs", said)
    return Client(url, (folder / "data" / "api_key").read_text().strip())


def test_empty_without_stay_is_wrong_use() -> None:
    assert CliRunner().invoke(demo, ["--empty"]).exit_code == 2


def test_a_real_services_database_is_left_alone(database_url: str, database: Database) -> None:
    kept.refuse_foreign(database_url)
    rows.accept(database, rows.message("447700900001", "Hello"))
    with pytest.raises(DemoFailed, match="of a real service, which the sandbox must not touch"):
        kept.refuse_foreign(database_url)


def test_a_marked_database_may_be_used_again(database_url: str, database: Database) -> None:
    kept.mark(database_url)
    kept.mark(database_url)
    rows.accept(database, rows.message("447700900001", "Hello"))
    kept.refuse_foreign(database_url)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Audit)) == 1


def test_a_database_without_tables_may_be_used(empty_postgresql: str, empty_sqlite: str) -> None:
    kept.refuse_foreign(empty_postgresql)
    kept.refuse_foreign(empty_sqlite)
    assert not Path(empty_sqlite.removeprefix("sqlite:///")).exists()


def test_a_database_that_is_away_is_one_line() -> None:
    with pytest.raises(DemoFailed, match="nothing listens there: start it, or correct the database's URL"):
        kept.refuse_foreign("postgresql+psycopg://127.0.0.1:9/none")


def test_of_a_log_whole_lines_are_shown(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "sqlite://")
    assert stack.tail("web") == ""
    lines = [f"{number} {'x' * 90}" for number in range(50)]
    for written in (lines[:1], lines[:10], lines, ["x" * 5000]):
        (tmp_path / "web.log").write_text("\n".join(written) + "\n")
        shown = stack.tail("web").splitlines()
        assert shown == written[-len(shown) :]
        assert len(shown) == min(len(written), 22)
