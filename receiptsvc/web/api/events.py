"""Server-sent events: what changes, as it does. The loop serves the stream; here it is only asked for and allowed."""

from typing import Any

from flask import Response, request

from receiptsvc.server.application import MAX_STREAMS
from receiptsvc.store.messages import change_feed
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.events import SAMPLE, EventHeaders, EventQuery

blueprint = new_blueprint("events", "What changes, told as it does.")

_LABELS = {
    "recipient": change_feed.RECIPIENT,
    "transaction_id": change_feed.TRANSACTION_ID,
    "client_ref": change_feed.CLIENT_REF,
    "originator": change_feed.ORIGINATOR,
    "status": change_feed.STATUS,
}
_RETRY_AFTER_SECONDS = 5


@endpoint(
    blueprint,
    "GET",
    "/events",
    headers=EventHeaders,
    query=EventQuery,
    response=None,
    streams="text/event-stream",
    sample=SAMPLE,
    errors=(410, 422, 503),
)
@requires("read")
def stream_events(headers: dict[str, Any], query: dict[str, Any]) -> Response:
    """Follow what happens

    Server-sent events, one for each change of a message's status (`event: status`) and each reply (`event: reply`), in
    the order in which they were recorded. It begins with what happens from now on, or after the event whose id is given
    as the header `Last-Event-ID`, or by programs that can't set one as `lastEventId`; the header goes first. Ids rise
    and are the same in every process. The stream is cut at times, by us too: come again with the last id that you have,
    and nothing is missed or told twice. In silence a comment comes every 15 s, with an id to come again with.
    """
    given = query.pop("last_event_id", None)
    after = headers.get("last_event_id") or given
    labels = frozenset((_LABELS[name], value) for name, value in query.items())
    with context.database().reading() as session:
        has_unnumbered = change_feed.has_unnumbered(session)
    if has_unnumbered:  # these happened before now
        with context.database().transaction() as session:
            change_feed.number(session)
    with context.database().reading() as session:
        last = change_feed.find_last(session)
        if after is not None and not change_feed.is_kept(session, after):
            raise Problem(410, "Not everything after this Last-Event-ID is kept, or it is not from here.")
    most = request.environ.get(MAX_STREAMS)
    stream = context.feed().open(last if after is None else after, last, labels, most)
    if stream is None:
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
        raise Problem(503, "There are as many streams open as there may be.", headers=headers)
    # Not buffered by nginx; and passed through as it is, for the server to recognise.
    answer = Response(stream, content_type="text/event-stream", direct_passthrough=True)
    answer.headers["X-Accel-Buffering"] = "no"
    return answer
