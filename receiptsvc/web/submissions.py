"""A checked submission made into messages: one row a recipient, with what its sender should be warned of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.domain import encoding
from receiptsvc.store import messages, queries
from receiptsvc.store.models import Message
from receiptsvc.web import context
from receiptsvc.web.errors import Problem

LONGEST_RECEIPT = 6 * 1024  # bytes of an address; routers and servers cut near 8 KiB

_MOST_WARNINGS = 10  # of one text's characters: a text in another script has hundreds
_OTHER_PARAMETERS = 160  # bytes of a receipt's query besides its clientRef and its text


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Messages on their way into the store, and where in the request each messageGuid that was given stands."""

    messages: Sequence[Message]
    guid_paths: Mapping[str, str]


def draft(given: Sequence[dict[str, Any]], settings: Settings, created_by: str) -> Draft:
    """The messages of a checked body. Raises Problem 503 if this service has no account to send with."""
    if settings.account is None:
        raise Problem(503, "Nothing can be sent: DYNMARK_USERNAME and DYNMARK_PASSWORD must be set.")
    return Draft(
        messages=[message for each in given for message in _messages(each, settings, created_by)],
        guid_paths={
            each["message_guid"]: f"messages[{index}].messageGuid"
            for index, each in enumerate(given)
            if each.get("message_guid")
        },
    )


def accept(session: Session, drafted: Draft, now: datetime) -> None:
    """Take a draft in. Raises Problem 409 if a messageGuid of it was used before."""
    _refuse_known(session, drafted)
    try:
        with session.begin_nested():
            messages.accept(session, drafted.messages, now)
    except IntegrityError:
        _refuse_known(session, drafted)  # another request was faster
        raise


def _refuse_known(session: Session, drafted: Draft) -> None:
    known = queries.find_guids(session, drafted.guid_paths)
    if known:
        existing = [
            {"path": drafted.guid_paths[guid], "id": ids.public("msg", found), "url": context.message_url(found)}
            for guid, found in known.items()
        ]
        errors = {each["path"]: [f"Was used before, by {each['id']}."] for each in existing}
        raise Problem(409, "A messageGuid was used before; nothing was sent.", errors=errors, existing=existing)


def _messages(given: dict[str, Any], settings: Settings, created_by: str) -> Iterator[Message]:
    measured = encoding.measure(given["text"])
    dear = encoding.warnings(measured)
    dear = dear[:_MOST_WARNINGS] + [f"and {len(dear) - _MOST_WARNINGS} more such characters"] * (
        len(dear) > _MOST_WARNINGS
    )
    client_ref, originator = given.get("client_ref"), given.get("originator")
    for recipient, times in given["recipients"].items():
        identifier = ids.new()
        merged = [f"this person stood {times} times among the recipients; one message goes out"] * (times > 1)
        yield Message(
            id=identifier,
            conversation_id=messages.conversation_id(client_ref=client_ref, recipient=recipient, originator=originator),
            created_by=created_by,
            recipient=recipient,
            text=given["text"],
            originator=originator,
            client_ref=client_ref,
            country_iso_code=given.get("country_iso_code"),
            deliver_after=given.get("deliver_after"),
            valid_until=given.get("valid_until"),
            reject_unicode=given["reject_unicode"],
            include_message_text=given["include_message_text"],
            filter_set_name=given.get("filter_set_name"),
            impersonate_user_name=given.get("impersonate_user_name"),
            additional_options=given.get("additional_options") or {},
            message_guid=given.get("message_guid") or str(uuid4()),
            transport=settings.transport,
            encoding=measured.encoding,
            segments=measured.segments,
            warnings=merged + dear + _long_receipt(given, tokens.receipt_url(settings, identifier)),
            transaction_id=None,
            calling_since=None,
            unclear_since=None,
        )


def _long_receipt(given: dict[str, Any], callback_url: str) -> list[str]:
    if not given["include_message_text"]:
        return []
    length = (
        len(callback_url) + _OTHER_PARAMETERS + len(quote(given["text"] + (given.get("client_ref") or ""), safe=""))
    )
    if length <= LONGEST_RECEIPT:
        return []
    return [
        f"with this text a receipt is about {length} bytes long, and may be cut off or lost above {LONGEST_RECEIPT}"
    ]
