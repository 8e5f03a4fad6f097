"""Every list of the API reads a bounded number of rows, with any two filters, for rare and absent values too.

The rows are counted by PostgreSQL itself: each statement that an answer runs is explained and analysed, and of every
node that reads a table or an index those count that it gave and those that it read in vain. There are 200,000 messages,
and half of them share a clientRef, a number, an originator.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select, text
from sqlalchemy.engine import Connection

from receiptsvc import ids
from receiptsvc.domain import conversations
from receiptsvc.store.core import slices, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, OutcomeRow, PendingRow, ReceiptReferences, Transition
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.store.messages import clock_votes
from receiptsvc.store.queries import batches, codes, failed_messages, failures, outlook, overdue, rereading
from receiptsvc.web.app import create_app
from receiptsvc.web.http import deadlines
from receiptsvc.web.http.readiness import ReadinessProbe
from receiptsvc.web.ops import failure_rows, lists
from receiptsvc.web.ops.failure_rows import Part
from tests.support import databases
from tests.support.callers import SECRETS, client_of, make_settings

pytestmark = pytest.mark.slow

MESSAGES = 200_000
PAGE = 100
MOST = 20 * PAGE
FEW = 500 + 2 * clock_votes.MAX_LOOKED_AT  # for one object; the votes are looked at every ten seconds

T0 = datetime(2026, 1, 1, tzinfo=UTC)  # the first message; one a second follows
LONG_AGO, MIDST, END = T0, T0 + timedelta(seconds=MESSAGES // 2), T0 + timedelta(seconds=MESSAGES)

# One in two is the campaign's: the same clientRef, from the same sender. One in ten goes to a monitor's number, and one
# in two of those. In 1,000 one failed, all long ago; `cancelled` and `send_unknown` never were.
_SEED = """
CREATE TEMPORARY TABLE seeded AS
SELECT n,
    CAST(lpad(to_hex(CAST(extract(epoch FROM CAST(:t0 AS timestamptz)) * 1000 AS bigint) + n * 1000), 12, '0')
        || '7000' || '8000' || lpad(to_hex(n), 12, '0') AS uuid) AS id,
    CAST(:t0 AS timestamptz) + n * interval '1 second' AS at,
    CASE WHEN n % 2 = 0 THEN 'campaign' WHEN n % 7 = 0 THEN NULL ELSE 'order/' || n / 3 END AS client_ref,
    CASE WHEN n % 10 = 0 THEN '447700900000' ELSE '4477' || lpad(CAST(n * 7919 % 100000000 AS text), 8, '0') END AS recipient,
    CASE WHEN n % 2 = 0 THEN 'ACME' WHEN n % 9 = 0 THEN NULL WHEN n < 30 THEN 'RARE' ELSE 'SHOP' || n % 3 END AS originator,
    CASE WHEN n < 100000 AND n % 1000 = 999 THEN 'failed' WHEN n % 20 = 3 THEN 'undelivered'
        WHEN n > 199000 THEN 'submitted' ELSE 'delivered' END AS status
FROM generate_series(1, :messages) AS n;

INSERT INTO messages (id, conversation_id, created_at, created_by, origin, status, status_at, conflict, changed_at,
    recipient, text, originator, client_ref, reject_unicode, include_message_text, additional_options, message_guid,
    transport, encoding, segments, warnings, transaction_id, tries, standing, transition_count)
SELECT id, CASE WHEN client_ref = 'campaign' THEN CAST(:campaign AS uuid)
        ELSE CAST(md5(coalesce(client_ref, recipient || coalesce(originator, ''))) AS uuid) END,
    at, 'test', 'own', status, at, false, at + interval '1 minute', recipient, 'Hello', originator, client_ref, false,
    false, '{}', 'guid-' || n, 'soap', 'GSM', 1, '[]', CAST(n AS text), 1, '', 1
FROM seeded;

INSERT INTO message_transactions (message_id, transaction_id, recipient, source, noted_at)
SELECT id, CASE WHEN n <= 250 THEN '250' WHEN n > 190000 THEN '190001' ELSE CAST(n AS text) END, recipient, 'answer', at
FROM seeded;

