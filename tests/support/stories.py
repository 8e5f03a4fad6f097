"""What happens to messages after they were accepted, put into a database by the store's own functions."""

from datetime import datetime
from uuid import UUID

from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Reply
from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbound import replies
from receiptsvc.store.inbox import pending
from receiptsvc.store.messages import transitions
from tests.support import rows


def report(
    database: Database,
    message_id: UUID,
    word: Status,
    received_at: datetime,
    occurred_at: datetime | None = None,
    source: Source = Source.GATEWAY,
    *,
    description: str | None = None,
    receipt_id: UUID | None = None,
) -> None:
    """Record a report. `description`: if it is not the status."""
    told = Report(
        source=source,
        status=word,
        received_at=received_at,
        occurred_at=occurred_at,
        provider_status_id="1",
        provider_description=description or word.value,
    )
    entry = transitions.NewTransition(report=told, rule="its address", receipt_id=receipt_id)
    with database.transaction() as session:
        transitions.record(
            session, transitions.lock_messages(session, [message_id]), [(message_id, entry)], received_at
        )


def give_transaction(database: Database, message_id: UUID, transaction_id: str) -> None:
    """Note a transactionID from the answer to a send."""
    with database.transaction() as session:
        message = transitions.lock_messages(session, [message_id])[message_id]
        transitions.link_transactions(session, [(message, transaction_id)], "answer", rows.T0)
        transitions.record(session, {message_id: message}, [], rows.T0)


def reply(
    database: Database,
    client_ref: str,
    received_at: datetime,
    *,
    occurred_at: datetime | None = None,
    sender: str = "447700900001",
    content: str = "thanks",
    msgid: str | None = None,
) -> None:
    """Record a reply that says which conversation it belongs to."""
    receipt_id = rows.keep(database, "content=thanks", channel=Channel.INBOUND, now=received_at)
    said = Reply(
        msgid=msgid,
        sender=sender,
        recipient="447700900999",
        content=content,
        client_ref=client_ref,
        occurred_at=occurred_at,
    )
    with database.transaction() as session:
        (row,) = pending.take_one(session, receipt_id)
        rules = replies.ReplyRules(opt_out_words=frozenset({"stop"}))
        pending.settle(session, [row], [(row, *replies.record(session, row, said, received_at, rules))], received_at)
