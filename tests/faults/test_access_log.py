"""The access log tells what was asked and answered, and never a token, a key, a query or a number."""

import json
import socket
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

from receiptsvc import tokens
from receiptsvc.cli.stack import Stack
from receiptsvc.config import Settings
from tests.faults.conftest import StartWeb, callback_url

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
    key, inbound = urls.receipts.rpartition("=")[2], urlsplit(urls.inbound).path
    targets = [
        f"{path}?mobile={NUMBER}",  # answered 200: the inbox has it, and the log need not
        f"{path}x?mobile={NUMBER}",
        f"{path.replace('/c', '/%63', 1)}x?mobile={NUMBER}",
        f"{inbound}x?text={SECRET.replace(' ', '+')}",
        f"/callbacks/receipts?key={key}x&mobile={NUMBER}",
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
        ("GET", "/v1/recipients/<anything:number>", 401),
        ("GET", "/v1/messages", 401),
        ("GET", None, 404),
        ("POST", "/callbacks/receipts/<token>", 413),
    ]
    text = (stack.folder / "web.log").read_text()
    for secret in (NUMBER, SECRET, SECRET.replace(" ", "+"), key, path.rpartition("/")[2], inbound.rpartition("/")[2]):
        assert secret not in text


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