INSERT INTO inbox (id, channel, received_at, method, query, body, message_id)
SELECT id, CASE WHEN n % 50 = 7 THEN 'inbound' WHEN n % 1000 = 0 THEN 'account' ELSE 'message' END,
    at, 'GET', '', '', id
FROM seeded;

INSERT INTO outcomes (receipt_id, outcome, processed_at)
SELECT id, CASE WHEN n % 50 = 7 THEN 'applied' WHEN n < 20 THEN 'dead' ELSE 'unmatched' END, at
FROM seeded WHERE n % 50 = 7 OR n % 300 = 0 OR n % 3 = 0 AND n < 20;

INSERT INTO receipt_references (receipt_id, recipient, recipient_end, transaction_id, client_ref, provider_status_id,
    provider_description, description_key, kid)
SELECT id, recipient, right(recipient, 4), CASE WHEN n % 600 = 0 THEN '600' ELSE CAST(n AS text) END, client_ref,
    CASE WHEN n % 900 = 0 THEN '9' ELSE '1' END, 'Sent', 'sent', CASE WHEN n % 1200 = 0 THEN 'old' END
FROM seeded WHERE n % 50 <> 7 AND (n % 300 = 0 OR n % 3 = 0 AND n < 20);

INSERT INTO pending (receipt_id) SELECT id FROM seeded WHERE n % 50 <> 7 AND n % 300 <> 0 AND n % 3 = 0 AND n > 195000;

INSERT INTO transitions (message_id, receipt_id, source, status, effect, rule, received_at, recorded_at)
SELECT id, NULL, 'ourselves', 'accepted', 'applied', 'accepted', at, at FROM seeded
UNION ALL
SELECT id, id, 'gateway', 'delivered', CASE WHEN n % 3 > 0 THEN 'applied' ELSE 'stale' END, 'token', at, at
FROM seeded WHERE n % 50 <> 7 AND n % 300 <> 0 AND (n % 3 > 0 OR n BETWEEN 20 AND 195000);

INSERT INTO replies (id, receipt_id, conversation_id, link, sender, recipient, content, received_at, recorded_at,
    fingerprint, is_conflicting, is_opt_out)
SELECT s.id, s.id, m.conversation_id, 'clientRef', s.recipient, CASE WHEN n % 4 = 3 THEN '60030' ELSE '60031' END, 'Yes',
    at, at, s.id, false, n % 4000 = 7
FROM seeded AS s JOIN messages AS m ON m.id = s.id WHERE n % 50 = 7;

INSERT INTO conversation_activity (id, first_at, last_at, last_from_recipient, messages)
SELECT conversation_id, min(created_at), max(created_at), false, count(*) FROM messages GROUP BY conversation_id;

INSERT INTO suppressions (recipient, originator, created_at, created_by)
SELECT recipient, 'acme', min(at), 'test' FROM seeded WHERE n <= 50000 GROUP BY recipient;

INSERT INTO audits (at, actor, action, subject, details)
SELECT at, CASE WHEN n < 30 THEN 'user anna' ELSE 'worker' END, CASE WHEN n < 30 THEN 'reveal' ELSE 'matched' END,
    CASE WHEN n % 4 = 0 THEN 'sending' ELSE 'rcp_' || n END, '{}'
FROM seeded WHERE n <= 100000;
"""


_INDEXES = text("""
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)
        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = CAST(indexname AS regclass))
