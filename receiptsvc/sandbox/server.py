"""The sandbox's HTTP server: reads calls, ends each one as decided, and serves the control API.

`gateway` decides how a call ends. Nothing is logged, because requests hold texts and numbers.
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
from receiptsvc.sandbox.gateway import Gateway, LogonRefused, Outcome
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
        b'<!ENTITY %c "%s">' % (98 + level, b"&%c;" % (97 + level) * 10)  # each entity is ten times the one before it
        for level in range(8)
    )
    + b']><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>&i;</soap:Body></soap:Envelope>'
)
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Responses:
    """The responses to a call that its transport can write: the normal one, and bodies of the others."""

    content_type: str
    status: int
    body: bytes
    fault: bytes  # with status 500
    logon_fault: bytes  # with status 500
    quote: bytes  # with `quote_status`
    quote_status: int
    bomb: bytes  # grows when it is parsed

    def substitute(self, ending: Ending) -> tuple[int, str, bytes]:
        """Status, content type and body of the whole response that replaces the normal one."""
        return {
            Ending.FAULT: (500, self.content_type, self.fault),
            Ending.LOGON_FAULT: (500, self.content_type, self.logon_fault),
            Ending.QUOTE: (self.quote_status, self.content_type, self.quote),
            Ending.FORBIDDEN: (403, "text/html; charset=utf-8", _FORBIDDEN),
            Ending.HTML: (500, "text/html; charset=utf-8", _HTML),
            Ending.DOCTYPE: (200, self.content_type, self.bomb),
            Ending.NOT_XML: (200, self.content_type, b"OK 1 message(s) queued"),
            Ending.EMPTY: (200, self.content_type, b""),
        }[ending]


def _quote(outcome: Outcome) -> str:
    return f"Message text '{outcome.quoted_text}' not allowed"


def _error(text: str) -> bytes:
    """An error in REST's JSON."""
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
        """Start to answer calls. The port is open since the construction."""
        self._scheduler.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop at once and cut running requests. `report` and `messages` still work."""
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
    """Run a sandbox for the duration of a with block. Raises OSError if it cannot listen."""
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
        self._connections: set[socket.socket] = set()
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
            self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.discard(request)

    def cut_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
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
            self._respond_wsdl(parts.path, parts.query)
        elif parts.path == "/sandbox/report":
            self._respond_json(200, gateway.report())
        elif parts.path == "/sandbox/messages":
            self._respond_json(200, gateway.messages())
        else:
            self._respond_json(404, {"error": f"there are {SOAP_PATH}, /sandbox/report and /sandbox/messages"})

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            return
        path = urlsplit(self.path).path
        if path.lower().endswith(".asmx"):
            self._handle_soap(body)
        elif path == REST_PATH:
            self._handle_rest(body)
        elif path in control_api.COMMANDS:
            try:
                self._respond_json(200, control_api.run(path, body, self.server.gateway))
            except ValueError as error:
                self._respond_json(400, {"error": str(error)})
        else:
            self._respond_json(404, {"error": f"there are {SOAP_PATH}, {REST_PATH}, {', '.join(control_api.COMMANDS)}"})

    def _read_body(self) -> bytes | None:
        """The request's body; None if it can't be read and an error has been answered."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self._respond(411, "text/plain", b"Content-Length is required\n")
        elif len(length) > 9 or int(length) > _MAX_BODY:
            self.close_connection = True
            self._respond(413, "text/plain", b"At most 8 MiB\n")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True
        return None

    def _respond_wsdl(self, path: str, query: str) -> None:
        if query.lower() != "wsdl":
            self._respond(200, "text/plain", b"SendMessageCollection: see ?wsdl\n")
            return
        element = self.server.gateway.options.callback_element
        address = f"http://{self.headers.get('Host', self.server.server_name)}{path}"
        description = wsdl.render(address, "deliveryStatusUrl" if element == "any" else element)
        self._respond(200, "text/xml; charset=utf-8", description)

    def _handle_soap(self, body: bytes) -> None:
        content_type = self.headers.get_content_type() if self.headers.get("Content-Type") else "text/xml"
        envelopes = {"text/xml": wire.SOAP_11, "application/xml": wire.SOAP_11, "application/soap+xml": wire.SOAP_12}
        envelope = envelopes.get(content_type)
        if envelope is None:
            self._respond(415, "text/plain", b"Content-Type must be text/xml or application/soap+xml\n")
            return
        try:
            action = self.headers.get("SOAPAction", "").strip().strip('"')
            if action not in {"", wire.ACTION}:
                raise wire.Fault("Client", "Server did not recognize the value of HTTP Header SOAPAction")
            call = wire.parse(body)
            if call.envelope != envelope:
                self._respond(415, "text/plain", b"The Envelope's version is not that of the Content-Type\n")
                return
            outcome = self.server.gateway.submit(call)
        except wire.Fault as fault:
            self._respond(500, _XML[envelope], wire.fault(fault, envelope))
        except LogonRefused:
            self._respond(401, "text/plain", wire.LOGON_REFUSED.encode())
        else:
            failure = wire.Fault("Server", "Server was unable to process request")
            logon = wire.Fault("Server", wire.LOGON_REFUSED)
            quote = wire.Fault("Server", _quote(outcome))
            responses = _Responses(
                content_type=_XML[envelope],
                status=200,
                body=wire.answer(outcome.results, envelope),
                fault=wire.fault(failure, envelope),
                logon_fault=wire.fault(logon, envelope),
                quote=wire.fault(quote, envelope),
                quote_status=500,
                bomb=_DOCTYPE,
            )
            self._respond_as_decided(outcome, responses)

    def _handle_rest(self, body: bytes) -> None:
        logon = rest.logon(self.headers.get("Authorization"))
        if self.headers.get_content_type() != "application/json":
            self._respond(415, "text/plain", b"Content-Type must be application/json\n")
            return
        try:
            if logon is None:
                raise LogonRefused
            messages = rest.parse(body, self.server.gateway.options.rest_validity)
            name, password = logon
            outcome = self.server.gateway.submit(
                wire.Call(envelope=None, name=name, password=password, messages=messages)
            )
        except rest.BadJson as bad:
            self._respond(400, _JSON, rest.bad_json(bad))
        except LogonRefused:
            self._respond(401, "text/plain", wire.LOGON_REFUSED.encode())
        else:
            status, answer = rest.answer(outcome.results)
            responses = _Responses(
                content_type=_JSON,
                status=status,
                body=answer,
                fault=_error("An error has occurred."),
                logon_fault=_error(wire.LOGON_REFUSED),
                quote=_error(_quote(outcome)),
                quote_status=403,
                bomb=b"[" * 1_000_000,
            )
            self._respond_as_decided(outcome, responses)

    def _respond_as_decided(self, outcome: Outcome, responses: _Responses) -> None:
        """End the call as the gateway decided, once its early receipts are answered."""
        for receipt_done in outcome.early_receipts:
            receipt_done.wait()
        options, stopping, ending = self.server.gateway.options, self.server.stopping, outcome.end.ending
        stopping.wait(options.answer_seconds + (options.slow_seconds if ending is Ending.SLOW else 0))
        match ending:
            case Ending.ANSWER | Ending.SLOW:
                self._respond(responses.status, responses.content_type, responses.body)
            case Ending.CLOSE:
                self.close_connection = True
            case Ending.CUT:
                self._send_head(responses.status, responses.content_type, len(responses.body))
                self.wfile.write(responses.body[: len(responses.body) // 2])
                self.wfile.flush()
                self.close_connection = True
            case Ending.DRIP:
                self._drip(responses)
            case Ending.HUGE:
                self._send_huge(responses.content_type, options.huge_bytes)
            case _:
                self._respond(*responses.substitute(ending))

    def _drip(self, responses: _Responses) -> None:
        self._send_head(responses.status, responses.content_type, len(responses.body))
        for index in range(len(responses.body)):
            self.wfile.write(responses.body[index : index + 1])
            self.wfile.flush()
            if self.server.stopping.wait(self.server.gateway.options.drip_seconds):
                self.close_connection = True
                return

    def _send_huge(self, content_type: str, size: int) -> None:
        self._send_head(200, content_type, size)
        block = b" " * 65_536
        while size > 0 and not self.server.stopping.is_set():
            self.wfile.write(block[:size])
            size -= len(block)
        self.wfile.flush()

    def _respond(self, status: int, content_type: str, body: bytes) -> None:
        self._send_head(status, content_type, len(body))
        self.wfile.write(body)
        self.wfile.flush()

    def _respond_json(self, status: int, payload: object) -> None:
        self._respond(status, "application/json", json.dumps(payload).encode() + b"\n")

    def _send_head(self, status: int, content_type: str, length: int) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
