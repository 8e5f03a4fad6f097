"""A request to send that is done once, however often it comes: its header Idempotency-Key says that it is the same."""

import json
from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from typing import Any

from flask import Response, request

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.outbound import idempotency
from receiptsvc.store.outbound.idempotency import Claim, OtherRequest, StillRunning
from receiptsvc.web.http import auth, context, parsing
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.messages import write_messages

KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_RETRY_AFTER_SECONDS = 1
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode


def idempotent(view: Callable[..., Response]) -> Callable[..., Response]:
    """Let a view that sends be called once for each key; a repeat is answered here, before its body is checked.

    The view's first arguments are the headers and the query. With a key it is also given its `claim`, which it is to
    `finish` in the transaction that accepts the messages. Raises Problem 409 and 422.
    """

    @wraps(view)
    def answer(headers: dict[str, Any], query: dict[str, Any]) -> Response:
        key = headers.get("idempotency_key")
        if key is None or query["dry_run"]:
            return view(headers, query)
        claim = Claim(
            api_key=auth.key_name(), key=key, digest=_digest(parsing.read_json(request)), begun_at=context.now()
        )
        done = _begin(claim)
        if done is not None:
            return _replay(done)
        try:
            return view(headers, query, claim=claim)
        except StillRunning:
            raise _busy() from None
        except Exception:
            _free(claim)
            raise

    return answer


def _begin(claim: Claim) -> list[str] | None:
    try:
        with context.database().transaction() as session:
            return idempotency.begin(session, claim)
    except StillRunning:
        raise _busy() from None
    except OtherRequest:
        errors = {KEY: ["Stands for another request already; each request needs a key of its own."]}
        raise Problem(422, f"The {KEY} was used with another body; nothing was done.", errors=errors) from None


def _replay(message_ids: list[str]) -> Response:
    with context.database().reading() as session:
        messages = idempotency.read_messages(session, message_ids)
    answer = Response(write_messages(messages), status=202, content_type="application/json")
    answer.headers[REPLAYED] = "true"
    return answer


def _free(claim: Claim) -> None:
    try:
        with context.database().transaction() as session:
            idempotency.free(session, claim)
    except StorageUnavailable as error:  # then it is taken for dead after a while
        logs.warning("idempotency.not_freed", error=logs.describe(error))


def _busy() -> Problem:
    detail = f"The request with this {KEY} is still being done; ask again for what came of it."
    return Problem(409, detail, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})


def _digest(body: Any) -> bytes:
    """What a body says, in whatever order its members stand. Raises Problem 422.

    Message by message, because while one is written no other thread gets its turn.
    """
    listed = body.get("messages") if isinstance(body, dict) and len(body) == 1 else None
    digest = sha256()
    try:
        for part in listed if isinstance(listed, list) else [body]:
            digest.update(_encode(part).encode() + b"\n")
    except RecursionError:
        raise Problem(422, "The body is nested too deeply.") from None
    return digest.digest()