""")


@pytest.fixture(scope="module")
def seeded(postgresql_template: str) -> Iterator[Database]:
    """A database with all of that, analysed."""
    with databases.scratch_postgresql(postgresql_template, template=postgresql_template) as url:
        database = Database(url)
        campaign = conversations.conversation_id(client_ref="campaign", recipient=None, originator=None)
        with database.transaction() as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))  # what is made here need no checks
            indexes = session.execute(_INDEXES).all()  # recreated at the end, which is faster
            for name, _ in indexes:
                session.execute(text(f"DROP INDEX {name}"))
            for statement in _SEED.strip().split(";\n"):
                given = {"t0": T0, "messages": MESSAGES, "campaign": campaign}
                session.execute(text(statement), {k: v for k, v in given.items() if f":{k}" in statement})
            for _, definition in indexes:
                session.execute(text(definition.replace(" ON ONLY ", " ON ")))
        with database.connection() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM (ANALYZE)")
        yield database
        database.close()


@pytest.fixture(scope="module")
def reader(seeded: Database) -> FlaskClient:
    return client_of(create_app(make_settings(), seeded))


class Counted:
    """Counts the rows that an answer's statements read, and keeps their plans."""

    def __init__(self) -> None:
        self.rows = 0
        self.plans: list[str] = []

    def explain(self, connection: Connection, statement: str, parameters: Any) -> None:
        """Run a statement again with EXPLAIN ANALYZE."""
        cursor = connection.connection.cursor()
        try:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) " + statement, parameters)
            [[[told]]] = cursor.fetchall()
        finally:
            cursor.close()
        self._add(told["Plan"], statement)

    def _add(self, node: Mapping[str, Any], statement: str) -> None:
        if "Relation Name" in node or node["Node Type"] == "Bitmap Index Scan":
            names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
            read = round(sum(node.get(name, 0) for name in names) * node["Actual Loops"])
            self.rows += read
            self.plans.append(f"{read} by {node['Node Type']} {node.get('Index Name', '')}: {node.get('Filter', '')}")
        for inner in node.get("Plans", ()):
            self._add(inner, statement)


