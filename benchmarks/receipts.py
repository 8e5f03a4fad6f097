"""The receipts that are sent: to signed addresses of real messages, as the gateway's sample receiver expects them."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import update

from benchmarks.kept import PARAMETER
from receiptsvc import tokens
from receiptsvc.config import Settings
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from tests.support import rows

_AT_ONCE = 1000
_REPORT = (
    "datetime=2026-01-05T12:00:00.{:03d}&recipient=447700900001&statusid=1&statusdescription=Delivered&transactionid={}"
)


def accept_messages(database_url: str, count: int) -> list[UUID]:
    """Accept so many messages that nobody will ever offer to a gateway; their ids."""
    database = Database(database_url)
    try:
        accepted: list[UUID] = []
        while len(accepted) < count:
            more = [rows.message() for _ in range(min(_AT_ONCE, count - len(accepted)))]
            accepted += rows.accept(database, *more)
        with database.transaction() as session:
            session.execute(update(Message).values(due_at=None))
    finally:
        database.close()
    return accepted


def path(settings: Settings, message_id: UUID, place: int) -> str:
    """Where a `delivered` for a message goes: path and query, without scheme and host."""
    address = tokens.receipt_url(settings, message_id).removeprefix(settings.public_url)
    return f"{address}?{quote(_REPORT.format(place % 1000, place), safe='=&')}"


def write_targets(file: Path, settings: Settings, message_ids: Sequence[UUID]) -> Path:
    """One line a message, to which the generator adds a number."""
    paths = (path(settings, message_id, place) for place, message_id in enumerate(message_ids))
    file.write_text("".join(f"{one}&{PARAMETER.decode()}=\n" for one in paths))
    return file
