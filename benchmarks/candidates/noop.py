"""Answers that do nothing: Flask's bare cost, and below it that of WSGI itself. Nothing else may be in here."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, request

from receiptsvc.server.access_log import CALLBACKS
from receiptsvc.server.application import ROUTE

flask_app = Flask("noop", static_folder=None)


@flask_app.get("/callbacks/receipts/<_token>")
def receive(_token: str) -> Response:
    """Answer as the intake does, and keep nothing."""
    request.environ[ROUTE] = CALLBACKS  # as little stands in the access log as of the service's own
    return Response("OK\n", mimetype="text/plain")


def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """No routing, no request object."""
    environ[ROUTE] = CALLBACKS
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "3")])
    return [b"OK\n"]
