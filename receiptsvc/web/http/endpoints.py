"""How a view becomes a documented endpoint: its address, what it takes, what it gives, and the ways it can fail.

Who may call it is declared below, on the view itself, with `auth.requires` or `auth.public`.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

import flask_smorest
from marshmallow import EXCLUDE, Schema

from receiptsvc import ids
from receiptsvc.web.http import auth, parsing

Blueprint: TypeAlias = Any  # flask-smorest comes without types
View = TypeVar("View", bound=Callable[..., Any])

PREFIX = "/v1"
BEARER = "bearer"  # the security scheme's name in the documentation
PROBLEMS = {
    401: "No API key came with the request, or none that is known.",
    403: "The key lacks the scope that this needs.",
    404: "There is no such thing.",
    408: "The body came too slowly: less than 4 KiB a second, or nothing for 10 s.",
    409: "It can't be done as things stand; `detail` says why. With `Retry-After`, ask again.",
    410: "It is kept no more.",
    413: "The body is larger, or holds more, than one request may; send several.",
    415: "The body is not JSON, sent as `application/json` and not compressed.",
    422: "The request can't be understood; `errors` names each fault by its path, and nothing was done.",
    500: "A fault of ours; it has been noted. What was asked for may or may not have been done.",
    503: "The service can't do it now; ask again after `Retry-After` seconds. What was asked for may or may not have "
    "been done.",
    505: "The request came by HTTP/1.0, in which an answer that breaks off can't be told from a whole one.",
}

_IN_PATHS = {  # what a parameter there looks like
    "message_id": {"type": "string", "pattern": ids.pattern("msg"), "examples": ["msg_01k8z3r5t6e8vbyq0h4n2m7c9d"]},
    "receipt_id": {"type": "string", "pattern": ids.pattern("rcp"), "examples": ["rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"]},
    "transaction_id": {"type": "string", "pattern": "^[0-9]{1,40}$", "examples": ["1234567"]},
    "client_ref": {"type": "string", "minLength": 1, "examples": ["order/1234"]},
    "number": {"type": "string", "minLength": 1, "examples": ["447700900000"]},
}
_IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "description": "The ETag of an earlier answer: if nothing has changed since, the answer is 304 and has no body.",
    "schema": {"type": "string"},
}


def noun(name: str, description: str, *, prefix: str = PREFIX) -> Blueprint:
    """A group of endpoints."""
    blueprint = flask_smorest.Blueprint(name, __name__, url_prefix=prefix, description=description)
    blueprint.ARGUMENTS_PARSER = parsing.PARSER
    return blueprint


def endpoint(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    gives: type[Schema] | None,
    status: int = 200,
    takes: type[Schema] | None = None,
    asks: type[Schema] | None = None,
    heeds: type[Schema] | None = None,
    around: Callable[[Any], Any] | None = None,
    path: Mapping[str, str] | None = None,
    also: Mapping[int, type[Schema]] | None = None,
    fails: Sequence[int] = (),
    streams: str | None = None,
    sample: str = "",
    is_tagged: bool = False,
) -> Callable[[View], View]:
    """Serve a view at `rule`. `takes` is the body's schema, `asks` the query's, `heeds` that of the headers it minds.

    What is read by each is an argument of the view: headers, query, body. `around` decorates the view together with the
    reading of the body: it is given headers and query only, and may answer without the body being checked.

    `path`: the parameters in `rule`, described. `also`: answers with another status than `status`. `fails`: statuses of
    problems beyond those that follow from the rest. `streams`: the content type of an answer that is text and no JSON;
    `sample`: how such a one begins.
    `is_tagged`: the answer has an ETag, and is 304 to who shows it.
    """

    def serve(view: View) -> View:
        scope = auth.declared(view)
        if scope is None:
            raise ValueError(f"{view} does not declare who may call it")
        closed = scope != auth.PUBLIC
        problems = {*fails, *((401, 403) if closed else ()), *((408, 413, 415, 422) if takes else ()), 500}
        if blueprint.url_prefix == PREFIX:
            problems.add(422)  # an unknown parameter
        given = {"type": "string", "examples": [sample]} if streams else gives
        served: Any = blueprint.response(status, given, content_type=streams)(view)
        if is_tagged:
            served = blueprint.alt_response(304, description="What If-None-Match names is the newest.")(served)
        for other, schema in (also or {}).items():
            served = blueprint.alt_response(other, schema=schema)(served)
        served = _given_input(blueprint, served, takes=takes, around=around, asks=asks, heeds=heeds)
        for problem in sorted(problems):
            served = blueprint.alt_response(problem, response=HTTPStatus(problem).name)(served)
        served = blueprint.doc(security=[{BEARER: [scope]}] if closed else [], operationId=view.__name__)(served)
        parameters: list[dict[str, Any]] = [
            {"in": "path", "name": name, "description": text, "schema": _IN_PATHS[name]}
            for name, text in (path or {}).items()
        ]
        if is_tagged:
            parameters.append(_IF_NONE_MATCH)
        blueprint.route(rule, methods=[method], parameters=parameters)(served)
        return view

    return serve


def _given_input(
    blueprint: Blueprint,
    served: Any,
    *,
    takes: type[Schema] | None,
    around: Callable[[Any], Any] | None,
    asks: type[Schema] | None,
    heeds: type[Schema] | None,
) -> Any:
    """A view that is given what it asks for. What is wrapped around last is read first."""
    if takes is not None:
        served = blueprint.arguments(takes)(served)
    if around is not None:
        served = around(served)
    if asks is not None:
        served = blueprint.arguments(asks, location="query")(served)
    elif blueprint.url_prefix == PREFIX:
        served = parsing.refuse_query(served)
    if heeds is not None:
        served = blueprint.arguments(heeds, location="headers", unknown=EXCLUDE)(served)
    return served