@contextmanager
def counting(database: Database) -> Iterator[Counted]:
    """What the statements of this block read."""
    counted = Counted()

    def explain(connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            counted.explain(connection, statement, parameters)

    engine = database._engine  # noqa: SLF001 - every statement goes through it
    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield counted
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def count(database: Database, client: FlaskClient, path: str, body: object = None) -> tuple[Counted, Any]:
    """Make a request; return what its statements read, and the answer."""
    with counting(database) as counted:
        answer = client.post(path, json=body) if body else client.get(path)
    assert answer.status_code == 200, answer.json
    return counted, answer.json


# Of each filter a value that many have, one that few have, and one that none has.
MESSAGE_FILTERS: dict[str, tuple[str, ...]] = {
    "recipient": ("447700900000", "447700015838", "447700900999"),
    "recipientEnds": ("0000", "5838", "900999"),
    "clientRef": ("campaign", "order/3", "nobody"),
    "clientRefPrefix": ("c", "order/11", "zzz"),
    "transactionID": ("250", "77777", "999999999"),
    "messageGuid": ("guid-4", "guid-0"),
    "status": ("delivered", "failed", "cancelled", "failed,cancelled,undelivered"),
    "originator": ("ACME", "RARE", "NOBODY"),
    "since": (LONG_AGO.isoformat(), MIDST.isoformat(), END.isoformat()),
    "until": (END.isoformat(), MIDST.isoformat(), LONG_AGO.isoformat()),
    "changedSince": (LONG_AGO.isoformat(), MIDST.isoformat(), "2030-01-01T00:00:00Z"),
    "order": ("changed",),
}
REPLY_FILTERS: dict[str, tuple[str, ...]] = {
    "sender": ("447700900000", "447700055433", "447700900999"),
    "recipient": ("60031", "60030", "60999"),
    "clientRef": ("campaign", "order/19", "nobody"),
    "since": (LONG_AGO.isoformat(), END.isoformat()),
    "until": (END.isoformat(), LONG_AGO.isoformat()),
    "isOptOut": ("true", "false"),
    "isOptIn": ("true", "false"),
}
RECEIPT_FILTERS: dict[str, tuple[str, ...]] = {
    "outcome": (
        *("applied", "stale", "unmatched", "dead", "pending", "quarantined", "duplicate"),
        *("unmatched,quarantined,dead,pending", "stale,duplicate,unmatched,pending", "applied,dead"),
    ),
    "recipient": ("447700900000", "447700900999"),
    "recipientEnds": ("0000",),
    "transactionID": ("600",),
    "clientRef": ("campaign",),
    "providerStatusId": ("1", "9"),
    "providerDescription": ("sent",),
    "keyId": ("old",),
    "channel": ("message", "account", "inbound"),
    "message": (ids.public("msg", UUID(int=1)),),
    "since": (LONG_AGO.isoformat(), END.isoformat()),
    "until": (END.isoformat(), LONG_AGO.isoformat()),
}
SUPPRESSION_FILTERS: dict[str, tuple[str, ...]] = {
    "recipient": ("447700900000", "447700900999"),
    "originator": ("acme", "nobody"),
}
AUDIT_FILTERS: dict[str, tuple[str, ...]] = {
    "subject": ("sending", "rcp_5", "nobody"),
    "actor": ("worker", "user anna", "nobody"),
    "action": ("matched", "reveal", "nothing"),
    "since": (LONG_AGO.isoformat(), END.isoformat()),
    "until": (END.isoformat(), LONG_AGO.isoformat()),
}
LISTS = {
    "/v1/messages": MESSAGE_FILTERS,
    "/v1/inbound": REPLY_FILTERS,
    "/v1/receipts": RECEIPT_FILTERS,
    "/v1/suppressions": SUPPRESSION_FILTERS,
    "/v1/audit": AUDIT_FILTERS,
    "/v1/conversations": {},
}


def questions(path: str) -> Iterator[dict[str, str]]:
    """Queries without a filter, with each value of each filter, and with any two."""
    single = [(name, value) for name, values in LISTS[path].items() for value in values]
    yield {}
    for name, value in single:
        yield {name: value}
    for first, second in combinations(single, 2):
        question = dict([first, second])
        if len(question) == 2 and not is_refused(path, question):
            yield question


def is_refused(path: str, question: Mapping[str, str]) -> bool:
    """Whether it asks for recorded receipts by what others name."""
    outcomes = set(question.get("outcome", "").split(","))
    others = question.keys() - {"outcome", "channel", "message", "since", "until"}
    return path == "/v1/receipts" and bool(others and outcomes & {"applied", "duplicate", "stale", "conflicting"})


@pytest.mark.parametrize("path", LISTS)
def test_any_two_filters_read_at_most_twenty_pages(seeded: Database, reader: FlaskClient, path: str) -> None:
    dear: list[str] = []
    for question in questions(path):
        counted, answer = count(seeded, reader, f"{path}?{urlencode(question)}")
        if counted.rows > MOST:
            dear.append(f"{question}: {counted.rows} rows for {len(answer['items'])}: {counted.plans}")
    assert not dear, "\n".join(dear)


@pytest.mark.parametrize(
    "question",
    [
        {"clientRef": "campaign", "status": "failed"},
        {"clientRef": "campaign", "status": "failed,cancelled,expired"},
        {"changedSince": LONG_AGO.isoformat(), "status": "failed,cancelled"},
        {"clientRef": "campaign", "status": "cancelled"},
        {"originator": "ACME", "status": "failed"},
        {"originator": "RARE", "status": "undelivered"},
        {"status": "failed", "since": (T0 + timedelta(seconds=50_000)).isoformat()},
        {"recipient": "447700015838", "status": "failed"},
        {"recipientEnds": "5838"},
        {"clientRefPrefix": "order/66666"},
        {"transactionID": "250", "status": "failed"},
        {"recipient": "447700015838", "order": "changed"},
        {"recipient": "447700900000", "status": "failed"},
        {"changedSince": LONG_AGO.isoformat(), "status": "failed"},
        {"changedSince": LONG_AGO.isoformat(), "originator": "RARE"},
        {"changedSince": LONG_AGO.isoformat(), "recipientEnds": "5838"},
        {"clientRefPrefix": "order/", "originator": "RARE"},
        {"clientRef": "campaign", "originator": "RARE"},
    ],
    ids=str,
)
def test_a_filter_that_few_messages_fit_finds_all_of_them_in_one_page(
    seeded: Database, reader: FlaskClient, question: dict[str, str]
) -> None:
    _, answer = count(seeded, reader, f"/v1/messages?{urlencode(question)}")
    assert answer["nextCursor"] is None


def test_a_later_page_reads_no_more_than_the_first(seeded: Database, reader: FlaskClient) -> None:
    walks: list[dict[str, str]] = [{"until": END.isoformat()}, {"clientRefPrefix": "order/"}, {"clientRef": "campaign"}]
    for question in [*walks, {"changedSince": LONG_AGO.isoformat()}, {"recipient": "447700900000", "originator": "X"}]:
        cursor: dict[str, str] = {}
        for _ in range(2):
            for _ in range(6):  # further than what a page may read
                page: Any = reader.get(f"/v1/messages?{urlencode(question | cursor)}&limit=500").json
                cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else cursor
            counted, answer = count(seeded, reader, f"/v1/messages?{urlencode(question | cursor)}")
            assert counted.rows <= MOST, (question, counted.plans)
            if answer["nextCursor"] is None:
                break
            cursor = {"cursor": answer["nextCursor"]}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/conversations/campaign",
        "/v1/conversations/order%2F3",
        "/v1/recipients/447700900000",
        "/v1/recipients/447700015838",
        "/v1/transactions/250",
        "/v1/search?q=190001",
        "/v1/search?q=447700900000",
        "/v1/search?q=0000",
        "/v1/search?q=07700900000",
        "/v1/search?q=00900000",
        "/v1/search?q=99900000",
        "/v1/search?q=campaign",
        "/v1/search?q=c",
        "/v1/search?q=order/3",
        "/v1/search?q=nothing",
        "/v1/search?q=600",
        "/v1/stats",
        f"/v1/stats?since={T0:%Y-%m-%d}T00:00:00Z&until=2026-01-03T00:00:00Z",
        "/v1/stats/breakdown?by=country",
    ],
)
def test_every_other_read_reads_at_most_twenty_pages(seeded: Database, reader: FlaskClient, path: str) -> None:
    if path == "/v1/conversations/order%2F3":
        return  # its id is not that of the service: found by the list only
    counted, answer = count(seeded, reader, path)
    assert counted.rows <= MOST, counted.plans
    if "/campaign" in path:
        assert answer["timelineOrder"] == "message"
        further, _ = count(seeded, reader, f"{path}?cursor={answer['nextCursor']}")
        assert further.rows <= MOST, further.plans


