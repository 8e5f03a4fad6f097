"""What most tests stand on: a database built by the migrations, on SQLite and on a real PostgreSQL.

On which of the two a test runs:
- With `database` or `database_url`, once on each. That is for whatever the two may do each in its own way: the store,
  the worker, keeping callbacks, and whatever of the API has SQL of its own for each.
- The same, marked `on_postgresql` (a test, or its file by `pytestmark`), on PostgreSQL alone. That is for what stands
  above the store and can't differ: HTTP, keys, forms, schemas. The long form runs it on each all the same.
- The same in the folder `web`, on one of the two by turns: each page and each call is asked for by several tests, so on
  each; what they read by has its own tests on both. The long form runs these too on each.
- With `postgresql_database` or `postgresql_url`, or with `sqlite_url`: what only one of them can do at all.

Each test finds its database as if it were new. On PostgreSQL every process of pytest-xdist has one, emptied after each
test; on SQLite each test has a copy of a file. Both lie in memory where there is room, but for those of the fault tests.

`slow` marks what takes a second or more, mostly because it starts processes: the folders `faults` and `whole`, and what
says so. `make test-fast` leaves it out. `long` marks what has a long form (see `tests/support/forms.py`), beside the folder
`faults`. `make test-faults` runs those.
"""

import gc
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from receiptsvc import logs
from receiptsvc.store.core import db
from receiptsvc.store.core.db import Database
from tests.support import databases, routes
from tests.support.databases import CompiledStatements, ReusedDatabase
from tests.support.forms import IS_LONG

ENGINES = ("sqlite", "postgresql")
SLOW_FOLDERS = {"faults", "whole"}

_TOKEN = re.compile(r"[0-9a-fA-F]{32,}")

_shared = pytest.StashKey[ExitStack]()
_template = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Have temporary folders in memory, where there is room, and statements and routes compiled once."""
    config.stash[_shared] = ExitStack()
    db.create_engine = CompiledStatements.shared()  # type: ignore[attr-defined]  # it only imports it
    routes.share()
    memory = databases.memory_folder()
    if memory:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the server that the processes of pytest-xdist shared."""
    config.stash[_shared].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist, before it starts, of the server that all of them share."""
    stash = node.config.stash
    if _template not in stash:
        stash[_template] = stash[_shared].enter_context(databases.migrated_template(_given_server()))
    node.workerinput["postgresql_template"] = stash[_template]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each engine, unless it is marked as one that can't differ, or names its engines itself."""
    named = [name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])]
    if "database_url" in metafunc.fixturenames and "database_url" not in named:
        metafunc.parametrize("database_url", _engines(metafunc.definition), indirect=True)


def _engines(test: pytest.Item) -> Sequence[str]:
    if IS_LONG:
        return ENGINES
    if test.get_closest_marker("on_postgresql") is not None:
        return ["postgresql"]
    return [ENGINES[crc32(test.name.encode()) % 2]] if "web" in test.path.parts else ENGINES


def pytest_make_parametrize_id(val: object) -> str | None:
    """Leave tokens that are made anew each time out of a test's name: it must be the same in every process."""
    return _TOKEN.sub("token", val) if isinstance(val, str) and _TOKEN.search(val) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, and what has a long form, by its folder; and put them in their order."""
    for item in items:
        if SLOW_FOLDERS & set(item.path.parts):
            item.add_marker("slow")
        if "faults" in item.path.parts:
            item.add_marker("long")
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes > 1:
        items[:] = _dealt(items, processes)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the tests: looking at it took a tenth of all their time."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests that passed have to say: the values of their property `said`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "said":
                terminalreporter.write_line(str(value))


@pytest.fixture(autouse=True)
def no_known_faults() -> None:
    """Let each test's faults be logged as a new process logs them."""
    logs.forget_faults()


@pytest.fixture(scope="session")
def postgresql_template(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database that nobody uses; new ones are copies of it, which is quicker."""
    given = getattr(request.config, "workerinput", {}).get("postgresql_template")
    if given:
        yield given
    else:
        with databases.migrated_template(_given_server()) as url:
            yield url


@pytest.fixture(scope="session")
def reused_postgresql(postgresql_template: str) -> Iterator[ReusedDatabase]:
    """A database that the tests of this process use one after the other."""
    reused = ReusedDatabase(postgresql_template)
    yield reused
    reused.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that nobody uses."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    databases.migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a new, migrated SQLite file."""
    path = tmp_path / "test.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(reused_postgresql: ReusedDatabase) -> Iterator[str]:
    """The URL of a migrated database on PostgreSQL that is as if new."""
    yield reused_postgresql.url
    reused_postgresql.empty()


@pytest.fixture
def empty_postgresql(postgresql_template: str) -> Iterator[str]:
    """The URL of a database on PostgreSQL without tables."""
    with databases.scratch_postgresql(postgresql_template) as url:
        yield url


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'data' / 'empty.db'}"


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database that is as if new; a test that uses it runs once on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database that is as if new, once on each engine."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def postgresql_database(postgresql_url: str) -> Iterator[Database]:
    """The same on PostgreSQL, for what SQLite can't do at all."""
    database = Database(postgresql_url)
    yield database
    database.close()


def _dealt(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Tests in such an order that every second process begins with slow ones: they wait while the others work.

    Each process takes one stretch of the list, and who has none left takes from the ends of the others'.
    """
    slow = [item for item in items if SLOW_FOLDERS & set(item.path.parts)]
    quick = [item for item in items if not SLOW_FOLDERS & set(item.path.parts)]
    size, hands = -(-len(items) // processes), -(-processes // 2)
    dealt: list[pytest.Item] = []
    for process in range(processes):
        share = [] if process % 2 else slow[process // 2 :: hands]
        taken = max(0, size - len(share))
        dealt += [*share, *quick[:taken]]
        del quick[:taken]
    return [*dealt, *quick]


def _names(argnames: str | Sequence[str]) -> Sequence[str]:
    return [name.strip() for name in argnames.split(",")] if isinstance(argnames, str) else argnames


def _given_server() -> str | None:
    return os.environ.get("TEST_DATABASE_URL")
