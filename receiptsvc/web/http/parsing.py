"""How a request's body and query are read: strictly, and with every failure told as a problem."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import marshmallow as ma
from flask import Request, request
from webargs.flaskparser import FlaskParser, is_json_request

from receiptsvc.web.http import errors
from receiptsvc.web.http.errors import Problem

View = TypeVar("View", bound=Callable[..., Any])

_READ = "receiptsvc.json"  # in the WSGI environment


class RequestParser(FlaskParser):
    """webargs' parser with JSON taken at its word, unknown and repeated query parameters refused."""

    def load_json(self, req: Request, *_: Any) -> Any:
        """The body as JSON. Raises Problem 413, 415 or 422."""
        return read_json(req)

    def load_querystring(self, req: Request, *_: Any) -> Any:
        """The query's parameters, each given once. Raises Problem 422."""
        twice = {name: ["is given more than once"] for name, values in req.args.lists() if len(values) > 1}
        if twice:
            raise Problem(422, "The query can't be understood.", errors=errors.by_path(twice))
        return req.args.to_dict()

    def handle_error(self, error: ma.ValidationError, *_: Any, **__: Any) -> NoReturn:
        """Tell every fault by its path."""
        faults: Any = error.messages  # by location, of which there is one
        [(location, messages)] = faults.items()
        what = {"query": "The query", "headers": "A header"}.get(location, "The body")
        raise Problem(422, f"{what} can't be understood; nothing was done.", errors=errors.by_path(messages))


PARSER = RequestParser(unknown=ma.RAISE)


def refuse_query(view: View) -> View:
    """A view that knows no parameters, so that one that is given is no mistake that nobody notices."""

    @wraps(view)
    def serve(*args: Any, **kwargs: Any) -> Any:
        unknown = {name: ["Is not known here; this address has no parameters."] for name in request.args}
        if unknown:
            raise Problem(422, "The query can't be understood.", errors=errors.by_path(unknown))
        return view(*args, **kwargs)

    return cast("View", serve)


def read_json(req: Request) -> Any:
    """A request's body as JSON, read once however often it is asked for. Raises Problem 413, 415 or 422."""
    if _READ not in req.environ:
        req.environ[_READ] = _read_json(req)
    return req.environ[_READ]


def _read_json(req: Request) -> Any:
    encoding = req.headers.get("Content-Encoding", "identity").strip().lower()
    if not is_json_request(req) or encoding != "identity":
        raise Problem(415, "The body must be JSON, sent as application/json and not compressed.")
    try:
        return json.loads(req.get_data().decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Problem(422, "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise Problem(422, f"The body is not JSON: line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise Problem(422, "The body is nested too deeply.") from None
    except ValueError:
        raise Problem(422, "The body holds a number that JSON does not have, or one that is too long.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
