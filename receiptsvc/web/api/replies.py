"""Replies: the list of what people wrote back."""

from typing import Any

from receiptsvc.store.core.models import Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import contacts
from receiptsvc.store.queries.contacts import ReplyFilter, TimeCursor
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas import replies as schemas
from receiptsvc.web.schemas.base import in_body

blueprint = new_blueprint("replies", "What people wrote back, each linked to its conversation, with the reason.")


@endpoint(
    blueprint,
    "GET",
    "/inbound",
    query=schemas.ReplyQuery,
    response=schemas.ReplyPage,
    errors=(422, 503),
    by_post=("/inbound/query", in_body(schemas.ReplyQuery)),
)
@requires("read")
def list_replies(query: dict[str, Any]) -> Page[Reply, TimeCursor]:
    """List replies

    Those that fit every filter, the newest first.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    with context.database().reading() as session:
        return contacts.list_replies(session, ReplyFilter(**query), limit=limit, after=cursor)
