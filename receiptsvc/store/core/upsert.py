"""INSERT … ON CONFLICT: PostgreSQL and SQLite both have it, SQLAlchemy has a construct for each."""

from typing import TypeAlias

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

from receiptsvc.store.core.db import is_sqlite

Insert: TypeAlias = "postgresql.Insert | sqlite.Insert"


def into(session: Session, model: type[DeclarativeBase]) -> Insert:
    """An insert into `model` with the `on_conflict_*` methods of the session's database."""
    return sqlite.insert(model) if is_sqlite(session) else postgresql.insert(model)
