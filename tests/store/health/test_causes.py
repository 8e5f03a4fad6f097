"""Each cause that needs attention is seen: one problem for all of its rows, counted up to a number of them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.problems import OF_A_HOST, OTHERS, Kind
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import Message, OutcomeRow, PendingRow
from receiptsvc.store.health import causes, heartbeats, minutes, service_state
from receiptsvc.store.inbox import counters, receipts, rejected
from receiptsvc.store.inbox.rejected import RejectedCallback
from receiptsvc.store.outbound import call_results, send_gate
from receiptsvc.store.outbound.accounts import Call
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.queries import overdue
from tests.support.looks import TERMS, look, see
from tests.support.rows import T0, accept, arrival, insert_arrivals, keep, message, seconds
from tests.support.work import REPEATS, offer, said, send, work_off

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def report(database: Database, message_id: UUID, code: str, words: str = "Pending+review", at: float = 0) -> UUID:
    query = f"statusid={code}&statusdescription={words}"
    return keep(database, query, message_id=message_id, now=seconds(at))


def claim(database: Database, kid: str, *, at: float = 0) -> None:
    """A callback whose key is wrong, kept all the same."""
    with database.transaction() as session:
        insert_arrivals(session, [arrival(said(), now=seconds(at))._replace(claimed_kid=kid)])


def put_aside(database: Database, outcome: ReceiptOutcome, reasons: list[str], **of: Any) -> list[UUID]:
    """Receipts of an outcome, with the ledger's count of them."""
    made = [arrival("statusid=1", **of) for _ in reasons]
    with database.transaction() as session:
        insert_arrivals(session, made)
        session.execute(delete(PendingRow).where(PendingRow.receipt_id.in_([one.id for one in made])))
        for one, reason in zip(made, reasons, strict=True):
            session.add(OutcomeRow(receipt_id=one.id, outcome=outcome, reason=reason, processed_at=T0))
        counters.move(session, {(ReceiptOutcome.PENDING, outcome): len(made)})
    return [one.id for one in made]


def test_of_a_service_that_does_well_nothing_is_seen(database: Database) -> None:
    assert see(database, T0) == {}


def test_no_worker_is_seen_since_the_last_one_was(database: Database) -> None:
    [unseen] = see(database, T0, with_worker=False)[Kind.WORKER_UNSEEN]
    assert unseen.first_at == T0
    with database.transaction() as session:
        heartbeats.beat(session, "worker:here:1", T0)
    assert see(database, seconds(29), with_worker=False) == {}
    [unseen] = see(database, seconds(31), with_worker=False)[Kind.WORKER_UNSEEN]
    assert (unseen.first_at, unseen.last_at) == (T0, seconds(31))


def test_a_gateway_that_cant_be_reached_is_one_problem_whatever_the_workers_say(database: Database) -> None:
    with database.transaction() as session:
        for number, fault in enumerate(("no connection", "a web page")):
            heartbeats.beat(session, f"worker:x:{number}", T0, gateway_fault=fault, gateway_fault_at=seconds(-number))
    [amiss] = see(database, T0)[Kind.GATEWAY_AMISS]
    assert (amiss.first_at, amiss.detail) == (seconds(-1), "no connection; a web page")


def test_a_workers_clock_is_named_by_its_host(database: Database) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, "worker:box:7", T0, clock_ahead_seconds=90)
    [clock] = see(database, T0)[Kind.WORKER_CLOCK]
    assert (clock.cause, clock.detail) == ({"host": "box"}, "its clock is 90 s ahead of the database's")


def test_receipts_and_messages_that_are_late_are_seen_since_they_are_due(database: Database) -> None:
    keep(database, "statusid=1")
    accept(database, now=T0)
    assert see(database, T0 + MINUTE) == {}
    found = see(database, T0 + 10 * MINUTE)
    assert set(found) == {Kind.RECEIPTS_LATE, Kind.MESSAGES_LATE}
    assert {seen.first_at for each in found.values() for seen in each} == {T0}


def test_that_no_receipt_comes_is_seen_while_messages_wait_for_theirs(database: Database) -> None:
    accept(database)
    with database.transaction() as session:
        session.execute(update(Message).values(status="submitted", due_at=None))
    assert see(database, T0 + 29 * MINUTE) == {}
    assert Kind.NO_RECEIPTS in see(database, T0 + 31 * MINUTE)


