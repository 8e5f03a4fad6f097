"""The sandbox's HTTP server: reads calls, ends each as planned on the socket, and serves the control API.

What becomes of a call is decided in `gateway`. Nothing is logged: requests carry texts and numbers.
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from receiptsvc.sandbox import control_api, rest, wire, wsdl
from receiptsvc.sandbox.behaviour import Ending
from receiptsvc.sandbox.callbacks import Scheduler
from receiptsvc.sandbox.gateway import Gateway, LogonRefused, Verdict
from receiptsvc.sandbox.options import Options

SOAP_PATH = "/WebServices/MessagingServicesWS.asmx"
REST_PATH = "/webapi/message/send"

_MAX_BODY = 8 * 1024 * 1024
_XML = {wire.SOAP_11: "text/xml; charset=utf-8", wire.SOAP_12: "application/soap+xml; charset=utf-8"}
_HTML = b"<html><head><title>Runtime Error</title></head><body><h1>Server Error in '/' Application.</h1></body></html>"
_FORBIDDEN = b"<html><head><title>403</title></head><body><h1>403 - Forbidden: access is denied.</h1></body></html>"
_DOCTYPE = (
    b'<?xml version="1.0"?><!DOCTYPE soap [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (98 + level, b"&%c;" % (97 + level) * 10)  # each ten times the one before it
        for level in range(8)
    )
    + b']><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>&i;</soap:Body></soap:Envelope>'
)
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """A call's answer as its transport writes it. `fault` and the like are the body of a 500, or of `quote_status`;
    `bomb` grows when it is read.
    """

    kind: str
    status: int
    whole: bytes
    fault: bytes
    logon_fault: bytes
    quote: bytes
    quote_status: int
    bomb: bytes

    def instead(self, ending: Ending) -> tuple[int, str, bytes]:
        """Status, kind and body of a whole answer that is not the right one."""
        return {
            Ending.FAULT: (500, self.kind, self.fault),
            Ending.LOGON_FAULT: (500, self.kind, self.logon_fault),
            Ending.QUOTE: (self.quote_status, self.kind, self.quote),
            Ending.FORBIDDEN: (403, "text/html; charset=utf-8", _FORBIDDEN),
            Ending.HTML: (500, "text/html; charset=utf-8", _HTML),
            Ending.DOCTYPE: (200, self.kind, self.bomb),
            Ending.NOT_XML: (200, self.kind, b"OK 1 message(s) queued"),
            Ending.EMPTY: (200, self.kind, b""),
        }[ending]


def _quoting(verdict: Verdict) -> str:
    return f"Message text '{verdict.quoted}' not allowed"


def _error(text: str) -> bytes:
    """An error as REST has it."""
    return json.dumps({"Message": text}, separators=(",", ":")).encode()


class Box:
    """A running sandbox, in threads of this process."""

    def __init__(self, options: Options) -> None:
        scheduler = Scheduler(
            limit_seconds=options.callback_limit_seconds,
            retry_gap_seconds=options.retry_gap_seconds,
            senders=options.senders,
        )
        self._scheduler = scheduler
        self._gateway = Gateway(options, scheduler)
        self._server = _Server((options.host, options.port), self._gateway)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="sandbox-http", daemon=True
        )
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.url = f"http://{host}:{self._server.server_port}"
        self.soap_url = self.url + SOAP_PATH
        self.rest_url = self.url + REST_PATH

    def start(self) -> None:
        """Start to answer calls. The port has been open since the box was made."""
        self._scheduler.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop at once and cut running requests. The counts stay readable."""
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._scheduler.stop()
        self._server.cut_connections()
        self._thread.join(timeout=2)

    def report(self) -> dict[str, Any]:
        """The answer of GET /sandbox/report."""
        return self._gateway.report()

    def messages(self) -> list[dict[str, Any]]:
        """The answer of GET /sandbox/messages."""
        return self._gateway.messages()

    def change(self, **changes: object) -> None:
        """Change options while it runs. Raises ValueError that names each fault."""
        self._gateway.change(changes)

    def wait_idle(self, seconds: float) -> None:
        """Wait until no callback is planned or running. Raises TimeoutError."""
        if not self._scheduler.wait_idle(seconds):
            raise TimeoutError(f"{self._scheduler.pending} callbacks still to be made after {seconds:g} s")


