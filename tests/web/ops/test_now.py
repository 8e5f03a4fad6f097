"""The first page: each number is the one that was kept, all pages share one reading, and a stream keeps them as it is."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import UUID

import gevent
import pytest
from flask.testing import FlaskClient
from lxml import html
from sqlalchemy import event, update
from sqlalchemy.engine import Engine

from receiptsvc import ids
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.problems import Kind, Seen, id_of
from receiptsvc.domain.statuses import Status
from receiptsvc.server import page_feed
from receiptsvc.store.access import sessions
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import OpsSession
from receiptsvc.store.health import heartbeats, last_verification, minutes, problems
from receiptsvc.store.health.causes import Look
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.messages.hourly_counts import CountKey
from receiptsvc.store.outbound import send_gate
from receiptsvc.web.app import create_app
from receiptsvc.web.http import context
from receiptsvc.web.ops import board, numbers, pages
from receiptsvc.web.ops.board import Board
from receiptsvc.web.ops.now import prepare
from tests.support import looks, rows
from tests.support.callers import SECRETS, make_settings
from tests.support.processes import until
from tests.support.reader import Reader
from tests.web.ops.conftest import OWN

Told = dict[str, dict[str, str]]  # by heading and name

STREAM = {"Accept": "text/event-stream"}
MINUTE = timedelta(minutes=1)


def read_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read anew for each page."""
    monkeypatch.setattr(board, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(board, "RECENT_SECONDS", 0.0)


@pytest.fixture
def reader(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Reader:
    read_always(monkeypatch)
    return Reader(browser)


@pytest.fixture
def own_board(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board of the process in which somebody is signed in."""
    read_always(monkeypatch)
    return board_of(browser)


def board_of(client: FlaskClient) -> Board:
    found: Board = client.application.extensions["receiptsvc.board"]
    return found


@pytest.fixture(autouse=True)
def quick_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feed pages often, so that no test waits."""
    monkeypatch.setattr(page_feed, "INTERVAL_SECONDS", 0.05)


def open_now(reader: Reader) -> Told:
    """What the page tells."""
    reader.open("/ops")
    page = html.document_fromstring(reader.source)
    told: Told = {}
    for section in page.get_element_by_id("numbers").iter("section"):
        heading = " ".join(next(section.iter("h2")).text_content().split())
        names = [" ".join(each.text_content().split()) for each in section.iter("dt")]
        values = [" ".join(each.text_content().split()) for each in section.iter("dd")]
        told[heading] = dict(zip(names, values, strict=True))
    return told


def verdict_of(reader: Reader) -> str:
    return " ".join(html.document_fromstring(reader.source).get_element_by_id("verdict").text_content().split())


def count(database: Database, **counts: int) -> None:
    with database.transaction() as session:
        counters.add(session, counts)


def beat(database: Database, process: str, version: str | None = None) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, process, database.clock.now(), version=version)


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL statements of all engines during the block."""
    heard: list[str] = []

    def hear(*call: Any) -> None:
        if not call[2].startswith("BEGIN"):  # SQLite's
            heard.append(call[2])

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


def test_a_new_service_tells_what_it_does_and_what_is_missing(reader: Reader) -> None:
    told = open_now(reader)
    assert reader.title == "Now · receiptsvc"
    said = reader.text.index("This service sends text messages (SMS) through a gateway")
    assert said < reader.text.index("What became of a text?"), "for somebody who has never seen it"
    assert told["Receipts"] == {
        "A minute": "known in a minute",
        "Answered": "known in a minute",
        "Slowest ever": "0.0 s; 0 answers over 1 s",
        "Pending": "0 wait to be worked on",
        "Unmatched": "0 fit no message",
        "Unreadable": "0 are quarantined: can’t be read, or came with a wrong key",
        "Failed here": "0 are dead: work on it failed eight times, a person has to look",
        "Unknown code": "0 are unmapped: nobody has said what the gateway’s code means",
        "Refused": "0 ever",
        "Spool": "none (SPOOL_DIR)",
    }
    assert told["Sending"] == {
        "A minute": "known in a minute",
        "Waiting": "0 to go out",
        "Held up by": "no worker is at work",
        "Gateway": "not known: no worker calls it",
        "Delivered": "nothing has ended in 24 h",
        "Time to delivery": "nothing was delivered in 24 h",
    }
    assert told["Processes"]["Workers"] == told["Processes"]["Web"] == "none seen"
    assert told["Processes"]["Last verify"] == "not run yet: verify checks that no receipt was lost"
    assert verdict_of(reader) == (
        "Wrong: no worker is at work: receipts are kept and wait, and nothing is sent What to do about worker unseen"
    ), "once"


def test_the_page_is_named_in_the_navigation_and_is_where_one_is(reader: Reader) -> None:
    for path, current in (("/ops", "Now"), ("/ops/problems", "Problems")):
        reader.open(path)
        nav = html.document_fromstring(reader.source).xpath("//nav[@aria-label='Pages']/a")
        assert [each.text_content() for each in nav if each.get("aria-current") == "page"] == [current]
    reader.follow("Now")
    assert reader.path == "/ops"


def test_while_a_worker_is_restarted_nothing_is_wrong(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    with database.transaction() as session:
        heartbeats.deregister(session, "worker:a:1", database.clock.now() - timedelta(seconds=6))
    told = open_now(reader)
    assert verdict_of(reader) == "Nothing is wrong."
    assert told["Sending"]["Held up by"] == "nothing: what is due goes out"
    assert told["Processes"]["Workers"].startswith("none just now: one was seen ")


def test_counts_of_receipts_are_the_ledgers(reader: Reader, database: Database) -> None:
    now = database.clock.now()
    for ago in (95, 30):
        rows.keep(database, "statusid=1", now=now - timedelta(seconds=ago))
    count(database, unmatched=1_234, dead=3, quarantined=4, unmapped=5, refused=60)
    with database.transaction() as session:
        counters.raise_maximum(session, counters.SLOWEST_ANSWER, 2_300)
        counters.add(session, {counters.SLOW_ANSWERS: 1})
    told = open_now(reader)["Receipts"]
    assert told["Pending"] in {f"2 wait to be worked on, the oldest for {seconds} s" for seconds in range(95, 120)}
    assert told["Unmatched"] == "1,234 fit no message"
    assert told["Failed here"].startswith("3 are dead: ")
    assert told["Unreadable"].startswith("4 are quarantined: ")
    assert told["Unknown code"].startswith("5 are unmapped: ")
    assert told["Refused"] == "60 ever"
    assert told["Slowest ever"] == "2.3 s; 1 answer over 1 s"


def test_rates_and_answers_are_what_was_added_since_a_kept_minute(reader: Reader, database: Database) -> None:
    now = database.clock.now()
    count(database, received=1000, taken=1000, refused=10)
    with database.transaction() as session:
        counters.add_answers(session, {0.005: 1000})
        minutes.keep(session, now - 12 * MINUTE)
    count(database, refused=2)
    with database.transaction() as session:
        counters.add_answers(session, {0.005: 98, 0.5: 2})
        minutes.keep(session, now - 2 * MINUTE)
    count(database, received=6, taken=3)
    told = open_now(reader)
    receipts, sent = told["Receipts"]["A minute"], told["Sending"]["A minute"]
    assert receipts.endswith(", of the last one to two minutes")
    assert 2.5 < float(receipts.partition(", ")[0]) <= 3.0, "six in two minutes and a little more"
    assert 1.2 < float(sent.partition(" that the gateway took, of the last")[0]) <= 1.5
    assert told["Receipts"]["Answered"] == "within 500 ms (p99 of 100 callbacks in 12 min); the gateway waits 10 s"
    assert told["Receipts"]["Refused"] == "2 callbacks in 12 min, 12 ever"


def test_delivery_is_that_of_the_last_24_hours(reader: Reader, database: Database) -> None:
    hour = hourly_counts.hour_of(database.clock.now())
    hours = {hour: 1, hour - timedelta(hours=23): 2, hour - timedelta(hours=24): 100}
    counts: Counter[CountKey] = Counter()
    for at, times in hours.items():
        counts[CountKey(at, "messages", "", "delivered")] = 3 * times
        counts[CountKey(at, "messages", "", "undelivered")] = times
        counts[CountKey(at, "messages", "", "submitted")] = 7 * times
        counts[CountKey(at, "delays", "", hourly_counts.delay_class(4))] = times
    with database.transaction() as session:
        hourly_counts.add(session, counts)
    told = open_now(reader)["Sending"]
    assert told["Delivered"] == "75.0% of 12 messages of 24 h that have ended"
    assert told["Time to delivery"] == "4.2 s (p50), 4.2 s (p95) in 24 h"


def test_what_holds_sending_is_told_with_who_did_it(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    rows.accept(database, now=database.clock.now() - timedelta(minutes=4))
    assert open_now(reader)["Sending"]["Held up by"] == "nothing: what is due goes out"
    with database.transaction() as session:
        at = database.clock.now()
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, at, was_probe=False)
        send_gate.pause(session, "user anna", "wrong text to 447700900123", at)
    told = open_now(reader)["Sending"]
    assert told["Held up by"].startswith("a pause of user anna since ")
    assert "wrong text to" in told["Held up by"]
    assert "refuses our credentials since" in told["Held up by"]
    assert "447700900123" not in reader.source
    assert told["Waiting"] == "1 to go out, the first for 4 min"


def test_a_service_without_an_account_says_so(database: Database) -> None:
    client = create_app(make_settings(DYNMARK_USERNAME="", DYNMARK_PASSWORD=""), database).test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = OWN["Sec-Fetch-Site"]
    client.post("/ops/sign-in", data={"secret": SECRETS["ops"]})
    assert "no account of the gateway is set" in open_now(Reader(client))["Sending"]["Held up by"]


def test_faults_of_the_gateway_are_told_as_the_workers_found_them(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    assert open_now(reader)["Sending"]["Gateway"] == "no call shows a fault"
    with database.transaction() as session:
        at = database.clock.now()
        heartbeats.beat(session, "worker:a:1", at, gateway_fault="no connection", gateway_fault_at=at - MINUTE)
    assert open_now(reader)["Sending"]["Gateway"].startswith("no connection, since ")
    assert verdict_of(reader).startswith("Wrong: calls to the gateway fail since")


def test_processes_are_told_with_their_releases(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    beat(database, "web:a:2", "0.1.0")
    beat(database, "web:a:3", "0.2.0")
    beat(database, "web:b:3", "0.2.0")
    with database.transaction() as session:
        heartbeats.beat(session, "web:gone:4", database.clock.now() - 2 * MINUTE)
    told = open_now(reader)["Processes"]
    assert told["Workers"] == "1 of release unknown"
    assert told["Web"] == "2 of release 0.2.0, 1 of release 0.1.0"
    assert told["Database"].partition(": ")[0] == f"{'SQLite' if database.is_sqlite else 'PostgreSQL'} answers"


def test_the_last_verification_is_told(reader: Reader, database: Database) -> None:
    at = database.clock.now()
    for faults in (0, 1):
        with database.transaction() as session:
            last_verification.keep(session, began_at=at - MINUTE, ended_at=at, faults=faults, receipts=12_345)
        told = open_now(reader)["Processes"]["Last verify"]
        assert told.startswith(f"{faults} {'fault' if faults else 'faults'} in 12,345 receipts, ended ")


def test_one_line_says_whether_something_is_wrong_with_a_way_to_it(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    reader.open("/ops")
    assert verdict_of(reader) == "Nothing is wrong."
    count(database, unmatched=2)
    reader.open("/ops")
    assert verdict_of(reader).startswith("Wrong: receipts need a person: 2 unmatched")
    reader.follow("Look at them about receipts for a person")
    assert reader.path == "/ops/receipts"


def test_a_pause_is_told_at_once_and_is_wrong_once_it_is_a_problem(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    for ago, line in (
        (59, "Nothing is wrong, but sending is paused by user anna."),
        (60, "Wrong: sending is paused by user anna"),
    ):
        at = database.clock.now() - ago * MINUTE
        with database.transaction() as session:
            send_gate.resume(session, "user anna", None, at)
            send_gate.pause(session, "user anna", "wrong texts", at)
        reader.open("/ops")
        assert verdict_of(reader).startswith(line)
        assert "notice bad" not in reader.source.partition('id="live"')[0].partition('id="verdict"')[2]
        looks.note(database, database.clock.now())
        listed = [row for row in reader.open("/ops/problems").rows() if "paused" in row]
        assert bool(listed) is line.startswith("Wrong")
    reader.open("/ops").follow("What holds it up about sending paused")
    assert reader.path == "/ops/sending"


def test_what_is_wrong_leads_to_its_own_problem_once_a_look_has_kept_it(reader: Reader, database: Database) -> None:
    way = "What to do about worker unseen"
    reader.open("/ops")
    assert reader.links()[way].endswith("ops/problems")
    looks.note(database, database.clock.now(), with_worker=False)
    reader.open("/ops").follow(way)
    assert reader.path == f"/ops/problems/{ids.public('prb', id_of(Kind.WORKER_UNSEEN, {}))}"
    assert "No worker is at work" in reader.text


def test_what_is_wrong_in_several_ways_leads_to_all_of_them(reader: Reader, database: Database) -> None:
    beat(database, "worker:a:1")
    count(database, unmapped=2)
    both = [
        Seen(kind=Kind.UNMAPPED, cause={"code": code}, first_at=rows.T0, last_at=rows.T0, count=1)
        for code in ("1", "2")
    ]
    with database.transaction() as session:
        problems.note(session, Look(at=rows.T0, seen=both))
    reader.open("/ops").follow("What to do about receipts unmapped")
    assert reader.path == "/ops/problems"


def test_the_charts_have_what_was_counted_and_the_last_minutes_changes(reader: Reader, database: Database) -> None:
    at = database.clock.now()
    minute = minutes.minute_of(at)
    hour, yesterday = hourly_counts.hour_of(at), hourly_counts.hour_of(at) - timedelta(days=1)
    counts = Counter({CountKey(hour, "messages", "", "delivered"): 7, CountKey(yesterday, "messages", "", "failed"): 9})
    with database.transaction() as session:
        hourly_counts.add(session, counts)
        minutes.keep(session, minute - MINUTE)
    count(database, taken=5)
    with database.transaction() as session:
        hourly_counts.add(session, Counter({CountKey(hour, "codes", "", "undelivered//2"): 4}))
        minutes.keep(session, minute)
    reader.open("/ops")
    page = html.document_fromstring(reader.source)
    said = {each.get("id"): each.text for each in page.get_element_by_id("charts").iter("desc")}
    gaps = " For 59 of the 60 bars nothing was kept."
    assert said["hour-said"] == f"4 undelivered, 5 submitted; 9 in the highest of 60 bars.{gaps}"
    assert said["day-said"] == "7 delivered; 7 in the highest of 24 bars."
    assert said["month-said"] == "7 delivered, 9 failed; 9 in the highest of 30 bars."
    table = page.get_element_by_id("hour-table")
    [row] = [each for each in table.iter("tr") if f"{minute - MINUTE:%H:%M}" in each.text_content()]
    assert [cell.text for cell in row.iter("td")] == ["4", "5"]
    drawn = {each.get("fill") for each in page.get_element_by_id("charts").iter("path")} - {None}
    assert drawn == {"url(#fill-delivered)", "url(#fill-undelivered)", "url(#fill-failed)", "url(#fill-submitted)"}
    assert {each.get("id") for each in page.iter("pattern")} == {f"fill-{status}" for status in Status}
    textures = [[path.get("d") for path in each.iter("path")] for each in page.iter("pattern")]
    assert all(textures.count(each) == 1 for each in textures), "each can be told without its colour"


def test_a_page_that_is_opened_again_asks_only_who_looks(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.get("/ops")
    monkeypatch.setattr(board, "FRESH_SECONDS", 3600.0)
    with statements() as heard:
        assert browser.get("/ops").status_code == 200
    assert len(heard) == 1
    assert "FROM ops_sessions" in heard[0]


def test_a_page_that_opens_waits_for_nothing_newer_than_some_seconds(
    browser: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(board, "RECENT_SECONDS", 3600.0)
    browser.get("/ops")
    count(database, unmatched=1_234)
    browser.get("/ops")  # it has a new one read
    until("a page has the new one", lambda: "1,234 fit no message" in browser.get("/ops").text)


def test_a_hundred_pages_ask_no_more_than_one(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.get("/ops")
    monkeypatch.setattr(board, "FRESH_SECONDS", 3600.0)
    feed = board_of(browser).feed

    def follow() -> list[bytes]:
        stream = feed.open(UUID(int=1), ())
        assert stream is not None
        pieces = iter(stream)
        found = [next(pieces) for _ in range(3)]
        stream.close()
        return found

    with gevent.Timeout(30), statements() as heard:
        pages = [gevent.spawn(follow) for _ in range(100)]
        gevent.joinall(pages)
        while feed.is_feeding:
            gevent.sleep(0.01)
    assert all(len(page.value) == 3 for page in pages)
    assert heard == []


def test_one_reading_at_a_time_whoever_asks(own_board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    started, may_end, times = threading.Semaphore(0), threading.Event(), []
    real = numbers.read_numbers

    def read(*arguments: Any) -> Any:
        times.append(1)
        started.release()
        may_end.wait(20)
        return real(*arguments)

    monkeypatch.setattr(numbers, "read_numbers", read)
    monkeypatch.setattr(board, "PATIENCE_SECONDS", 0.01)
    for _ in range(10):
        own_board.look()
    assert started.acquire(timeout=20)
    assert len(times) == 1
    may_end.set()
    monkeypatch.setattr(board, "PATIENCE_SECONDS", 60.0)
    assert own_board.look().numbers is not None


def test_a_page_that_opens_before_the_first_reading_says_that_it_is_under_way(
    own_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, may_add_up = threading.Event(), threading.Event()
    real, real_day = numbers.read_numbers, numbers.read_day

    def read(*arguments: Any) -> Any:
        may_end.wait(20)
        return real(*arguments)

    def read_day(*arguments: Any) -> Any:
        may_add_up.wait(20)
        return real_day(*arguments)

    monkeypatch.setattr(numbers, "read_numbers", read)
    monkeypatch.setattr(numbers, "read_day", read_day)
    monkeypatch.setattr(board, "PATIENCE_SECONDS", 0.01)
    _, parts = own_board.show()
    assert "The numbers are being read" in parts["numbers"].text
    may_end.set()
    until("the numbers are there", lambda: "to be worked on" in own_board.show()[1]["numbers"].text)
    parts = own_board.show()[1]
    assert "Time to delivery</dt><dd>not added up yet" in parts["numbers"].text
    assert "The charts are being added up" in parts["charts"].text
    may_add_up.set()
    until("the charts are there", lambda: "The last hour, by minute" in own_board.show()[1]["charts"].text)


def test_a_page_is_ready_before_somebody_opens_it(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "PATIENCE_SECONDS", 20.0)
    prepare(browser.application)
    monkeypatch.setattr(board, "FRESH_SECONDS", 3600.0)
    assert "to be worked on" in browser.get("/ops").text


def test_a_page_that_opens_between_the_reading_and_its_drawing_has_all_its_parts(
    browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "PATIENCE_SECONDS", 0.0)
    new = Board(browser.application)
    new._read_at = monotonic()  # noqa: SLF001 - as it is in between
    _, parts = new.show()
    assert {"verdict", "numbers", "charts"} <= set(parts)


def tick_of(made: page_feed.Made) -> Any:
    return json.loads(made.parts["tick"].text)


def test_while_the_database_is_away_the_last_numbers_stay_and_say_so(
    own_board: Board, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count(database, unmatched=1_234)
    who = [UUID(int=1)]
    before = own_board.make(who)
    assert tick_of(before)["isLive"] is True

    def away() -> None:
        raise StorageUnavailable("nothing listens there", "unreachable")

    with monkeypatch.context() as gone:
        gone.setattr(pages, "reading", away)
        made = own_board.make(who)
        assert tick_of(made) == {"at": tick_of(before)["at"], "isLive": False}
        assert "Wrong: nothing listens there" in made.parts["verdict"].text
        assert "1,234 fit no message" in made.parts["numbers"].text
        assert "does not answer" in made.parts["numbers"].text
        assert list(made.open_sessions) == who, "nobody knows"
        own_board._read_at -= 16 * 60  # noqa: SLF001 - there is no other way to let time go by
        assert list(own_board.make(who).open_sessions) == []
    assert [record.getMessage() for record in caplog.records].count("ops.page_not_read") == 1
    assert tick_of(own_board.make(who))["isLive"] is True


def test_what_the_process_knew_before_its_first_reading_is_shown_with_its_age(
    own_board: Board, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StorageUnavailable("nothing listens there", "unreachable")

    with own_board._app.app_context():  # noqa: SLF001 - it is the application that is tested
        own_board._snapshot = board.Snapshot()  # noqa: SLF001 - as in a process whose page nobody has opened
        context.readiness().last_look = None
        with monkeypatch.context() as gone:
            gone.setattr(pages, "reading", away)
            parts = own_board.make(()).parts
            assert "Not read now" not in parts["verdict"].text, "nothing is known"
            count(database, unmatched=1_234)
            with database.reading() as session:
                readiness = context.readiness()
                readiness.judge(readiness.read(session, database.clock.now() - 2 * MINUTE))
            made = own_board.make(())
    assert "Wrong: nothing listens there (and" in made.parts["verdict"].text
    assert "Receipts need a person: 1234 unmatched" in made.parts["verdict"].text
    assert "Not read now: this is what was known at" in made.parts["verdict"].text
    assert "2 min ago" in made.parts["verdict"].text
    assert "Receipts that are unmatched now</dt><dd>1234" in made.parts["numbers"].text
    assert tick_of(made)["isLive"] is False


def test_a_reading_that_is_only_late_is_slow_and_not_without_an_answer(
    own_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_board.make(())
    with monkeypatch.context() as slow:
        slow.setattr(board, "NOT_LIVE_AFTER", timedelta())
        slow.setattr(numbers, "read_numbers", late)
        made = own_board.make(())
    assert "the database takes too long" in made.parts["verdict"].text
    assert "answers too slowly" in made.parts["numbers"].text
    assert "does not answer" not in made.parts["numbers"].text


def test_a_database_that_says_nothing_is_told_from_one_that_is_quick(
    own_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_board.make(())
    may_end = threading.Event()
    real = numbers.read_numbers

    def read(*arguments: Any) -> Any:
        may_end.wait(20)
        return real(*arguments)

    with monkeypatch.context() as frozen:
        frozen.setattr(numbers, "read_numbers", read)
        frozen.setattr(board, "PATIENCE_SECONDS", 0.02)
        frozen.setattr(board, "_LATE_SECONDS", 0.01)
        own_board.look()
        made = own_board.make(())
        assert tick_of(made)["isLive"] is False
        assert "the database has not answered in time" in made.parts["verdict"].text
        may_end.set()
    assert tick_of(own_board.make(()))["isLive"] is True


def test_charts_that_take_too_long_come_later_and_hold_up_nothing(
    own_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow:
        slow.setattr(numbers, "read_day", late)
        made = own_board.make(())
        assert "take longer" in made.parts["charts"].text
        assert "to be worked on" in made.parts["numbers"].text
        assert "not added up yet" in made.parts["numbers"].text
    assert "The last hour, by minute" in own_board.make(()).parts["charts"].text


def late(*_: object) -> None:
    raise pages.PanelLate("the database takes too long")


def test_a_session_that_was_ended_has_no_page_any_more(
    browser: FlaskClient, own_board: Board, database: Database
) -> None:
    other = browser.application.test_client()
    other.post("/ops/sign-in", data={"secret": SECRETS["ops"]}, headers=OWN)
    with database.reading() as session:
        both = {each.id for each in sessions.list_open(session, "key opser", database.clock.now())}
    assert set(own_board.make(both).open_sessions) == both
    browser.post("/ops/sign-out")
    [left] = own_board.make(both).open_sessions
    assert left in both
    other.post("/ops/sign-out", headers=OWN)
    assert list(own_board.make(both).open_sessions) == []


def test_the_page_is_followed_by_a_stream_that_is_no_use_of_the_session(
    browser: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        session.execute(update(OpsSession).values(seen_at=database.clock.now() - 2 * MINUTE))
    answer = browser.get("/ops/now?have=a,b", headers=STREAM, buffered=False)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    pieces: Iterator[Any] = iter(answer.response)
    assert next(pieces).startswith(b"retry: ")
    with gevent.Timeout(30):
        sent = next(pieces).decode()
        answer.close()
        while board_of(browser).feed.is_feeding:
            gevent.sleep(0.01)
    for name in ("verdict", "numbers", "charts", "tick"):
        assert f"event: {name}\n" in sent
    with database.reading() as session:
        [row] = sessions.list_open(session, "key opser", database.clock.now())
    assert database.clock.now() - row.seen_at >= MINUTE


def test_a_page_is_not_sent_what_it_was_opened_with(browser: FlaskClient) -> None:
    page = html.document_fromstring(browser.get("/ops").text)
    tags = [tag for each in page.iter("div") if (tag := each.get("data-tag"))]
    answer = browser.get(f"/ops/now?have={','.join(tags)}", headers=STREAM, buffered=False)
    pieces: Iterator[Any] = iter(answer.response)
    next(pieces)
    with gevent.Timeout(30):
        sent = next(pieces).decode()
        answer.close()
        while board_of(browser).feed.is_feeding:
            gevent.sleep(0.01)
    assert len(tags) == 3
    assert sent.startswith("event: tick\n")


def test_whoever_is_not_signed_in_gets_no_stream(visitor: FlaskClient) -> None:
    assert visitor.get("/ops/now", headers=STREAM).status_code == 204
    assert visitor.get("/ops/now").status_code == 303


def test_there_are_only_so_many_streams(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_feed, "MAX_PAGES", 0)
    answer = browser.get("/ops/now", headers=STREAM)
    assert (answer.status_code, "As many pages are open" in answer.text) == (503, True)


def test_streams_are_counted_by_person(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_feed, "MAX_PAGES", 10)
    answers = []
    for _ in range(10):
        assert browser.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
        answers.append(browser.get("/ops/now", headers=STREAM))
    assert [answer.status_code for answer in answers] == [200] * 9 + [503]
