"""The access log tells what was asked and answered, and never a token, a key, a query or a number."""

import json
import socket
import sqlite3
from contextlib import closing, suppress
from http.client import HTTPConnection, IncompleteRead
from urllib.parse import quote, urlsplit

import pytest

from receiptsvc import tokens
from receiptsvc.config import Settings
from tests.faults.conftest import StartWeb, callback_url
from tests.support.forked import Stack

NUMBER = "447700900123"
SECRET = "a text to somebody"


def lines(stack: Stack) -> list[tuple[str, str | None, int]]:
    """Method, route and status of each line, but for those of the wait for the start."""
    read = [json.loads(line) for line in (stack.folder / "web.log").read_text().splitlines()]
    said = [(line["method"], line["route"], line["status"]) for line in read if line["action"] == "request"]
    return [line for line in said if line[1] != "/readyz"]


def test_addresses_are_told_by_their_pattern(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    urls = tokens.static_urls(Settings.from_env(stack.environ))
    path = urlsplit(callback_url(stack)).path
    key, inbound = urls.receipts.rpartition("/")[2], urlsplit(urls.inbound).path
    targets = [
        f"{path}?mobile={NUMBER}",  # answered 200: the inbox has it, and the log need not
        f"{path}x?mobile={NUMBER}",
        f"{path.replace('/c', '/%63', 1)}x?mobile={NUMBER}",
        f"{inbound}x?text={SECRET.replace(' ', '+')}",
        f"/callbacks/receipts?key={key}x&mobile={NUMBER}",
        f"/callbacks/receipts/{key}x?mobile={NUMBER}",
        f"/v1/recipients/{NUMBER}",
        f"/v1/messages?recipient={NUMBER}",
        f"/{NUMBER}",
    ]
    with closing(HTTPConnection(urlsplit(stack.url).netloc, timeout=10)) as connection:
        for target in targets:
            connection.request("GET", target)
            connection.getresponse().read()
        connection.request("POST", path, headers={"Content-Length": "1048577"})
        connection.getresponse().read()
    stack.stop("web")
    assert lines(stack) == [
        ("GET", "/callbacks/receipts/<token>", 403),
        ("GET", "/callbacks/receipts/<token>", 403),
        ("GET", "/callbacks/inbound/<token>", 403),
        ("GET", "/callbacks/receipts", 403),
        ("GET", "/callbacks/receipts/<token>", 403),
        ("GET", "/v1/recipients/<anything:number>", 401),
        ("GET", "/v1/messages", 401),
        ("GET", None, 404),
        ("POST", "/callbacks/receipts/<token>", 413),
    ]
    text = (stack.folder / "web.log").read_text()
    for secret in (NUMBER, SECRET, SECRET.replace(" ", "+"), key, path.rpartition("/")[2], inbound.rpartition("/")[2]):
        assert secret not in text


@pytest.mark.parametrize("is_broken", [False, True], ids=["found", "the database fails"])
def test_what_was_searched_for_stands_in_no_log(sqlite_url: str, start_web: StartWeb, is_broken: bool) -> None:
    stack = start_web(sqlite_url)
    if is_broken:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
            database.executescript("ALTER TABLE messages RENAME TO gone; ALTER TABLE replies RENAME TO gone_too;")
    key = {"Authorization": f"Bearer {stack.api_key}"}
    reference, wrong = "order/7f3c-secret", "wrong-filter-7f3c"
    written = quote(f"+{NUMBER[:2]} {NUMBER[2:]}")
    asked: list[tuple[str, str, str | None]] = [
        ("GET", f"/v1/search?q={NUMBER}", None),
        ("GET", f"/v1/search?q={written}", None),
        ("GET", f"/v1/search?q={quote(reference, safe='')}", None),
        ("GET", f"/v1/messages?recipient={NUMBER}", None),
        ("GET", f"/v1/messages?recipientEnds={NUMBER[-6:]}", None),
        ("GET", f"/v1/messages?recipient={reference}", None),
        ("GET", f"/v1/messages?{wrong}={NUMBER}", None),
        ("GET", f"/v1/messages/{NUMBER}", None),
        ("GET", f"/v1/recipients/{NUMBER}", None),
        ("GET", f"/v1/recipients/{written}", None),
        ("GET", f"/v1/transactions/{NUMBER}", None),
        ("GET", f"/v1/conversations/{reference}", None),
        ("GET", f"/v1/inbound?sender={NUMBER}", None),
        ("GET", f"/v1/export/messages.csv?recipient={NUMBER}", None),
        ("GET", f"/v1/suppressions?recipient={NUMBER}", None),
        ("POST", "/v1/messages/lookup", json.dumps({"clientRefs": [reference]})),
        ("POST", f"/v1/messages?{wrong}=1", json.dumps({"messages": [{"recipients": [NUMBER], "text": SECRET}]})),
    ]
    for method, target, body in asked:
        with closing(HTTPConnection(urlsplit(stack.url).netloc, timeout=10)) as connection:
            connection.request(method, target, body, key | ({"Content-Type": "application/json"} if body else {}))
            with suppress(IncompleteRead):  # an export that breaks off
                connection.getresponse().read()
    for line in (f"GET /v1/search?q={NUMBER} HTTP/9.9", f"GET /v1/search?q={reference}", f"{NUMBER} / HTTP/1.1"):
        with socket.create_connection((urlsplit(stack.url).hostname or "", urlsplit(stack.url).port or 0), 10) as wire:
            wire.sendall(f"{line}\r\nHost: {NUMBER}\r\n\r\n".encode())
            wire.recv(65536)
    stack.stop("web")
    statuses = [status for _, _, status in lines(stack)][: len(asked)]
    assert len(statuses) == len(asked)
    assert (statuses[0] >= 500) == is_broken
    for log in stack.folder.glob("*.log"):
        for secret in (NUMBER, NUMBER[2:], NUMBER[-6:], reference, quote(reference, safe=""), wrong, SECRET):
            assert secret not in log.read_text(), log


def test_a_request_line_may_have_8190_bytes(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    url = urlsplit(callback_url(stack))
    line = f"GET {url.path}?statusid=1&text=%s HTTP/1.1"
    for length, status in ((8190, b"200 "), (8191, b"414 ")):
        target = line % ("x" * (length - len(line) + 2))
        assert len(target) == length
        with socket.create_connection((url.hostname or "", url.port or 0), 10) as wire:
            wire.sendall(f"{target}\r\nHost: here\r\n\r\n".encode())
            assert wire.recv(65536).startswith(b"HTTP/1.1 " + status)
