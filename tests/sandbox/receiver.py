"""A local receiver of callbacks that records them and answers as set, and send requests for the sandbox."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlsplit
from xml.sax.saxutils import escape

import requests
from lxml import etree

NAMESPACE = "{http://www.services.dynmark.com/}"
SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"
KINDS = {SOAP_11: "text/xml; charset=utf-8", SOAP_12: "application/soap+xml; charset=utf-8"}


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One callback that arrived."""

    method: str
    path: str
    query: str
    content_type: str | None
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The parameters, from the query or the body."""
        if self.content_type == "application/x-www-form-urlencoded":
            return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))
        if self.content_type == "application/json":
            return {name: str(value) for name, value in json.loads(self.body).items()}
        if self.content_type:
            return _multipart(self.body, self.content_type)
        return dict(parse_qsl(self.query, keep_blank_values=True, strict_parsing=True))


class Receiver(ThreadingHTTPServer):
    """`answer` returns the status for each arrival and may block; None: the connection is cut."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/receipts"
        self.arrivals: list[Arrival] = []
        self.answer: Callable[[Arrival], int | None] = lambda _: 200
        self.released = threading.Event()

    def hang(self, _: Arrival) -> int:
        """An answer that does not come before the test ends."""
        self.released.wait(10)
        return 200


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def log_message(self, *_: object) -> None:
        pass

    def _take(self) -> None:
        parts = urlsplit(self.path)
        arrival = Arrival(
            method=self.command,
            path=parts.path,
            query=parts.query,
            content_type=self.headers.get("Content-Type"),
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        self.server.arrivals.append(arrival)
        status = self.server.answer(arrival)
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        try:
            self.end_headers()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self._take()

    def do_HEAD(self) -> None:
        self._take()


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        receiver.shutdown()
        thread.join()
        receiver.server_close()


def message(recipient: str, *more: str, url: str | None = None, guid: str | None = None, **fields: str) -> str:
    """One Message object; `fields` are elements by name."""
    elements = {"text": "Hello there", "clientRef": "order 7"} | fields
    if url:
        elements["deliveryStatusUrl"] = url
    if guid:
        elements["messageGuid"] = guid
    recipients = "".join(f"<string>{each}</string>" for each in (recipient, *more))
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
    return f"<Message><recipients>{recipients}</recipients>{inside}</Message>"


def envelope(*messages: str, version: str = SOAP_11, logon: tuple[str, str] = ("me", "secret")) -> str:
    return (
        f'<s:Envelope xmlns:s="{version}"><s:Body><SendMessageCollection xmlns="{NAMESPACE[1:-1]}">'
        f"<name>{logon[0]}</name><password>{logon[1]}</password><message>{''.join(messages)}</message>"
        "</SendMessageCollection></s:Body></s:Envelope>"
    )


def post(url: str, body: str | bytes, *, version: str = SOAP_11, timeout: float = 5) -> requests.Response:
    return requests.post(url, data=body, headers={"Content-Type": KINDS[version]}, timeout=timeout)


def send(url: str, *messages: str) -> list[dict[str, str]]:
    """Send, and return the results: each element's text, `recipients` joined by commas."""
    return results(post(url, envelope(*messages)))


def results(response: requests.Response) -> list[dict[str, str]]:
    assert response.status_code == 200
    items = etree.fromstring(response.content).iter(f"{NAMESPACE}MessageResult")
    return [{etree.QName(child).localname: ",".join(map(str, child.itertext())) for child in item} for item in items]


def _multipart(body: bytes, content_type: str) -> dict[str, str]:
    boundary = parse_qs(content_type.replace("; ", "&"))["boundary"][0]
    parts = body.decode().split(f"--{boundary}")[1:-1]
    fields = {}
    for part in parts:
        head, _, value = part.strip("\r\n").partition("\r\n\r\n")
        fields[head.split('name="')[1].rstrip('"')] = value
    return fields
