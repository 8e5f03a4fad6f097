"""A migration runs while the release before answers callbacks, and leaves it able to come back."""

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from receiptsvc.store.core import schema
from receiptsvc.store.core.db import Database, plain_url
from tests.faults.proof import assert_nothing_lost
from tests.support import releases
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.processes import until
from tests.support.toy_upgrade import AFTER

MAX_SECONDS = 2.0  # that a callback may wait: promised is one, and other tests share the machine
CONNECTIONS, PAUSE_SECONDS = 8, 0.05  # some 150 callbacks a second
PART = 150  # of them, before and after each step

SHARED = {"CALLBACK_KEYS": "k1:0123456789abcdef", "DATABASE_CONNECTIONS": "12"}


def start(stack: Stack) -> None:
    stack.start("web", "worker")
    stack.wait_until("the web process", partial(answers, f"{stack.url}/readyz"))
    stack.wait_until("the worker", lambda: "worker.started" in (stack.folder / "worker.log").read_text())


def send(stack: Stack) -> Callable[[Stack], str]:
    """Have a message accepted; its callback URL at each stack."""
    answer = stack.client().submit([{"recipients": ["447700900001"], "text": "Hello"}])
    message_id = ids.parse("msg", str(answer["messages"][0]["id"]))
    assert message_id is not None
    return lambda at: tokens.receipt_url(Settings.from_env(at.environ), message_id)


def migrate_beside_a_reader(stack: Stack) -> None:
    """Migrate while somebody else reads the callbacks for long, as pg_dump does: the first try gets no lock."""
    said = stack.folder / "migrations.log"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(plain_url(stack.database_url)) as reader:
        reader.execute("SELECT count(*) FROM inbox")
        migrated = pool.submit(stack.migrate)
        until("it waits", lambda: migrated.done() or (said.exists() and "other transactions hold" in said.read_text()))
        reader.rollback()
        migrated.result()
    assert "waiting: other transactions hold a table that a migration needs" in said.read_text()


def hand_over(load: Load, url: Callable[[Stack], str], leaving: Stack, coming: Stack) -> None:
    """Start a release beside the one that works, lead the callbacks to it, and stop the other."""
    start(coming)
    load.move_to(url(coming))
    load.wait_for(200, times=PART)
    for name in ("web", "worker"):
        leaving.stop(name)
    load.wait_for(200, times=PART)


@pytest.mark.slow
def test_the_release_before_answers_while_a_migration_runs_and_after_a_way_back(
    empty_postgresql: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    code, whose = releases.before(tmp_path / "code-before")
    later_code = releases.after(tmp_path / "code-after")
    with (
        Stack(tmp_path / "before", empty_postgresql, settings=SHARED, project=code) as before,
        Stack(tmp_path / "after", empty_postgresql, settings=SHARED, project=later_code) as after,
    ):
        before.migrate()
        start(before)
        url = send(before)
        with Load(url(before), connections=CONNECTIONS, pause_seconds=PAUSE_SECONDS) as load:
            load.wait_for(200, times=PART)
            migrate_beside_a_reader(after)
            load.wait_for(200, times=PART)
            hand_over(load, url, before, after)
            before.migrate()
            hand_over(load, url, after, before)
        before.wait_until("the worker has worked on all", lambda: before.client().ledger()["pending"] == 0)
    said = f"{len(load.calls)} callbacks, the slowest after {load.slowest_seconds:.2f} s; the release before: {whose}"
    record_property("said", f"upgrade under load: {said}")
    assert (load.statuses, load.refused_connections) == ({200}, 0)
    assert load.slowest_seconds <= MAX_SECONDS
    assert revision_of(empty_postgresql) == AFTER
    assert_nothing_lost(empty_postgresql, load.kept)


def test_the_release_before_is_the_newest_tag_where_one_is_at_hand(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("THERE IS NO git ON THIS MACHINE: whether a release's tag is found was not tried")
    checkout, code = tmp_path / "checkout", tmp_path / "code"
    checkout.mkdir()
    own = (checkout, "the checkout's own code, as no release's tag is at hand")
    assert releases.before(code, checkout) == own

    def commit(text: str) -> None:
        (checkout / "file").write_text(text)
        git("add", "file")
        git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", text)

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=checkout, check=True)  # noqa: S607 - whichever git there is

    git("init", "--quiet")
    commit("released")
    git("tag", "first-idea")
    assert releases.before(code, checkout) == own
    git("tag", "v1.0.0")
    commit("not released")
    assert releases.before(code, checkout) == (code, "the code of v1.0.0")
    assert (code / "file").read_text() == "released"


def revision_of(url: str) -> str | None:
    database = Database(url)
    with database.connection(is_read_only=True) as connection:
        assert "toy" in {column["name"] for column in sa.inspect(connection).get_columns("inbox")}
        revision = schema.read(connection).revision
    database.close()
    return revision
