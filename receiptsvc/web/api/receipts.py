"""Receipts: the ledger's rows, and what operators do with one or many: match, retry, dismiss, restore."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipts import NoSuchMessage, OtherRecipient, ReceiptDetail, ReceiptEntry
from receiptsvc.store.messages import adoptions
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import receipts as schemas
from receiptsvc.web.schemas.base import in_body

blueprint = new_blueprint("receipts", "The ledger's rows: each kept receipt, and what operators can do with it.")

_PATH = {"receipt_id": "The receipt's id."}


@endpoint(
    blueprint,
    "GET",
    "/receipts",
    query=schemas.ReceiptQuery,
    response=schemas.ReceiptPage,
    errors=(422, 503),
    by_post=("/receipts/query", in_body(schemas.ReceiptQuery)),
)
@requires("ops")
def list_receipts(query: dict[str, Any]) -> Page[ReceiptEntry, Any]:
    """List receipts

    Those that fit every filter, the newest first. A receipt that fits no message is found by what it names.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    with context.database().reading() as session:
        return receipts.list_receipts(session, schemas.filter_of(query), limit=limit, after=cursor)


@endpoint(blueprint, "GET", "/receipts/<id:receipt_id>", path=_PATH, response=schemas.ReceiptStory, errors=(404, 503))
@requires("ops")
def read_receipt(receipt_id: str) -> ReceiptDetail:
    """Read a receipt

    As it came, with the transition it led to and what was done to it. One of several in a callback has the bytes of
    all.
    """
    identifier = ids.parse("rcp", receipt_id)
    with context.database().reading() as session:
        receipt = receipts.find_receipt(session, identifier) if identifier else None
    if receipt is None:
        raise _no_receipt()
    return receipt


@endpoint(
    blueprint,
    "POST",
    "/receipts/<id:receipt_id>/match",
    path=_PATH,
    body=schemas.Match,
    response=schemas.Receipt,
    status=202,
    errors=(404, 409, 503),
)
@requires("ops")
def match_receipt(body: dict[str, Any], receipt_id: str) -> ReceiptEntry:
    """Match a receipt to a message

    For one that is unmatched, quarantined, dead or dismissed, or was taken for another system's (its message has origin
    `external`), else 409. It becomes pending and is recorded for this message, by the rule `matched by hand`; if it
    can't be read, it is quarantined again. What is recorded about a message of ours can't be taken back: if the receipt
    names another number than the message went to, 422, unless `anyRecipient` is true.
    """

    def match(session: Session, identifier: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
        to_any = body["any_recipient"]
        return adoptions.match(session, identifier, body["message_id"], by, now, to_any_recipient=to_any)

    return _change(match, receipt_id, body.get("reason"))


@endpoint(
    blueprint,
    "POST",
    "/receipts/<id:receipt_id>/retry",
    path=_PATH,
    body=schemas.Retry,
    response=schemas.Receipt,
    status=202,
    errors=(404, 409, 503),
)
@requires("ops")
def retry_receipt(body: dict[str, Any], receipt_id: str) -> ReceiptEntry:
    """Process a receipt again

    For one that is unmatched, quarantined or dead, else 409. It becomes pending, and the worker processes it like any
    other.
    """
    return _change(receipts.retry, receipt_id, body.get("reason"))


@endpoint(
    blueprint,
    "POST",
    "/receipts/<id:receipt_id>/dismiss",
    path=_PATH,
    body=schemas.Dismissal,
    response=schemas.Receipt,
    errors=(404, 409, 503),
)
@requires("ops")
def dismiss_receipt(body: dict[str, Any], receipt_id: str) -> ReceiptEntry:
    """Dismiss a receipt

    For one that is unmapped, unmatched, quarantined or dead, else 409. It is kept, but not processed any more.
    """
    return _change(receipts.dismiss, receipt_id, body["reason"])


@endpoint(
    blueprint,
    "POST",
    "/receipts/<id:receipt_id>/restore",
    path=_PATH,
    body=schemas.Restoration,
    response=schemas.Receipt,
    errors=(404, 409, 503),
)
@requires("ops")
def restore_receipt(body: dict[str, Any], receipt_id: str) -> ReceiptEntry:
    """Take a dismissal back

    For one that is dismissed, else 409. It becomes pending, and the worker processes it like any other; one that was
    unmapped is so again.
    """
    return _change(receipts.restore, receipt_id, body.get("reason"))


@endpoint(blueprint, "POST", "/receipts/replay", body=schemas.Replay, response=schemas.Replayed, errors=(503,))
@requires("ops")
def replay_receipts(body: dict[str, Any]) -> dict[str, Any]:
    """Process many receipts again

    All that fit become pending, some hundreds in each transaction: if the call ends early, what it has done stays done.
    Without a filter it wants `"all": true`.
    A call moves a bounded number; `isComplete` says whether that was all, `nextCursor` where to continue.
    """
    return _change_many(bulk_actions.replay, body, receipts.RETRIABLE)


@endpoint(blueprint, "POST", "/receipts/dismiss", body=schemas.Dismissals, response=schemas.Dismissed, errors=(503,))
@requires("ops")
def dismiss_receipts(body: dict[str, Any]) -> dict[str, Any]:
    """Dismiss many receipts

    All that fit are kept, but not processed any more. Each can be restored. Filters, dry runs, `isComplete` and
    `nextCursor` are as in a replay.
    """
    return _change_many(bulk_actions.dismiss, body, receipts.DISMISSIBLE)


def _change_many(
    change: Callable[..., tuple[int, UUID | None]], body: dict[str, Any], possible: Sequence[ReceiptOutcome]
) -> dict[str, Any]:
    """Change all receipts that a body means, or count them. `possible`: with which outcomes that can be done."""
    where = schemas.filter_of({"outcomes": sorted(possible)} | body)
    by = Actor(actor=auth.key_name(), reason=body.get("reason"))
    count, rest = change(
        context.database(), where, by, context.now, after=body.get("cursor"), is_dry_run=body["dry_run"]
    )
    return {"count": count, "next": rest, "dry_run": body["dry_run"], "is_complete": rest is None}


def _change(
    operation: Callable[[Session, UUID, Actor, datetime], ReceiptEntry | None], receipt_id: str, reason: str | None
) -> ReceiptEntry:
    """Run an operation on one receipt in its own transaction, in the name of the request's API key.

    Raises Problem 404, 409 and 422.
    """
    identifier = ids.parse("rcp", receipt_id)
    if identifier is None:
        raise _no_receipt()
    try:
        with context.database().transaction() as session:
            entry = operation(session, identifier, Actor(actor=auth.key_name(), reason=reason), context.now())
    except Refused as refused:
        raise Problem(409, str(refused)) from None
    except NoSuchMessage:
        errors = {"message": ["There is no message with this id."]}
        raise Problem(422, "The body names a message that does not exist; nothing was done.", errors=errors) from None
    except OtherRecipient:
        errors = {"anyRecipient": ["Must be true to match them all the same; it can't be taken back."]}
        detail = "The receipt names another number than the one that the message went to; nothing was done."
        raise Problem(422, detail, errors=errors) from None
    if entry is None:
        raise _no_receipt()
    return entry


def _no_receipt() -> Problem:
    return Problem(404, "There is no receipt with this id.")
