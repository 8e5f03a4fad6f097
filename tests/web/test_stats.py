"""Statistics from the hourly counts, and what is overdue."""

import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, text

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark import status_map
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import receipts
from receiptsvc.store.messages import hourly_counts, transitions
from receiptsvc.store.queries import breakdowns, failures, statistics
from receiptsvc.store.queries import overdue as overdue_store
from receiptsvc.store.queries.statistics import By
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import reprocess
from tests.support import rows, stories
from tests.support.rows import T0, seconds
from tests.support.work import READER, RULES

DAY = "since=2026-01-05T00:00:00Z&until=2026-01-06T00:00:00Z"


def get(client: FlaskClient, path: str, status: int = 200) -> Any:
    answer: Any = client.get(path)
    assert answer.status_code == status, answer.json
    return answer.json


def counted(database: Database, **counts: int) -> None:
    """Write hourly counts of T0's hour, as `kind__label=count`; delays by their class, such as `delays__003`."""
    keys = {
        hourly_counts.CountKey(hourly_counts.hour_of(T0), name.partition("__")[0], "", name.partition("__")[2]): count
        for name, count in counts.items()
    }
    with database.transaction() as session:
        hourly_counts.add(session, Counter(keys))


def test_an_hour_has_present_statuses_delivery_rate_and_receipts(client: FlaskClient, database: Database) -> None:
    first, second, _ = rows.accept(database, rows.message(), rows.message("447700900002"), rows.message("447700900003"))
    [late] = rows.accept(database, now=T0 + timedelta(hours=2))
    stories.report(database, first, Status.SENT, seconds(1))
    stories.report(database, first, Status.DELIVERED, seconds(3))
    stories.report(database, second, Status.UNDELIVERED, seconds(3))
    stories.report(database, late, Status.DELIVERED, T0 + timedelta(hours=2))
    read = get(client, f"/v1/stats?{DAY}")
    assert (read["since"], read["until"], read["by"]) == (
        "2026-01-05T00:00:00.000000Z", "2026-01-06T00:00:00.000000Z", "hour",
    )  # fmt: skip
    assert [(item["start"], item["messages"], item["statuses"], item["deliveryRate"]) for item in read["items"]] == [
        ("2026-01-05T12:00:00.000000Z", 3, {"accepted": 1, "delivered": 1, "undelivered": 1}, 0.5),
        ("2026-01-05T14:00:00.000000Z", 1, {"delivered": 1}, 1.0),
    ]
    assert (read["total"]["messages"], read["total"]["deliveryRate"]) == (4, 0.6667)


def test_receipts_are_counted_by_the_hour_in_which_they_came(client: FlaskClient, database: Database) -> None:
    counted(database, receipts__applied=6, receipts__duplicate=2)
    read = get(client, f"/v1/stats?by=day&{DAY}")
    assert read["items"][0]["receipts"] == {"applied": 6, "duplicate": 2}
    assert read["items"][0]["receiptsPerHour"] == read["total"]["receiptsPerHour"] == 0.33
    read = get(client, f"/v1/stats?{DAY}")
    assert (read["items"][0]["receiptsPerHour"], read["total"]["receiptsPerHour"]) == (8.0, 0.33)


def test_percentiles_come_from_the_classes_and_are_at_most_a_tenth_too_long(
    client: FlaskClient, database: Database
) -> None:
    delays = sorted(1.5 * 1.013**place for place in range(500))
    classes = Counter(f"delays__{hourly_counts.delay_class(delay)}" for delay in delays)
    counted(database, messages__delivered=500, **classes)
    [item] = get(client, f"/v1/stats?{DAY}")["items"]
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        true = delays[int(share * 500) - 1]
        assert true <= item["secondsToDelivery"][name] <= 1.1 * true + 0.001, name


def test_a_day_sums_its_hours_and_the_total_all_days(client: FlaskClient, database: Database) -> None:
    for hours in (0, 1, 11, 12, 36):
        rows.accept(database, now=T0 + timedelta(hours=hours))
    read = get(client, "/v1/stats?by=day&since=2026-01-05T23:00:00Z&until=2026-01-07T00:00:01Z")
    assert (read["since"], read["until"]) == ("2026-01-05T00:00:00.000000Z", "2026-01-08T00:00:00.000000Z")
    assert [(item["start"][:10], item["messages"]) for item in read["items"]] == [
        ("2026-01-05", 3), ("2026-01-06", 1), ("2026-01-07", 1),
    ]  # fmt: skip
    assert read["total"]["messages"] == 5


