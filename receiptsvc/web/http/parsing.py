"""Reads a request's body and query strictly; every failure is a Problem.

A body is JSON in UTF-8, with or without a byte order mark in front (RFC 8259, section 8.1: a reader may ignore one).
JSON in another encoding is refused by name. An empty body is no body, whatever its headers say.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import marshmallow as ma
from flask import Request, request
from webargs.flaskparser import FlaskParser, is_json_request

from receiptsvc.web.http import context, errors
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.http.fields import Choices

View = TypeVar("View", bound=Callable[..., Any])

NESTED_TOO_DEEPLY = "is nested too deeply"

_VALUES_PER_RECIPIENT = 40  # of JSON: a message has up to some fifteen, and more with many additionalOptions
_SEPARATORS = (b",", b"[", b"{")  # each value but the first comes after one
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_MAX_NAME = 50  # characters of a member's name in an error
_JSON_KEY = "receiptsvc.json"  # in the WSGI environment: the body, once it is parsed


class _Repeated(ValueError):
    """An object of JSON has a member twice. Its text is the member's name."""


class RequestParser(FlaskParser):
    """webargs' parser, but with strict JSON, and with unknown and repeated query parameters refused."""

    def load_json(self, req: Request, schema: Any) -> Any:
        """The body as JSON; of a schema that says so, `{}` without a body. Raises Problem 413, 415 or 422."""
        if getattr(schema, "IS_OPTIONAL", False) and not req.get_data():
            return {}
        return read_json(req)

    def load_querystring(self, req: Request, schema: Any) -> Any:
        """The query's parameters, each given once but for lists of words. Raises Problem 422."""
        lists = {str(field.data_key) for field in schema.load_fields.values() if isinstance(field, Choices)}
        given = dict(req.args.lists())
        repeated = {
            name: ["is given more than once"] for name, values in given.items() if len(values) > 1 and name not in lists
        }
        if repeated:
            raise Problem(422, "The query can't be understood.", errors=errors.by_path(repeated))
        return {name: values if name in lists else values[0] for name, values in given.items()}

    def handle_error(self, error: ma.ValidationError, *_: Any, **__: Any) -> NoReturn:
        """Raise Problem 422 with every fault by its path."""
        messages_by_location: Any = error.messages
        [(location, messages)] = messages_by_location.items()  # webargs parses one location at a time
        subject = {"query": "The query", "headers": "A header"}.get(location, "The body")
        raise Problem(422, f"{subject} can't be understood; nothing was done.", errors=errors.by_path(messages))


PARSER = RequestParser(unknown=ma.RAISE)


def refuse_query(view: View) -> View:
    """Make a view without query parameters refuse every parameter, so that a misspelt one does not go unnoticed."""

    @wraps(view)
    def serve(*args: Any, **kwargs: Any) -> Any:
        unknown = {name: ["Is not known here; this address has no parameters."] for name in request.args}
        if unknown:
            raise Problem(422, "The query can't be understood.", errors=errors.by_path(unknown))
        return view(*args, **kwargs)

    return cast("View", serve)


def read_json(req: Request) -> Any:
    """A request's body as JSON, parsed once per request. Raises Problem 413, 415 or 422."""
    if _JSON_KEY not in req.environ:
        req.environ[_JSON_KEY] = _read_json(req)
    return req.environ[_JSON_KEY]


def _read_json(req: Request) -> Any:
    encoding = req.headers.get("Content-Encoding", "identity").strip().lower()
    if not is_json_request(req) or encoding != "identity":
        raise Problem(415, "The body must be JSON, sent as application/json and not compressed.")
    body = req.get_data()
    most = _VALUES_PER_RECIPIENT * context.settings().max_recipients
    if _has_more_values(body, most):
        raise refuse_body(f"holds more than {most} values; send several requests")
    other = _find_other_encoding(body)
    if other is not None:
        raise refuse_body(f"is {other}; JSON is sent as UTF-8 (RFC 8259)")
    try:
        text = body.decode("utf-8-sig")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_read_object)
    except UnicodeDecodeError:
        raise refuse_body("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise refuse_body(f"is not JSON: line {error.lineno}, column {error.colno}") from None
    except _Repeated as error:
        raise refuse_body(f"gives {error} more than once in one object") from None
    except RecursionError:
        raise refuse_body(NESTED_TOO_DEEPLY) from None
    except ValueError:
        raise refuse_body("holds a number that JSON does not have, or one that is too long") from None


def refuse_body(fault: str) -> Problem:
    """Problem 422 for a body as a whole. `fault`: what it is or holds, such as `is not JSON`."""
    return Problem(422, f"The body {fault}.", errors={"body": [f"{fault[0].upper()}{fault[1:]}."]})


def _find_other_encoding(body: bytes) -> str | None:
    """The Unicode encoding that a body is in, by its mark or its first zero bytes; None: it may be UTF-8.

    JSON begins with an ASCII character, and UTF-8 has a zero byte for U+0000 alone, which JSON never has.
    """
    if body.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    zeros = [byte == 0 for byte in body[:4].ljust(4, b" ")]
    if zeros in ([True, True, True, False], [False, True, True, True]):
        return "UTF-32"
    return "UTF-16" if zeros[:2] in ([True, False], [False, True]) else None


def _has_more_values(body: bytes, most: int) -> bool:
    """Whether a JSON text has more values than so many. Their number, not the bytes, decides what parsing it takes."""
    if sum(map(body.count, _SEPARATORS)) <= most:
        return False
    bare = _STRING.sub(b"", body)
    return sum(map(bare.count, _SEPARATORS)) > most


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises _Repeated if it has a name twice: which value is meant can't be known (RFC 8259, 4)."""
    members = dict(pairs)
    if len(members) < len(pairs):
        [name, *_] = (name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _Repeated(f'"{name[:_MAX_NAME]}"')
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
