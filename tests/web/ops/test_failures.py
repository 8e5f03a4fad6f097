"""The page of failures: what failed, by each part, and the messages and files behind it; masked until somebody asks."""

import csv
import io
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from lxml import html
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.messages.hourly_counts import CountKey
from receiptsvc.store.queries import failed_messages
from receiptsvc.web.ops import failure_rows
from receiptsvc.web.ops.failure_rows import Part
from receiptsvc.web.ops.pages import PanelLate
from tests.support import rows, stories
from tests.support.reader import Reader
from tests.support.rows import T0, seconds
from tests.web.ops.test_lists import message_ids

ALICE, BOB, CAROL = "447700900001", "447911123456", "12025550123"
DAY = "since=2026-01-05T00:00&until=2026-01-06T00:00"
FORM = {"since": "2026-01-05T00:00", "until": "2026-01-06T00:00"}
SECRET = "Your code is 1234"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


@pytest.fixture
def failed(database: Database) -> dict[str, UUID]:
    """Four of five messages of a day failed, and the only one of the day before."""
    made = {
        "undelivered": (rows.message(ALICE, SECRET, originator="ACME", client_ref="=order/1"), Status.UNDELIVERED),
        "expired": (rows.message(ALICE, originator="ACME"), Status.EXPIRED),
        "rejected": (rows.message(BOB, originator="SHOP"), Status.REJECTED),
        "own": (rows.message(CAROL), Status.UNDELIVERED),
        "delivered": (rows.message(CAROL, originator="ACME"), Status.DELIVERED),
    }
    for second, (message, word) in enumerate(made.values()):
        accept(database, message, word, seconds(second))
    before = rows.message(ALICE, originator="ACME")
    accept(database, before, Status.UNDELIVERED, T0 - timedelta(days=1))
    return {name: message.id for name, (message, _) in made.items()} | {"before": before.id}


def accept(database: Database, message: Any, word: Status, at: datetime) -> None:
    rows.accept(database, message, now=at)
    stories.report(database, message.id, word, at + timedelta(seconds=9))


def table(reader: Reader) -> list[str]:
    """The lines of the table, without its head."""
    lines = html.document_fromstring(reader.source).xpath("//tbody/tr")
    return [" ".join(line.text_content().split()) for line in lines]


def read_csv(browser: FlaskClient, path: str, **form: str) -> list[list[str]]:
    answer = browser.post(path, data=form) if form else browser.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "text/csv"), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"), newline="")))


def audits(database: Database) -> list[tuple[str, str]]:
    with database.reading() as session:
        found = session.scalars(select(Audit).where(Audit.subject == "failures").order_by(Audit.id))
        return [(audit.actor, audit.action) for audit in found]


@pytest.mark.usefixtures("failed")
def test_it_says_how_many_failed_now_and_before(reader: Reader) -> None:
    text = reader.open(f"/ops/failures?{DAY}").text
    assert "4 of 5 messages failed, 80.0 % of those that have reached a final status." in text
    assert "In the previous period of the same length: 1 of 1 failed, 100.0 %." in text


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("reason", ["unsaid the gateway gave no reason", "expired it became too old"]),
        ("code", ["1 “undelivered” “"]),
        ("sender", ["ACME 2 50.0 % 3 66.7 % 1 (100.0 %)", "the account's own number 1 25.0 % 1 100.0 % 0", "SHOP 1"]),
        ("country", ["+44 GB GG IM JE 3 75.0 % 3 100.0 % 1 (100.0 %)", "+1 US"]),
        ("prefix", ["+44 7700 GB GG IM JE 2 50.0 % 1", "+1 2025 US", "+44 7911 GB GG IM JE 1 25.0 % 0"]),
        ("number", ["+44 ••• •••001 Open this person 2", "+1 ••• •••123", "+44 ••• •••456"]),
    ],
)
def test_failures_are_told_by_each_part_the_most_first(reader: Reader, by: str, expected: list[str]) -> None:
    lines = table(reader.open(f"/ops/failures?by={by}&{DAY}"))
    assert len(lines) == len(expected)
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize(
    ("by", "button", "expected"),
    [
        ("reason", "All failed messages", ["own", "rejected", "expired", "undelivered"]),
        ("reason", "Messages of unsaid", ["own", "rejected", "undelivered"]),
        ("code", "Messages of 1", ["own", "rejected", "expired", "undelivered"]),
        ("sender", "Messages of ACME", ["expired", "undelivered"]),
        ("sender", "Messages of the account's own number", ["own"]),
        ("country", "Messages of +44", ["rejected", "expired", "undelivered"]),
        ("prefix", "Messages of +44 7911", ["rejected"]),
        ("number", "Messages to +44 ••• •••001", ["expired", "undelivered"]),
    ],
)
def test_each_part_leads_to_its_messages_by_an_address_that_names_nobody(
    reader: Reader, failed: dict[str, UUID], by: str, button: str, expected: list[str]
) -> None:
    reader.open(f"/ops/failures?by={by}&{DAY}").submit(button)
    assert message_ids(reader) == [ids.public("msg", failed[name]) for name in expected]
    assert "/ops/search/srch_" in reader.path
    assert not [text for text in reader.seen if any(name in text for name in (ALICE, BOB, CAROL, "ACME", "order"))]