def test_refused_credentials_are_seen_since_they_are(database: Database) -> None:
    with database.transaction() as session:
        send_gate.record_outcome(session, [SendOutcome.ACCOUNT_REFUSED], T0, was_probe=False)
    [refused] = see(database, seconds(9))[Kind.CREDENTIALS_REFUSED]
    assert (refused.first_at, refused.last_at) == (T0, seconds(9))


@pytest.mark.parametrize(
    ("account", "outcome", "kind", "cause"),
    [
        ("a", SendOutcome.ACCOUNT_REFUSED, Kind.ACCOUNT_REFUSED, {"account": "a"}),
        ("a", SendOutcome.SUSPECT_REFUSED, Kind.ACCOUNT_SUSPECTED, {"account": "a"}),
        (None, SendOutcome.SUSPECT_REFUSED, Kind.ACCOUNT_SUSPECTED, {}),
        (None, SendOutcome.ACCOUNT_REFUSED, Kind.CREDENTIALS_REFUSED, {}),
    ],
)
def test_an_account_that_is_refused_or_may_be_is_named(
    database: Database, account: str | None, outcome: SendOutcome, kind: Kind, cause: dict[str, str]
) -> None:
    [message_id] = accept(database, message(impersonate_user_name=account))
    offer(database)
    ended = {message_id: AttemptResult(number=1, result=SendResult(outcome=outcome))}
    with database.transaction() as session:
        call = Call(account=account or "", knows_up_to=0)
        call_results.record_results(session, ended, T0, REPEATS, call=call)
    found = see(database, seconds(9))
    assert [seen.cause for seen in found[kind]] == [cause]


def test_a_pause_is_seen_after_an_hour(database: Database) -> None:
    with database.transaction() as session:
        send_gate.pause(session, "anna", "wrong texts", T0)
    assert see(database, T0 + HOUR - MINUTE) == {}
    [paused] = see(database, T0 + HOUR)[Kind.SENDING_PAUSED]
    assert (paused.first_at, paused.detail) == (T0, "by anna: wrong texts")


def test_refused_callbacks_are_seen_by_the_key_that_they_claim(database: Database) -> None:
    def refused(kid: str | None, at: float) -> RejectedCallback:
        return RejectedCallback(received_at=seconds(at), method="GET", address="/callbacks", kid=kid, query=b"")

    kids = ["old", "old", "k1", None, "a", "b", "c", "d", "e", "f"]
    with database.transaction() as session:
        rejected.add(session, [refused(kid, at) for at, kid in enumerate(kids)])
    found = see(database, seconds(60))[Kind.CALLBACKS_REFUSED]
    [old] = [seen for seen in found if seen.cause == {"kid": "old"}]
    assert (old.count, old.first_at, old.last_at) == (2, seconds(0), seconds(1))
    assert {"kid": "k1", "listed": "yes"} in [seen.cause for seen in found], "its secret is another one"
    [others] = [seen for seen in found if seen.cause == OTHERS]
    assert (len(found), others.count) == (1 + 5 + 1, 2)
    assert see(database, seconds(3700)) == {}


def test_misrouted_callbacks_are_seen_until_an_hour_after_the_last(database: Database) -> None:
    for at, more in ((0, 0), (60, 2), (120, 0)):
        with database.transaction() as session:
            counters.add(session, {counters.MISROUTED: more})
            minutes.keep(session, seconds(at))
    [stray] = see(database, seconds(130))[Kind.CALLBACKS_MISROUTED]
    assert (stray.count, stray.first_at, stray.last_at) == (2, seconds(0), seconds(60))
    assert see(database, seconds(3660)) == {}


def test_unmapped_receipts_are_seen_by_code_else_by_description(database: Database) -> None:
    [message_id] = accept(database)
    for at, code in enumerate(("17", "17", "4", "")):
        report(database, message_id, code, at=at)
    report(database, message_id, "", "PENDING++REVIEW", at=9)
    dismissed = report(database, message_id, "4711")
    work_off(database)
    with database.transaction() as session:
        receipts.dismiss(session, dismissed, Actor(actor="desk"), T0)
    found = {tuple(seen.cause.items()): seen for seen in see(database, seconds(30))[Kind.UNMAPPED]}
    counts = {cause: seen.count for cause, seen in found.items()}
    assert counts == {(("code", "17"),): 2, (("code", "4"),): 1, (("description", "pending review"),): 2}
    seen = found[("code", "17"),]
    assert (seen.first_at, seen.last_at, seen.is_all) == (T0, seconds(1), True)
    assert seen.detail == "the gateway says “Pending review”"


