"""The receipts that are sent: to the callback URLs of real messages, in the form of the gateway's sample receiver."""

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

_BATCH_SIZE = 1000
_REPORT = (
    "datetime=2026-01-05T12:00:00.{:03d}&recipient=447700900001&statusid=1&statusdescription=Delivered&transactionid={}"
)


def accept_messages(database_url: str, count: int) -> list[UUID]:
    """Accept `count` messages that are never due, so that no worker sends them, and return their ids."""
    database = Database(database_url)
    try:
        accepted: list[UUID] = []
        while len(accepted) < count:
            batch = [rows.message() for _ in range(min(_BATCH_SIZE, count - len(accepted)))]
            accepted += rows.accept(database, *batch)
            with database.transaction() as session:  # all at once would take longer than a statement may
                session.execute(update(Message).where(Message.due_at.is_not(None)).values(due_at=None))
    finally:
        database.close()
    return accepted


def path(settings: Settings, message_id: UUID, number: int) -> str:
    """Path and query of a `delivered` receipt for a message. `number`: makes its transactionID and time."""
    token_path = tokens.receipt_url(settings, message_id).removeprefix(settings.public_url)
    return f"{token_path}?{quote(_REPORT.format(number % 1000, number), safe='=&')}"


def write_targets(file: Path, settings: Settings, message_ids: Sequence[UUID]) -> Path:
    """Write one line for each message, to which the generator appends a number. Returns `file`."""
    targets = (path(settings, message_id, number) for number, message_id in enumerate(message_ids))
    file.write_text("".join(f"{target}&{PARAMETER.decode()}=\n" for target in targets))
    return file