@pytest.mark.parametrize(
    ("by", "button", "expected"),
    [
        ("reason", "4 failed of all", ["own", "rejected", "expired", "undelivered"]),
        ("reason", "2 undelivered of all", ["own", "undelivered"]),
        ("reason", "3 failed of unsaid", ["own", "rejected", "undelivered"]),
        ("number", "2 failed to +44 ••• •••001", ["expired", "undelivered"]),
        ("reason", "1 failed before", ["before"]),
        ("reason", "1 rejected of unsaid", ["rejected"]),
        ("reason", "1 of unsaid before", ["before"]),
        ("code", "1 expired of 1", ["expired"]),
        ("sender", "1 expired of ACME", ["expired"]),
        ("sender", "1 of ACME before", ["before"]),
        ("country", "1 rejected of +44", ["rejected"]),
        ("prefix", "1 of +44 7700 before", ["before"]),
    ],
)
def test_each_number_leads_to_what_it_counts(
    reader: Reader, failed: dict[str, UUID], by: str, button: str, expected: list[str]
) -> None:
    reader.open(f"/ops/failures?by={by}&{DAY}").submit(button)
    assert message_ids(reader) == [ids.public("msg", failed[name]) for name in expected]


@pytest.mark.parametrize(("by", "button"), [("reason", "Messages of unsaid"), ("code", "Messages of 1")])
def test_a_reason_leads_to_what_was_reported_in_this_time_whenever_it_was_accepted(
    reader: Reader, database: Database, by: str, button: str
) -> None:
    early, late = rows.message(ALICE), rows.message(BOB)
    rows.accept(database, early, now=T0 - timedelta(days=2))
    rows.accept(database, late)
    stories.report(database, early.id, Status.UNDELIVERED, seconds(1))
    stories.report(database, late.id, Status.UNDELIVERED, T0 + timedelta(days=1))
    reader.open(f"/ops/failures?by={by}&{DAY}").submit(button)
    assert message_ids(reader) == [ids.public("msg", early.id)]
    assert "Reported05 Jan 2026 00:00:00 UTC to 06 Jan 2026 00:00:00 UTC" in reader.text
    assert "That is all" in reader.text


def test_a_reason_leads_to_what_was_delivered_after_all_too(reader: Reader, database: Database) -> None:
    first, second, quiet = rows.message(ALICE), rows.message(BOB), rows.message(CAROL)
    for message, words in ((first, (Status.UNDELIVERED, Status.DELIVERED)), (second, (Status.DELIVERED, "expired"))):
        rows.accept(database, message)
        for number, word in enumerate(words):
            at = seconds(9 + number)
            receipt_id = rows.keep(database, "x=1", message_id=message.id, now=at)
            stories.report(database, message.id, Status(word), at, receipt_id=receipt_id)
    accept(database, quiet, Status.DELIVERED, T0)
    reader.open(f"/ops/failures?by=code&{DAY}").submit("Messages of 1")
    assert "Nothing: no failed message fits." in reader.text
    assert message_ids(reader) == [ids.public("msg", message.id) for message in (first, second)]
    reader.open(f"/ops/failures?by=reason&{DAY}").submit("Messages of unsaid")
    assert message_ids(reader) == [ids.public("msg", first.id)]


def test_a_period_before_in_which_nothing_ended_is_told_in_plain_words(reader: Reader, database: Database) -> None:
    accept(database, rows.message(), Status.EXPIRED, T0)
    text = reader.open(f"/ops/failures?{DAY}").text
    assert "In the previous period of the same length no message reached a final status." in text


