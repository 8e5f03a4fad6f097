"""The usual durable receiver: Flask, one ORM row and one commit for each request, in the same table as ours.

It runs under gunicorn's own gevent worker, monkey-patched, with a database connection for each load connection.
"""

import os
from datetime import UTC, datetime

from flask import Flask, Response, request
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core.models import InboxRow, PendingRow

CONNECTIONS = 16  # a process

app = Flask("orm", static_folder=None)
_engine = create_engine(os.environ["BENCH_ORM_URL"], pool_size=CONNECTIONS, max_overflow=0)


@app.get("/callbacks/receipts/<_token>")
def receive(_token: str) -> Response:
    """Keep the callback in a row, commit, answer."""
    now = datetime.now(UTC)
    with Session(_engine) as session:
        receipt_id = ids.new()
        session.add(PendingRow(receipt_id=receipt_id))
        session.add(
            InboxRow(
                id=receipt_id,
                channel="message",
                received_at=now,
                method=request.method,
                query=request.query_string,
                body=request.get_data(),
            )
        )
        session.commit()
    return Response("OK\n", mimetype="text/plain")
