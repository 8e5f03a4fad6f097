"""Turns a checked submission into messages: one row a recipient, with warnings for its sender.

Suppressed recipients and used messageGuids are refused here, because only the database knows them; all other rules are
in `schemas.submissions`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from os import urandom
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.domain import conversations, encoding, numbers
from receiptsvc.domain.messages import CONTENT, NewMessage
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries import lookup
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.base import message_url

MAX_RECEIPT = 6 * 1024  # bytes of an address; routers and servers cut near 8 KiB

_MAX_WARNINGS = 10  # about one text's characters: a text in another script has hundreds
_MAX_LEFT_OUT = 100  # recipients that are named one by one
_SUPPRESSED = "Is suppressed for this originator; see /v1/suppressions."
_ANY_ID = UUID(int=0)  # callback URLs of all messages have the same length
_OTHER_PARAMETERS = 160  # bytes of a receipt's query besides its clientRef and its text


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Messages that are not stored yet, the request's objects they were made from, and warnings for their sender."""

    messages: Sequence[NewMessage]
    submissions: Sequence[dict[str, Any]]
    guid_paths: Mapping[str, str]  # the path in the request of each messageGuid that the caller chose
    warnings: Sequence[str] = ()


def require_account(settings: Settings) -> None:
    """Raise Problem 503 if this service has no gateway account."""
    if settings.account is None:
        raise Problem(503, "Nothing can be sent: DYNMARK_USERNAME and DYNMARK_PASSWORD must be set.")


def make_draft(submissions: Sequence[dict[str, Any]], settings: Settings, created_by: str) -> Draft:
    """Make the messages of a request's checked objects. `created_by`: the API key's name. Nothing is stored."""
    guids = _new_guids(sum(len(submission["recipients"]) for submission in submissions))
    return Draft(
        messages=[
            message for submission in submissions for message in _make_messages(submission, settings, created_by, guids)
        ],
        submissions=submissions,
        guid_paths={
            submission["message_guid"]: f"messages[{index}].messageGuid"
            for index, submission in enumerate(submissions)
            if submission.get("message_guid")
        },
    )


def admit(session: Session, draft: Draft, settings: Settings) -> Draft:
    """Refuse or leave out suppressed recipients, and refuse used messageGuids; what is left may be accepted.

    Raises Problem 422 if recipients are suppressed and SUPPRESSED_ACTION is not `skip`, or if all of them are; Problem
    409 if a messageGuid was used before.
    """
    admitted = _leave_out_suppressed(session, draft, settings)
    _refuse_used_guids(session, admitted)
    return admitted


def accept(session: Session, draft: Draft, now: datetime) -> Mapping[str, object]:
    """Store an admitted draft. Returns the columns that all its messages start with.

    Raises Problem 409 if one of its messageGuids was used meanwhile.
    """
    try:
        with session.begin_nested():
            return transitions.accept(
                session, draft.messages, now, schedules_messages=context.settings().is_scheduled_by_service
            )
    except IntegrityError:
        _refuse_used_guids(session, draft)  # another request used it first
        raise


def _leave_out_suppressed(session: Session, draft: Draft, settings: Settings) -> Draft:
    suppressed = suppressions.find(session, {message.recipient for message in draft.messages})
    if not suppressed:
        return draft
    kept: list[NewMessage] = []
    paths: list[str] = []
    for message, (index, recipients) in zip(draft.messages, _locate(draft.submissions), strict=True):
        if Pair(message.recipient, numbers.fold_originator(message.originator)) in suppressed:
            paths += [f"messages[{index}].recipients[{recipient}]" for recipient in recipients]
        else:
            kept.append(message)
    if not paths:
        return draft
    if not (settings.skips_suppressed and kept):
        what = "Every recipient is" if not kept else "Some recipients are"
        errors = {path: [_SUPPRESSED] for path in paths}
        raise Problem(422, f"{what} suppressed for the originator; nothing was sent.", errors=errors)
    more = len(paths) - _MAX_LEFT_OUT
    warnings = [f"{path} was left out: it is suppressed for this originator" for path in paths[:_MAX_LEFT_OUT]]
    return replace(draft, messages=kept, warnings=warnings + [f"and {more} more were left out"] * (more > 0))


def _locate(submissions: Sequence[dict[str, Any]]) -> Iterator[tuple[int, list[int]]]:
    """For each message of a draft: the index of its object in the request, and the indexes of its recipient there."""
    return (
        (index, recipients)
        for index, submission in enumerate(submissions)
        for recipients in submission["recipients"].values()
    )


def _refuse_used_guids(session: Session, draft: Draft) -> None:
    used = lookup.find_by_guid(session, draft.guid_paths) if draft.guid_paths else {}
    if used:
        existing = [
            {
                "path": draft.guid_paths[guid],
                "id": ids.public("msg", message_id),
                "url": message_url(message_id),
            }
            for guid, message_id in used.items()
        ]
        errors = {entry["path"]: [f"Was used before, by {entry['id']}."] for entry in existing}
        raise Problem(409, "A messageGuid was used before; nothing was sent.", errors=errors, existing=existing)


def _new_guids(count: int) -> Iterator[str]:
    # One urandom call for all: each call releases the GIL and takes it back at once, and a thread that waits for the
    # GIL then starts to wait again.
    random = urandom(16 * count)
    return (str(UUID(bytes=random[start : start + 16], version=4)) for start in range(0, len(random), 16))


def _make_messages(
    submission: dict[str, Any], settings: Settings, created_by: str, guids: Iterator[str]
) -> Iterator[NewMessage]:
    content = {name: submission[name] for name in CONTENT if submission.get(name) is not None}
    client_ref, originator = submission.get("client_ref"), submission.get("originator")
    measured = encoding.measure(submission["text"])
    warnings = _warn_of_characters(measured) + _warn_of_long_receipt(submission, settings)
    for recipient, indexes in submission["recipients"].items():
        times = len(indexes)
        merged = [f"this recipient was given {times} times; one message goes out"] * (times > 1)
        yield NewMessage(
            **content,
            id=ids.new(),
            conversation_id=conversations.conversation_id(
                client_ref=client_ref, recipient=recipient, originator=originator
            ),
            created_by=created_by,
            recipient=recipient,
            message_guid=submission.get("message_guid") or next(guids),
            transport=settings.transport,
            encoding=measured.encoding,
            segments=measured.segments,
            warnings=merged + warnings,
        )


def _warn_of_characters(measured: encoding.Measurement) -> list[str]:
    more = len(measured.non_gsm) - _MAX_WARNINGS
    return encoding.warnings(measured, _MAX_WARNINGS) + [f"and {more} more such characters"] * (more > 0)


def _warn_of_long_receipt(submission: dict[str, Any], settings: Settings) -> list[str]:
    if not submission["include_message_text"]:
        return []
    variable = submission["text"] + (submission.get("client_ref") or "")
    length = len(tokens.receipt_url(settings, _ANY_ID)) + _OTHER_PARAMETERS + len(quote(variable, safe=""))
    if length <= MAX_RECEIPT:
        return []
    return [f"with this text a receipt is about {length} bytes long, and may be cut off or lost above {MAX_RECEIPT}"]
