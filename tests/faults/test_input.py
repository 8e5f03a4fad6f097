"""No input is a fault of ours: everything that can be given to the API is given badly, as it is deployed on PostgreSQL.

What there is to be given is read from the API's own description, so that a new parameter, list or body comes under this
by itself.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit
from zlib import crc32

import psycopg
import pytest
import requests

from receiptsvc import ids
from receiptsvc.demo.processes import answers
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries.lookup import LARGE
from tests.support import rows, stories
from tests.support.forked import Stack
from tests.support.postgres import Server
from tests.support.rows import insert_arrivals, seconds

CALLERS = 4
PROBLEM = "application/problem+json"
REFUSALS = {404, 409, 410, 413, 422}
REFUSED_BY_DATABASE = "request.value_refused"  # in the log

NUMBERS = ("0", "-1", "2147483648", "9223372036854775808", "9" * 17, "9" * 18, "9" * 400, "1e309", "NaN")
TEXTS = (
    *("", "\0", "a\0b", "\x1f", "\r\n", "%", "\\", "'", "x" * 65, "x" * 5000, "true"),
    *("\ufffe", "\uffff", "\ud7ff", "\U0010ffff", "\u0661\u0662\u0663\u0664"),
)
TIMES = (
    *("2999-12-31T23:59:59.999999Z", "2999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("294277-01-01T00:00:00Z", "2026-02-30T00:00:00Z"),
)
IDS = tuple(f"{prefix}_7{'z' * 25}" for prefix in ("msg", "rcp", "rpl", "cnv"))
ENCODED = (*(quote(text, safe="") for text in (*NUMBERS, *TEXTS, *TIMES, *IDS)), "%FF", "%ED%A0%80", "%", "%zz")

JSON: tuple[Any, ...] = (
    *(None, True, [], {}, [None], [[]], {"a": "\0"}, ["\0"], ["\ud800"], -1, 2**31, 2**63, 10**400, 1.5, 1e308),
    *("", "\0", "a\0b", "\ud800", "\ufffe", "\U0010ffff", "x" * 5000, "9" * 40, "2999-12-31T23:59:59-23:59", *IDS),
)


class Ask(NamedTuple):
    """A request. `names`: of everything that it may be told is at fault; none: it is not looked at."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    names: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def stack(one_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service with a little of everything that there are lists of, so that each has a second page."""
    one_server.start()
    url = one_server.new_database()
    database = Database(url)
    known = ids.parse("msg", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d")  # which stands in the examples, as does the rest
    first, *_ = rows.accept(
        database,
        rows.message("447700900000", id=known, client_ref="order/1234", originator="ACME"),
        *(rows.message("447700900000", client_ref=f"order/{number}", originator="ACME") for number in range(3)),
        *(rows.message(client_ref="large") for _ in range(LARGE + 1)),
    )
    stories.give_transaction(database, first, "1234567")
    stories.report(database, first, Status.DELIVERED, seconds(3), occurred_at=seconds(2))
    now = database.clock.now()  # what failed is listed of the last days
    for failed in rows.accept(database, *(rows.message(client_ref=f"failed/{number}") for number in range(3)), now=now):
        stories.report(database, failed, Status.UNDELIVERED, now)
    for number in range(3):
        stories.reply(database, "order/1234", seconds(9 + number), sender="447700900000")
    arrivals = [rows.arrival(f"statusid=4&transactionid={number}") for number in range(3)]
    receipt = ids.parse("rcp", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8")
    assert receipt is not None
    with database.transaction() as session:
        insert_arrivals(session, [arrivals[0]._replace(id=receipt), *arrivals[1:]])
        pairs = [Pair("447700900000", "acme"), Pair("447700900001", ""), Pair("447700900001", "a.b c")]
        suppressions.add(session, pairs, Actor(actor="desk", reason=None), rows.T0)
    database.close()
    with Stack(tmp_path_factory.mktemp("input") / "stack", url) as stack:
        stack.start("web")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        yield stack


def describe(stack: Stack) -> dict[str, Any]:
    """The API's description of itself, with the parameters of an address at each of its methods."""
    described: dict[str, Any] = requests.get(f"{stack.url}/openapi.json", timeout=30).json()
    for operations in described["paths"].values():
        of_all = operations.pop("parameters", [])
        for operation in operations.values():
            operation["parameters"] = [*of_all, *operation.get("parameters", [])]
    return described


def parameters(operation: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Those that stand in the query, the path or the headers, by name."""
    return {given["name"]: given for given in operation["parameters"] if given["in"] == place}


def example(parameter: Mapping[str, Any]) -> str:
    return str(parameter["schema"].get("examples", ["1"])[0])


def bad_values(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    """Bad values, encoded: those that are bad anywhere, and good ones that were changed."""
    good = example(parameter)
    changed = (*(re.sub(r"\d", digit, good) for digit in "09"), f"{good}\0", f"{good}{'9' * 20}", good[1:], good[:-1])
    return (*ENCODED, *(quote(text, safe="") for text in changed))


def addresses(path: str, operation: Mapping[str, Any]) -> str:
    """An address with something in it that there is."""
    examples = {name: quote(example(one), safe="") for name, one in parameters(operation, "path").items()}
    return path.format(**examples)


def with_bad_parameters(described: Mapping[str, Any]) -> Iterator[Ask]:
    """Each parameter of each operation without a body, with each bad value."""
    for path, operations in described["paths"].items():
        for method in operations.keys() & {"get", "delete"}:
            for target, headers in _with_bad_parameters(path, operations[method]):
                names = frozenset(parameters(operations[method], "query")) if not headers else frozenset[str]()
                yield Ask(method.upper(), target, headers=headers, names=names)


def _with_bad_parameters(path: str, operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    address, query = addresses(path, operation), parameters(operation, "query")
    needed = {name: example(one) for name, one in query.items() if one.get("required")}
    for name, parameter in query.items():
        rest = urlencode({other: value for other, value in needed.items() if other != name})
        for value in (*bad_values(parameter), f"1&{name}=1"):
            yield f"{address}?{rest}&{name}={value}", {}
    for name, parameter in parameters(operation, "path").items():
        for value in filter(None, bad_values(parameter)):
            yield f"{path.replace(f'{{{name}}}', value)}?{urlencode(needed)}", {}
    for name, parameter in parameters(operation, "header").items():
        for text in map(unquote, bad_values(parameter)):
            if text.isascii() and text.isprintable():
                yield f"{address}?{urlencode(needed)}", {name: text}


def build(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """A value of a schema, made of its examples."""
    if "$ref" in schema:
        return build(described, described["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "examples" in schema:
        return schema["examples"][0]
    if "properties" in schema:
        return {name: build(described, one) for name, one in schema["properties"].items()}
    return [build(described, schema["items"])] if "items" in schema else None


def known_members(described: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Every member of an object, by name."""
    if "$ref" in schema:
        return known_members(described, described["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    members: dict[str, Any] = schema.get("properties", {})
    return members


def bad_objects(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Any]:
    """An object with each of its members bad in turn, and with what is in lists of objects bad in turn."""
    whole = build(described, schema)
    for name, member in known_members(described, schema).items():
        for value in JSON:
            yield whole | {name: value}
            if "items" in member:
                yield whole | {name: [value]}
        if "items" in member and known_members(described, member["items"]):
            for element in bad_objects(described, member["items"]):
                yield whole | {name: [element]}


def with_bad_bodies(described: Mapping[str, Any]) -> Iterator[Ask]:
    """Each member of each body, with each bad value."""
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                address = addresses(path, operation)
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                yield Ask(method.upper(), address, b'"\\u0000"', {"Content-Type": "application/json"})
                for body in bad_objects(described, schema):
                    yield Ask(method.upper(), address, json.dumps(body).encode(), {"Content-Type": "application/json"})


def real_cursors(stack: Stack, described: Mapping[str, Any]) -> dict[str, str]:
    """Of each list that has a second page, its address in each of its orders, and the cursor."""
    found: dict[str, str] = {}
    for path, operations in described["paths"].items():
        operation = operations.get("get", {"parameters": []})
        query = parameters(operation, "query")
        if "cursor" not in query:
            continue
        orders = query.get("order", {"schema": {}})["schema"].get("enum", [])
        more = [f"&order={order}" + "&clientRefPrefix=o" * (order == "clientRef") for order in orders] or [""]
        targets = [f"{addresses(path, operation)}?limit=1{one}" for one in more]
        targets += [f"{path.replace('{client_ref}', 'large')}?limit=1"] * ("{client_ref}" in path)
        targets += [f"{path}?limit=1&clientRef=order/1234"] * (path == "/v1/conversations")
        for target in targets:
            page = requests.get(stack.url + target, headers={"Authorization": f"Bearer {stack.api_key}"}, timeout=30)
            found[target] = page.json()["nextCursor"]
    return found


def forged(cursor: str) -> Iterator[str]:
    """Cursors with each part of a real one changed, by a forger who knows their form."""
    parts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[4:])
    for place in range(len(parts)):
        for part in (*JSON, *NUMBERS, *TEXTS, 3, "f" * 32, "7" + "z" * 25, "created", "changed", "clientRef"):
            yield sealed(json.dumps([*parts[:place], part, *parts[place + 1 :]], separators=(",", ":")))
        yield sealed(json.dumps([*parts[:place], None, *parts[place + 1 :]]))
        yield sealed(json.dumps(parts[:place] + parts[place + 1 :], separators=(",", ":")))
    yield sealed(json.dumps(parts))
    yield from map(sealed, ("", "1", "{}", "[]", "[" * 400, "[NaN]", '["messages",1e999]', "1" * 440))
    yield urlsafe_b64encode(b"\xff.\xfe").decode()
    yield from ("", "=", "A", "%00", cursor + "A", cursor + "=", cursor[:-1], cursor.upper())


def sealed(content: str) -> str:
    data = content.encode()
    return urlsafe_b64encode(crc32(data).to_bytes(4) + data).decode().rstrip("=")


def with_bad_cursors(cursors: Mapping[str, str]) -> Iterator[Ask]:
    """Each list with forged cursors, and with those of all the others."""
    for target, real in cursors.items():
        for cursor in dict.fromkeys([*cursors.values(), *forged(real)]):
            yield Ask("GET", f"{target}&cursor={cursor}", names=frozenset({"cursor"}))


def faults(stack: Stack, asked: Sequence[Ask]) -> list[str]:
    """Every request that was answered as none may be."""
    with ThreadPoolExecutor(CALLERS) as callers:
        found = callers.map(
            lambda part: list(_faults(stack, part)), [asked[start::CALLERS] for start in range(CALLERS)]
        )
        return [fault for part in found for fault in part]


def _faults(stack: Stack, asked: Sequence[Ask]) -> Iterator[str]:
    with closing(HTTPConnection(urlsplit(stack.url).netloc, timeout=60)) as connection:
        for ask in asked:
            connection.request(
                ask.method, ask.target, ask.body, {"Authorization": f"Bearer {stack.api_key}", **ask.headers}
            )
            answer = connection.getresponse()
            kind = answer.getheader("Content-Type", "")
            if kind.startswith("text/event-stream"):
                connection.close()  # it has no end
                continue
            content = answer.read()
            fault = _fault(ask, answer.status, kind, content)
            if fault:
                yield f"{fault}: {answer.status} {content[:300]!r} for {ask}"


def _fault(ask: Ask, status: int, kind: str, content: bytes) -> str | None:
    if status >= 500:
        return "a fault of ours"
    if status < 400:
        return None
    if status not in REFUSALS or kind != PROBLEM:
        return "no such refusal"
    named = json.loads(content).get("errors", {})
    if status == 422 and ask.names and not (named and ask.names >= named.keys()):
        return "it does not name what is at fault"
    return None


def check(stack: Stack, asked: Sequence[Ask]) -> None:
    """None of these is answered by a fault, and each bad value is refused by its field, not by the database."""
    assert len(asked) > 1_000
    log = stack.folder / "web.log"
    before = log.read_text().count(REFUSED_BY_DATABASE)
    found = faults(stack, asked)
    assert not found, "\n".join(found[:50])
    assert log.read_text().count(REFUSED_BY_DATABASE) == before


def test_no_cursor_is_answered_by_a_fault(stack: Stack) -> None:
    cursors = real_cursors(stack, describe(stack))
    assert len(cursors) >= 10
    assert None not in cursors.values()
    check(stack, list(with_bad_cursors(cursors)))


def test_no_parameter_is_answered_by_a_fault(stack: Stack) -> None:
    check(stack, list(with_bad_parameters(describe(stack))))


def test_no_body_is_answered_by_a_fault(stack: Stack) -> None:
    check(stack, list(with_bad_bodies(describe(stack))))


@pytest.mark.parametrize("code", ["22003", "22P05", "22021", "22008"])
def test_what_only_the_database_refuses_is_refused_in_words_and_noted_by_its_code(stack: Stack, code: str) -> None:
    with closing(psycopg.connect(plain_url(stack.environ["DATABASE_URL"]), autocommit=True)) as database:
        database.execute(f"""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '% is a secret', NEW.recipient USING ERRCODE = '{code}'; END $$;
            CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON suppressions FOR EACH ROW EXECUTE FUNCTION refuse()
        """)
        try:
            answer = requests.post(
                f"{stack.url}/v1/suppressions",
                json={"recipient": "447700900009"},
                headers={"Authorization": f"Bearer {stack.api_key}"},
                timeout=30,
            )
        finally:
            database.execute("DROP TRIGGER refuse ON suppressions")
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM)
    log = (stack.folder / "web.log").read_text()
    (line,) = (line for line in map(json.loads, log.splitlines()) if code in line.get("error", ""))
    assert (line["action"], line["level"], line["route"]) == (REFUSED_BY_DATABASE, "error", "/v1/suppressions")
    for told in (answer.text, log):
        assert "secret" not in told
        assert "447700900009" not in told
