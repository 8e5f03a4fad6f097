"""What the worker's tests share: receipts kept and worked on, messages sent and answered, and a look at what came of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select, text

from receiptsvc import ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import NewMessage, SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Source
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.inbound.reader import DynmarkReader
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, Parked
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import counters, parking
from receiptsvc.store.outbound import call_results, claims
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from tests.support.processes import until
from tests.support.rows import accept, read_inbox, read_transitions, seconds

READER = DynmarkReader(status_map=status_map.load({}), zone=ZoneInfo("UTC"))
RULES = ReceiptRules(reader=READER)
LEASE = timedelta(seconds=60)
REPEATS = RepeatPolicy(after=timedelta(seconds=10), duration=timedelta(hours=1), transports=frozenset({"soap"}))
ALICE, BOB, CAROL = "447700900001", "447700900002", "447700900003"


def said(
    description: str = "Delivered",
    *,
    tx: str | None = None,
    ref: str | None = None,
    to: str | None = ALICE,
    at: float | None = None,
) -> str:
    """A receipt as a query. `at`: its provider time, in seconds after T0."""
    moment = None if at is None else seconds(at).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    fields = {"datetime": moment, "recipient": to, "clientref": ref, "transactionid": tx}
    return urlencode({name: value for name, value in fields.items() if value is not None}) + (
        f"&statusid=1&statusdescription={description}"
    )


def work(
    database: Database, at: float = 100, *, adopt_after: float | None = None, queue: PendingQueue | None = None
) -> int:
    """One batch of the worker's, at so many seconds after T0; how many rows."""
    patience = None if adopt_after is None else timedelta(seconds=adopt_after)
    return process(database, replace(RULES, adopt_after=patience), seconds(at), 100, queue)


def work_off(database: Database, at: float = 100, *, adopt_after: float | None = None) -> None:
    """Batches till there is nothing left."""
    for _ in range(20):
        if not work(database, at, adopt_after=adopt_after):
            return
    raise AssertionError("the worker finds work again and again")


def offer(database: Database, at: float = 0) -> list[UUID]:
    """Claim what is due, as before a call; no two to one recipient."""
    with database.transaction() as session:
        return [one.id for one in claims.claim(session, seconds(at), limit=99, lease=LEASE, repeats=REPEATS).messages]


def answer(
    database: Database,
    message_id: UUID,
    outcome: SendOutcome = SendOutcome.TAKEN,
    *,
    tx: str | None = None,
    at: float = 1,
) -> None:
    """Record how a message's first call ended."""
    result = SendResult(outcome=outcome, transaction_id=tx)
    with database.transaction() as session:
        call_results.record_results(session, {message_id: AttemptResult(number=1, result=result)}, seconds(at), REPEATS)


def send(
    database: Database,
    made: NewMessage,
    outcome: SendOutcome = SendOutcome.TAKEN,
    *,
    tx: str | None = None,
    at: float = 0,
) -> UUID:
    """Accept a message, offer it, and record how that ended."""
    (message_id,) = accept(database, made, now=seconds(at))
    assert message_id in offer(database, at)
    answer(database, message_id, outcome, tx=tx, at=at)
    return message_id


def sweep(database: Database, at: float, limit: int = 100) -> int:
    """Release what has waited long enough in the parking lot; how many."""
    with database.transaction() as session:
        return parking.release_due(session, seconds(at), limit)


def outcome(database: Database, receipt_id: UUID) -> str:
    return read_inbox(database, receipt_id).outcome


def outcomes(database: Database, receipt_ids: Sequence[UUID]) -> list[str]:
    return [outcome(database, receipt_id) for receipt_id in receipt_ids]


def rules(database: Database, message_id: UUID) -> list[str]:
    """By which rules receipts were recorded about a message, in that order."""
    return [row.rule for row in read_transitions(database, message_id) if row.source == Source.GATEWAY]


def parked(database: Database) -> dict[UUID, Parked]:
    """The parking lot."""
    with database.reading() as session:
        return {row.receipt_id: row for row in session.scalars(select(Parked))}


def candidates(database: Database, receipt_id: UUID) -> set[str]:
    """The public ids among which nothing decides."""
    return set(parked(database)[receipt_id].candidates)


def public(*message_ids: UUID) -> set[str]:
    return {ids.public("msg", message_id) for message_id in message_ids}


def moves(database: Database, receipt_id: UUID) -> list[tuple[str, str | None, str]]:
    """What is on record about a receipt: who moved it, from where, to where."""
    subject = ids.public("rcp", receipt_id)
    with database.reading() as session:
        rows = session.scalars(select(Audit).where(Audit.subject == subject).order_by(Audit.id))
        return [(row.actor, row.details.get("from"), row.details["to"]) for row in rows]


def assert_sound(database: Database, **counts: int) -> None:
    """The ledger balances and has these outcomes, and what was derived is what is derived again."""
    with database.reading() as session:
        counted = counters.read(session)
    assert counted.is_balanced
    assert list(verify(database)) == []
    if counts:
        left = Counter({ReceiptOutcome(word): count for word, count in counts.items()})
        assert Counter(counted.outcomes) + Counter() == left


def wait_until_blocked(database: Database, kind: str) -> None:
    """Wait until somebody in this PostgreSQL database waits for a lock of this kind."""
    query = text(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE NOT granted AND locktype = :kind AND datname = current_database()"
    )

    def is_blocked() -> bool:
        with database.reading() as session:
            return bool(session.scalar(query, {"kind": kind}))

    until(f"somebody waits for a lock of kind {kind}", is_blocked)
