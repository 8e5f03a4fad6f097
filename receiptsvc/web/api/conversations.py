"""Conversations: all that shares a clientRef, else recipient and originator."""

from typing import Any
from uuid import UUID

import marshmallow as ma
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core.models import Message
from receiptsvc.store.messages import transitions
from receiptsvc.store.queries import lookup, timeline
from receiptsvc.store.queries.lookup import ConversationOverview
from receiptsvc.web.http import context
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import conversations as schemas

_LIST_CURSOR, _TIMELINE_CURSOR = kinds.moment_cursor(), kinds.timeline_cursor()

blueprint = new_blueprint("conversations", "Messages, what became of them, and replies, in one timeline.")


@endpoint(
    blueprint,
    "GET",
    "/conversations",
    query=schemas.ConversationsQuery,
    response=schemas.Conversations,
    errors=(404, 422, 503),
)
@requires("read")
def list_conversations(query: dict[str, Any]) -> dict[str, Any]:
    """List conversations, or find one

    Those in which somebody said something last come first: a message of ours was accepted, or a reply came. What became
    of messages moves no conversation; to follow that, list messages with `order=changed`.

    With `clientRef` the answer is the same as reading that conversation by its address, for a clientRef that an address
    would mangle, such as `..`.
    """
    limit, cursor = query["limit"], query.get("cursor")
    if "client_ref" in query:
        told = _tell(query["client_ref"], limit, _read(_TIMELINE_CURSOR, cursor))
        return told | {"next_cursor": _write(_TIMELINE_CURSOR, told["next_cursor"])}
    with context.database().reading() as session:
        page = lookup.list_conversations(session, limit=limit, after=_read(_LIST_CURSOR, cursor))
    return {
        "conversations": [_glimpse(glimpse) for glimpse in page.items],
        "next_cursor": _write(_LIST_CURSOR, page.next),
    }


@endpoint(
    blueprint,
    "GET",
    "/conversations/<anything:client_ref>",
    path={"client_ref": "The clientRef, percent-encoded, `/` included; or a conversation's id, which goes first."},
    query=schemas.ConversationQuery,
    response=schemas.Conversation,
    errors=(404, 422, 503),
)
@requires("read")
def read_conversation(query: dict[str, Any], client_ref: str) -> dict[str, Any]:
    """Read a conversation

    What happened in it, the earliest first, a page at a time; and all of it counted.
    """
    return _tell(client_ref, **query)


def _tell(client_ref: str, limit: int, cursor: timeline.TimelineCursor | None = None) -> dict[str, Any]:
    with context.database().reading() as session:
        conversation = lookup.find_conversation(session, _identify(session, client_ref))
        if conversation is None:
            raise Problem(404, "There is no conversation with this clientRef or id.")
        page = timeline.read(session, conversation.id, limit=limit, after=cursor, is_large=conversation.is_large)
    spoken = conversation.activity
    return {
        "row": conversation,
        "summary": {
            "row": conversation.summary,
            "first_activity_at": spoken.first_at if spoken else None,
            "last_activity_at": spoken.last_at if spoken else None,
            "is_waiting_for_reply": not spoken.last_from_recipient if spoken else None,
        },
        "timeline": page.items,
        "timeline_order": "message" if timeline.is_by_message(cursor, is_large=conversation.is_large) else "time",
        "next_cursor": page.next,
    }


def _glimpse(glimpse: ConversationOverview) -> dict[str, Any]:
    sample = glimpse.sample
    return {
        "row": glimpse.row,
        "client_ref": sample.client_ref if sample else None,
        "party": sample.recipient if isinstance(sample, Message) else sample.sender if sample else None,
        "originator": sample.originator if isinstance(sample, Message) else None,
        "statuses": glimpse.statuses,
        "first_activity_at": glimpse.row.first_at,
        "last_activity_at": glimpse.row.last_at,
        "is_waiting_for_reply": not glimpse.row.last_from_recipient,
    }


def _read(field: kinds.Coded[Any], cursor: str | None) -> Any:
    """What a cursor says, of which only what else was asked for tells the kind. Raises Problem 422."""
    try:
        return field.deserialize(cursor) if cursor is not None else None
    except ma.ValidationError as error:
        errors = {"cursor": [str(text) for text in error.messages]}
        raise Problem(422, "The query can't be understood; nothing was done.", errors=errors) from None


def _write(field: kinds.Coded[Any], place: object) -> str | None:
    written: str | None = field.serialize("place", {"place": place})
    return written


def _identify(session: Session, term: str) -> UUID:
    """The conversation that a term means: the one with this id if there is one, else that of the clientRef."""
    given = ids.parse("cnv", term)
    if given is not None and lookup.has_conversation(session, given):
        return given
    return transitions.conversation_id(client_ref=term, recipient=None, originator=None)