OBJECTS = {
    "a message": "SELECT message_id FROM message_transactions WHERE transaction_id = '77777'",
    "a message of a campaign": "SELECT id FROM messages WHERE client_ref = 'campaign' ORDER BY id DESC LIMIT 1",
    "a receipt that was recorded": "SELECT receipt_id FROM transitions WHERE effect = 'applied' ORDER BY id DESC LIMIT 1",
    "a receipt that was stale": "SELECT receipt_id FROM transitions WHERE effect = 'stale' ORDER BY id LIMIT 1",
    "a parked receipt": "SELECT receipt_id FROM outcomes WHERE outcome = 'unmatched' ORDER BY receipt_id LIMIT 1",
    "a dead receipt": "SELECT receipt_id FROM outcomes WHERE outcome = 'dead' ORDER BY receipt_id LIMIT 1",
    "a reply's receipt": "SELECT receipt_id FROM replies ORDER BY id LIMIT 1",
    "a pending receipt": "SELECT receipt_id FROM pending ORDER BY receipt_id LIMIT 1",
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_one_of_anything_reads_few_rows(
    seeded: Database, reader: FlaskClient, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seeded.reading() as session:
        identifier = UUID(str(session.execute(text(OBJECTS[kind])).scalar_one()))
    noun, prefix = ("messages", "msg") if kind.startswith("a message") else ("receipts", "rcp")
    paths = [f"/v1/{noun}/{ids.public(prefix, identifier)}"]
    if noun == "messages":
        paths += [f"{paths[0]}/transitions", f"{paths[0]}/explain"]
    browser = sign_in(seeded, monkeypatch)
    for client, path in [*((reader, each) for each in paths), (browser, paths[0].replace("/v1/", "/ops/"))]:
        counted, _ = count(seeded, client, path)
        assert counted.rows <= FEW, (path, counted.plans)


def test_a_persons_page_reads_few_rows(seeded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with seeded.reading() as session:
        identifier = UUID(
            str(session.execute(text("SELECT id FROM replies LIMIT 1")).scalar_one())
        )  # its message's too
    browser = sign_in(seeded, monkeypatch)
    opened = browser.post("/ops/people", data={"of": ids.public("msg", identifier)})
    counted, _ = count(seeded, browser, f"/ops/people/{opened.headers['Location'].rpartition('/')[2]}")
    assert counted.rows <= MOST, counted.plans


def sign_in(database: Database, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A browser at the ops page."""
    monkeypatch.setattr(ReadinessProbe, "look_soon", lambda *_: None)  # beside the page, on a thread of its own
    monkeypatch.setattr(deadlines, "SECONDS", 60.0)  # each statement runs twice here
    monkeypatch.setattr(time_limits, "PANEL", TimeLimits(lock=30, statement=30, idle=30))
    browser = create_app(make_settings(), database).test_client()
    browser.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    assert browser.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    return browser


@pytest.mark.parametrize(
    "term",
    ["447700900000", "07700900000", "447700015838", "0000", "9990000", "campaign", "order/1", "190001", "nothing"],
)
def test_every_search_of_the_ops_page_reads_at_most_twenty_pages(
    seeded: Database, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = sign_in(seeded, monkeypatch)
    found = reader.post("/ops/search", data={"q": term}).headers["Location"].removeprefix("..")
    if "/srch_" in found:
        counted, _ = count(seeded, reader, found)
        assert counted.rows <= MOST, counted.plans


FAILED_SINCE = f"since={T0:%Y-%m-%dT%H:%M}&until=2026-01-05T00:00"


@pytest.mark.parametrize("part", list(Part))
def test_failures_by_any_part_read_a_bounded_number_of_rows(
    seeded: Database, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, _ = count(seeded, sign_in(seeded, monkeypatch), f"/ops/failures?by={part}&{FAILED_SINCE}")
    assert counted.rows <= (
        1.1 * failure_rows.MAX_READ if part is Part.NUMBER else MOST + 6 * failed_messages.LOOKED_THROUGH
    )


@pytest.mark.parametrize(
    "key",
    [
        {"calling_code": "33"},
        {"calling_code": "44", "prefix": "7700"},
        {"originator": ""},
        {"status_id": "x"},
        {"reason": "unsaid"},
    ],
    ids=str,
)
def test_the_failed_messages_of_a_part_are_looked_for_among_a_bounded_number(
    seeded: Database, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = sign_in(seeded, monkeypatch)
    form = {"since": f"{T0:%Y-%m-%dT%H:%M}", "until": "2026-01-05T00:00"} | key
    listed = browser.post("/ops/failures/messages", data=form).headers["Location"].removeprefix("..")
    counted, _ = count(seeded, browser, f"/ops/{listed.partition('/ops/')[2]}")
    assert counted.rows <= MOST + 6 * failed_messages.LOOKED_THROUGH, counted.plans


def test_what_people_did_is_looked_for_among_a_bounded_number(
    seeded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, _ = count(seeded, sign_in(seeded, monkeypatch), "/ops/audit")
    assert counted.rows <= MOST + 100 * lists.PAGE_SIZE, counted.plans


def test_codes_and_what_if_read_a_bounded_number_of_rows(seeded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = sign_in(seeded, monkeypatch)
    counted, _ = count(seeded, browser, "/ops/codes")
    assert counted.rows <= MOST + 2 * codes.LOOKED_THROUGH, counted.plans
    with seeded.reading() as session:
        receipt_id = session.scalars(select(ReceiptReferences.receipt_id).limit(1)).one()
    counted, _ = count(seeded, browser, f"/ops/codes/{ids.public('rcp', receipt_id)}?status=expired")
    assert counted.rows <= MOST + 5 * rereading.LOOKED_THROUGH, counted.plans


def test_what_shows_the_gateways_clock_is_a_bounded_number_of_rows(seeded: Database) -> None:
    with counting(seeded) as counted, seeded.reading() as session:
        clock_votes.read_with_hints(session, T0)
    assert counted.rows <= 5 * clock_votes.MAX_LOOKED_AT, counted.plans


def test_the_numbers_that_failed_most_are_read_from_a_bounded_range(seeded: Database, reader: FlaskClient) -> None:
    whole = f"since={T0:%Y-%m-%d}T00:00:00Z&until=2026-01-05T00:00:00Z"
    for question in (
        "",
        "&status=undelivered",
        "&originator=ACME",
        "&status=delivered,undelivered,failed,expired,sent",
    ):
        counted, answer = count(seeded, reader, f"/v1/stats/failures?{whole}{question}")
        assert counted.rows <= 1.1 * failures.MAX_READ, counted.plans
        assert answer["isBounded"] == (answer["messages"] > failures.MAX_READ) == (answer["countedSince"] is not None)
    assert answer["isBounded"]


def test_a_lookup_reads_a_few_rows_for_each_term(seeded: Database, reader: FlaskClient) -> None:
    terms = ["campaign", *(f"order/{number}" for number in range(200)), "nobody"]
    counted, answer = count(seeded, reader, "/v1/messages/lookup", {"clientRefs": terms})
    assert counted.rows <= 20 * len(terms), counted.plans
    assert (answer["missing"][-1], answer["cut"]) == ("nobody", ["campaign"])


def test_a_lookup_reads_a_few_messages_of_each_transaction(seeded: Database, reader: FlaskClient) -> None:
    """A transaction of another system covers as many recipients as that likes."""
    counted, answer = count(seeded, reader, "/v1/messages/lookup", {"transactionIDs": ["190001", "250", "999999999"]})
    assert counted.rows <= 20 * 60, counted.plans
    assert (answer["missing"], answer["cut"]) == (["999999999"], ["190001", "250"])


def test_short_pages_lead_to_every_message_that_fits(reader: FlaskClient) -> None:
    """In the order of changes, sixteen recent messages come after all others; their originator has 33,000."""
    found: list[str] = []
    empty = 0
    cursor: dict[str, str] = {}
    question = {"order": "changed", "originator": "SHOP1", "since": (END - timedelta(seconds=90)).isoformat()}
    while True:
        answer: Any = reader.get(f"/v1/messages?{urlencode(question | cursor)}&limit=500").json
        found += [item["createdAt"] for item in answer["items"]]
        empty += not answer["items"]
        if answer["nextCursor"] is None:
            break
        cursor = {"cursor": answer["nextCursor"]}
    assert empty > 10
    assert found == sorted(found)
    numbers = range(MESSAGES - 90, MESSAGES + 1)
    assert len(found) == len([n for n in numbers if n % 2 and n % 9 and n % 3 == 1])


def test_a_filter_that_few_messages_fit_is_paged_like_any_other(seeded: Database, reader: FlaskClient) -> None:
    """A hundred failed messages, few enough to be sorted: read in the order of changes, forty a page."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        question = {"status": "failed", "changedSince": LONG_AGO.isoformat(), "limit": "40"} | cursor
        counted, answer = count(seeded, reader, f"/v1/messages?{urlencode(question)}")
        assert counted.rows <= 20 * 40, counted.plans
        found += [item["createdAt"] for item in answer["items"]]
        if answer["nextCursor"] is None:
            break
        assert len(answer["items"]) == 40
        cursor = {"cursor": answer["nextCursor"]}
    assert found == sorted(found)
    assert len(found) == 100


def test_a_late_slice_of_a_walk_reads_no_more_than_the_first(seeded: Database) -> None:
    """`verify` over ten million receipts took hours: each slice was merged with all transitions before it."""
    query = (
        select(InboxRow.id, PendingRow.receipt_id, OutcomeRow.outcome, Transition.effect)
        .outerjoin(PendingRow, PendingRow.receipt_id == InboxRow.id)
        .outerjoin(OutcomeRow, OutcomeRow.receipt_id == InboxRow.id)
        .outerjoin(Transition, (Transition.receipt_id == InboxRow.id) & Transition.superseded_at.is_(None))
    )
    with counting(seeded) as counted, seeded.reading() as session:
        late = session.scalar(select(InboxRow.id).order_by(InboxRow.id.desc()).limit(1).offset(2 * PAGE))
        counted.rows = 0
        assert len(slices.read(session, query, limit=PAGE, after=late).items) == PAGE
    assert counted.rows <= MOST, counted.plans


def test_sending_settings_and_batches_of_the_ops_page_count_to_a_bound(
    seeded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of all, since it changes what is seeded: 20,000 messages become due."""
    monkeypatch.setattr(ReadinessProbe, "look_soon", lambda *_: None)
    for module in (outlook, overdue, batches):
        monkeypatch.setattr(module, "MAX_COUNTED", PAGE)
    with seeded.transaction() as session:
        session.execute(text("UPDATE messages SET due_at = created_at WHERE transaction_id LIKE '%5'"))
    reader = create_app(make_settings(), seeded).test_client()
    reader.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    assert reader.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    opened = [reader.post("/ops/batches", data={"q": q}).headers["Location"][2:] for q in ("campai", "order/1")]
    for path in ("/ops/sending", "/ops/settings", *opened):
        counted, _ = count(seeded, reader, path)
        assert counted.rows <= MOST, counted.plans
