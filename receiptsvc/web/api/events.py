"""Server-sent events: authorises and opens a stream. The event loop serves it (`server.event_streams`)."""

from typing import Any

from flask import Flask, Response, current_app, request
from sqlalchemy.orm import Session

from receiptsvc.domain import references
from receiptsvc.server.application import MAX_STREAMS
from receiptsvc.server.event_streams import Feed
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import change_feed
from receiptsvc.store.messages.change_feed import FeedPosition, NotKept
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.base import in_body
from receiptsvc.web.schemas.events import SAMPLE, EventHeaders, EventQuery, write

blueprint = new_blueprint("events", "Changes of statuses and new replies, as they happen.")

_EXTENSION = "receiptsvc.feed"
_LABELS = {
    "recipient": change_feed.RECIPIENT,
    "transaction_id": change_feed.TRANSACTION_ID,
    "client_ref": change_feed.CLIENT_REF,
    "originator": change_feed.ORIGINATOR,
}
_RETRY_AFTER_SECONDS = 5
_GONE = (
    "Not every event after this id is kept (KEEP_EVENTS_DAYS), or the id is not from here. Open the stream without an "
    "id, and then read the present state from the lists: GET /v1/messages with changedSince, and GET /v1/inbound."
)


def open_feed(app: Flask, database: Database) -> None:
    """Give `app` the feed of its event streams."""
    app.extensions[_EXTENSION] = Feed(database, write)


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
    by_post=("/events", in_body(EventQuery)),
)
@requires("read")
def stream_events(headers: dict[str, Any], query: dict[str, Any]) -> Response:
    """Follow what happens

    Server-sent events, one for each change of a message's status (`event: status`) and each reply (`event: reply`), in
    the order in which they were recorded. The stream begins with what happens from now on, or after the event whose id
    is given in the header `Last-Event-ID`, or as `lastEventId` by programs that can't set headers; the header takes
    precedence. Ids rise and are the same in every process. A stream may be cut at any time, by us too: reconnect with
    the last id that you have, and no event is missed or sent twice.

    At its start, and after every 15 s without an event, a comment tells where the stream stands, such as
    `: at 000000001234.017`: an id like any other, for a program that reconnects by itself and reads comments. A library
    that does not show comments (httpx-sse, EventSource for Node) needs `positions=true`: then the same comes as an
    event with data and an id, `event: position`. Without it there is no id until the first event, and what happens
    during a reconnect is missed. A browser's own `EventSource` can't send the key. A program that resumes is in the
    guide Receiving (`/docs/guides/receiving#follow-the-stream`).

    Events are kept for some days (the setting KEEP_EVENTS_DAYS, 3 by default). 410: what followed the id is not all
    kept any more, or the id is not from here. Then open a stream without an id, and after that read the present state:
    `GET /v1/messages` with `changedSince`, and `GET /v1/inbound`. What happens meanwhile comes by the stream.
    """
    parameter, has_position_events = query.pop("last_event_id", None), query.pop("positions")
    after = headers.get("last_event_id") or parameter
    if "client_ref" in query:
        query["client_ref"] = references.trim_client_ref(query["client_ref"]) or query["client_ref"]
    statuses = frozenset((change_feed.STATUS, status) for status in query.pop("statuses", ()))
    labels = frozenset((_LABELS[name], value) for name, value in query.items())
    with context.database().reading() as session:
        has_unnumbered = change_feed.has_unnumbered(session)
    if has_unnumbered:  # they happened before now: number them, so that this stream does not begin with them
        with context.database().transaction() as session:
            change_feed.number(session)
    with context.database().reading() as session:
        last = change_feed.find_last(session)
        if after is not None:
            _require_kept(session, after)
    most = request.environ.get(MAX_STREAMS)
    feed: Feed = current_app.extensions[_EXTENSION]
    stream = feed.open(
        last if after is None else after,
        last,
        labels | statuses if len(statuses) == 1 else labels,
        most,
        any_of=statuses,
        key=auth.key_name(),
        has_position_events=has_position_events,
    )
    if stream is None:
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
        raise Problem(503, "There are as many streams open as there may be.", headers=headers)
    # Passed through untouched, so that the server recognises the stream; not buffered by nginx.
    response = Response(stream, content_type="text/event-stream", direct_passthrough=True)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _require_kept(session: Session, after: FeedPosition) -> None:
    try:
        change_feed.require_kept(session, after)
    except NotKept:
        raise Problem(410, _GONE) from None
