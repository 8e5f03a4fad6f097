"""Applications that do nothing but answer: the bare cost of Flask, and of WSGI itself. Nothing else belongs here."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, request

from receiptsvc.server.access_log import CALLBACKS
from receiptsvc.server.application import ROUTE

flask_app = Flask("noop", static_folder=None)


@flask_app.get("/callbacks/receipts/<_token>")
def receive(_token: str) -> Response:
    """Answer as the intake does, and keep nothing."""
    request.environ[ROUTE] = CALLBACKS  # so that the access log gets as little as from the service
    return Response("OK\n", mimetype="text/plain")


def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer without routing and without a request object."""
    environ[ROUTE] = CALLBACKS
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "3")])
    return [b"OK\n"]
