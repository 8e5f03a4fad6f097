"""Exports: every row once, no formulas, no open transaction between slices, and no part that looks complete."""

import codecs
import csv
import gzip
import http.client
import io
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, update
from sqlalchemy.engine import make_url

from receiptsvc import ids
from receiptsvc.demo.processes import answers
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import db
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Transition
from receiptsvc.web.answers import export_stream
from tests.support import databases, nginx, rows, stories
from tests.support.forked import Stack
from tests.support.processes import resident_megabytes, until
from tests.support.rows import seconds

KEY = "an-export-key-0123456789"
MANY = 12_000
LONG = "x" * 1000


def read_csv(client: FlaskClient, path: str) -> list[dict[str, str]]:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


def read_lines(client: FlaskClient, path: str) -> list[Any]:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "application/jsonl")
    return [json.loads(line) for line in answer.get_data(as_text=True).split("\n")[:-1]]


def test_every_message_is_exported_once_in_the_lists_order(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_stream, "_SLICE", 3)
    rows.accept(database, *(rows.message(f"44770090{place:04}") for place in range(10)))
    listed = client.get("/v1/messages?limit=500").json
    assert listed is not None
    expected = [item["id"] for item in listed["items"]]
    assert len(expected) == 10
    assert [row["id"] for row in read_csv(client, "/v1/export/messages.csv")] == expected
    assert [row["id"] for row in read_lines(client, "/v1/export/messages.jsonl")] == expected


def test_values_are_those_of_the_list(client: FlaskClient, database: Database) -> None:
    text = 'He said "hi",\nthen left; caf\u00e9 \U0001f600'
    [message] = rows.accept(database, rows.message(text=text, client_ref="a,b", originator="ACME"))
    stories.report(database, message, Status.DELIVERED, seconds(3.25))
    stories.give_transaction(database, message, "42")
    read = client.get(f"/v1/messages/{ids.public('msg', message)}").json
    assert read is not None
    [line] = read_lines(client, "/v1/export/messages.jsonl")
    assert line == {name: read[name] for name in export_stream.MESSAGES.columns}
    [row] = read_csv(client, "/v1/export/messages.csv")
    told = {**line, "conflict": "false", "segments": str(line["segments"])}
    assert row == told


def test_transitions_are_exported_with_their_message_ids(client: FlaskClient, database: Database) -> None:
    first, second = rows.accept(database, rows.message(), rows.message("447700900002", client_ref="b"))
    stories.report(database, first, Status.DELIVERED, seconds(3), occurred_at=seconds(2))
    read = client.get(f"/v1/messages/{ids.public('msg', first)}").json
    assert read is not None
    lines = read_lines(client, "/v1/export/transitions.jsonl")
    assert [line["messageId"] for line in lines] == [
        ids.public("msg", second), ids.public("msg", first), ids.public("msg", first),
    ]  # fmt: skip
    assert [{**step, "messageId": None} for step in read["transitions"]] == [
        {**line, "messageId": None} for line in lines[1:]
    ]
    assert len(read_csv(client, "/v1/export/transitions.csv?clientRef=b")) == 1


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("clientRef=a", 1),
        ("status=delivered", 1),
        ("recipient=%2B447700900002", 1),
        ("originator=ACME&status=accepted", 0),
        ("until=2026-01-05T12:00:00Z", 0),
        ("since=2026-01-05T12:00:00Z", 2),
    ],
)
def test_the_filters_are_those_of_the_list(client: FlaskClient, database: Database, query: str, count: int) -> None:
    first, _ = rows.accept(database, rows.message(client_ref="a", originator="ACME"), rows.message("447700900002"))
    stories.report(database, first, Status.DELIVERED, seconds(3))
    assert len(read_csv(client, f"/v1/export/messages.csv?{query}")) == count
    assert len(read_lines(client, f"/v1/export/messages.jsonl?{query}")) == count


