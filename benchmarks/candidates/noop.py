"""Answers that do nothing: Flask's bare cost, and below it that of WSGI itself. Nothing else may be in here."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response

flask_app = Flask("noop", static_folder=None)


@flask_app.get("/callbacks/receipts/<_token>")
def receive(_token: str) -> Response:
    """Answer as the intake does, and keep nothing."""
    return Response("OK\n", mimetype="text/plain")


def wsgi_app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The ceiling: no routing, no request object."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "3")])
    return [b"OK\n"]
