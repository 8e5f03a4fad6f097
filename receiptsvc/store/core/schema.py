"""The state of the database's tables, and whether this release fits it.

The migrations count up. Each says which release is the oldest that may still use the tables as it leaves them, and the
database keeps that in `schema_compatibility`: so an older release knows whether it may run, although it does not know
the newest migrations. Running them is `upgrade`'s.
"""

from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import Connection, inspect, text

from receiptsvc.domain.errors import NotMigrated, TooNew

REVISION = "0010"  # the newest migration of this release; a test holds it to the files

MIGRATE = "python -m receiptsvc migrate"

_COMPATIBILITY = "schema_compatibility"
_READ_REVISION = text("SELECT max(version_num) FROM alembic_version")
_READ_OLDEST = text(f"SELECT oldest_revision FROM {_COMPATIBILITY}")  # noqa: S608 - our own words
_READ_SQLITE_VERSION, _READ_POSTGRESQL_VERSION = text("SELECT sqlite_version()"), text("SHOW server_version")
_UPDATE = text(f"UPDATE {_COMPATIBILITY} SET oldest_revision = :oldest")  # noqa: S608 - our own words
_INSERT = text(f"INSERT INTO {_COMPATIBILITY} (id, oldest_revision) VALUES (1, :oldest)")  # noqa: S608 - our own words


@dataclass(frozen=True, slots=True)
class Found:
    """What a database says of itself."""

    revision: str | None  # its newest migration; None: it has none
    oldest_revision: str | None  # a release whose newest migration is this one or a later one may use it


class Fit(Enum):
    """How a database fits a release."""

    CURRENT = auto()
    EMPTY = auto()  # it has no tables
    BEHIND = auto()  # it lacks migrations of this release
    COMPATIBLE = auto()  # it is newer, and this release may use it
    TOO_NEW = auto()  # it is newer, and this release may not


def read(connection: Connection) -> Found:
    """What the database says of itself."""
    # Asked first whether they are there: on PostgreSQL an error would end the transaction.
    tables = inspect(connection)
    revision = connection.scalar(_READ_REVISION) if tables.has_table("alembic_version") else None
    if revision is None:
        return Found(None, None)
    oldest = connection.scalar(_READ_OLDEST) if tables.has_table(_COMPATIBILITY) else None
    return Found(str(revision), None if oldest is None else str(oldest))


def read_product(connection: Connection) -> str:
    """Which database it is, with its version."""
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.scalar(_READ_SQLITE_VERSION)}"
    return f"PostgreSQL {connection.scalar(_READ_POSTGRESQL_VERSION)}"


def is_current(connection: Connection) -> bool:
    """Whether the database's newest migration is this release's; for a look at tables that are there."""
    return bool(connection.scalar(_READ_REVISION) == REVISION)


def write_oldest(connection: Connection, oldest: str) -> None:
    """Store which release is the oldest that may use these tables."""
    if not connection.execute(_UPDATE, {"oldest": oldest}).rowcount:
        connection.execute(_INSERT, {"oldest": oldest})


def judge(found: Found, release: str = REVISION) -> Fit:
    """How a database fits the release whose newest migration is `release`."""
    if found.revision is None:
        return Fit.EMPTY
    if found.revision == release:
        return Fit.CURRENT
    if _is_at_most(found.revision, release):
        return Fit.BEHIND
    if found.oldest_revision is not None and _is_at_most(found.oldest_revision, release):
        return Fit.COMPATIBLE
    return Fit.TOO_NEW


def require(found: Found, release: str = REVISION) -> None:
    """Raise NotMigrated or TooNew if this release can't use the database. The error says what to do."""
    fit = judge(found, release)
    if fit is Fit.EMPTY:
        raise NotMigrated(f"the database has no tables yet: run {MIGRATE}")
    if fit is Fit.BEHIND:
        raise NotMigrated(
            f"the database has migration {found.revision}, and this release needs {release}: run {MIGRATE}",
            "migrations missing",
        )
    if fit is Fit.TOO_NEW:
        raise too_new(found, release)


def too_new(found: Found, release: str = REVISION) -> TooNew:
    """The error that says what to do with a database that this release may not use."""
    oldest = (
        "does not say that older releases may use it"
        if found.oldest_revision is None
        else f"is only for releases from migration {found.oldest_revision} on"
    )
    return TooNew(
        f"the database is newer than this release: it has migration {found.revision}, which this release (up to "
        f"{release}) does not know, and {oldest}. Deploy a newer release, or restore a backup from before the upgrade"
    )


def _is_at_most(revision: str, other: str) -> bool:
    """Whether a migration is the other one or comes before it. What is no number comes before nothing."""
    return revision.isdecimal() and other.isdecimal() and int(revision) <= int(other)