def test_an_empty_export_has_only_the_header(desk: FlaskClient) -> None:
    answer = desk.get("/v1/export/messages.csv")
    assert answer.get_data(as_text=True) == ",".join(export_stream.MESSAGES.columns) + "\r\n"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert desk.get("/v1/export/messages.jsonl").get_data() == b""


@pytest.mark.parametrize("query", ["limit=5", "cursor=x", "status=lost", "client=x"])
def test_an_unknown_parameter_of_an_export_is_refused(desk: FlaskClient, query: str) -> None:
    assert desk.get(f"/v1/export/messages.csv?{query}").status_code == 422


JANUARY, FEBRUARY = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"

# kind, query, what follows the table's name
NAMES = [
    ("no range", {}, ""),
    ("whole days", {"since": JANUARY, "until": FEBRUARY}, "-from-2026-01-01-until-2026-02-01"),
    ("only an end", {"until": FEBRUARY}, "-until-2026-02-01"),
    ("a time of day", {"until": "2026-01-01T09:30:00Z"}, "-until-2026-01-01T093000Z"),
    ("another offset", {"until": "2026-01-01T09:30:00+01:00"}, "-until-2026-01-01T083000Z"),
    (
        "whole days in a zone",
        {"until": "2026-06-30T23:00:00Z", "since": "2026-05-31T23:00:00Z", "timezone": "Europe/London"},
        "-from-2026-06-01-until-2026-07-01",
    ),
    (
        "a time in a zone",
        {"until": "2026-06-30T22:00:00Z", "timezone": "Asia/Kolkata"},
        "-until-2026-07-01T033000+0530",
    ),
    ("changes", {"changedSince": JANUARY, "until": FEBRUARY}, "-changed-since-2026-01-01-until-2026-02-01"),
    ("nothing personal", {"recipient": "447700900001", "clientRef": "a", "until": FEBRUARY}, "-until-2026-02-01"),
]


@pytest.mark.parametrize(("query", "name"), [case[1:] for case in NAMES], ids=[case[0] for case in NAMES])
def test_the_name_of_the_file_has_its_range(desk: FlaskClient, query: dict[str, str], name: str) -> None:
    answer = desk.get("/v1/export/messages.csv", query_string=query)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="messages{name}.csv"'


def test_a_range_that_is_open_ends_when_the_export_begins(desk: FlaskClient) -> None:
    name = desk.get(f"/v1/export/transitions.jsonl?since={JANUARY}").headers["Content-Disposition"]
    assert re.fullmatch(
        r'attachment; filename="transitions-from-2026-01-01-until-20\d\d-\d\d-\d\dT\d{6}Z\.jsonl"', name
    )