@pytest.mark.parametrize("by", list(By))
def test_an_originator_is_counted_alone_and_has_no_receipts(client: FlaskClient, database: Database, by: By) -> None:
    [acme] = rows.accept(database, rows.message(originator="ACME"))
    rows.accept(database, rows.message(), rows.message("447700900002", originator="OTHER"))
    stories.report(database, acme, Status.DELIVERED, seconds(3))
    [item] = get(client, f"/v1/stats?by={by}&originator=ACME&{DAY}")["items"]
    assert (item["statuses"], item["receipts"], item["receiptsPerHour"]) == ({"delivered": 1}, None, None)
    [item] = get(client, f"/v1/stats?by={by}&originator=&{DAY}")["items"]
    assert item["statuses"] == {"accepted": 1}
    assert get(client, f"/v1/stats?by={by}&originator=NOBODY&{DAY}")["items"] == []


def test_a_status_is_counted_alone_but_the_rate_stays_that_of_all(client: FlaskClient, database: Database) -> None:
    counted(database, messages__delivered=3, messages__expired=1, delays__000=3)
    [item] = get(client, f"/v1/stats?status=expired&{DAY}")["items"]
    assert (item["messages"], item["statuses"], item["deliveryRate"]) == (1, {"expired": 1}, 0.75)
    assert item["secondsToDelivery"] == {"p50": 1.0, "p95": 1.0, "p99": 1.0}


def test_the_default_period_is_the_last_day_or_thirty_days(client: FlaskClient, database: Database) -> None:
    now = datetime.now(UTC)
    rows.accept(database, now=now)
    rows.accept(database, now=now - timedelta(days=10))
    assert get(client, "/v1/stats")["total"]["messages"] == 1
    assert get(client, "/v1/stats?by=day")["total"]["messages"] == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:01Z", "since"),
        ("by=day&since=2025-01-01T00:00:00Z&until=2026-01-03T00:00:00Z", "since"),
        ("since=2026-01-01T01:00:00Z&until=2026-01-01T01:00:00Z", "since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("since=1970-01-01T00:00:00Z", "since"),
        ("by=week", "by"),
        ("status=lost", "status"),
        ("originators=ACME", "originators"),
    ],
)
def test_a_wrong_or_too_long_period_is_refused(desk: FlaskClient, query: str, field: str) -> None:
    assert list(get(desk, f"/v1/stats?{query}", 422)["errors"]) == [field]


def test_the_longest_periods_are_answered(desk: FlaskClient) -> None:
    assert get(desk, "/v1/stats?since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00Z")["items"] == []
    assert get(desk, "/v1/stats?by=day&since=2025-01-01T00:00:00Z&until=2026-01-02T00:00:00Z")["items"] == []
    assert get(desk, "/v1/stats?until=1970-01-01T00:00:00Z&since=1970-01-01T00:00:00Z", 422)
    assert get(desk, "/v1/stats?by=day&until=1970-01-01T00:00:01Z")["items"] == []


