"""Who may know whom. The arrows run downwards only; the table is the law, and the code is held against it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptsvc.config import PROJECT

PACKAGE = PROJECT / "receiptsvc"

# A room → what it may import of ours, and from outside besides the standard library.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "domain": (set(), set()),
    "ids": (set(), {"uuid_utils"}),
    "logs": ({"domain"}, set()),
    "keys": ({"ids"}, set()),
    "config": ({"domain", "keys"}, {"sqlalchemy"}),
    "tokens": ({"config", "ids", "keys"}, set()),
    "dynmark": ({"domain", "config", "logs"}, {"zeep", "lxml", "requests", "urllib3", "werkzeug"}),
    "store": ({"domain", "ids", "logs"}, {"sqlalchemy", "psycopg"}),
    "metrics": (set(), {"prometheus_client"}),
    "intake": (
        {"domain", "ids", "logs", "config", "metrics", "tokens", "store"},
        {"gevent", "gunicorn"},
    ),
    "worker": (
        {"domain", "ids", "logs", "config", "tokens", "dynmark", "store"},
        {"sqlalchemy", "phonenumbers"},
    ),
    "web": (
        {"domain", "ids", "keys", "logs", "config", "intake", "metrics", "tokens", "store"},
        {
            "flask",
            "flask_smorest",
            "marshmallow",
            "markupsafe",
            "werkzeug",
            "sqlalchemy",
            "phonenumbers",
            "apispec",
            "webargs",
        },
    ),
    "client": ({"config", "domain", "ids"}, {"requests"}),
    "sandbox": (set(), {"lxml"}),
    "cli": (
        {"client", "config", "domain", "dynmark", "ids", "logs", "sandbox", "store", "tokens", "worker"},
        {"click", "rich", "requests", "alembic", "sqlalchemy", "psycopg"},
    ),
    "__main__": ({"cli"}, set()),
    "__init__": (set(), set()),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            if node.module == "receiptsvc":
                yield from (f"receiptsvc.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    ours, outside = ROOMS[room]
    for name in imported(path):
        head, _, rest = name.partition(".")
        if head == "receiptsvc":
            assert rest.partition(".")[0] in {room, *ours}, f"{room} may not know {name}"
        else:
            assert head in outside or head in sys.stdlib_module_names, f"{room} may not know {name}"


def test_the_table_has_no_circle() -> None:
    settled: set[str] = set()
    waiting = {room: needed - {room} for room, (needed, _) in ROOMS.items()}
    while waiting:
        ready = {room for room, needed in waiting.items() if needed & set(ROOMS) <= settled}
        assert ready, f"a circle among {sorted(waiting)}"
        settled |= ready
        waiting = {room: needed for room, needed in waiting.items() if room not in ready}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = [
        node for function in functions for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside


def test_only_one_module_writes_a_status() -> None:
    writers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"status_at", "conflict"}
        and isinstance(node.ctx, ast.Store)
    }
    assert writers == {"store/messages.py"}
