"""INSERT … ON CONFLICT, which PostgreSQL and SQLite both have and SQLAlchemy spells once for each."""

from typing import TypeAlias

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

Insert: TypeAlias = "postgresql.Insert | sqlite.Insert"


def into(session: Session, model: type[DeclarativeBase]) -> Insert:
    """An insert into `model` that can say what to do on a conflict."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    return sqlite.insert(model) if on_sqlite else postgresql.insert(model)
