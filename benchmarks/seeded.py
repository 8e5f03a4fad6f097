"""A database with many messages, which a folder may keep for other runs: those of the pages and of `verify`.

Half of the messages are in conversations of 1,000 with one number each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from benchmarks import seed
from benchmarks.tools import BenchError
from receiptsvc.store.core.db import plain_url
from tests.support import databases

_CONVERSATIONS = seed.Conversations(messages=1000, has_one_number=True)
_NAME = "receiptsvc_bench"  # of the database that is kept
_MARK = "messages"  # beside its data: how many it has


@contextmanager
def database(scale: int, keep: Path | None) -> Iterator[str]:
    """The URL of a database with so many messages: a new one, or the one that the folder keeps."""
    if keep is None:
        with databases.embedded_postgresql() as server, databases.scratch_postgresql(server) as url:
            seed.fill(url, scale, _CONVERSATIONS)
            yield url
        return
    keep.mkdir(parents=True, exist_ok=True)
    with databases.kept_postgresql(keep.resolve()) as server:
        yield _open_kept(server, keep / _MARK, scale)


def _open_kept(server: str, mark: Path, scale: int) -> str:
    """The URL of the database that is kept in a server; it is made if no run has filled it to the end."""
    address = make_url(server).set(drivername="postgresql+psycopg", database=_NAME)
    url = address.render_as_string(hide_password=False)
    if not mark.exists():
        with psycopg.connect(plain_url(server), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {_NAME} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {_NAME}")
        seed.fill(url, scale, _CONVERSATIONS)
        mark.write_text(str(scale))
    if mark.read_text() != str(scale):
        raise BenchError(f"{mark.parent} keeps {int(mark.read_text()):,} messages: give another folder for {scale:,}")
    databases.migrate(url)
    return url
