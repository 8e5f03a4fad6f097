"""The benchmarks' foundations: the load generator counts right, and the statistics are right."""

import re
import shutil
import socketserver
import subprocess
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func, select

from benchmarks import generator, kept, measures
from benchmarks.e2e import results, usage, waves
from benchmarks.e2e.ramp import Ramp
from benchmarks.e2e.trees import Target
from benchmarks.e2e.trial import Trial
from benchmarks.e2e.usage import Usage
from benchmarks.generator import CONNECTIONS, Plan, Report, Site
from benchmarks.kept import Proof
from benchmarks.lineup import NAMES
from benchmarks.outcome import Outcome
from benchmarks.seed import Conversations, seed
from benchmarks.tools import BenchError
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.health.verification import verify

pytestmark = pytest.mark.slow

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Answer = Callable[[int], bytes]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: the load generator can't be tried")
    return generator.compile_program(tmp_path_factory.mktemp("generator"))


class Server(socketserver.ThreadingTCPServer):
    """Answers each request by its number; an empty answer closes the connection. `requests`: the count of each target."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            while self.rfile.readline().strip():
                pass
            target = line.split()[1]
            with self.server.lock:
                self.server.requests[target] += 1
            answer = self.server.answer(int(target.rpartition("=")[2]))
            self.wfile.write(answer)
            if not answer or b"close" in answer:
                return


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def site_of(server: Server, folder: Path) -> Site:
    targets = folder / "targets"
    targets.write_text("/first?bench=\n/second?bench=\n")
    return Site(name="test", port=server.server_address[1], targets=targets)


FAST = Plan(rate=0, warm_seconds=0.1, seconds=0.4)


def test_every_request_has_its_own_number_and_every_200_is_reported_by_it(program: Path, tmp_path: Path) -> None:
    with serving(lambda _: OK) as server:
        site = site_of(server, tmp_path)
        first = site.load(program, FAST)
        second = site.load(program, FAST)
    assert first.is_clean
    assert second.is_clean
    assert first.sent + second.sent == site.next_number == len(server.requests) > CONNECTIONS
    assert set(server.requests.values()) == {1}
    assert sorted(site.acknowledged) == list(range(site.next_number))
    assert 0 < first.per_second <= first.ok / FAST.seconds


def test_only_a_200_is_an_acknowledgement(program: Path, tmp_path: Path) -> None:
    answers = {0: OK, 1: BUSY, 2: b"", 3: LAST}
    with serving(lambda number: answers[number % 4]) as server:
        site = site_of(server, tmp_path)
        report = site.load(program, FAST)
    assert not report.is_clean
    assert set(report.others) == {"503"}
    assert report.cut > 0
    assert report.ok + report.others["503"] + report.cut == report.sent
    assert len(site.acknowledged) == report.ok
    assert {number % 4 for number in site.acknowledged} == {0, 3}


def test_a_load_ends_with_its_last_request_and_tells_when_each_was_answered(program: Path, tmp_path: Path) -> None:
    with serving(lambda _: OK) as server:
        site = site_of(server, tmp_path)
        started = monotonic()
        loaded = site.load(program, Plan(rate=0, warm_seconds=0, seconds=60, connections=2, most=25))
        ended = monotonic()
    assert loaded.is_clean
    assert sorted(site.acknowledged) == list(range(25))
    assert len(site.answered_at) == 25
    assert started < min(site.answered_at) < max(site.answered_at) < ended < started + 30


def test_a_fixed_rate_is_kept_and_every_due_request_is_sent(program: Path, tmp_path: Path) -> None:
    with serving(lambda _: OK) as server:
        started = monotonic()
        report = site_of(server, tmp_path).load(program, Plan(rate=200, warm_seconds=0.5, seconds=0.5))
        elapsed = monotonic() - started
    assert report.is_clean
    assert report.sent == report.ok == 200
    assert elapsed >= 199 / 200


def test_a_pause_of_the_server_delays_every_request_due_during_it(program: Path, tmp_path: Path) -> None:
    pause_from = monotonic() + 0.5
    pause_to = pause_from + 0.5

    def answer(_: int) -> bytes:
        now = monotonic()
        if pause_from <= now < pause_to:
            sleep(pause_to - now)
        return OK

    with serving(answer) as server:
        report = site_of(server, tmp_path).load(program, Plan(rate=400, warm_seconds=0, seconds=2))
    # A quarter of all was due during the pause. Counted from when it was sent, only one request a connection would
    # have been slow, which is fewer than one in ten.
    assert report.is_clean
    assert report.sent / 10 > CONNECTIONS
    assert report.p90 >= 0.2


def test_an_unreachable_server_is_an_error(program: Path, tmp_path: Path) -> None:
    with serving(lambda _: OK) as server:
        site = site_of(server, tmp_path)
    with pytest.raises(BenchError, match="load on test failed"):
        site.load(program, FAST)


def test_a_ratio_is_taken_within_each_round_before_the_median() -> None:
    rounds = [{"a": 10.0, "b": 10.0}, {"a": 2.0, "b": 1.0}, {"a": 300.0, "b": 100.0}]
    assert measures.ratio(rounds, "a", "b") == measures.Spread(median=2.0, lowest=1.0, highest=3.0)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5], 0.99, 5), ([3, 1, 2], 0.5, 2), (range(1, 101), 0.99, 99), (range(1, 301), 0.99, 297), ([1, 2], 0, 1)],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], share: float, expected: float) -> None:
    assert measures.percentile(values, share) == expected


def test_a_table_is_markdown_with_right_aligned_numbers() -> None:
    assert measures.table(["what", "ms"], [["a", "1,000"], ["longer", "2"]]).splitlines() == [
        "| what   |    ms |",
        "| ------ | ----: |",
        "| a      | 1,000 |",
        "| longer |     2 |",
    ]


@pytest.mark.parametrize(
    ("acknowledged", "rows", "proof", "holds"),
    [
        ([0, 1, 2], [2, 1, 0], {"missing": 0, "repeated": 0, "unacknowledged": 0}, True),
        ([0, 1], [0, 1, 2], {"missing": 0, "repeated": 0, "unacknowledged": 1}, True),
        ([0, 1, 2], [0, 2], {"missing": 1, "repeated": 0, "unacknowledged": 0}, False),
        ([0, 1], [0, 1, 1], {"missing": 0, "repeated": 1, "unacknowledged": 0}, False),
        ([], [], {"missing": 0, "repeated": 0, "unacknowledged": 0}, False),
    ],
)
def test_a_proof_holds_only_if_every_200_is_one_row(
    acknowledged: list[int], rows: list[int], proof: dict[str, int], holds: bool
) -> None:
    result = kept.compare(array("I", acknowledged), rows)
    assert {name: getattr(result, name) for name in proof} == proof
    assert result.rows == len(rows)
    assert result.holds is holds


def report(per_second: float, p99: float) -> Report:
    return Report(
        per_second=per_second,
        sent=1,
        ok=1,
        others={},
        cut=0,
        unanswered=0,
        unsent=0,
        p50=0,
        p90=0,
        p99=p99,
        p999=0,
        longest=0,
    )


def test_an_outcome_has_the_values_that_the_goals_name() -> None:
    speeds = dict.fromkeys(NAMES, 100.0) | {"ack_pg": 500.0, "orm": 50.0, "ack_sqlite": 120.0}
    proof = Proof(acknowledged=7, rows=7, missing=0, repeated=0, unacknowledged=0)
    megabyte = 1024 * 1024
    outcome = Outcome(
        fastest=[{name: report(speed, 0.01) for name, speed in speeds.items()}],
        steady=[
            {
                f"{candidate}_{kind}": report(1, p99)
                for candidate, p99 in (("ack", 3), ("noop", 2))
                for kind in ("pg", "sqlite")
            }
        ],
        rates=dict.fromkeys(("ack_pg", "noop_pg", "ack_sqlite", "noop_sqlite"), 50),
        memory=[(count, [size * megabyte]) for count, size in ((10, 60), (100_000, 70), (1_000_000, 72))],
        proofs={"ack_pg": proof, "ack_sqlite": proof},
    )
    values = outcome.values()
    assert values == {
        "ack_vs_noop_pg": 5.0,
        "ack_vs_noop_sqlite": 1.2,
        "ack_vs_orm_commit": 10.0,
        "ack_vs_celery": 5.0,
        "ack_vs_wsgi_pg": 5.0,
        "ack_p99_vs_noop": 1.5,
        "ack_p99_vs_noop_sqlite": 1.5,
        "web_callbacks": 1_000_000,
        "web_mb": 72.0,
        "web_growth_mb": 2.0,
        "answers_checked": 14,
        "answers_missing": 0,
    }
    assert re.search(r"bare Flask no-op, PostgreSQL +\| +5\.00 \(5\.00-5\.00\) \|", outcome.tables())


def test_the_last_receipt_of_each_message_in_a_wave_delivers_it_and_no_two_are_alike(tmp_path: Path) -> None:
    messages = [Target(uuid4(), f"/callbacks/receipts/{number}", number) for number in range(1100)]
    wave = waves.write(tmp_path / "targets", messages, 3)
    lines = wave.targets.read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(wave) == 3 * 1100
    assert Counter(filter(None, wave.last_of)) == Counter(message.message_id for message in messages)
    newest = {line.partition("?")[0]: line for line in lines}
    assert all("statusdescription=Delivered&" in line for line in newest.values())
    assert sum("statusdescription=Delivered&" in line for line in lines) == 1100
    for line, message_id in zip(lines, wave.last_of, strict=True):
        assert (line == newest[line.partition("?")[0]]) is (message_id is not None)


def test_the_time_of_a_process_has_that_of_all_it_started_even_of_those_that_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n{burn}\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert usage.tree_seconds(process.pid) >= 0.55
        process.communicate(b"\n")
    assert usage.tree_seconds(process.pid) == 0


def trial(delay: float, *, is_clean: bool = True) -> Trial:
    return Trial(
        receipts=1,
        seconds=1,
        used=Usage(seconds={}, wal_bytes=0),
        report=replace(report(1, 0.01), unsent=0 if is_clean else 1),
        delays=[delay],
    )


@pytest.mark.parametrize(
    ("trials", "sustained"),
    [
        ({500: trial(0.1), 1000: trial(0.9), 2000: trial(1.1)}, 1000),
        ({500: trial(0.1), 1000: trial(1.1), 2000: trial(0.9)}, 500),
        ({500: trial(0.1), 1000: trial(0.1, is_clean=False)}, 500),
        ({500: trial(3)}, 0),
    ],
)
def test_the_sustained_rate_is_the_highest_below_which_all_hold(trials: dict[int, Trial], sustained: int) -> None:
    assert Ramp(trials=trials).sustained == sustained


def test_ratios_to_other_sides_are_taken_within_a_round_and_their_own_values_shown() -> None:
    rounds = [
        {"ours": {"cpu_us": 300.0}, "parent": {"cpu_us": 600.0}},
        {"ours": {"cpu_us": 100.0}, "parent": {"cpu_us": 100.0}, "celery": {"cpu_us": 2000.0, "rate": 0.0}},
        {"ours": {"cpu_us": 200.0, "rate": 8.0}, "parent": {"cpu_us": 500.0}},
    ]
    assert results.values(rounds) == {
        "e2e_cpu_us": 200.0,
        "e2e_rate": 8.0,
        "e2e_cpu_us_vs_parent": 0.5,
        "e2e_parent_cpu_us": 500.0,
        "e2e_cpu_us_vs_celery": 0.05,
        "e2e_celery_rate": 0.0,
        "e2e_celery_cpu_us": 2000.0,
    }


def test_seeded_rows_are_those_that_the_service_would_write(database_url: str, database: Database) -> None:
    progress: list[int] = []
    seed(database_url, 300, progress.append)
    assert sum(progress) == 300
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 300
        assert session.scalar(select(func.count()).select_from(Transition)) == 300 + 150 + 297
    assert list(verify(database)) == []


def test_a_seeded_database_has_every_index(postgresql_url: str) -> None:
    def read() -> set[tuple[str, str]]:
        with psycopg.connect(plain_url(postgresql_url)) as connection:
            found = connection.execute("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'")
            return {(table, definition.partition(" USING ")[2]) for table, definition in found}

    before = read()
    seed(postgresql_url, 100, lambda _: None)
    assert read() == before


def test_seeded_conversations_are_as_long_as_asked_for_and_with_one_number(
    database_url: str, database: Database
) -> None:
    seed(database_url, 200, lambda _: None, Conversations(messages=50, has_one_number=True))
    sizes = select(func.count(), func.count(Message.recipient.distinct())).group_by(Message.conversation_id)
    with database.reading() as session:
        found = [tuple(row) for row in session.execute(sizes)]
    assert sorted(found, reverse=True)[:2] == [(50, 1), (50, 1)]
    assert {messages for messages, _ in found} == {50, 2}
    assert list(verify(database)) == []
