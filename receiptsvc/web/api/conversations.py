"""Conversations: all that shares a clientRef, else recipient and originator."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store import messages, queries, timeline
from receiptsvc.web import context
from receiptsvc.web.auth import requires
from receiptsvc.web.endpoints import endpoint, noun
from receiptsvc.web.errors import Problem
from receiptsvc.web.schemas import conversations as schemas

blueprint = noun("conversations", "Messages, what became of them, and replies, in one timeline.")


@endpoint(
    blueprint,
    "GET",
    "/conversations",
    asks=schemas.ConversationByRef,
    gives=schemas.Conversation,
    fails=(404, 422, 503),
)
@requires("read")
def find_conversation(query: dict[str, Any]) -> dict[str, Any]:
    """Find a conversation

    The same as reading it by its address, for a clientRef that an address would mangle, such as `..`.
    """
    return _tell(**query)


@endpoint(
    blueprint,
    "GET",
    "/conversations/<anything:client_ref>",
    path={"client_ref": "The clientRef, percent-encoded, `/` included; or a conversation's id, which goes first."},
    asks=schemas.ConversationQuery,
    gives=schemas.Conversation,
    fails=(404, 422, 503),
)
@requires("read")
def read_conversation(query: dict[str, Any], client_ref: str) -> dict[str, Any]:
    """Read a conversation

    What happened in it, the earliest first, a page at a time; and all of it counted.
    """
    return _tell(client_ref, **query)


def _tell(client_ref: str, limit: int, cursor: timeline.Key | None = None) -> dict[str, Any]:
    with context.database().reading() as session:
        conversation = queries.find_conversation(session, _identify(session, client_ref))
        if conversation is None:
            raise Problem(404, "There is no conversation with this clientRef or id.")
        page = timeline.read(session, conversation.id, limit=limit, after=cursor)
    return {"row": conversation, "timeline": page.items, "next_cursor": page.next}


def _identify(session: Session, term: str) -> UUID:
    """The conversation that a term means: the one with this id if there is one, else that of the clientRef."""
    given = ids.parse("cnv", term)
    if given is not None and queries.has_conversation(session, given):
        return given
    return messages.conversation_id(client_ref=term, recipient=None, originator=None)
