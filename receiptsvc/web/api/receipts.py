"""Receipts as they were kept, and what operators do with those that found no message or could not be read."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipts import NoSuchMessage, ReceiptDetail, ReceiptEntry, ReceiptFilter, ReplaySelection
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import receipts as schemas

blueprint = new_blueprint("receipts", "The ledger's rows: each kept receipt, and what can be done with it by hand.")

_PATH = {"receipt_id": "The receipt's id."}


@endpoint(blueprint, "GET", "/receipts", query=schemas.ReceiptQuery, response=schemas.ReceiptPage, errors=(422, 503))
@requires("ops")
def list_receipts(query: dict[str, Any]) -> Page[ReceiptEntry, Any]:
    """List receipts

    Those that fit every filter, the newest first.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    where = ReceiptFilter(
        outcome=ReceiptOutcome(query["outcome"]) if "outcome" in query else None,
        channel=Channel(query["channel"]) if "channel" in query else None,
        message_id=query.get("message_id"),
        since=query.get("since"),
        until=query.get("until"),
    )
    with context.database().reading() as session:
        return receipts.list_receipts(session, where, limit=limit, after=cursor)


@endpoint(blueprint, "GET", "/receipts/<id:receipt_id>", path=_PATH, response=schemas.ReceiptStory, errors=(404, 503))
@requires("ops")
def read_receipt(receipt_id: str) -> ReceiptDetail:
    """Read a receipt

    As it came, with what it led to and what was done to it. One that came along with others has the bytes of them all.
    """
    identifier = ids.parse("rcp", receipt_id)
    with context.database().reading() as session:
        found = receipts.find_receipt(session, identifier) if identifier else None
    if found is None:
        raise _no_receipt()
    return found


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

    For one that is unmatched, quarantined, dead or dismissed, else 409. It becomes pending and is recorded about this
    message, by the rule `matched by hand`; if it can't be read, it ends quarantined again.
    """

    def match(session: Session, identifier: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
        return receipts.match(session, identifier, body["message_id"], by, now)

    return _do(match, receipt_id, body.get("reason"))


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
    """Work on a receipt again

    For one that is unmatched, quarantined or dead, else 409. It becomes pending and goes the way of every receipt.
    """
    return _do(receipts.retry, receipt_id, body.get("reason"))


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

    For one that is unmapped, unmatched, quarantined or dead, else 409. It is kept, and nobody looks at it any more.
    """
    return _do(receipts.dismiss, receipt_id, body["reason"])


@endpoint(blueprint, "POST", "/receipts/replay", body=schemas.Replay, response=schemas.Replayed, errors=(503,))
@requires("ops")
def replay_receipts(body: dict[str, Any]) -> dict[str, Any]:
    """Work on many receipts again

    All that fit become pending, some hundred at a time, each time for good: if the call ends early, what it has done
    stays done. A call moves a bounded number; `isComplete` tells whether that was all, `nextCursor` where to go on.
    """
    done = receipts.replay(
        context.database(),
        ReplaySelection(
            outcomes=sorted({ReceiptOutcome(word) for word in body["outcomes"]}),
            since=body.get("since"),
            until=body.get("until"),
        ),
        Actor(actor=auth.key_name(), reason=body.get("reason")),
        context.now,
        after=body.get("cursor"),
        is_dry_run=body["dry_run"],
    )
    return {"row": done, "dry_run": body["dry_run"], "is_complete": done.next is None}


def _do(
    deed: Callable[[Session, UUID, Actor, datetime], ReceiptEntry | None], receipt_id: str, reason: str | None
) -> ReceiptEntry:
    """Do something with a receipt, in a transaction of its own, in the name of the key that the request came with."""
    identifier = ids.parse("rcp", receipt_id)
    if identifier is None:
        raise _no_receipt()
    try:
        with context.database().transaction() as session:
            entry = deed(session, identifier, Actor(actor=auth.key_name(), reason=reason), context.now())
    except Refused as refused:
        raise Problem(409, str(refused)) from None
    except NoSuchMessage:
        errors = {"message": ["There is no message with this id."]}
        raise Problem(422, "The body names a message that is not here; nothing was done.", errors=errors) from None
    if entry is None:
        raise _no_receipt()
    return entry


def _no_receipt() -> Problem:
    return Problem(404, "There is no receipt with this id.")