def test_a_list_of_a_part_says_how_far_it_has_looked(
    reader: Reader, failed: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_messages, "LOOKED_THROUGH", 2)
    reader.open(f"/ops/failures?by=prefix&{DAY}").submit("Messages of +44 7700")
    assert "Nothing yet. Looked back to 05 Jan 2026 12:00:02 UTC." in reader.text
    assert "Country+44 GB GG IM JE Prefix7700" in reader.text
    reader.follow("Look further back")
    assert message_ids(reader) == [ids.public("msg", failed[name]) for name in ("expired", "undelivered")]
    assert "That is all" in reader.text
    assert reader.open(f"{reader.path.partition('?')[0]}?after=x", 422).text


@pytest.mark.usefixtures("failed")
def test_numbers_are_masked_until_somebody_asks_which_is_noted(reader: Reader, database: Database) -> None:
    reader.open(f"/ops/failures?by=number&{DAY}")
    assert ALICE not in reader.source
    reader.submit("Show numbers and texts")
    assert f"+{ALICE}" in reader.text
    assert audits(database) == [("key opser", "reveal")]
    assert "Among all 4 failed messages of this period." in reader.text


@pytest.mark.usefixtures("failed")
def test_numbers_are_counted_among_the_newest_failures_and_that_is_said(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_rows, "MAX_READ", 1)
    text = reader.open(f"/ops/failures?by=number&{DAY}").text
    assert "Among the newest 2 failed messages: looked back to 05 Jan 2026 12:00:02 UTC." in text


@pytest.mark.usefixtures("failed")
def test_a_table_is_downloaded_masked_or_whole(browser: FlaskClient, database: Database) -> None:
    path = f"/ops/failures.csv?by=number&{DAY}"
    masked = read_csv(browser, path)
    assert masked[0] == ["recipient", "failures", "undelivered", "expired", "rejected", "failed", "lastAt"]
    assert masked[1][:4] == ["'+44 ••• •••001", "2", "1", "1"]
    assert audits(database) == []
    assert read_csv(browser, "/ops/failures.csv", by="number", action="reveal", **FORM)[1][0] == ALICE
    assert audits(database) == [("key opser", "reveal")]
    answer = browser.get(path)
    assert answer.headers["Content-Disposition"] == (
        'attachment; filename="failures-by-number-from-2026-01-05T00Z-until-2026-01-06T00Z.csv"'
    )


@pytest.mark.usefixtures("failed")
def test_a_table_has_counts_shares_and_rates(browser: FlaskClient) -> None:
    head, first, *rest = read_csv(browser, f"/ops/failures.csv?by=country&{DAY}")
    assert dict(zip(head[:8], first, strict=False)) == {
        "callingCode": "44",
        "countries": "GB GG IM JE",
        "failures": "3",
        "share": "0.75",
        "of": "3",
        "rate": "1.0",
        "failuresBefore": "1",
        "rateBefore": "1.0",
    }
    assert [line[0] for line in rest] == ["1"]
    assert read_csv(browser, f"/ops/failures.csv?by=code&{DAY}")[1][0] == "1"


def test_no_cell_of_a_file_is_a_formula(browser: FlaskClient, database: Database) -> None:
    accept(database, rows.message(originator="=1+1", client_ref="@SUM(A1)"), Status.EXPIRED, T0)
    assert read_csv(browser, f"/ops/failures.csv?by=sender&{DAY}")[1][0] == "'=1+1"
    head, line = read_csv(browser, f"/ops/failures/messages.csv?{DAY}")
    assert (line[head.index("originator")], line[head.index("clientRef")]) == ("'=1+1", "'@SUM(A1)")


