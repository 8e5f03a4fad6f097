"""What an upgrade really executes on PostgreSQL lets the release before go on: squawk looks at the server's log of it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptsvc.store.core import schema
from tests.support import databases, squawk, toy_upgrade
from tests.support.postgres import Server
from tests.support.toy_upgrade import AFTER, NEXT

# The newest migration of the first release: those up to it met no release before. Until there is one it is the newest.
FIRST_RELEASE = "0010"

LEASE_SECONDS = 60.0  # it is not renewed between the migration's own statements

COLUMN = 'op.add_column("messages", sa.Column("toy", sa.Integer()))'
AUTOCOMMIT = "with op.get_context().autocommit_block():\n    "
BAD = {
    "require-concurrent-index-creation": 'op.create_index("ix_toy", "transitions", ["status"])',
    "require-concurrent-index-deletion": 'op.drop_index("ix_audits_at_id", "audits")',
    "adding-required-field": 'op.add_column("messages", sa.Column("toy", sa.Integer(), nullable=False))',
    "constraint-missing-not-valid": 'op.create_check_constraint("ck_toy", "messages", "recipient <> \'\'")',
    "changing-column-type": 'op.alter_column("messages", "text", type_=sa.JSON(), postgresql_using="to_json(text)")',
    "adding-not-nullable-field": 'op.alter_column("messages", "originator", nullable=False)',
    "renaming-column": 'op.alter_column("messages", "text", new_column_name="toy")',
    "ban-drop-column": 'op.drop_column("messages", "text")',
    "ban-drop-table": 'op.drop_table("minutes")',
    # What only what is executed shows: no limit for a lock, and what can't be begun again.
    "require-lock-timeout": f'{AUTOCOMMIT}op.execute("ALTER TABLE messages ADD COLUMN IF NOT EXISTS toy integer")',
    "prefer-robust-stmts": f'{COLUMN}\n{AUTOCOMMIT}op.execute("SELECT 1")',
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="receiptsvc-squawk-", dir=databases.memory_folder()) as folder:
        Path(folder).chmod(0o755)  # as root the server runs as a user of its own
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


def faults(server: Server, url: str, folder: Path, release: str) -> list[str]:
    """What squawk finds in an upgrade to a release with the toy migrations of a folder."""
    with server.logged_statements() as statements:
        toy_upgrade.upgrade(url, folder, release, LEASE_SECONDS)
    assert any(statement.startswith("UPDATE alembic_version") for statement in statements)
    return squawk.lint(statements, folder / "sql")


def test_what_is_executed_since_the_first_release_lets_others_go_on(server: Server, tmp_path: Path) -> None:
    assert int(FIRST_RELEASE) <= int(schema.REVISION)
    toy_upgrade.write_both(tmp_path)
    with databases.scratch_postgresql(server.new_database()) as url:
        toy_upgrade.upgrade(url, tmp_path, FIRST_RELEASE, LEASE_SECONDS)
        assert faults(server, url, tmp_path, AFTER) == []


@pytest.mark.parametrize(("rule", "body"), BAD.items(), ids=BAD)
def test_what_would_hold_up_others_is_found(server: Server, tmp_path: Path, rule: str, body: str) -> None:
    toy_upgrade.write(tmp_path, NEXT, body)
    found = faults(server, server.new_database(), tmp_path, NEXT)
    assert {fault.partition(":")[0] for fault in found} == {rule}, found
