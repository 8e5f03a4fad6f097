"""How a view becomes a documented endpoint: its address, what it takes, what it gives, and the ways it can fail.

Who may call it is declared below, on the view itself, with `auth.requires` or `auth.public`.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

import flask_smorest
from marshmallow import Schema

from receiptsvc.web import auth, parsing

Blueprint: TypeAlias = Any  # flask-smorest comes without types
View = TypeVar("View", bound=Callable[..., Any])

BEARER = "bearer"  # the security scheme's name in the documentation
PROBLEMS = (401, 403, 404, 405, 409, 413, 415, 422, 500, 503)


def noun(name: str, description: str, *, prefix: str = "/v1") -> Blueprint:
    """A group of endpoints."""
    blueprint = flask_smorest.Blueprint(name, __name__, url_prefix=prefix, description=description)
    blueprint.ARGUMENTS_PARSER = parsing.PARSER
    return blueprint


def endpoint(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    gives: type[Schema],
    status: int = 200,
    takes: type[Schema] | None = None,
    asks: type[Schema] | None = None,
    path: Mapping[str, str] | None = None,
    also: Mapping[int, type[Schema]] | None = None,
    fails: Sequence[int] = (),
) -> Callable[[View], View]:
    """Serve a view at `rule`. `takes` is the body's schema, `asks` the query's; each is an argument of the view.

    `path`: the parameters in `rule`, described. `also`: answers with another status than `status`. `fails`: statuses of
    problems beyond those that follow from the rest.
    """

    def serve(view: View) -> View:
        scope = auth.declared(view)
        if scope is None:
            raise ValueError(f"{view} does not declare who may call it")
        closed = scope != auth.PUBLIC
        problems = {*fails, *((401, 403) if closed else ()), *((413, 415, 422) if takes else ()), 500}
        served: Any = blueprint.response(status, gives)(view)
        for other, schema in (also or {}).items():
            served = blueprint.alt_response(other, schema=schema)(served)
        if takes is not None:
            served = blueprint.arguments(takes)(served)
        if asks is not None:
            served = blueprint.arguments(asks, location="query")(served)
        for problem in sorted(problems):
            served = blueprint.alt_response(problem, response=HTTPStatus(problem).name)(served)
        served = blueprint.doc(security=[{BEARER: [scope]}] if closed else [], operationId=view.__name__)(served)
        parameters = [{"in": "path", "name": name, "description": text} for name, text in (path or {}).items()]
        blueprint.route(rule, methods=[method], parameters=parameters)(served)
        return view

    return serve