def test_unmatched_receipts_are_seen_by_channel_once_their_message_could_be_here(database: Database) -> None:
    for at in range(3):
        keep(database, said(ref="nobody", tx=str(at)), now=seconds(at))
    keep(database, said(ref="nobody"), message_id=ids.new(), now=seconds(3))
    work_off(database, 4)
    assert see(database, seconds(15.5))[Kind.UNMATCHED][0].count == 1
    found = {seen.cause["channel"]: seen for seen in see(database, seconds(30))[Kind.UNMATCHED]}
    assert {channel: seen.count for channel, seen in found.items()} == {"account": 3, "message": 1}
    assert (found["account"].first_at, found["account"].last_at) == (T0, seconds(2))


def test_quarantined_receipts_are_seen_by_key_or_by_channel(database: Database) -> None:
    for kid in ("old", "old", ""):
        claim(database, kid)
    keep(database, b"", channel=Channel.ACCOUNT)
    work_off(database)
    found = [(seen.cause, seen.count) for seen in see(database, seconds(30))[Kind.QUARANTINED]]
    assert ({"kid": "old"}, 2) in found
    assert ({"unclaimed": "yes"}, 1) in found
    assert ({"channel": "account"}, 1) in found


def test_dead_receipts_are_seen_by_the_class_of_their_reason(database: Database) -> None:
    reasons = ["ValueError", "StatementTimeout: it took 60 s", "StatementTimeout: it took 61 s"]
    put_aside(database, ReceiptOutcome.DEAD, reasons)
    found = {seen.cause["error"]: seen.count for seen in see(database, seconds(30))[Kind.DEAD]}
    assert found == {"StatementTimeout": 2, "ValueError": 1}


def test_overdue_messages_are_seen_by_originator(database: Database) -> None:
    senders = [message(originator=originator) for originator in ("ACME", "ACME", None)]
    accept(database, *senders, message(originator="LATER", deliver_after=T0 + HOUR))
    with database.transaction() as session:
        session.execute(update(Message).values(status="sent", due_at=None))
    assert Kind.OVERDUE not in see(database, T0 + HOUR)
    found = {seen.cause.get("originator"): seen for seen in see(database, T0 + HOUR + MINUTE)[Kind.OVERDUE]}
    assert {sender: seen.count for sender, seen in found.items()} == {"ACME": 2, None: 1}
    assert found["ACME"].first_at == T0 + HOUR
    later = see(database, T0 + 3 * HOUR)[Kind.OVERDUE]
    assert "LATER" in [seen.cause.get("originator") for seen in later]


def test_messages_whose_fate_is_unknown_are_seen_once_they_are_not_offered_again(database: Database) -> None:
    sent = [send(database, message(f"44770090000{each}"), SendOutcome.UNCLEAR, at=each) for each in (1, 2)]
    with database.transaction() as session:
        session.execute(update(Message).values(status="send_unknown"))
    assert Kind.SEND_UNKNOWN not in see(database, T0 + HOUR - MINUTE)
    [unknown] = see(database, T0 + HOUR + MINUTE)[Kind.SEND_UNKNOWN]
    assert (unknown.count, unknown.first_at, unknown.last_at) == (2, HOUR + seconds(1), HOUR + seconds(2))
    assert unknown.newest_id == max(sent)


def test_a_wrong_zone_is_seen_by_the_times_of_receipts(database: Database) -> None:
    for number in range(5):
        sent = send(database, message(f"44770090010{number}"))
        keep(database, said(to=None, at=10 - 3600), message_id=sent, now=seconds(15 + number))
    work_off(database)
    [wrong] = see(database, seconds(60))[Kind.TIMEZONE_WRONG]
    assert wrong.detail is not None
    assert wrong.detail.startswith(
        "the gateway's clock seems to be an hour behind; DYNMARK_TIMEZONE is UTC, at UTC+00:00"
    )
    assert (wrong.first_at, wrong.last_at) == (seconds(15), seconds(19))


def test_one_sender_that_crowds_the_queue_is_seen(database: Database) -> None:
    [loud] = accept(database)
    with database.transaction() as session:
        insert_arrivals(session, [arrival("statusid=1", message_id=loud) for _ in range(1100)])
    [crowd] = see(database, T0)[Kind.RECEIPTS_CROWD]
    assert crowd.detail is not None
    assert ids.public("msg", loud) in crowd.detail


