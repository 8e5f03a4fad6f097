"""Orders given to the sandbox while it runs, as JSON under /sandbox/.

Each takes the gateway and an object, and gives back what is answered; ValueError says what would be right.
"""

import json
from collections.abc import Callable, Mapping

from receiptsvc.sandbox import receipts
from receiptsvc.sandbox.gateway import Gateway
from receiptsvc.sandbox.http_client import Answer, Request


def follow(path: str, body: bytes, gateway: Gateway) -> object:
    """Do what was ordered at `path`, a key of ORDERS. Raises ValueError for what cannot be done."""
    return ORDERS[path](gateway, _json_object(body))


def _reply(gateway: Gateway, given: Mapping[str, object]) -> object:
    """sender, recipient, content; perhaps clientRef (null: none), msgid, datetime."""
    fields: dict[str, str | None] = {name: _text(given, name) for name in ("sender", "recipient", "content")}
    fields |= {name: _text(given, name) for name in ("msgid", "datetime") if name in given}
    if "clientRef" in given:
        fields["clientRef"] = None if given["clientRef"] is None else _text(given, "clientRef")
    msgid, answer = gateway.reply(fields)
    return {"msgid": msgid, **_answer(answer)}


def _behave(gateway: Gateway, given: Mapping[str, object]) -> object:
    gateway.change(given)
    return {"changed": sorted(given)}


def _call_back(gateway: Gateway, given: Mapping[str, object]) -> object:
    """url; with fields for a GET, or else method, contentType and body."""
    url, fields = _text(given, "url"), given.get("fields")
    if fields is None:
        body = _text(given, "body").encode() if "body" in given else None
        kind = _text(given, "contentType") if "contentType" in given else None
        method = _text(given, "method") if "method" in given else "GET"
        return _answer(gateway.call_back(Request(method=method, url=url, content_type=kind, body=body)))
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise ValueError("fields: must be an object of texts")
    return _answer(gateway.call_back(receipts.reply(url, fields)))


def _json_object(body: bytes) -> Mapping[str, object]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as broken:
        raise ValueError("the body must be JSON") from broken
    if not isinstance(given, dict):
        raise ValueError("the body must be a JSON object")
    return given


def _text(given: Mapping[str, object], name: str) -> str:
    value = given.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be a text")
    return value


def _answer(answer: Answer) -> dict[str, object]:
    return {"answer": answer.status, "error": answer.error, "seconds": round(answer.seconds, 3)}


ORDERS: Mapping[str, Callable[[Gateway, Mapping[str, object]], object]] = {
    "/sandbox/reply": _reply,
    "/sandbox/behaviour": _behave,
    "/sandbox/callback": _call_back,
}