def test_the_messages_are_downloaded_masked_or_whole(
    browser: FlaskClient, database: Database, failed: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiptsvc.web.answers.export_stream._SLICE", 2)
    head, *lines = read_csv(browser, f"/ops/failures/messages.csv?{DAY}")
    names = ("own", "rejected", "expired", "undelivered")
    assert [line[0] for line in lines] == [ids.public("msg", failed[name]) for name in names]
    assert head[:2] == ["id", "recipient"]
    assert "text" not in head
    assert head[-3:] == ["reason", "providerStatusId", "providerDescription"]
    assert lines[-1][-3:] == ["unsaid", "1", "undelivered"]
    assert {line[1] for line in lines} == {"'+1 ••• •••123", "'+44 ••• •••456", "'+44 ••• •••001"}
    assert not [cell for line in lines for cell in line if cell in {ALICE, BOB, CAROL, SECRET}]
    assert audits(database) == []
    head, *lines = read_csv(browser, "/ops/failures/messages.csv", action="reveal", **FORM)
    assert (lines[-1][head.index("recipient")], lines[-1][head.index("text")]) == (ALICE, SECRET)
    assert lines[-1][-3:] == ["unsaid", "1", "undelivered"]
    assert audits(database) == [("key opser", "reveal")]


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize(
    ("by", "button", "recipient", "about"),
    [
        ("sender", "Messages of ACME", ALICE, "ACME"),
        ("sender", "Messages of the account's own number", CAROL, ""),
        ("country", "Messages of +1", CAROL, ""),
    ],
)
def test_the_failed_messages_of_a_part_are_downloaded_with_why(
    reader: Reader, browser: FlaskClient, by: str, button: str, recipient: str, about: str
) -> None:
    reader.open(f"/ops/failures?by={by}&{DAY}").submit(button)
    path = reader.path + "/failures.csv"
    assert path.endswith(reader.links()["As CSV, masked"].rpartition("search")[2])
    head, *lines = read_csv(browser, path)
    assert {line[head.index("originator")] for line in lines} == {about}
    assert {tuple(line[-2:]) for line in lines} <= {("1", "undelivered"), ("1", "expired")}
    assert recipient not in str(lines)
    head, *lines = read_csv(browser, path, action="reveal")
    assert {line[head.index("recipient")] for line in lines} == {recipient}


@pytest.mark.parametrize(
    ("by", "button", "names"),
    [
        ("reason", "Messages of unsaid", ["own", "rejected", "undelivered"]),
        ("code", "Messages of 1", ["own", "rejected", "expired", "undelivered"]),
        ("code", "1 expired of 1", ["expired"]),
    ],
)
def test_a_list_by_what_was_reported_is_downloaded_too(
    reader: Reader,
    browser: FlaskClient,
    failed: dict[str, UUID],
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    button: str,
    names: list[str],
) -> None:
    reader.open(f"/ops/failures?by={by}&{DAY}").submit(button)
    path = reader.path + "/failures.csv"
    assert path.endswith(reader.links()["As CSV, masked"].rpartition("search")[2])
    monkeypatch.setattr("receiptsvc.store.queries.failed_messages.LOOKED_THROUGH", 2)  # so the file has several looks
    head, *lines = read_csv(browser, path)
    assert [line[head.index("id")] for line in lines] == [ids.public("msg", failed[name]) for name in names]
    disposition = browser.get(path).headers["Content-Disposition"]
    assert "from-2026-01-" in disposition
    assert ALICE not in str(lines)


def test_a_description_that_names_a_number_is_masked_in_a_masked_file(browser: FlaskClient, database: Database) -> None:
    message = rows.message(ALICE)
    rows.accept(database, message)
    stories.report(database, message.id, Status.UNDELIVERED, seconds(9), description=f"={ALICE} is absent")
    masked, whole = (
        read_csv(browser, "/ops/failures/messages.csv", **form, **FORM)[1][-1] for form in ({}, {"action": "reveal"})
    )
    assert ALICE not in masked
    assert whole == f"'={ALICE} is absent"


@pytest.mark.usefixtures("failed")
def test_no_other_list_is_a_file_of_failures(reader: Reader) -> None:
    paths = ["/ops/search/srch_x", reader.post("/ops/search", q="44770").path]
    for status in ([], ["delivered"], ["expired", "delivered"]):
        paths.append(reader.post("/ops/messages", status=status).path)
        assert "As CSV, masked" not in reader.links()
    for path in paths:
        reader.open(f"{path}/failures.csv", 404)
        assert "There is no list of failed messages at this address." in reader.text


@pytest.mark.usefixtures("failed")
def test_lists_say_why_each_message_failed(reader: Reader) -> None:
    why = {"undelivered": "Why: unsaid · code 1 · “undelivered”", "expired": "Why: expired · code 1 · “expired”"}
    reader.open(f"/ops/failures?by=prefix&{DAY}").submit("Messages of +44 7700")
    assert [[each in row for each in why.values()] for row in reader.rows()] == [[False, True], [True, False]]
    rows_of_all = reader.open("/ops/messages").rows()
    assert len(rows_of_all) == 6
    for row in rows_of_all:
        assert ("Why:" in row) == ("✓" not in row)


def test_the_last_24_hours_are_what_is_shown_first(reader: Reader, database: Database) -> None:
    now = database.clock.now()
    accept(database, rows.message(), Status.EXPIRED, now - timedelta(minutes=1))
    accept(database, rows.message(), Status.EXPIRED, now - timedelta(days=3))
    accept(database, rows.message(), Status.EXPIRED, now - timedelta(days=20))
    assert "1 of 1 messages failed" in reader.open("/ops").follow("Failures").text
    assert [line.split()[0] for line in table(reader)] == ["expired"]
    assert "3 of 3 messages failed" in reader.follow("30 days").text
    assert "previous period" not in reader.text
    assert "2 of 2 messages failed" in reader.follow("7 days").text


def test_yesterday_and_today_are_days_of_utc(reader: Reader, database: Database) -> None:
    midnight = database.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    accept(database, rows.message(originator="THEN"), Status.EXPIRED, midnight - timedelta(hours=12))
    accept(database, rows.message(originator="NOW"), Status.EXPIRED, midnight)
    for words, sender in (("Yesterday", "THEN"), ("Today", "NOW")):
        assert "1 of 1 messages failed" in reader.open("/ops/failures?by=sender").follow(words).text
        assert table(reader)[0].startswith(sender)


@pytest.mark.parametrize(
    ("days", "words"), [(3, "In the last 7 days 1 failed: show it."), (20, "In the last 30 days 1 failed: show it.")]
)
def test_where_nothing_failed_but_something_did_before_it_says_so(
    reader: Reader, database: Database, days: int, words: str
) -> None:
    accept(database, rows.message(), Status.EXPIRED, database.clock.now() - timedelta(days=days))
    assert words in reader.open("/ops/failures").text
    assert "1 of 1 messages failed" in reader.follow("show it").text


def test_where_failures_take_too_long_to_be_looked_for_further_back_the_page_is_shown(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_long(*_: object) -> None:
        raise PanelLate("the database takes too long")

    monkeypatch.setattr(failure_rows, "count", take_long)
    assert "has reached a final status yet" in reader.open("/ops/failures").text


@pytest.mark.parametrize("part", list(Part))
def test_where_nothing_failed_it_says_so(reader: Reader, database: Database, part: Part) -> None:
    assert "has reached a final status yet" in reader.open(f"/ops/failures?by={part}&{DAY}").text
    assert "In the last" not in reader.text
    accept(database, rows.message(), Status.DELIVERED, T0)
    assert "0 of 1 messages failed, 0.0 %" in reader.open(f"/ops/failures?by={part}&{DAY}").text
    assert "Nothing failed in this period" not in reader.text, "that was said"
    assert "CSV" not in reader.text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=2026-01-06T00:00&until=2026-01-05T00:00", "Must be earlier than until."),
        ("since=2026-01-06T00:00&until=2026-03-05T00:00", "Must be at most 31 days before until"),
        ("since=yesterday", "Must be a time"),
        ("until=2026-99-05T00:00", "There is no such time."),
    ],
)
def test_a_period_that_can_not_be_understood_is_said_beside_its_field(reader: Reader, query: str, words: str) -> None:
    assert words in reader.open(f"/ops/failures?{query}", 422).text
    assert "this period" not in reader.text
    assert words in reader.open(f"/ops/failures.csv?{query}", 422).text
    assert words in reader.open(f"/ops/failures/messages.csv?{query}", 422).text


