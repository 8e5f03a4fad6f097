"""A database with a little of everything, and with the ids and references of the OpenAPI document's examples."""

from collections.abc import Callable
from typing import Any

from receiptsvc import ids
from receiptsvc.domain.statuses import Source, Status
from receiptsvc.server.event_streams import Stream
from receiptsvc.store.core.db import Database
from receiptsvc.worker.receipt_processor import process
from tests.support import looks, rows, stories
from tests.support.rows import insert_arrivals, seconds
from tests.support.work import RULES


def fill(database: Database) -> None:
    """Put messages, reports, a reply and receipts into an empty database."""
    known = ids.parse("msg", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d")
    first, second, _ = rows.accept(
        database,
        rows.message("447700900000", id=known, client_ref="order/1234", originator="ACME"),
        rows.message(client_ref="order/1234"),
        rows.message(text="d\u00e9j\u00e0 \u2019vu"),
    )
    stories.give_transaction(database, first, "1234567")
    stories.report(database, first, Status.DELIVERED, seconds(3), occurred_at=seconds(2))
    stories.report(database, second, Status.SENT, seconds(4))
    stories.reply(database, "order/1234", seconds(9), sender="447700900000")
    lost = rows.accept(database, *(rows.message(client_ref="lost") for _ in range(5)))
    for message in lost:
        stories.report(database, message, Status.SEND_UNKNOWN, seconds(5), source=Source.OURSELVES)
    received = ids.parse("rcp", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8")
    assert received is not None
    arrivals = [rows.arrival(f"statusid=4&transactionid={number}") for number in range(10)]
    with database.transaction() as session:
        insert_arrivals(session, [arrivals[0]._replace(id=received), *arrivals[1:]])
    process(database, RULES, rows.T0, 100)
    looks.note(database, seconds(60), with_worker=False)


def with_ending_streams(app: Any) -> Callable[..., Any]:
    """The application, with event streams that end at once."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        pieces = app(environ, start_response)
        return [b": silence\n\n"] if isinstance(pieces, Stream) else pieces

    return answer
