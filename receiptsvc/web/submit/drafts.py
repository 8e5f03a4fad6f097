"""A checked submission made into messages: one row a recipient, with what its sender should be warned of."""

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
from receiptsvc.domain import encoding
from receiptsvc.store.core.models import Message
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries import lookup
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import Problem

MAX_RECEIPT = 6 * 1024  # bytes of an address; routers and servers cut near 8 KiB

_MAX_WARNINGS = 10  # of one text's characters: a text in another script has hundreds
_MAX_LEFT_OUT = 100  # that are told one by one
_SUPPRESSED = "Is suppressed for this originator; see /v1/suppressions."
_ANY = UUID(int=0)  # the addresses of all messages are of one length
_OTHER_PARAMETERS = 160  # bytes of a receipt's query besides its clientRef and its text


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Messages on their way into the store, what they were made of, and what their sender should be warned of."""

    messages: Sequence[Message]
    given: Sequence[dict[str, Any]]
    guid_paths: Mapping[str, str]  # where in the request each messageGuid that was given stands
    warnings: Sequence[str] = ()


def require_account(settings: Settings) -> None:
    """Raise Problem 503 if this service has no account to send with."""
    if settings.account is None:
        raise Problem(503, "Nothing can be sent: DYNMARK_USERNAME and DYNMARK_PASSWORD must be set.")


def draft(given: Sequence[dict[str, Any]], settings: Settings, created_by: str) -> Draft:
    """The messages of a checked body."""
    guids = _new_guids(sum(len(each["recipients"]) for each in given))
    return Draft(
        messages=[message for each in given for message in _messages(each, settings, created_by, guids)],
        given=given,
        guid_paths={
            each["message_guid"]: f"messages[{index}].messageGuid"
            for index, each in enumerate(given)
            if each.get("message_guid")
        },
    )


def admit(session: Session, drafted: Draft, settings: Settings) -> Draft:
    """What of a draft may be sent, as far as the store knows: nothing to people who are suppressed for its originators.

    Raises Problem 422 if there are such people and the settings don't let them be left out, or nobody else is there;
    and Problem 409 if a messageGuid was used before.
    """
    admitted = _without_suppressed(session, drafted, settings)
    _refuse_known(session, admitted)
    return admitted


def accept(session: Session, drafted: Draft, now: datetime) -> None:
    """Take in a draft that was admitted. Raises Problem 409 if a messageGuid of it was used meanwhile."""
    try:
        with session.begin_nested():
            transitions.accept(session, drafted.messages, now, schedules_messages=context.settings().schedules_messages)
    except IntegrityError:
        _refuse_known(session, drafted)  # another request was faster
        raise


def _without_suppressed(session: Session, drafted: Draft, settings: Settings) -> Draft:
    stopped = suppressions.find(session, {message.recipient for message in drafted.messages})
    if not stopped:
        return drafted
    kept: list[Message] = []
    paths: list[str] = []
    for message, (index, places) in zip(drafted.messages, _places(drafted.given), strict=True):
        if Pair(message.recipient, suppressions.fold(message.originator)) in stopped:
            paths += [f"messages[{index}].recipients[{place}]" for place in places]
        else:
            kept.append(message)
    if not paths:
        return drafted
    if not (settings.skips_suppressed and kept):
        what = "Every recipient is" if not kept else "Some recipients are"
        errors = {path: [_SUPPRESSED] for path in paths}
        raise Problem(422, f"{what} suppressed for the originator; nothing was sent.", errors=errors)
    more = len(paths) - _MAX_LEFT_OUT
    warnings = [f"{path} was left out: it is suppressed for this originator" for path in paths[:_MAX_LEFT_OUT]]
    return replace(drafted, messages=kept, warnings=warnings + [f"and {more} more were left out"] * (more > 0))


def _places(given: Sequence[dict[str, Any]]) -> Iterator[tuple[int, list[int]]]:
    """For each message that is made of a body: which of its objects it comes from, and where its recipient stands."""
    return ((index, places) for index, each in enumerate(given) for places in each["recipients"].values())


def _refuse_known(session: Session, drafted: Draft) -> None:
    known = lookup.find_by_guid(session, drafted.guid_paths) if drafted.guid_paths else {}
    if known:
        existing = [
            {"path": drafted.guid_paths[guid], "id": ids.public("msg", found), "url": context.message_url(found)}
            for guid, found in known.items()
        ]
        errors = {each["path"]: [f"Was used before, by {each['id']}."] for each in existing}
        raise Problem(409, "A messageGuid was used before; nothing was sent.", errors=errors, existing=existing)


def _new_guids(count: int) -> Iterator[str]:
    # One reading of randomness for all: each lets go of Python's lock and takes it back at once, and a thread that
    # waits for the lock then begins its waiting anew.
    random = urandom(16 * count)
    return (str(UUID(bytes=random[start : start + 16], version=4)) for start in range(0, len(random), 16))


def _messages(given: dict[str, Any], settings: Settings, created_by: str, guids: Iterator[str]) -> Iterator[Message]:
    client_ref, originator = given.get("client_ref"), given.get("originator")
    measured = encoding.measure(given["text"])
    warnings = _dear(measured) + _long_receipt(given, settings)
    shared = {
        "created_by": created_by,
        "text": given["text"],
        "originator": originator,
        "client_ref": client_ref,
        "country_iso_code": given.get("country_iso_code"),
        "deliver_after": given.get("deliver_after"),
        "valid_until": given.get("valid_until"),
        "reject_unicode": given["reject_unicode"],
        "include_message_text": given["include_message_text"],
        "filter_set_name": given.get("filter_set_name"),
        "impersonate_user_name": given.get("impersonate_user_name"),
        "additional_options": given.get("additional_options") or {},
        "transport": settings.transport,
        "encoding": measured.encoding,
        "segments": measured.segments,
        "transaction_id": None,
        "calling_since": None,
        "unclear_since": None,
    }
    for recipient, places in given["recipients"].items():
        times = len(places)
        merged = [f"this person stood {times} times among the recipients; one message goes out"] * (times > 1)
        message = Message()
        vars(message).update(  # not one by one: SQLAlchemy's notes of each change take ten times as long
            shared,
            id=ids.new(),
            conversation_id=transitions.conversation_id(
                client_ref=client_ref, recipient=recipient, originator=originator
            ),
            recipient=recipient,
            message_guid=given.get("message_guid") or next(guids),
            warnings=merged + warnings,
        )
        yield message


def _dear(measured: encoding.Measurement) -> list[str]:
    more = len(measured.non_gsm) - _MAX_WARNINGS
    return encoding.warnings(measured, _MAX_WARNINGS) + [f"and {more} more such characters"] * (more > 0)


def _long_receipt(given: dict[str, Any], settings: Settings) -> list[str]:
    if not given["include_message_text"]:
        return []
    address = tokens.receipt_url(settings, _ANY)
    length = len(address) + _OTHER_PARAMETERS + len(quote(given["text"] + (given.get("client_ref") or ""), safe=""))
    if length <= MAX_RECEIPT:
        return []
    return [f"with this text a receipt is about {length} bytes long, and may be cut off or lost above {MAX_RECEIPT}"]
