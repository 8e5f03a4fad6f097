"""Messages that were seeded, to be asked for: spread over all of them, the same ones each time."""

import random
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select

from receiptsvc import ids
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Transition

_SAMPLES = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The references of one message that exists. `receipt_id`: of one of its receipts; None if it has none."""

    id: str
    transaction_id: str
    client_ref: str
    recipient: str
    message_guid: str
    conversation_id: str
    receipt_id: str | None


def read(url: str) -> list[Sample]:
    """Some hundred of the messages in a seeded database."""
    database = Database(url)
    chosen = random.Random(1)  # noqa: S311 - the same samples each time
    with database.reading() as session:
        first, last = session.execute(select(func.min(Message.created_at), func.max(Message.created_at))).one()
        span = last - first - timedelta(seconds=1)
        rows: list[Message] = []
        for _ in range(_SAMPLES):
            at = ids.first_at(first + chosen.random() * span)
            rows += session.scalars(select(Message).where(Message.id >= at).order_by(Message.id).limit(1)).all()
        has_receipt = (Transition.message_id.in_([row.id for row in rows]), Transition.receipt_id.is_not(None))
        found = session.execute(select(Transition.message_id, Transition.receipt_id).where(*has_receipt))
        receipts = {row.message_id: row.receipt_id for row in found}
    database.close()
    return [_make_sample(row, receipts.get(row.id)) for row in rows]


def _make_sample(row: Message, receipt_id: UUID | None) -> Sample:
    return Sample(
        id=ids.public("msg", row.id),
        transaction_id=row.transaction_id or "",
        client_ref=row.client_ref or "",
        recipient=row.recipient,
        message_guid=row.message_guid,
        conversation_id=ids.public("cnv", row.conversation_id),
        receipt_id=ids.public("rcp", receipt_id) if receipt_id is not None else None,
    )
