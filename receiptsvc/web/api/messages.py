"""Messages: sending, listing, reading and explaining them."""

from typing import Any

from flask import Response, request

from receiptsvc import ids
from receiptsvc.store.core.models import Transition as TransitionRow
from receiptsvc.store.core.paging import Page
from receiptsvc.store.outbound import idempotency
from receiptsvc.store.outbound.idempotency import Claim
from receiptsvc.store.queries import etags, histories, listing, lookup
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.store.queries.lookup import MessageDetail
from receiptsvc.web.answers import explanations
from receiptsvc.web.answers.explanations import ExplainedMessage
from receiptsvc.web.http import auth, caching, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import messages as schemas
from receiptsvc.web.schemas.base import in_body
from receiptsvc.web.schemas.receipts import Explanation
from receiptsvc.web.schemas.submissions import Submission, SubmissionHeaders, SubmissionQuery
from receiptsvc.web.submit import drafts
from receiptsvc.web.submit.idempotent import idempotent

blueprint = new_blueprint("messages", "One text to one recipient, from its acceptance to its last receipt.")


@endpoint(
    blueprint,
    "POST",
    "/messages",
    headers=SubmissionHeaders,
    query=SubmissionQuery,
    decorator=idempotent,
    body=Submission,
    response=schemas.Accepted,
    status=202,
    alt_responses={200: schemas.Drafts},
    errors=(409, 503),
)
@requires("send")
def send_messages(
    _headers: dict[str, Any], query: dict[str, Any], body: dict[str, Any], claim: Claim | None = None
) -> Response:
    """Send messages

    All of them are accepted, or none: 422 names every fault by its path. 202 means that they are kept and will be
    offered to the gateway; each message's `url` shows what became of it. 200 answers a dry run, which keeps nothing.
    """
    settings = context.settings()
    draft = drafts.make_draft(body["messages"], settings, auth.key_name())
    if query["dry_run"]:
        with context.database().reading() as session:
            draft = drafts.admit(session, draft, settings)
        return _json_response(schemas.write_messages(draft.messages, draft.warnings, schema=schemas.Draft), 200)
    drafts.require_account(settings)
    with context.database().transaction() as session:
        draft = drafts.admit(session, draft, settings)
        if claim is not None:
            idempotency.finish(session, claim, [message.id for message in draft.messages])
        state = drafts.accept(session, draft, context.now())
    return _json_response(schemas.write_messages(draft.messages, draft.warnings, state=state), 202)


def _json_response(body: str, status: int) -> Response:
    return Response(body, status=status, content_type="application/json")


@endpoint(
    blueprint,
    "GET",
    "/messages",
    query=schemas.MessageListQuery,
    response=schemas.MessagePage,
    errors=(422, 503),
    by_post=("/messages/query", in_body(schemas.MessageListQuery)),
)
@requires("read")
def list_messages(query: dict[str, Any]) -> dict[str, Any]:
    """List messages

    Those that fit every filter, the newest first unless `order` says otherwise. Continue with `nextCursor` until it is
    null: where few fit, a page may be short, or empty, and not be the last. Messages accepted meanwhile shift no page.

    To keep a copy, list with `order=changed` to the end, and note the time in the `Date` header of the first answer.
    Next time list with `changedSince` one minute before it, because a change committed later may have an earlier time,
    and store each message by its `id`, whether or not you have it already. A message that changes while you list comes
    again at the end.
    """
    limit, cursor, is_estimated = query.pop("limit"), query.pop("cursor", None), query.pop("estimate")
    where = MessageFilter(**query)
    with context.database().reading() as session:
        page = listing.list_messages(session, where, limit=limit, after=cursor)
        count = listing.estimate(session, where) if is_estimated else None
    return {"row": page, "items": page.items, "estimated_count": count}


@endpoint(
    blueprint,
    "GET",
    "/messages/<id:message_id>",
    path={"message_id": "The message's id."},
    response=schemas.WholeMessage,
    errors=(404, 503),
    is_tagged=True,
)
@requires("read")
def read_message(message_id: str) -> Response | tuple[MessageDetail, int, dict[str, str]]:
    """Read a message

    Its status, its transitions, and everything that its sender asked for.
    """
    identifier = ids.parse("msg", message_id)
    with context.database().reading() as session:
        if identifier and request.if_none_match:  # a client that polls mostly has the newest version
            version = etags.find_version(session, identifier)
            if version and caching.has_newest(tag := caching.tag_of(version)):
                return caching.unchanged(tag)
        detail = lookup.find_message(session, identifier) if identifier else None
    if detail is None:
        raise Problem(404, "There is no message with this id.")
    return detail, 200, caching.tagged(caching.tag_of(etags.version_of(detail)))


@endpoint(
    blueprint,
    "GET",
    "/messages/<id:message_id>/transitions",
    path={"message_id": "The message's id."},
    query=schemas.TransitionQuery,
    response=schemas.TransitionPage,
    errors=(404, 422, 503),
)
@requires("read")
def list_transitions(query: dict[str, Any], message_id: str) -> Page[TransitionRow, int]:
    """List a message's transitions

    All of them, in the order recorded.
    """
    identifier = ids.parse("msg", message_id)
    with context.database().reading() as session:
        if identifier is None or etags.find_version(session, identifier) is None:
            raise Problem(404, "There is no message with this id.")
        return histories.read_page(session, identifier, limit=query["limit"], after=query.get("cursor"))


@endpoint(
    blueprint,
    "GET",
    "/messages/<id:message_id>/explain",
    path={"message_id": "The message's id."},
    response=Explanation,
    errors=(404, 503),
)
@requires("read")
def explain_message(message_id: str) -> ExplainedMessage:
    """Explain a message's status

    Which report it comes from and why that one counts, what each of the others did, how the message was given to the
    gateway, and how long each part of the way took.
    """
    identifier = ids.parse("msg", message_id)
    with context.database().reading() as session:
        explained = explanations.read(session, identifier) if identifier else None
    if explained is None:
        raise Problem(404, "There is no message with this id.")
    return explained
