"""Messages: sending, listing, reading one."""

from typing import Any

from flask import Response

from receiptsvc import ids
from receiptsvc.domain import explanation
from receiptsvc.domain.explanation import Told
from receiptsvc.domain.statuses import Effect
from receiptsvc.store import messages, queries
from receiptsvc.store.models import Message
from receiptsvc.store.queries import MessageFilter, Page, Story
from receiptsvc.web import auth, context, submissions
from receiptsvc.web.auth import requires
from receiptsvc.web.endpoints import endpoint, noun
from receiptsvc.web.errors import Problem
from receiptsvc.web.schemas import messages as schemas
from receiptsvc.web.schemas.receipts import Explanation
from receiptsvc.web.schemas.submissions import Submission

blueprint = noun("messages", "One text to one recipient, from its acceptance to its last receipt.")


@endpoint(blueprint, "POST", "/messages", takes=Submission, gives=schemas.Accepted, status=202, fails=(409, 503))
@requires("send")
def send_messages(body: dict[str, Any]) -> Response:
    """Send messages

    All of them are accepted, or none: 422 names every fault by its path. 202 means that they are kept and will be
    offered to the gateway; each answer's `url` tells what became of it.
    """
    draft = submissions.draft(body["messages"], context.settings(), auth.key_name())
    with context.database().transaction() as session:
        submissions.accept(session, draft, context.now())
    return Response(schemas.write_accepted(draft.messages), status=202, content_type="application/json")


@endpoint(blueprint, "GET", "/messages", asks=schemas.MessageQuery, gives=schemas.MessagePage, fails=(422, 503))
@requires("read")
def list_messages(query: dict[str, Any]) -> Page[Message, Any]:
    """List messages

    Those that fit every filter, the newest first.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    with context.database().reading() as session:
        return queries.list_messages(session, MessageFilter(**query), limit=limit, after=cursor)


@endpoint(
    blueprint,
    "GET",
    "/messages/<message_id>",
    path={"message_id": "The message's id."},
    gives=schemas.MessageStory,
    fails=(404, 503),
)
@requires("read")
def read_message(message_id: str) -> Story:
    """Read a message

    Where it stands, and everything that was recorded of it.
    """
    identifier = ids.parse("msg", message_id)
    with context.database().reading() as session:
        story = queries.find_message(session, identifier) if identifier else None
    if story is None:
        raise Problem(404, "There is no message with this id.")
    return story


@endpoint(
    blueprint,
    "GET",
    "/messages/<message_id>/explain",
    path={"message_id": "The message's id."},
    gives=Explanation,
    fails=(404, 503),
)
@requires("read")
def explain_message(message_id: str) -> dict[str, Any]:
    """Explain a message's status

    Which report it comes from and why that one counts, what each of the others did, how the message was given to the
    gateway, and how long each part of the way took.
    """
    identifier = ids.parse("msg", message_id)
    with context.database().reading() as session:
        found = queries.find_evidence(session, identifier) if identifier else None
    if found is None:
        raise Problem(404, "There is no message with this id.")
    told = [
        Told(
            report=messages.report_of(row),
            effect=Effect(row.effect),
            reason=row.reason,
            superseded_at=row.superseded_at,
        )
        for row in found.transitions
    ]
    why = explanation.explain(told)
    return {
        "row": found.row,
        "because": why.because,
        "reports": [
            {"row": row, "is_winner": place == why.winner, "why": sentence}
            for place, (row, sentence) in enumerate(zip(found.transitions, why.whys, strict=True))
        ],
        "attempts": found.attempts,
        "transactions": found.transactions,
        "delays": explanation.delays(
            told, why.winner, accepted_at=found.row.created_at, offered_at=found.row.offered_at
        ),
    }
