"""The decorator that makes a request to send idempotent by its Idempotency-Key header.

How keys are claimed and kept is in `store.outbound.idempotency`.
"""

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
    """Call a view once for each key, and answer a repeat before its body is validated.

    The view's first arguments are the headers and the query. With a key it also gets `claim`, and must call
    `idempotency.finish` with it in the transaction that accepts the messages. Raises Problem 409 and 422.
    """

    @wraps(view)
    def respond(headers: dict[str, Any], query: dict[str, Any]) -> Response:
        key = headers.get("idempotency_key")
        if key is None or query["dry_run"]:
            return view(headers, query)
        claim = Claim(
            api_key=auth.key_name(), key=key, digest=_digest(parsing.read_json(request)), begun_at=context.now()
        )
        message_ids = _begin(claim)
        if message_ids is not None:
            return _replay(message_ids)
        try:
            return view(headers, query, claim=claim)
        except StillRunning:
            raise _still_running() from None
        except Exception:
            _free(claim)
            raise

    return respond


def _begin(claim: Claim) -> list[str] | None:
    """Claim the key. Returns the ids of the messages if the request was done before. Raises Problem 409 and 422."""
    try:
        with context.database().transaction() as session:
            return idempotency.begin(session, claim)
    except StillRunning:
        raise _still_running() from None
    except OtherRequest:
        errors = {KEY: ["Belongs to another request already; each request needs a key of its own."]}
        raise Problem(422, f"The {KEY} was used with another body; nothing was done.", errors=errors) from None


def _replay(message_ids: list[str]) -> Response:
    with context.database().reading() as session:
        messages = idempotency.read_messages(session, message_ids)
    response = Response(write_messages(messages), status=202, content_type="application/json")
    response.headers[REPLAYED] = "true"
    return response


def _free(claim: Claim) -> None:
    try:
        with context.database().transaction() as session:
            idempotency.free(session, claim)
    except StorageUnavailable as error:  # then the claim counts as dead after a while
        logs.fault("idempotency.not_freed", error)


def _still_running() -> Problem:
    detail = f"The request with this {KEY} is still being done; ask again for its result."
    return Problem(409, detail, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})


def _digest(body: Any) -> bytes:
    """A digest of a JSON body, whatever the order of its members. Raises Problem 422 if it is nested too deeply.

    Message by message, because the JSON encoder holds the GIL while it writes one.
    """
    messages = body.get("messages") if isinstance(body, dict) and len(body) == 1 else None
    digest = sha256()
    try:
        for part in messages if isinstance(messages, list) else [body]:
            digest.update(_encode(part).encode() + b"\n")
    except RecursionError:
        raise parsing.refuse_body(parsing.NESTED_TOO_DEEPLY) from None
    return digest.digest()
