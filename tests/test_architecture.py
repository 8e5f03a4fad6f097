"""Which wing may import which. Imports run downwards only: the table says so, and the code is held against it."""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from receiptsvc.locations import PROJECT

PACKAGE = PROJECT / "receiptsvc"

# A wing → the wings that it may import, and what it may import from outside besides the standard library.
# The wings of a folder are named with it: `store/inbox`. A folder's own modules are the wing of its name, but for those
# that the table names.
WINGS: dict[str, tuple[set[str], set[str]]] = {
    "domain": (set(), {"phonenumbers"}),
    "ids": ({"domain"}, {"uuid_utils"}),
    "logs": ({"domain"}, set()),
    "log_handler": ({"logs"}, set()),
    "metrics": ({"logs"}, {"prometheus_client"}),
    "private_files": ({"logs"}, set()),
    "passwords": (set(), {"werkzeug"}),
    "keys": ({"ids", "private_files"}, set()),
    "locations": (set(), {"click"}),
    "dynmark": ({"domain"}, set()),
    "connection_shares": (set(), set()),
    "web_role": (set(), set()),
    "config": ({"connection_shares", "domain", "dynmark", "keys", "locations", "web_role"}, {"sqlalchemy"}),
    "tokens": ({"config", "keys"}, set()),
    "dynmark/status_map": ({"domain"}, set()),
    "dynmark/inbound": ({"domain", "dynmark/status_map"}, {"werkzeug"}),
    "dynmark/outbound": ({"config", "domain", "dynmark"}, {"lxml", "requests", "urllib3", "zeep"}),
    "dynmark/readers": ({"config", "domain", "dynmark/inbound", "dynmark/status_map"}, set()),
    "dynmark/gateways": ({"config", "dynmark", "dynmark/outbound"}, set()),
    "store": (set(), set()),
    "store/core": ({"domain", "logs", "private_files"}, {"psycopg", "sqlalchemy"}),
    "store/inbox": ({"domain", "ids", "store/core"}, {"psycopg", "sqlalchemy"}),
    "store/messages": ({"domain", "ids", "store/core", "store/inbox"}, {"sqlalchemy"}),
    "store/outbound": ({"domain", "ids", "logs", "store/core", "store/inbox", "store/messages"}, {"sqlalchemy"}),
    "store/inbound": (
        {"domain", "ids", "store/core", "store/inbox", "store/messages", "store/outbound"},
        {"sqlalchemy"},
    ),
    "store/queries": (
        {"domain", "ids", "store/core", "store/inbox", "store/messages", "store/outbound"},
        {"sqlalchemy"},
    ),
    "store/health": (
        {
            "connection_shares",
            "domain",
            "ids",
            "logs",
            "store/core",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "store/queries",
            "web_role",
        },
        {"sqlalchemy"},
    ),
    "store/access": ({"domain", "ids", "store/core"}, {"sqlalchemy"}),
    "key_uses": ({"domain", "logs", "store/access", "store/core"}, set()),
    "upgrade": ({"domain", "locations", "store/core"}, {"alembic", "sqlalchemy"}),
    "problem_looks": (
        {"config", "domain", "dynmark", "store/core", "store/health", "store/messages"},
        set(),
    ),
    "bulk_actions": ({"store/core", "store/inbox", "store/messages"}, {"sqlalchemy"}),
    "server": ({"domain", "logs", "metrics", "store/core", "store/messages"}, {"gevent", "gunicorn"}),
    "spool": ({"domain", "ids", "logs", "server", "store/inbox"}, {"gevent"}),
    "intake": (
        {
            "config",
            "domain",
            "ids",
            "key_uses",
            "logs",
            "metrics",
            "server",
            "spool",
            "store/access",
            "store/core",
            "store/inbox",
            "tokens",
        },
        {"gevent"},
    ),
    "worker": (
        {
            "__init__",
            "config",
            "domain",
            "dynmark",
            "ids",
            "logs",
            "private_files",
            "problem_looks",
            "store/access",
            "store/core",
            "store/health",
            "store/inbound",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "tokens",
        },
        {"sqlalchemy"},
    ),
    "web/http": (
        {
            "config",
            "domain",
            "dynmark",
            "ids",
            "key_uses",
            "keys",
            "logs",
            "problem_looks",
            "server",
            "spool",
            "store/access",
            "store/core",
            "store/health",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "store/queries",
        },
        {"flask", "flask_smorest", "marshmallow", "sqlalchemy", "webargs", "werkzeug"},
    ),
    "web/schemas": (
        {
            "bulk_actions",
            "domain",
            "dynmark",
            "ids",
            "store/core",
            "store/health",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "store/queries",
            "web/http",
        },
        {"marshmallow"},
    ),
    "web/submit": (
        {
            "config",
            "domain",
            "ids",
            "logs",
            "store/messages",
            "store/outbound",
            "store/queries",
            "tokens",
            "web/http",
            "web/schemas",
        },
        {"flask", "sqlalchemy"},
    ),
    "web/answers": (
        {
            "domain",
            "ids",
            "server",
            "store/core",
            "store/health",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "store/queries",
            "web/http",
        },
        {"flask", "sqlalchemy"},
    ),
    "web/docs": (
        {"domain", "web/http", "web/schemas"},
        {"apispec", "flask", "flask_smorest", "markdown_it", "markupsafe", "marshmallow", "pygments"},
    ),
    "web/api": (
        {
            "bulk_actions",
            "domain",
            "dynmark",
            "ids",
            "metrics",
            "server",
            "store/core",
            "store/health",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "store/queries",
            "web/answers",
            "web/http",
            "web/schemas",
            "web/submit",
        },
        {"flask", "sqlalchemy"},
    ),
    "web/ops": (
        {
            "__init__",
            "bulk_actions",
            "config",
            "connection_shares",
            "domain",
            "dynmark",
            "dynmark/readers",
            "ids",
            "keys",
            "logs",
            "metrics",
            "passwords",
            "server",
            "spool",
            "store/access",
            "store/core",
            "store/health",
            "store/inbound",
            "store/inbox",
            "store/messages",
            "store/outbound",
            "store/queries",
            "tokens",
            "web/answers",
            "web/http",
            "web/schemas",
            "web_role",
        },
        {"flask", "markupsafe", "marshmallow", "sqlalchemy", "werkzeug"},
    ),
    "web": (
        {"config", "key_uses", "server", "store/core", "web/api", "web/docs", "web/http", "web/ops", "web/schemas"},
        {"flask", "werkzeug"},
    ),
    "client": ({"domain", "locations"}, {"requests"}),
    "sandbox": (set(), {"lxml"}),
    "demo": (
        {"client", "config", "domain", "locations", "private_files", "store/core", "tokens", "worker"},
        {"psycopg", "requests", "sqlalchemy"},
    ),
    "cli/terminal": ({"client", "config", "domain", "store/core"}, {"click", "rich"}),
    "cli/send_file": ({"cli/terminal", "client", "domain", "locations", "private_files"}, {"click"}),
    "cli": (
        {
            "__init__",
            "bulk_actions",
            "cli/send_file",
            "cli/terminal",
            "client",
            "config",
            "demo",
            "domain",
            "dynmark/gateways",
            "dynmark/readers",
            "keys",
            "locations",
            "log_handler",
            "logs",
            "passwords",
            "private_files",
            "sandbox",
            "store/access",
            "store/core",
            "store/health",
            "store/inbox",
            "tokens",
            "upgrade",
            "worker",
        },
        {"click", "rich"},
    ),
    "__main__": ({"cli"}, set()),
    "__init__": (set(), set()),
}

