"""INSERT … ON CONFLICT, which PostgreSQL and SQLite both have and SQLAlchemy spells once for each."""

from typing import TypeAlias

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

from receiptsvc.store.core.db import is_sqlite

Insert: TypeAlias = "postgresql.Insert | sqlite.Insert"


def into(session: Session, model: type[DeclarativeBase]) -> Insert:
    """An insert into `model` that can say what to do on a conflict."""
    return sqlite.insert(model) if is_sqlite(session) else postgresql.insert(model)
