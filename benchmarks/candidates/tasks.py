"""The whole job as it is usually done: Flask queues each callback in Redis, Celery works on it through the ORM.

The web process verifies the signed token and answers once Redis has synced its file. A task keeps the callback and does
one_by_one's work in one commit; it is acknowledged afterwards, and one that comes twice is done once. It runs under
gunicorn's own gevent worker, and two processes of Celery's.
"""

import os
from datetime import UTC, datetime
from uuid import UUID

from celery import Celery
from flask import Flask, Response, abort, request
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.candidates import one_by_one
from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import Channel
from receiptsvc.dynmark import readers
from receiptsvc.store.core.models import InboxRow
from receiptsvc.worker.receipt_batch import ReceiptRules

app = Flask("tasks", static_folder=None)
queue = Celery("tasks", broker=os.environ["BENCH_REDIS_URL"])
queue.conf.update(broker_pool_limit=16, task_ignore_result=True, task_acks_late=True)

_settings = Settings.from_env()
_rules = ReceiptRules(reader=readers.open_reader(_settings))
_engine = create_engine(_settings.database_url, pool_size=1)  # connects first in the process that uses it


def _process(receipt_id: str, message_id: str, received_at: str, method: str, query: str) -> None:
    """Keep one callback and work on it."""
    now = datetime.now(UTC)
    with Session(_engine) as session, session.begin():
        if session.get(InboxRow, UUID(receipt_id)) is not None:
            return
        row = InboxRow(
            id=UUID(receipt_id),
            channel=Channel.MESSAGE,
            message_id=UUID(message_id),
            received_at=datetime.fromisoformat(received_at),
            method=method,
            query=query.encode("latin-1"),
            body=b"",
        )
        session.add(row)
        one_by_one.record(session, row, _rules, now)


_task = queue.task(name="process")(_process)


@app.get("/callbacks/receipts/<token>")
def receive(token: str) -> Response:
    """Verify the token, queue the callback, answer."""
    message_id = tokens.message_of(_settings.callback_keys, token)
    if message_id is None:
        abort(403)
    query = request.query_string.decode("latin-1")
    _task.delay(str(ids.new()), str(message_id), datetime.now(UTC).isoformat(), request.method, query)
    return Response("OK\n", mimetype="text/plain")


@app.get("/readyz")
def ready() -> Response:
    """Answer as soon as the process is up."""
    return Response("OK\n", mimetype="text/plain")
