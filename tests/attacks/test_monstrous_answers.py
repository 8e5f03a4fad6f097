"""A gateway whose answers are bombs, endless, or a byte a second: the worker goes on, and no SMS is repeated or lost."""

from collections import Counter
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt
from receiptsvc.store.health import verification
from tests.dynmark import monsters, wire
from tests.dynmark.wire import Conversation, Wire
from tests.support.processes import resident_megabytes, until
from tests.support.sampling import sampled

MAX_MEGABYTES = 300
MEGABYTE = b" " * 1_000_000


def endless(conversation: Conversation) -> None:
    """A hundred megabytes, and on without end."""
    conversation.line.sendall(wire.head(Content_Length="100000000"))
    while True:
        conversation.line.sendall(MEGABYTE)


def endless_line(conversation: Conversation) -> None:
    """The size of a chunk, with no end."""
    conversation.line.sendall(wire.head(Transfer_Encoding="chunked"))
    while True:
        conversation.line.sendall(b"1" * 1_000_000)


def endless_headers(conversation: Conversation) -> None:
    """Interim answers without end, each with a header."""
    while True:
        conversation.line.sendall(b"HTTP/1.1 100 Continue\r\nX-More: 1\r\n\r\n" * 1_000)


# The last two: a byte a second, and silence.
TRANSFERS = (endless, endless_line, endless_headers, wire.drip(wire.head(Content_Length="100")), wire.stall)
# Some of the bodies that `tests/dynmark/test_monsters.py` tries one by one; none that casts doubt on the account, which
# would wait for another call.
BODIES = {
    "soap": ("entities that grow", "entities that grow in an attribute", "many items", "many names in items in items"),
    "rest": ("depth", "depth of objects", "many items", "many names"),
}


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["soap", "rest"])
def test_no_answer_stops_the_worker_fails_a_message_or_repeats_an_sms(
    tmp_path: Path, postgresql_url: str, transport: str
) -> None:
    bodies = monsters.SOAP if transport == "soap" else monsters.REST
    attacks = [*TRANSFERS, *(wire.answer(bodies[name]) for name in BODIES[transport])]
    left = cycle(attacks)

    def attack(conversation: Conversation) -> None:
        next(left)(conversation)

    database = Database(postgresql_url)
    with Wire(attack) as gateway:
        settings = {
            "DYNMARK_TRANSPORT": transport,
            "DYNMARK_SOAP_URL": gateway.url,
            "DYNMARK_REST_URL": gateway.url,
            "DYNMARK_TIMEOUT_SECONDS": "1",
            "BATCH_SIZE": "1",
            "RESEND_AFTER_SECONDS": "3600",
        }
        with Stack(tmp_path / "stack", postgresql_url, settings=settings) as stack:
            stack.start("web", "worker")
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            client = stack.client()
            numbers = [f"4477009{place:05}" for place in range(len(attacks))]
            with sampled(partial(resident_megabytes, stack.pid("worker")), 0.05) as megabytes:
                sent = client.send([{"recipients": numbers, "text": "Hello"}])
                until("each call has ended", lambda: len(ends(database)) == len(sent), seconds=20)
            first = ids.parse("msg", sent[0]["id"])
            assert first
            url = tokens.receipt_url(Settings.from_env(stack.environ), first)
            requests.get(url, params={"statusid": "1", "statusdescription": "Delivered"}, timeout=5).raise_for_status()
            until("receipts are worked on", lambda: client.message(sent[0]["id"])["status"] == "delivered")
            unsettled = {client.message(item["id"])["status"] for item in sent[1:]}
    assert unsettled == {"send_unknown"}
    assert Counter(ends(database)) == {"unclear": len(attacks)}
    assert gateway.connections == len(attacks)
    assert max(megabytes) < MAX_MEGABYTES
    assert list(verification.verify(database)) == []
    database.close()


def ends(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Attempt.outcome).where(Attempt.outcome.is_not(None))))
