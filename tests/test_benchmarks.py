"""The benchmarks' foundations: the load generator counts right, and the statistics are right."""

import re
import shutil
import socketserver
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from sqlalchemy import func, select

from benchmarks import generator, kept, measures
from benchmarks.generator import CONNECTIONS, Plan, Report, Site
from benchmarks.kept import Proof
from benchmarks.lineup import NAMES
from benchmarks.outcome import Outcome
from benchmarks.seed import seed
from benchmarks.tools import BenchError
from receiptsvc.store.core.db import Database
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


def test_seeded_rows_are_those_that_the_service_would_write(database_url: str, database: Database) -> None:
    progress: list[int] = []
    seed(database_url, 300, progress.append)
    assert sum(progress) == 300
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 300
        assert session.scalar(select(func.count()).select_from(Transition)) == 300 + 150 + 297
    # Their receipts have no inbox rows; everything else adds up.
    assert {fault.what for fault in verify(database)} == {"counter", "count of an hour's receipts"}
