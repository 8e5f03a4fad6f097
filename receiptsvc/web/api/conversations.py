"""Conversations: the list, and one conversation with its timeline.

A conversation is everything with the same clientRef, or without one the same recipient and originator.
"""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import conversations
from receiptsvc.store.queries import lookup, timeline
from receiptsvc.store.queries.lookup import ConversationOverview
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import conversations as schemas
from receiptsvc.web.schemas.base import in_body

blueprint = new_blueprint("conversations", "Messages, their transitions and replies, in one timeline.")


@endpoint(
    blueprint,
    "GET",
    "/conversations",
    query=schemas.ConversationsQuery,
    response=schemas.Conversations,
    errors=(404, 422, 503),
    by_post=("/conversations/query", in_body(schemas.ConversationsQuery)),
)
@requires("read")
def list_conversations(query: dict[str, Any]) -> dict[str, Any]:
    """List conversations, or find one

    The most recently active first: those in which a message was last accepted, or a reply received. A change of a
    message's status moves no conversation; to follow such changes, list messages with `order=changed`.

    With `clientRef` the answer is the same as reading that conversation by its address, for a clientRef that an address
    would mangle, such as `..`.
    """
    if "client_ref" in query:
        return _read_page(query["client_ref"], query["limit"], query.get("cursor"))
    with context.database().reading() as session:
        page = lookup.list_conversations(session, limit=query["limit"], after=query.get("cursor"))
    return {"conversations": [_describe(overview) for overview in page.items], "next_cursor": page.next}


@endpoint(
    blueprint,
    "GET",
    "/conversations/<anything:client_ref>",
    path={"client_ref": "The clientRef, percent-encoded, `/` included; or a conversation's id, which is tried first."},
    query=schemas.ConversationQuery,
    response=schemas.Conversation,
    errors=(404, 422, 503),
)
@requires("read")
def read_conversation(query: dict[str, Any], client_ref: str) -> dict[str, Any]:
    """Read a conversation

    Its parties and summary, and its timeline, the earliest first, a page at a time.
    """
    return _read_page(client_ref, **query)


def _read_page(term: str, limit: int, cursor: timeline.TimelineCursor | None = None) -> dict[str, Any]:
    """A conversation with one page of its timeline. `term`: a clientRef or public id. Raises Problem 404."""
    with context.database().reading() as session:
        conversation = lookup.find_conversation(session, _identify(session, term))
        if conversation is None:
            raise Problem(404, "There is no conversation with this clientRef or id.")
        page = timeline.read(session, conversation.id, limit=limit, after=cursor, is_large=conversation.is_large)
    activity = conversation.activity
    return {
        "row": conversation,
        "summary": {
            "row": conversation.summary,
            "first_activity_at": activity.first_at if activity else None,
            "last_activity_at": activity.last_at if activity else None,
            "is_waiting_for_reply": not activity.last_from_recipient if activity else None,
        },
        "timeline": page.items,
        "timeline_order": "message" if timeline.is_by_message(cursor, is_large=conversation.is_large) else "time",
        "next_cursor": page.next,
    }


def _describe(overview: ConversationOverview) -> dict[str, Any]:
    return {
        "id": overview.id,
        "client_ref": overview.client_ref,
        "party": overview.party,
        "originator": overview.originator,
        "messages": overview.messages,
        "replies": overview.replies,
        "statuses": overview.statuses,
        "first_activity_at": overview.first_at,
        "last_activity_at": overview.last_at,
        "is_waiting_for_reply": not overview.last_from_recipient,
    }


def _identify(session: Session, term: str) -> UUID:
    """The conversation with this public id if there is one, else the conversation of this clientRef."""
    conversation_id = ids.parse("cnv", term)
    if conversation_id is not None and lookup.has_conversation(session, conversation_id):
        return conversation_id
    found = conversations.ids_of_client_ref(term)
    return next((each for each in found[:-1] if lookup.has_conversation(session, each)), found[-1])
