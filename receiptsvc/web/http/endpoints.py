"""Turns a view into a documented endpoint: address, body, query, headers, responses and errors.

The scope is declared on the view itself, with `auth.requires` or `auth.public`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

import flask_smorest
from marshmallow import EXCLUDE, Schema

from receiptsvc import ids
from receiptsvc.domain.problems import Kind, id_of
from receiptsvc.server.admission import CREDIT_SECONDS, MIN_BYTES_PER_SECOND
from receiptsvc.web.http import auth, parsing

Blueprint: TypeAlias = Any  # flask-smorest comes without types
View = TypeVar("View", bound=Callable[..., Any])

PREFIX = "/v1"
BEARER = "bearer"  # the security scheme's name in the documentation
PROBLEMS = {
    401: "No API key came with the request, or none that is known.",
    403: "The key lacks the scope that this needs.",
    404: "There is no such thing.",
    408: f"The body came too slowly: less than {MIN_BYTES_PER_SECOND // 1024} KiB a second, or nothing for "
    f"{CREDIT_SECONDS:g} s.",
    409: "It can't be done in the present state; `detail` says why. With `Retry-After`, ask again.",
    410: "It is no longer kept.",
    413: "The body is larger, or holds more, than one request may; send several.",
    415: "The body is not JSON, sent as `application/json` and not compressed.",
    422: "The request can't be understood; `errors` names each fault by its path, and nothing was done.",
    500: "An error of ours; it has been logged. What was asked for may or may not have been done.",
    503: "The service can't do it now; ask again after `Retry-After` seconds. What was asked for may or may not have "
    "been done.",
}

_A_PROBLEM = ids.public("prb", id_of(Kind.UNMATCHED, {"channel": "account"}))
_PATH_SCHEMAS = {  # by the parameter's name
    "message_id": {"type": "string", "pattern": ids.pattern("msg"), "examples": ["msg_01k8z3r5t6e8vbyq0h4n2m7c9d"]},
    "receipt_id": {"type": "string", "pattern": ids.pattern("rcp"), "examples": ["rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"]},
    "problem_id": {"type": "string", "pattern": ids.pattern("prb"), "examples": [_A_PROBLEM]},
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


def new_blueprint(name: str, description: str, *, prefix: str = PREFIX) -> Blueprint:
    """A blueprint for one group of endpoints: a tag in the OpenAPI document."""
    blueprint = flask_smorest.Blueprint(name, __name__, url_prefix=prefix, description=description)
    blueprint.ARGUMENTS_PARSER = parsing.PARSER
    return blueprint


def endpoint(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    response: type[Schema] | None,
    status: int = 200,
    body: type[Schema] | None = None,
    query: type[Schema] | None = None,
    headers: type[Schema] | None = None,
    decorator: Callable[[Any], Any] | None = None,
    path: Mapping[str, str] | None = None,
    alt_responses: Mapping[int, type[Schema]] | None = None,
    errors: Sequence[int] = (),
    streams: str | None = None,
    sample: str = "",
    is_tagged: bool = False,
    by_post: tuple[str, type[Schema]] | None = None,
    name: str | None = None,
    doc: Mapping[str, str] | None = None,
) -> Callable[[View], View]:
    """Serve a view at `rule`.

    `body`, `query`, `headers`: the schemas of the view's arguments, which it takes in the order headers, query, body.
    A body whose schema has IS_OPTIONAL may be left out. Headers whose schema has IS_PARAMETER false are described by
    the view's own words only.
    `decorator` wraps the view and the reading of its body: it gets headers and query, and may answer without the body
    being checked. `path` describes the parameters in `rule`. `alt_responses`: answers with another status than
    `status`. `errors`: statuses of problems beyond those that follow from the rest. `streams`: the content type of an
    answer that is text instead of JSON; `sample`: how it begins. `is_tagged`: the answer has an ETag and can be 304.
    `by_post`: a rule at which the same can be asked by POST, and the schema of its body in place of the query: so that
    no number, text or clientRef has to stand in a URL, which routers log. `name` and `doc` (summary and description)
    are the view's name and docstring unless given.
    """

    def serve(view: View) -> View:
        scope = auth.declared_scope(view)
        if scope is None:
            raise ValueError(f"{view} does not declare who may call it")
        needs_key = scope != auth.PUBLIC
        problems = {*errors, *((401, 403) if needs_key else ()), *((408, 413, 415, 422) if body else ()), 500}
        if blueprint.url_prefix == PREFIX:
            problems.add(422)  # an unknown parameter
        schema = {"type": "string", "examples": [sample]} if streams else response
        served: Any = blueprint.response(status, schema, content_type=streams)(view)
        if is_tagged:
            served = blueprint.alt_response(304, description="What If-None-Match names is the newest.")(served)
        for alt_status, alt_schema in (alt_responses or {}).items():
            served = blueprint.alt_response(alt_status, schema=alt_schema)(served)
        served = _parse_arguments(blueprint, served, body=body, decorator=decorator, query=query, headers=headers)
        for problem in sorted(problems):
            served = blueprint.alt_response(problem, response=HTTPStatus(problem).name)(served)
        security = [{BEARER: [scope]}] if needs_key else []
        served = blueprint.doc(security=security, operationId=name or view.__name__, **(doc or {}))(served)
        parameters: list[dict[str, Any]] = [
            {"in": "path", "name": parameter, "description": text, "schema": _PATH_SCHEMAS[parameter]}
            for parameter, text in (path or {}).items()
        ]
        if is_tagged:
            parameters.append(_IF_NONE_MATCH)
        blueprint.route(rule, methods=[method], parameters=parameters, endpoint=name)(served)
        if by_post is not None:
            post_rule, post_body = by_post
            same = partial(endpoint, blueprint, "POST", post_rule, response=response, status=status, body=post_body)
            _serve_by_post(
                partial(same, headers=headers, errors=errors, streams=streams, sample=sample),
                view,
                f"{method} {PREFIX}{rule}",
            )
        return view

    return serve


def _serve_by_post(serve: Callable[..., Callable[[View], View]], view: View, original: str) -> None:
    """Serve a view once more, by POST. `original`: method and address of what it is served at already."""
    summary, _, _ = (view.__doc__ or "").partition("\n")
    description = (
        f"The same as `{original}`, with its parameters in the body, by the same names as in the query there: nothing "
        "personal is in the URL."
    )
    doc = {"summary": f"{summary}, by POST", "description": description}
    serve(name=f"{view.__name__}{auth.BY_POST}", doc=doc)(view)


def _parse_arguments(
    blueprint: Blueprint,
    served: Any,
    *,
    body: type[Schema] | None,
    decorator: Callable[[Any], Any] | None,
    query: type[Schema] | None,
    headers: type[Schema] | None,
) -> Any:
    """Wrap a view in the parsers of its arguments. The outermost wrapper parses first."""
    if body is not None:
        served = blueprint.arguments(body, required=not getattr(body, "IS_OPTIONAL", False))(served)
    if decorator is not None:
        served = decorator(served)
    if query is not None:
        served = blueprint.arguments(query, location="query")(served)
    elif blueprint.url_prefix == PREFIX:
        served = parsing.refuse_query(served)
    if headers is not None:
        is_parameter = getattr(headers, "IS_PARAMETER", True)
        parse = blueprint.arguments if is_parameter else parsing.PARSER.use_args
        served = parse(headers, location="headers", unknown=EXCLUDE)(served)
    return served