def test_more_rows_than_are_counted_are_told_as_more_and_end_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "MAX_COUNTED", 3)
    monkeypatch.setattr(overdue, "MAX_OF_SENDERS", 3)
    [message_id] = accept(database)
    for at in range(5):
        report(database, message_id, "17", at=at)
    put_aside(database, ReceiptOutcome.DEAD, ["ValueError"] * 5)
    accept(database, *(message(originator="ACME") for _ in range(5)), now=seconds(5))
    work_off(database)
    with database.transaction() as session:
        session.execute(update(Message).values(status="submitted", due_at=None))
    for kind in (Kind.UNMAPPED, Kind.DEAD):
        [seen] = see(database, seconds(30))[kind]
        assert (seen.count, seen.is_all) == (3, False)
    [late] = see(database, T0 + 2 * HOUR)[Kind.OVERDUE]
    assert (late.count, late.is_all) == (4, False)
    made = look(database, T0 + 2 * HOUR)
    assert not {Kind.UNMAPPED, Kind.DEAD, Kind.OVERDUE} & set(made.complete)
    assert Kind.UNMATCHED in made.complete


def test_of_very_many_causes_the_largest_are_named_and_the_others_are_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "_MAX_GROUPS", 2)
    put_aside(database, ReceiptOutcome.DEAD, ["A", "A", "A", "B", "B", "C", "D"])
    found = [(dict(seen.cause), seen.count) for seen in see(database, seconds(30))[Kind.DEAD]]
    assert found == [({"error": "A"}, 3), ({"error": "B"}, 2), (OTHERS, 2)]
    assert Kind.DEAD not in look(database, seconds(30)).complete


def test_a_look_reads_no_more_rows_than_it_counts(
    postgresql_url: str, postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3,000 of each; those behind the newest hundred are not read, nor are those of other outcomes."""
    monkeypatch.setattr(causes, "MAX_COUNTED", 100)
    monkeypatch.setattr(overdue, "MAX_OF_SENDERS", 100)
    put_aside(postgresql_database, ReceiptOutcome.UNMATCHED, ["none"] * 3_000)
    put_aside(postgresql_database, ReceiptOutcome.DEAD, ["ValueError"] * 3_000)
    accept(postgresql_database, *(message() for _ in range(3_000)), now=T0)
    with postgresql_database.transaction() as session:
        session.execute(update(Message).values(status="submitted", due_at=None))
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    read = (
        "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_xact_user_tables"
        " WHERE seq_tup_read + coalesce(idx_tup_fetch, 0) > 0"
    )
    fresh = Database(postgresql_url)  # whose session has counted nothing yet
    with fresh.reading() as session:
        session.connection().exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        state = service_state.read(session, T0 + 2 * HOUR, listed_kids={"k1"})
        causes.look(session, state, T0 + 2 * HOUR, TERMS, lambda _: [])
        rows = {str(name): int(count) for name, count in session.connection().exec_driver_sql(read)}
    fresh.close()
    assert sum(rows.values()) < 2_000, rows


def test_of_all_kinds_in_the_database_all_is_seen(database: Database) -> None:
    assert set(look(database, T0).complete) == set(Kind) - OF_A_HOST - {Kind.DATABASE_AWAY}


def test_a_part_that_fails_is_logged_and_the_others_are_seen(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Session) -> None:
        session.execute(text("SELECT nothing FROM nowhere"))

    keep(database, said(ref="nobody"))
    work_off(database)
    monkeypatch.setattr(send_gate, "read", fail)
    made = look(database, seconds(30))
    assert [seen.kind for seen in made.seen if seen.kind is not Kind.TIME_SLICE_MISSING] == [Kind.UNMATCHED]
    failed = {Kind.CREDENTIALS_REFUSED, Kind.ACCOUNT_REFUSED, Kind.ACCOUNT_SUSPECTED, Kind.SENDING_PAUSED}
    assert set(made.complete) == set(Kind) - OF_A_HOST - {Kind.DATABASE_AWAY} - failed
    assert [record.message for record in caplog.records] == ["health.part_failed"]


def test_a_database_that_is_away_ends_a_look(postgresql_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(session: Session) -> None:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(send_gate, "read", cut)
    with pytest.raises(StorageUnavailable):
        look(postgresql_database, T0)