@pytest.mark.usefixtures("failed")
def test_a_part_that_nobody_knows_is_the_first(reader: Reader) -> None:
    assert "By reason" in reader.open(f"/ops/failures?by=nothing&range=nothing&{DAY}").text


@pytest.mark.usefixtures("failed")
def test_too_much_to_be_added_up_is_said_and_not_waited_for(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_rows, "MAX_COUNTS", 1)
    assert "Too much was counted in this period" in reader.open(f"/ops/failures?{DAY}", 422).text
    assert "Too much was counted in this period" in reader.open(f"/ops/failures.csv?{DAY}", 422).text


def test_of_very_many_parts_the_most_are_shown_and_a_file_has_all(
    reader: Reader, browser: FlaskClient, database: Database
) -> None:
    hostile = "<script>alert(1)</script>\u202e" * 5
    senders = [f"S{number:03}" for number in range(149)] + [hostile]
    keys = {CountKey(T0, hourly_counts.MESSAGES, sender, "failed"): 1 + (sender == hostile) for sender in senders}
    with database.transaction() as session:
        hourly_counts.add(session, Counter(keys))
    lines = table(reader.open(f"/ops/failures?by=sender&{DAY}"))
    assert (len(lines), lines[0].startswith("<script>")) == (100, True)
    assert "50 more are in the file." in reader.text
    assert "<script>alert" not in reader.source
    assert len(read_csv(browser, f"/ops/failures.csv?by=sender&{DAY}")) == 151


@pytest.mark.parametrize("public_id", ["msg_x", ids.public("msg", UUID(int=1))])
def test_messages_of_a_number_that_is_no_more_there_are_said_to_be_gone(reader: Reader, public_id: str) -> None:
    reader.post("/ops/failures/messages", 404, of=public_id, **FORM)
    assert "There is no such message." in reader.text
