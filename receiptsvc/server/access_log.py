"""The access log: one JSON line a request, with the pattern of its address in place of the address.

A callback that was answered 200 has no line: there may be thousands a second, the inbox holds each, metrics count them.
"""

from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from receiptsvc import logs
from receiptsvc.server.application import ROUTE

CALLBACKS = "/callbacks"

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class AccessLog(Logger):
    """gunicorn's logger with access lines of our own: gunicorn's would hold tokens, queries and phone numbers."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request. gunicorn calls this after each answer."""
        route = environ.get(ROUTE)
        status = int(resp.status[:3])  # `status_code` is not set when gunicorn itself refuses a request
        if status == 200 and route is not None and route.startswith(CALLBACKS):
            return
        logs.info(
            "request",
            method=req.method if req.method in _METHODS else None,  # an invented one may hold anything
            route=route,
            status=status,
            milliseconds=round(request_time.total_seconds() * 1000),
        )