def test_more_counts_than_are_read_at_once_are_refused(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(database, messages__delivered=3, messages__expired=1, delays__000=3)
    monkeypatch.setattr(statistics, "MAX_COUNTS", 3)
    assert get(client, f"/v1/stats?{DAY}")["total"]["messages"] == 4
    monkeypatch.setattr(statistics, "MAX_COUNTS", 2)
    assert list(get(client, f"/v1/stats?by=day&{DAY}", 422)["errors"]) == ["since"]


def test_only_what_has_changed_is_add_up_again(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[list[int]] = []
    add_up = statistics._add_up  # noqa: SLF001

    def note(session: Any, starts: Any, *rest: Any) -> Any:
        again.append([start.hour for start in starts])
        return add_up(session, starts, *rest)

    monkeypatch.setattr(statistics, "_add_up", note)
    [first] = rows.accept(database, now=T0)
    rows.accept(database, now=T0 + timedelta(hours=3))
    assert get(client, f"/v1/stats?{DAY}")["total"]["messages"] == 2
    assert again == [list(range(24))]
    assert get(client, f"/v1/stats?{DAY}")["total"]["messages"] == 2
    assert len(again) == 1
    stories.report(database, first, Status.DELIVERED, T0 + timedelta(hours=1))
    read = get(client, f"/v1/stats?{DAY}")
    assert again[1:] == [[12]]
    assert [item["statuses"] for item in read["items"]] == [{"delivered": 1}, {"accepted": 1}]
    assert get(client, f"/v1/stats?by=day&{DAY}")["total"]["statuses"] == read["total"]["statuses"]
    assert get(client, f"/v1/stats?originator=&{DAY}")["total"]["statuses"] == read["total"]["statuses"]


@pytest.mark.parametrize("by", list(By))
def test_cached_sums_equal_counting_again(database: Database, by: By) -> None:
    dealt, cache = random.Random(6), statistics.StatisticsCache()
    until = rows.T0.replace(hour=0) + timedelta(days=2)
    since = until - timedelta(days=2)
    for _ in range(30):
        counts: Counter[hourly_counts.CountKey] = Counter()
        for _ in range(dealt.randint(0, 3)):
            kind, word = dealt.choice([("messages", "sent"), ("delays", "017"), ("receipts", "stale")])
            sender = dealt.choice(["", "ACME"]) if kind != "receipts" else ""
            counts[hourly_counts.CountKey(since + timedelta(hours=dealt.randrange(48)), kind, sender, word)] += 1
        with suppress(ZeroDivisionError), database.transaction() as session:
            hourly_counts.add(session, counts)
            if dealt.random() < 0.2:
                raise ZeroDivisionError  # what is taken back was no change
        for originator in (None, "", "ACME"):
            with database.reading() as session:
                read = [
                    statistics.read(session, since, until, by, originator=originator, cache=each)
                    for each in (cache, statistics.StatisticsCache())
                ]
            assert asdict(read[0]) == asdict(read[1])


def test_counts_written_by_hand_or_an_older_release_are_seen_after_a_while(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(database, messages__delivered=3)
    assert get(client, f"/v1/stats?{DAY}")["total"]["messages"] == 3
    with database.transaction() as session:
        session.execute(text("UPDATE hourly_counts SET value = 5 WHERE kind = 'messages'"))
    assert get(client, f"/v1/stats?{DAY}")["total"]["messages"] == 3
    later = time.monotonic() + 1801
    monkeypatch.setattr(statistics, "monotonic", lambda: later)
    assert get(client, f"/v1/stats?{DAY}")["total"]["messages"] == 5


def test_statistics_read_no_message(client: FlaskClient, database: Database) -> None:
    statements: list[str] = []
    with database.reading() as session:
        event.listen(session.connection().engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    get(client, f"/v1/stats?{DAY}")
    asked = [statement for statement in statements if "hourly_counts" in statement]
    assert len(asked) == 2
    assert not [statement for statement in statements if "messages" in statement.replace("'messages'", "")]


def test_changes_are_found_by_their_index(postgresql_database: Database) -> None:
    with postgresql_database.transaction() as session:
        for hours in range(40):
            words = [hourly_counts.delay_class(1.1**place) for place in range(50)]
            at = T0 + timedelta(hours=hours)
            hourly_counts.add(
                session, Counter({hourly_counts.CountKey(at, hourly_counts.DELAYS, "ACME", word): 1 for word in words})
            )
    statements: list[tuple[str, Any]] = []
    with postgresql_database.reading() as session:
        listened = session.connection()
        event.listen(listened, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        statistics.read(session, T0, T0 + timedelta(days=1), By.HOUR)
        asked, parameters = next(each for each in statements if "'changes'" in each[0])
        plan = "\n".join(str(row) for row in listened.exec_driver_sql(f"EXPLAIN {asked}", parameters))
    assert "ix_hourly_counts_changes" in plan


def overdue(database: Database, age: timedelta, status: Status = Status.ACCEPTED, **fields: Any) -> str:
    """Accept a message of this age, and return its public id."""
    now = datetime.now(UTC)
    [made] = rows.accept(database, rows.message(**fields), now=now - age)
    if status is not Status.ACCEPTED:
        told = transitions.NewTransition(report=transitions.own_report(status, now - age), rule="the gateway took it")
        with database.transaction() as session:
            transitions.record(session, transitions.lock_messages(session, [made]), [(made, told)], now)
    return ids.public("msg", made)


def test_overdue_messages_are_counted_by_status_and_age(client: FlaskClient, database: Database) -> None:
    old = overdue(database, timedelta(hours=30), Status.SUBMITTED)
    newer = overdue(database, timedelta(hours=2), Status.SUBMITTED)
    waiting = overdue(database, timedelta(hours=2))
    overdue(database, timedelta(minutes=50), Status.SUBMITTED)
    overdue(database, timedelta(days=30), Status.CANCELLED)
    read = get(client, "/v1/stats/overdue")
    assert [(each["status"], each["oldest"]) for each in read["statuses"]] == [
        ("accepted", [waiting]),
        ("submitted", [old, newer]),
    ]
    assert read["statuses"][1]["ages"] == [
        {"olderThanSeconds": begin, "youngerThanSeconds": end, "atLeast": count, "isExact": True}
        for begin, end, count in (
            (3600, 21600, 1),
            (21600, 86400, 0),
            (86400, 259200, 1),
            (259200, 604800, 0),
            (604800, None, 0),
        )
    ]
    assert read["olderThan"] == 3600
    assert len(get(client, "/v1/stats/overdue?olderThan=1000")["statuses"][1]["oldest"]) == 3
    assert get(client, "/v1/stats/overdue?olderThan=864000")["statuses"] == []


def test_a_message_is_not_overdue_before_its_deliver_after(client: FlaskClient, database: Database) -> None:
    now = datetime.now(UTC)
    overdue(database, timedelta(days=2), deliver_after=now + timedelta(hours=1))
    due = overdue(database, timedelta(days=2), deliver_after=now - timedelta(hours=2))
    overdue(database, timedelta(minutes=1), deliver_after=now - timedelta(days=300))
    [accepted] = get(client, "/v1/stats/overdue")["statuses"]
    assert accepted["oldest"] == [due]
    assert [age["atLeast"] for age in accepted["ages"]] == [1, 0, 0, 0, 0]


def test_overdue_messages_without_any_receipt_are_listed(client: FlaskClient, database: Database) -> None:
    silent = overdue(database, timedelta(hours=2), Status.SUBMITTED)
    lost = overdue(database, timedelta(hours=3), Status.SEND_UNKNOWN)
    overdue(database, timedelta(hours=2))  # never given to the gateway
    told = overdue(database, timedelta(hours=2), Status.SUBMITTED)
    receipt_id = rows.keep(database, "statusid=99")
    with database.transaction() as session:
        message_id = ids.parse("msg", told)
        now = datetime.now(UTC)
        session.add(
            Transition(
                message_id=message_id, receipt_id=receipt_id, source="gateway", effect="unmapped", rule="its address",
                received_at=now, recorded_at=now,
            )
        )  # fmt: skip
    read = get(client, "/v1/stats/overdue")["withoutReceipt"]
    assert read == {"atLeast": 2, "isExact": True, "examples": [silent, lost]}


def test_counts_of_overdue_messages_are_bounded_and_say_so(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue_store, "MAX_COUNTED", 2)
    monkeypatch.setattr("receiptsvc.web.api.statistics.MAX_COUNTED", 2)
    for _ in range(3):
        overdue(database, timedelta(hours=2), Status.SUBMITTED)
    read = get(client, "/v1/stats/overdue")
    assert read["statuses"][0]["ages"][0] | {"olderThanSeconds": 0, "youngerThanSeconds": 0} == {
        "olderThanSeconds": 0, "youngerThanSeconds": 0, "atLeast": 2, "isExact": False,
    }  # fmt: skip
    assert (read["withoutReceipt"]["atLeast"], read["withoutReceipt"]["isExact"]) == (2, False)


def test_overdue_messages_are_found_by_their_indexes(database: Database) -> None:
    rows.accept(database, *(rows.message(f"4477009{number:05}") for number in range(500)))
    with database.transaction() as session:
        session.execute(text("UPDATE messages SET status = 'delivered' WHERE recipient > '447700900002'"))
    with database.connection() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
    statements: list[tuple[str, Any]] = []
    with database.reading() as session:
        listened = session.connection()
        event.listen(listened, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        overdue_store.find(session, [seconds(5), seconds(-5)])
        asked, parameters = next(each for each in statements if "count(*)" in each[0])
        word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        plan = "\n".join(str(row) for row in listened.exec_driver_sql(f"{word} {asked}", parameters))
    assert "ix_messages_open_created_at" in plan
    assert "ix_messages_open_deliver_after" in plan
    assert f"SCAN {Message.__tablename__}" not in plan
    assert "Seq Scan on messages" not in plan


def test_unmatched_receipts_are_counted_in_their_hour(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in an hour in which nothing else happened; and no more once they are matched or dismissed."""
    [message_id] = rows.accept(database)
    rows.keep(database, "recipient=447700900001&statusid=1&statusdescription=Sent", message_id=message_id)
    alone = T0 + timedelta(hours=3)
    [*lost] = [rows.keep(database, "transactionid=7&statusid=1&statusdescription=Sent", now=at) for at in (T0, alone)]
    process(database, RULES, alone, 100)
    read = get(client, f"/v1/stats?{DAY}")
    assert [(item["start"][11:13], item["receipts"], item["messages"]) for item in read["items"]] == [
        ("12", {"applied": 1, "unmatched": 1}, 1), ("15", {"unmatched": 1}, 0),
    ]  # fmt: skip
    assert (read["total"]["receipts"], read["unmatchedIsBounded"]) == ({"applied": 1, "unmatched": 2}, False)
    [day] = get(client, f"/v1/stats?by=day&{DAY}")["items"]
    assert (day["receipts"], day["receiptsPerHour"]) == ({"applied": 1, "unmatched": 2}, 0.12)
    assert get(client, f"/v1/stats?originator=ACME&{DAY}")["total"]["receipts"] is None
    monkeypatch.setattr(receipts, "MAX_UNMATCHED", 1)
    bounded = get(client, f"/v1/stats?{DAY}")
    assert (bounded["total"]["receipts"]["unmatched"], bounded["unmatchedIsBounded"]) == (1, True)
    with database.transaction() as session:
        receipts.dismiss(session, lost[1], Actor(actor="test", reason="a test"), alone)
    assert get(client, f"/v1/stats?{DAY}")["total"]["receipts"] == {"applied": 1, "unmatched": 1}


def test_several_statuses_are_counted_together(client: FlaskClient, database: Database) -> None:
    counted(database, messages__delivered=3, messages__expired=1, messages__failed=2)
    for query in ("status=expired&status=failed", "status=failed,expired"):
        [item] = get(client, f"/v1/stats?{query}&{DAY}")["items"]
        assert (item["messages"], item["statuses"]) == (3, {"expired": 1, "failed": 2})


def failing(database: Database) -> None:
    """Messages to four people: two failures of one, one each of two others, none of the last; and one long before."""
    a, b, c, d = (f"44770090000{number}" for number in range(4))
    made = rows.accept(database, *(rows.message(number, originator="ACME") for number in (a, a, b)))
    made += rows.accept(database, rows.message(c), rows.message(d), now=T0 + timedelta(hours=1))
    made += rows.accept(database, rows.message(d), now=T0 - timedelta(days=3))
    words = (Status.UNDELIVERED, Status.EXPIRED, Status.REJECTED, Status.UNDELIVERED, Status.DELIVERED, Status.REJECTED)
    for message_id, word in zip(made, words, strict=True):
        stories.report(database, message_id, word, T0 + timedelta(hours=2))


def listed(client: FlaskClient, message_id: str) -> str:
    """The recipient of a message."""
    return str(get(client, f"/v1/messages/{message_id}")["recipient"])


def test_senders_are_told_apart_with_the_hours_in_which_they_were_counted(
    client: FlaskClient, database: Database
) -> None:
    failing(database)
    later = rows.message("447700900009", originator="ACME")
    rows.accept(database, later, rows.message("447700900008", originator="WAITS"), now=T0 + timedelta(hours=5))
    stories.report(database, later.id, Status.DELIVERED, T0 + timedelta(hours=6))
    read = get(client, f"/v1/stats/breakdown?by=originator&{DAY}")
    assert [(item["originator"], item["count"], item["statuses"], item["deliveryRate"]) for item in read["items"]] == [
        ("ACME", 4, {"undelivered": 1, "expired": 1, "rejected": 1, "delivered": 1}, 0.25),
        ("", 2, {"undelivered": 1, "delivered": 1}, 0.5),
    ]
    assert [(item["firstHour"][11:13], item["lastHour"][11:13]) for item in read["items"]] == [
        ("12", "17"),
        ("13", "13"),
    ]
    assert read["statuses"] == {"undelivered": 2, "expired": 1, "rejected": 1, "delivered": 2}
    assert (read["items"][0]["callingCode"], read["items"][0]["reason"], read["countedSince"]) == (None, None, None)


def test_the_numbers_that_failed_most_are_one_call(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(database)
    read = get(client, f"/v1/stats/failures?{DAY}")
    assert [(item["recipient"][-1], item["failures"], item["statuses"]) for item in read["items"]] == [
        ("0", 2, {"undelivered": 1, "expired": 1}), ("1", 1, {"rejected": 1}), ("2", 1, {"undelivered": 1}),
    ]  # fmt: skip
    assert (read["messages"], read["isBounded"], read["countedSince"]) == (4, False, None)
    assert read["items"][2]["lastAt"] == "2026-01-05T13:00:00.000000Z"
    assert listed(client, read["items"][2]["lastMessageId"]) == "447700900002"

    def found(query: str) -> list[tuple[str, int]]:
        return [
            (each["recipient"][-1], each["failures"]) for each in get(client, f"/v1/stats/failures?{query}")["items"]
        ]

    assert found(f"{DAY}&status=undelivered,rejected") == [("0", 1), ("1", 1), ("2", 1)]
    assert found(f"{DAY}&originator=ACME&limit=1") == [("0", 2)]
    assert found("since=2026-01-01T00:00:00Z&until=2026-01-04T00:00:00Z") == [("3", 1)]
    assert found("") == [], "the last day"
    monkeypatch.setattr(failures, "MAX_READ", 1)
    bounded = get(client, f"/v1/stats/failures?{DAY}")
    assert (bounded["messages"], bounded["isBounded"]) == (2, True)
    assert bounded["countedSince"] == "2026-01-05T12:00:00.000000Z"
    assert bounded["items"][0]["recipient"][-1] in {"0", "1", "2"}


def test_the_failed_messages_of_a_group_are_listed(client: FlaskClient, database: Database) -> None:
    failing(database)

    def found(query: str) -> list[tuple[str, str]]:
        read = get(client, f"/v1/stats/failures/messages?{DAY}{query}")
        return [(item["recipient"][-1], item["status"]) for item in read["items"]]

    assert found("") == [("2", "undelivered"), ("1", "rejected"), ("0", "expired"), ("0", "undelivered")]
    assert found("&originator=") == [("2", "undelivered")]
    assert found("&originator=ACME&reason=expired&providerStatusId=1") == [("0", "expired")]
    assert found("&callingCode=44&prefix=7700&limit=1") == [("2", "undelivered")]
    assert found("&callingCode=1") == []
    [newest] = get(client, f"/v1/stats/failures/messages?{DAY}&limit=1")["items"]
    asked = {"since": "2026-01-05T00:00:00Z", "until": "2026-01-06T00:00:00Z", "limit": 1}
    told: list[str] = []
    cursor: dict[str, Any] = {}
    while not told or cursor:
        answer: Any = client.post("/v1/stats/failures/messages", json=asked | cursor).json
        told += [item["id"] for item in answer["items"]]
        cursor = {"cursor": answer["nextCursor"]} if answer["nextCursor"] else {}
    assert (told[0], len(told), len(set(told))) == (newest["id"], 4, 4)
    assert get(client, "/v1/stats/failures/messages")["items"] == [], "the last day"


def test_statistics_are_broken_down(client: FlaskClient, database: Database) -> None:
    """By whom messages went to, and by what the gateway reported; verify counts the same again."""
    people = ("447700900001", "447700900002", "447911123456", "12025550123")
    made = rows.accept(database, *(rows.message(number) for number in people))
    words = ("Delivered", "Absent subscriber", "Call barred", "Delivered")
    maps = {"6": Status.UNDELIVERED}
    rules = replace(RULES, reader=replace(READER, status_map=status_map.load(maps)))
    for number, message_id, word in zip(people, made, words, strict=True):
        code = 1 if word == "Delivered" else 6
        for _ in range(2):  # the second is a duplicate
            said = {"recipient": number, "statusid": code, "statusdescription": word, "datetime": "2026-01-05T12:00:03"}
            rows.keep(database, urlencode(said), message_id=message_id)
    rows.keep(database, "statusid=99&statusdescription=Who%20knows", message_id=made[0])
    process(database, rules, seconds(9), 100)

    def groups(by: str, *names: str) -> list[tuple[Any, ...]]:
        read = get(client, f"/v1/stats/breakdown?by={by}&{DAY}")
        assert (read["by"], read["countedSince"], read["isBounded"]) == (by, None, False)
        return [tuple(item[name] for name in (*names, "count", "statuses", "deliveryRate")) for item in read["items"]]

    assert groups("originator", "originator", "callingCode") == [
        ("", None, 4, {"delivered": 2, "undelivered": 2}, 0.5),
    ]  # fmt: skip
    assert groups("country", "callingCode", "prefix") == [
        ("44", None, 3, {"delivered": 1, "undelivered": 2}, 0.3333), ("1", None, 1, {"delivered": 1}, 1.0),
    ]  # fmt: skip
    assert groups("prefix", "callingCode", "prefix") == [
        ("44", "7700", 1, {"undelivered": 1}, None), ("44", "7911", 1, {"undelivered": 1}, None),
    ]  # fmt: skip
    assert groups("providerStatusId", "providerStatusId") == [
        ("1", 2, {"delivered": 2}, None), ("6", 2, {"undelivered": 2}, None), ("99", 1, {"unmapped": 1}, None),
    ]  # fmt: skip
    assert groups("reason", "reason") == [
        ("blocked", 1, {"undelivered": 1}, None), ("unreachable", 1, {"undelivered": 1}, None),
    ]  # fmt: skip
    [first, second] = get(client, f"/v1/stats/breakdown?by=country&{DAY}")["items"]
    assert (first["countries"][0], second["countries"][0]) == ("GB", "US")
    assert (first["firstHour"], first["lastHour"]) == ("2026-01-05T12:00:00.000000Z",) * 2
    bounded = get(client, f"/v1/stats/breakdown?by=country&limit=1&{DAY}")
    assert bounded["statuses"] == {"delivered": 2, "undelivered": 2}, "of all groups"
    assert (len(bounded["items"]), bounded["isBounded"]) == (1, True)
    assert get(client, "/v1/stats/breakdown?by=country")["items"] == []
    assert list(verify(database)) == []
    stories.report(database, made[1], Status.DELIVERED, seconds(99))  # it was undelivered before
    assert groups("prefix", "prefix") == [("7911", 1, {"undelivered": 1}, None)]
    assert list(verify(database)) == []
    newer = replace(RULES, reader=replace(READER, status_map=status_map.load(maps | {"99": Status.REJECTED})))
    assert len(list(reprocess(database, newer, seconds(200), is_applied=True))) == 1
    assert groups("providerStatusId", "providerStatusId")[2] == ("99", 1, {"rejected": 1}, None)
    assert list(verify(database)) == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("failures?status=lost", "status"),
        ("failures?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("failures?limit=501", "limit"),
        ("failures/messages?reason=lost", "reason"),
        ("failures/messages?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("failures/messages?prefix=77001", "prefix"),
        ("breakdown", "by"),
        ("breakdown?by=hour", "by"),
        ("breakdown?by=country&since=2026-01-01T00:00:00Z&until=2026-03-01T00:00:00Z", "since"),
    ],
)
def test_a_wrong_question_is_refused_by_its_parameter(desk: FlaskClient, query: str, fault: str) -> None:
    assert list(get(desk, f"/v1/stats/{query}", 422)["errors"]) == [fault]


def test_more_counts_than_can_be_broken_down_are_refused(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(database)
    monkeypatch.setattr(breakdowns, "MAX_COUNTS", 1)
    assert list(get(client, f"/v1/stats/breakdown?by=prefix&{DAY}", 422)["errors"]) == ["since"]