@pytest.mark.parametrize("table", ["messages", "transitions"])
def test_a_byte_order_mark_comes_first_and_once_on_request(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(export_stream, "_SLICE", 2)
    rows.accept(database, *(rows.message(text="caf\u00e9") for _ in range(5)))
    path = f"/v1/export/{table}.csv"
    plain = client.get(path).get_data()
    assert client.get(f"{path}?bom=true").get_data() == codecs.BOM_UTF8 + plain
    assert client.get(f"{path}?bom=false").get_data() == plain
    assert client.get(f"{path}?bom=1").status_code == 422
    assert client.get(f"/v1/export/{table}.jsonl?bom=true").status_code == 422, "JSON lines have no mark"


# kind, zone, a time in UTC, the same as it is written
ZONED = [
    ("winter", "Europe/London", "2026-01-05T09:30:00.250000Z", "2026-01-05T09:30:00.250000+00:00"),
    ("summer", "Europe/London", "2026-07-05T09:30:00.250000Z", "2026-07-05T10:30:00.250000+01:00"),
    ("the repeated hour, first", "Europe/London", "2026-10-25T00:30:00.000000Z", "2026-10-25T01:30:00.000000+01:00"),
    ("the repeated hour, again", "Europe/London", "2026-10-25T01:30:00.000000Z", "2026-10-25T01:30:00.000000+00:00"),
    ("half an hour", "Asia/Kolkata", "2026-01-05T20:00:00.000000Z", "2026-01-06T01:30:00.000000+05:30"),
    ("behind UTC", "America/New_York", "2026-01-05T02:00:00.000000Z", "2026-01-04T21:00:00.000000-05:00"),
    ("no offset", "UTC", "2026-01-05T02:00:00.000000Z", "2026-01-05T02:00:00.000000+00:00"),
]


@pytest.mark.parametrize(("zone", "utc", "local"), [case[1:] for case in ZONED], ids=[case[0] for case in ZONED])
def test_times_are_written_in_a_zone_on_request_and_no_text_is_touched(
    client: FlaskClient, database: Database, zone: str, utc: str, local: str
) -> None:
    texts = [utc, f"a,{utc},b", f'"{utc}"', f'say ""{utc}"",{utc}', f"{utc}\r\n{utc}"]
    rows.accept(database, *(rows.message(text=text, client_ref=utc) for text in texts))
    with database.transaction() as session:
        session.execute(update(Message).values(created_at=datetime.fromisoformat(utc)))
    written = read_csv(client, f"/v1/export/messages.csv?timezone={zone}")
    assert [row["text"] for row in written][::-1] == texts
    assert {row["clientRef"] for row in written} == {utc}
    assert {row["createdAt"] for row in written} == {local}
    for step in read_csv(client, f"/v1/export/transitions.csv?timezone={zone}"):
        assert step["occurredAt"] == ""
        assert datetime.fromisoformat(step["recordedAt"]).isoformat(timespec="microseconds") == step["recordedAt"]


@pytest.mark.parametrize("zone", ["Europe", "Mars/Base", "../etc/passwd", "", "BST+1:00", "Europe/London\0", "x" * 65])
def test_what_is_no_zone_is_refused(desk: FlaskClient, zone: str) -> None:
    answer = desk.get("/v1/export/messages.csv", query_string={"timezone": zone})
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["errors"] == {"timezone": ["Must be the name of a time zone, such as Europe/London."]}


def test_no_cell_is_a_formula(client: FlaskClient, database: Database) -> None:
    cells = ["=1+1", "+44", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "=", '="a"']
    cells += ["'=", "''+44"]  # they look guarded: only with another guard can it be taken off again
    plain = ["a=1", "'", "'a", "", 'a,"b"\r\n', " "]
    for cell in cells + plain:
        rows.accept(database, rows.message(text=cell))
    written = [row["text"] for row in read_csv(client, "/v1/export/messages.csv")]
    assert written[::-1] == [f"'{cell}" for cell in cells] + plain


def test_formulas_are_escaped_in_every_column_with_outside_text(client: FlaskClient, database: Database) -> None:
    rows.accept(database, rows.message(text="=1", client_ref="@x", originator="+44770"))
    with database.transaction() as session:
        session.execute(update(Message).values(transaction_id="-5"))
    [row] = read_csv(client, "/v1/export/messages.csv")
    assert [row[name] for name in ("text", "clientRef", "originator", "transactionID")] == [
        "'=1",
        "'@x",
        "'+44770",
        "'-5",
    ]
    [line] = read_lines(client, "/v1/export/messages.jsonl")
    assert line["text"] == "=1"


@pytest.mark.parametrize("table", ["messages", "transitions"])
def test_no_character_of_a_text_ends_a_json_line_for_any_client(
    client: FlaskClient, database: Database, table: str
) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x1cf\r\ng\rh \\\u2028 \U0001f600"  # `str.splitlines` ends a line at each
    [message] = rows.accept(database, rows.message(text=text, client_ref="a\u2028b"))
    stories.report(database, message, Status.DELIVERED, seconds(3))
    with database.transaction() as session:
        session.execute(update(Transition).values(provider_description=text))
    lines = [json.loads(line) for line in client.get(f"/v1/export/{table}.jsonl").text.splitlines()]
    texts = [line["text"] if table == "messages" else line["providerDescription"] for line in lines]
    assert texts == [text] * (1 if table == "messages" else 2)


def test_a_compressed_export_is_the_same(client: FlaskClient, database: Database) -> None:
    rows.accept(database, *(rows.message(f"44770090{place:04}") for place in range(20)))
    plain = client.get("/v1/export/messages.csv")
    packed = client.get("/v1/export/messages.csv", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.get_data()) == plain.get_data()


def test_no_transaction_is_open_between_slices(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_stream, "_SLICE", 2)
    rows.accept(database, *(rows.message(f"44770090{place:04}") for place in range(6)))
    open_now: list[str] = []
    with database.reading() as session:
        engine = session.connection().engine
    event.listen(engine, "begin", lambda _: open_now.append("one"))
    event.listen(engine, "rollback", lambda _: open_now.pop())
    event.listen(engine, "commit", lambda _: open_now.pop())
    answer = client.get("/v1/export/messages.csv", buffered=False)
    pieces = answer.iter_encoded()
    for _ in range(3):
        next(pieces)
        assert open_now == []
    answer.close()


def test_an_outage_before_the_first_row_is_a_problem_and_one_after_it_breaks_off(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_stream, "_SLICE", 2)
    rows.accept(database, *(rows.message(f"44770090{place:04}") for place in range(6)))
    answer = client.get("/v1/export/messages.csv", buffered=False)
    pieces = answer.iter_encoded()
    next(pieces)

    def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("the database is away")

    monkeypatch.setattr(db, "Session", fail)
    with pytest.raises(StorageUnavailable):
        list(pieces)
    assert client.get("/v1/export/messages.csv").status_code == 503


@pytest.fixture(scope="module")
def running(postgresql_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real web process on a database with more rows than fit into socket buffers."""
    with databases.scratch_postgresql(postgresql_template, template=postgresql_template) as url:
        database = Database(url)
        for start in range(0, MANY, 1000):
            made = (rows.message(str(447700000000 + start + place), text=LONG) for place in range(1000))
            rows.accept(database, *made)
        database.close()
        folder = tmp_path_factory.mktemp("exports") / "stack"
        with Stack(folder, url, api_key=KEY, settings={"WEB_CONCURRENCY": "1"}) as stack:
            stack.start("web")
            yield stack


@pytest.fixture
def admin(running: Stack) -> Iterator[psycopg.Connection]:
    """A connection that observes the server from another database."""
    server = make_url(running.database_url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection


@pytest.fixture
def stack(running: Stack, admin: psycopg.Connection) -> Iterator[Stack]:
    """The web process and its database as if nothing had befallen them."""
    running.wait_until("the web process", lambda: answers(f"{running.url}/readyz"))
    yield running
    give_database_back(running, admin)


def export(
    stack: Stack, port: int | None = None, version: int = 11
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """An export whose first bytes have arrived. `port`: a proxy's; `version`: of HTTP, 10 or 11."""
    connection = http.client.HTTPConnection("127.0.0.1", port or int(stack.environ["PORT"]), timeout=60)
    connection._http_vsn, connection._http_vsn_str = version, f"HTTP/1.{version % 10}"  # type: ignore[attr-defined] # noqa: SLF001 - nothing public sets it
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that little is under way
    connection.request("GET", "/v1/export/messages.csv", headers={"Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read(1000).startswith(b"id,createdAt,recipient")
    return connection, answer


# How an export comes: directly, by either version of HTTP, or through an nginx that speaks HTTP/1.0 to us.
WAYS = ("HTTP/1.0", "HTTP/1.1", "nginx")


@pytest.fixture(params=WAYS)
def begin_export(
    request: pytest.FixtureRequest, stack: Stack, tmp_path: Path
) -> Iterator[Callable[[], tuple[http.client.HTTPConnection, http.client.HTTPResponse]]]:
    """Begins an export by one of the ways."""
    if request.param != "nginx":
        yield lambda: export(stack, version=10 if request.param == "HTTP/1.0" else 11)
        return
    with nginx.running(tmp_path / "nginx", int(stack.environ["PORT"])) as port:
        yield lambda: export(stack, port)


def sessions(admin: psycopg.Connection, url: str, states: str) -> int:
    """How many of our sessions in that database are in one of these states."""
    row = admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'receiptsvc' AND state = ANY(%s)",
        (make_url(url).database, states.split(",")),
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.slow
def test_a_slow_client_holds_no_transaction_and_no_memory(stack: Stack, admin: psycopg.Connection) -> None:
    kill_worker(stack, admin)  # one that has exported before would have room for another
    until("a new one serves", lambda: answers(f"{stack.url}/readyz"))
    [process] = _children(stack)
    idle = resident_megabytes(process)
    connection, answer = export(stack)
    busy = "active,idle in transaction"
    until("nothing is open", lambda: sessions(admin, stack.database_url, busy) == 0)
    lines = 1
    while piece := answer.read(65536):
        lines += piece.count(b"\r\n")
    connection.close()
    assert lines == MANY + 1
    assert resident_megabytes(process) - idle < 50


def take_database_away(stack: Stack, admin: psycopg.Connection) -> None:
    """End every session, and let none begin."""
    name = make_url(stack.environ["DATABASE_URL"]).database
    admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def give_database_back(stack: Stack, admin: psycopg.Connection) -> None:
    """Let sessions begin again."""
    name = make_url(stack.environ["DATABASE_URL"]).database
    admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def kill_worker(stack: Stack, _admin: psycopg.Connection) -> None:
    """Kill the process that serves, which has no time to end anything."""
    for pid in _children(stack):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("break_it", [take_database_away, kill_worker])
def test_an_export_that_breaks_off_is_an_error_to_every_client_and_proxy(
    begin_export: Callable[[], tuple[http.client.HTTPConnection, http.client.HTTPResponse]],
    stack: Stack,
    admin: psycopg.Connection,
    break_it: Callable[[Stack, psycopg.Connection], None],
) -> None:
    connection, answer = begin_export()
    break_it(stack, admin)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        answer.read()
    connection.close()
    give_database_back(stack, admin)
    until("the service is back", lambda: answers(f"{stack.url}/readyz"))


@pytest.mark.slow
@pytest.mark.parametrize("version", [10, 11])
def test_an_export_that_breaks_off_ends_with_a_reset(stack: Stack, admin: psycopg.Connection, version: int) -> None:
    connection, answer = export(stack, version=version)
    take_database_away(stack, admin)
    pieces: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        pieces.extend(iter(lambda: answer.fp.read1(65536), b""))  # past http.client, whose own error hides the reset
    received = b"".join(pieces)
    assert b"HTTP/1.1 500" not in received, "no error stands in the middle of the answer"
    assert not received.endswith(b"0\r\n\r\n")
    answer.close()
    connection.close()


@pytest.mark.slow
def test_a_whole_export_ends_as_usual_by_every_way(
    begin_export: Callable[[], tuple[http.client.HTTPConnection, http.client.HTTPResponse]],
) -> None:
    connection, answer = begin_export()
    assert answer.read().count(b"\r\n") == MANY
    connection.close()


@pytest.mark.slow
def test_an_export_ends_when_its_client_disconnects(stack: Stack, admin: psycopg.Connection) -> None:
    for _ in range(20):  # more than there are threads
        connection, answer = export(stack)
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
        answer.close()
        connection.close()
    until("nothing is asked", lambda: sessions(admin, stack.database_url, "active,idle in transaction") == 0)
    connection, answer = export(stack)
    connection.close()


def _children(stack: Stack) -> list[int]:
    return [
        int(word) for word in Path(f"/proc/{stack.pid('web')}/task/{stack.pid('web')}/children").read_text().split()
    ]
