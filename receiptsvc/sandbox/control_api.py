"""The sandbox's control API: commands while it runs, as JSON under /sandbox/.

Each command takes the gateway and a JSON object, and returns the JSON of the answer. ValueError says what is wrong.
"""

import json
from collections.abc import Callable, Mapping

from receiptsvc.sandbox import receipts
from receiptsvc.sandbox.gateway import Gateway
from receiptsvc.sandbox.http_client import Answer, Request


def run(path: str, body: bytes, gateway: Gateway) -> object:
    """Run the command at `path`, a key of COMMANDS. Raises ValueError for a body that it can't use."""
    return COMMANDS[path](gateway, _parse_object(body))


def _reply(gateway: Gateway, members: Mapping[str, object]) -> object:
    """sender, recipient, content; perhaps clientRef (null: none), msgid, datetime."""
    fields: dict[str, str | None] = {name: _get_text(members, name) for name in ("sender", "recipient", "content")}
    fields |= {name: _get_text(members, name) for name in ("msgid", "datetime") if name in members}
    if "clientRef" in members:
        fields["clientRef"] = None if members["clientRef"] is None else _get_text(members, "clientRef")
    msgid, answer = gateway.reply(fields)
    return {"msgid": msgid, **_describe(answer)}


def _change_options(gateway: Gateway, members: Mapping[str, object]) -> object:
    """Any options by their names."""
    gateway.change(members)
    return {"changed": sorted(members)}


def _call_back(gateway: Gateway, members: Mapping[str, object]) -> object:
    """url; with fields for a GET, or else method, contentType and body."""
    url, fields = _get_text(members, "url"), members.get("fields")
    if fields is None:
        body = _get_text(members, "body").encode() if "body" in members else None
        content_type = _get_text(members, "contentType") if "contentType" in members else None
        method = _get_text(members, "method") if "method" in members else "GET"
        return _describe(gateway.call_back(Request(method=method, url=url, content_type=content_type, body=body)))
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise ValueError("fields: must be an object of texts")
    return _describe(gateway.call_back(receipts.reply(url, fields)))


def _parse_object(body: bytes) -> Mapping[str, object]:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("the body must be JSON") from error
    if not isinstance(members, dict):
        raise ValueError("the body must be a JSON object")
    return members


def _get_text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be a text")
    return value


def _describe(answer: Answer) -> dict[str, object]:
    return {"answer": answer.status, "error": answer.error, "seconds": round(answer.seconds, 3)}


COMMANDS: Mapping[str, Callable[[Gateway, Mapping[str, object]], object]] = {
    "/sandbox/reply": _reply,
    "/sandbox/behaviour": _change_options,
    "/sandbox/callback": _call_back,
}
