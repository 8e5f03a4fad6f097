"""Error responses: application/problem+json (RFC 9457), with the faults in `errors` by the path of their field.

No response repeats what was sent: the path says where to look.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from sqlalchemy.exc import DataError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from receiptsvc import logs
from receiptsvc.domain import sentences
from receiptsvc.domain.errors import StorageUnavailable

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_MAX_NAME = 64  # characters of a field's name in a path; an unknown field can have any name

_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not know this method; the header Allow names those that it knows.",
}


class Problem(Exception):
    """Ends a request with an error response: the status, what was wrong, and the faults by path.

    `extra`: more members of the response's JSON.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Mapping[str, list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers, self.extra = status, detail, errors, headers, extra


def register(app: Flask, *, is_operator: Callable[[], bool]) -> None:
    """Respond to every error in `app` with a problem document.

    `is_operator`: whether the current request may know the database's name and how to mend it.
    """

    def respond_to_outage(error: StorageUnavailable) -> Response:
        return _respond_to_outage(error, is_operator=is_operator())

    app.register_error_handler(Problem, respond)
    app.register_error_handler(HTTPException, _respond_to_http_error)
    app.register_error_handler(StorageUnavailable, respond_to_outage)
    app.register_error_handler(DataError, _respond_to_data_error)
    app.register_error_handler(Exception, _respond_to_bug)


def respond(problem: Problem) -> Response:
    """The response to a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors is not None:
        body["errors"] = problem.errors
    response = Response(json.dumps(body | problem.extra), status=problem.status, content_type=CONTENT_TYPE)
    response.headers.update(problem.headers or {})
    return response


def by_path(messages: object) -> dict[str, list[str]]:
    """marshmallow's nested messages as path → texts. A path is such as `messages[0].recipients[1]`, or `body`."""
    flat: dict[str, list[str]] = {}
    for path, text in _flatten(messages, ""):
        flat.setdefault(path or "body", []).append(text)
    return flat


def _flatten(messages: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            if key == "_schema":
                yield from _flatten(inner, path)
            elif isinstance(key, int):
                yield from _flatten(inner, f"{path}[{key}]")
            else:
                name = str(key)[:_MAX_NAME]
                yield from _flatten(inner, f"{path}.{name}" if path else name)
    elif isinstance(messages, list):
        for text in messages:
            yield from _flatten(text, path)
    else:
        yield path, str(messages)


def _respond_to_http_error(error: HTTPException) -> WerkzeugResponse:
    status = error.code or 500
    if status < 400:
        return error.get_response()
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    detail = _DETAILS.get(status) or error.description or HTTPStatus(status).phrase
    if status == 413:
        limit_mib = current_app.config["MAX_CONTENT_LENGTH"] // 1024**2
        detail = f"The body is larger than {limit_mib} MiB (MAX_BODY_MIB); send several requests."
    return respond(Problem(status, detail, headers=headers))


def _respond_to_outage(error: StorageUnavailable, *, is_operator: bool) -> Response:
    logs.fault("storage.unavailable", error, level=logging.ERROR, method=request.method, route=_route())
    why = f"can't be used now ({error.kind})" if error.kind else "did not answer in time"
    if is_operator:
        why = f"can't be used now: {error}"
    detail = f"The database {sentences.end(why)} What was asked for may or may not have been done."
    return respond(Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}))


def _respond_to_data_error(error: DataError) -> Response:
    """The database refuses a value that passed the schema. Our code may have made it, so it is logged as a bug."""
    logs.error("request.value_refused", error, method=request.method, route=_route())
    detail = (
        "The database can't take a value in this request: a number or time out of its range, or a character that it "
        "does not have. Leave it out, or give a usual one."
    )
    place = "query" if request.method in {"GET", "HEAD"} else "body"
    return respond(Problem(422, detail, errors={place: ["Holds a value that the database can't take."]}))


def _respond_to_bug(error: Exception) -> Response:
    logs.error("request.failed", error, method=request.method, route=_route())
    return respond(Problem(500, "Something went wrong on our side; it has been noted."))


def _route() -> str | None:
    """The pattern of the URL, for logs: the URL itself may hold a number or a clientRef."""
    return request.url_rule.rule if request.url_rule else None