@contextmanager
def running(options: Options | None = None) -> Iterator[Box]:
    """Run a sandbox for the length of a with block. Raises OSError if it cannot listen."""
    box = Box(options or Options())
    box.start()
    try:
        yield box
    finally:
        box.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], gateway: Gateway) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.gateway = gateway
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own would look up the host's name, which may take seconds.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)

    def cut_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that disconnect are normal here; anything else is a bug.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Sandbox"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for headers and body; everything is flushed by hand
    server: _Server

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        gateway, parts = self.server.gateway, urlsplit(self.path)
        if parts.path.lower().endswith(".asmx"):
            self._describe(parts.path, parts.query)
        elif parts.path == "/sandbox/report":
            self._say_json(200, gateway.report())
        elif parts.path == "/sandbox/messages":
            self._say_json(200, gateway.messages())
        else:
            self._say_json(404, {"error": f"there are {SOAP_PATH}, /sandbox/report and /sandbox/messages"})

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            return
        path = urlsplit(self.path).path
        if path.lower().endswith(".asmx"):
            self._call(body)
        elif path == REST_PATH:
            self._call_by_rest(body)
        elif path in control_api.COMMANDS:
            try:
                self._say_json(200, control_api.run(path, body, self.server.gateway))
            except ValueError as error:
                self._say_json(400, {"error": str(error)})
        else:
            self._say_json(404, {"error": f"there are {SOAP_PATH}, {REST_PATH}, {', '.join(control_api.COMMANDS)}"})

    def _read_body(self) -> bytes | None:
        """The request's body; None if it can't be read and an error has been answered."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self._say(411, "text/plain", b"Content-Length is required\n")
        elif len(length) > 9 or int(length) > _MAX_BODY:
            self.close_connection = True
            self._say(413, "text/plain", b"At most 8 MiB\n")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True
        return None

    def _describe(self, path: str, query: str) -> None:
        if query.lower() != "wsdl":
            self._say(200, "text/plain", b"SendMessageCollection: see ?wsdl\n")
            return
        element = self.server.gateway.options.callback_element
        address = f"http://{self.headers.get('Host', self.server.server_name)}{path}"
        description = wsdl.render(address, "deliveryStatusUrl" if element == "any" else element)
        self._say(200, "text/xml; charset=utf-8", description)

    def _call(self, body: bytes) -> None:
        kind = self.headers.get_content_type() if self.headers.get("Content-Type") else "text/xml"
        expected = {"text/xml": wire.SOAP_11, "application/xml": wire.SOAP_11, "application/soap+xml": wire.SOAP_12}
        envelope = expected.get(kind)
        if envelope is None:
            self._say(415, "text/plain", b"Content-Type must be text/xml or application/soap+xml\n")
            return
        try:
            action = self.headers.get("SOAPAction", "").strip().strip('"')
            if action not in {"", wire.ACTION}:
                raise wire.Fault("Client", "Server did not recognize the value of HTTP Header SOAPAction")
            call = wire.parse(body)
            if call.envelope != envelope:
                self._say(415, "text/plain", b"The Envelope's version is not that of the Content-Type\n")
                return
            verdict = self.server.gateway.submit(call)
        except wire.Fault as fault:
            self._say(500, _XML[envelope], wire.fault(fault, envelope))
        except LogonRefused:
            self._say(401, "text/plain", wire.LOGON_REFUSED.encode())
        else:
            unable = wire.Fault("Server", "Server was unable to process request")
            logon = wire.Fault("Server", wire.LOGON_REFUSED)
            quote = wire.Fault("Server", _quoting(verdict))
            said = _Said(
                kind=_XML[envelope],
                status=200,
                whole=wire.answer(verdict.results, envelope),
                fault=wire.fault(unable, envelope),
                logon_fault=wire.fault(logon, envelope),
                quote=wire.fault(quote, envelope),
                quote_status=500,
                bomb=_DOCTYPE,
            )
            self._act(verdict, said)

    def _call_by_rest(self, body: bytes) -> None:
        logon = rest.logon(self.headers.get("Authorization"))
        if self.headers.get_content_type() != "application/json":
            self._say(415, "text/plain", b"Content-Type must be application/json\n")
            return
        try:
            if logon is None:
                raise LogonRefused
            messages = rest.parse(body, self.server.gateway.options.rest_validity)
            name, password = logon
            verdict = self.server.gateway.submit(
                wire.Call(envelope=None, name=name, password=password, messages=messages)
            )
        except rest.BadJson as bad:
            self._say(400, _JSON, rest.bad_json(bad))
        except LogonRefused:
            self._say(401, "text/plain", wire.LOGON_REFUSED.encode())
        else:
            status, whole = rest.answer(verdict.results)
            said = _Said(
                kind=_JSON,
                status=status,
                whole=whole,
                fault=_error("An error has occurred."),
                logon_fault=_error(wire.LOGON_REFUSED),
                quote=_error(_quoting(verdict)),
                quote_status=403,
                bomb=b"[" * 1_000_000,
            )
            self._act(verdict, said)

    def _act(self, verdict: Verdict, said: _Said) -> None:
        """End the call as the gateway decided."""
        for done in verdict.early:
            done.wait()
        options, stopping, ending = self.server.gateway.options, self.server.stopping, verdict.end.ending
        stopping.wait(options.answer_seconds + (options.slow_seconds if ending is Ending.SLOW else 0))
        match ending:
            case Ending.ANSWER | Ending.SLOW:
                self._say(said.status, said.kind, said.whole)
            case Ending.CLOSE:
                self.close_connection = True
            case Ending.CUT:
                self._begin(said.status, said.kind, len(said.whole))
                self.wfile.write(said.whole[: len(said.whole) // 2])
                self.wfile.flush()
                self.close_connection = True
            case Ending.DRIP:
                self._drip(said)
            case Ending.HUGE:
                self._pour(said.kind, options.huge_bytes)
            case _:
                self._say(*said.instead(ending))

    def _drip(self, said: _Said) -> None:
        self._begin(said.status, said.kind, len(said.whole))
        for place in range(len(said.whole)):
            self.wfile.write(said.whole[place : place + 1])
            self.wfile.flush()
            if self.server.stopping.wait(self.server.gateway.options.drip_seconds):
                self.close_connection = True
                return

    def _pour(self, kind: str, size: int) -> None:
        self._begin(200, kind, size)
        block = b" " * 65_536
        while size > 0 and not self.server.stopping.is_set():
            self.wfile.write(block[:size])
            size -= len(block)
        self.wfile.flush()

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self._begin(status, kind, len(body))
        self.wfile.write(body)
        self.wfile.flush()

    def _say_json(self, status: int, what: object) -> None:
        self._say(status, "application/json", json.dumps(what).encode() + b"\n")

    def _begin(self, status: int, kind: str, length: int) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