# What one module owns: a pattern that stands in no other's text.
OWNERS = {
    "(?i)advisory": "store/core/locks.py",
    "urlsafe_b64": "web/http/cursors.py",
    "1970, 1, 1": "domain/times.py",
}

# The modules of the store that end transactions themselves. All others get a session from their caller.
COMMITTING = {
    "store/core/db.py": "the one place in which transactions are opened",
    "store/core/notify.py": "a connection of its own, on which each statement is committed by itself",
    "store/inbox/writer.py": "a raw connection of its own: a session costs too much before a 200",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def wing_of(parts: Sequence[str]) -> str:
    """The wing of a module, given as the parts of its path below the package, without `.py`."""
    inner = "/".join(parts[:2])
    return inner if inner in WINGS else parts[0]


def imports() -> Iterator[tuple[Path, str, str, bool]]:
    """Each import of the package: the file, its wing, what it imports (a wing, or a package), whether that is ours."""
    ours = {path.relative_to(PACKAGE).with_suffix("").parts for path in modules()}
    for path in modules():
        wing = wing_of(path.relative_to(PACKAGE).with_suffix("").parts)
        for name in imported(path):
            head, *rest = name.split(".")
            if head == "receiptsvc":
                candidates = (tuple(rest), (*rest, "__init__"), tuple(rest[:-1]), (*rest[:-1], "__init__"))
                yield path, wing, wing_of(next(parts for parts in candidates if parts in ours)), True
            else:
                yield path, wing, head, False


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_downwards() -> None:
    for path, wing, name, is_ours in imports():
        wings, outside = WINGS[wing]
        allowed = {wing, *wings} if is_ours else outside | sys.stdlib_module_names
        assert name in allowed, f"{path}: {wing} may not import {name}"


def test_the_table_allows_nothing_that_is_not_used() -> None:
    used = {(wing, name) for _, wing, name, _ in imports()}
    allowed = {(wing, name) for wing, (wings, outside) in WINGS.items() for name in wings | outside}
    assert allowed <= used, sorted(allowed - used)


def test_the_table_has_no_circle() -> None:
    settled: set[str] = set()
    waiting = {wing: needed - {wing} for wing, (needed, _) in WINGS.items()}
    while waiting:
        ready = {wing for wing, needed in waiting.items() if needed & set(WINGS) <= settled}
        assert ready, f"a circle among {sorted(waiting)}"
        settled |= ready
        waiting = {wing: needed for wing, needed in waiting.items() if wing not in ready}


def test_imports_stand_at_the_top() -> None:
    inside = [
        f"{path}:{node.lineno}"
        for path in modules()
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside


def test_schemas_and_fields_read_no_settings() -> None:
    """What they need of the settings is `web.schemas.base.Installation`; the wings keep `config` out of both."""
    for path in [*(PACKAGE / "web" / "schemas").rglob("*.py"), PACKAGE / "web" / "http" / "fields.py"]:
        of_settings = ("receiptsvc.config", "receiptsvc.web.http.context")
        assert not [name for name in imported(path) if name.startswith(of_settings)], path


def test_only_one_module_writes_a_status() -> None:
    writers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"status_at", "conflict"}
        and isinstance(node.ctx, ast.Store)
    }
    assert writers == {"store/messages/transitions.py"}


def test_only_the_vendors_folder_and_its_simulation_name_a_transport() -> None:
    found = {
        path.relative_to(PACKAGE).parts[0]
        for path in modules()
        if re.search(r"""["'](?:soap|rest)["']""", path.read_text())
    }
    assert found <= {"dynmark", "sandbox"}


@pytest.mark.parametrize("pattern", OWNERS)
def test_a_rule_stands_in_one_module(pattern: str) -> None:
    found = {str(path.relative_to(PACKAGE)) for path in modules() if re.search(pattern, path.read_text())}
    assert found == {OWNERS[pattern]}


def test_functions_of_the_store_never_commit() -> None:
    pattern = re.compile(r"\.transaction\b|\.begin\(|\.commit\(|\bautocommit\b|\bCOMMIT\b")
    found = {
        str(path.relative_to(PACKAGE)) for path in (PACKAGE / "store").rglob("*.py") if pattern.search(path.read_text())
    }
    assert found == COMMITTING.keys()
