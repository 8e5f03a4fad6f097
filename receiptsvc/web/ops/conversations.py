"""A conversation's page: our messages and the replies, the newest at the end, each message with what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import marshmallow as ma
from flask import Response, request

from receiptsvc import ids
from receiptsvc.domain import waiting
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.models import ConversationActivity, Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import contacts, etags, lookup
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.timeline import TimelineRow
from receiptsvc.web.http import caching, context, cursors
from receiptsvc.web.ops import pages
from receiptsvc.web.ops.pages import blueprint, signed_in

_SHOWN = 100  # messages and replies of one page


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One of our messages. Its steps are asked for once somebody opens them: see `messages`."""

    id: str
    row: Message
    overdue_since: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A reply."""

    id: str
    row: Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """A number of this page. `of`: the id of a message or reply of theirs, by which the page of the person is found."""

    number: str
    of: str


@blueprint.route("/conversations/<conversation_id>", methods=["GET", "POST"])
@signed_in
def read_conversation(conversation_id: str) -> Response:
    """The newest of a conversation, or what came before an entry of it."""
    identifier = ids.parse("cnv", conversation_id)
    try:
        before = cursors.CONVERSATION.decode(request.args["before"]) if "before" in request.args else None
    except ma.ValidationError:
        why = "This address is cut or changed. Go back to the conversation, and choose Earlier again."
        return pages.render("missing.html", 404, why=why)
    if identifier is None:
        return _missing()
    with pages.reading() as session:
        page = contacts.read_conversation(session, identifier, limit=_SHOWN, after=before)
        activity = session.get(ConversationActivity, identifier)
        exists = bool(page.items) or lookup.has_conversation(session, identifier)
    if not exists:
        return _missing()
    tag = _tag_of(page, activity)
    if request.method == "GET" and "now" in request.args:
        return (
            caching.unchanged(tag)
            if caching.has_newest(tag)
            else pages.render("conversation_now.html", is_changed=True)
        )
    entries = _describe(page)
    return pages.render(
        "conversation.html",
        about=ids.public("cnv", identifier),
        id=ids.public("cnv", identifier),
        client_ref=next((entry.row.client_ref for entry in entries if entry.row.client_ref), None),
        parties=_find_parties(entries),
        entries=entries,
        activity=activity,
        tag=tag,
        is_newest=before is None,
        earlier=cursors.CONVERSATION.encode(page.next) if page.next is not None else None,
    )


def _tag_of(page: Page[TimelineRow, TimeCursor], activity: ConversationActivity | None) -> str:
    """The tag of what a page shows: it differs once anything has come, or one of its messages has changed."""
    versions = [
        etags.page_version_of(each.row) if isinstance(each.row, Message) else each.row.id for each in page.items
    ]
    return caching.tag_of(versions, activity and activity.last_at)


def _describe(page: Page[TimelineRow, TimeCursor]) -> Sequence[Sent | Received]:
    """The entries of a page, the earliest first."""
    rows, now = [entry.row for entry in reversed(page.items)], context.now()
    return [
        _describe_message(row, now) if isinstance(row, Message) else Received(id=ids.public("rpl", row.id), row=row)
        for row in rows
        if isinstance(row, Message | Reply)
    ]


def _describe_message(row: Message, now: datetime) -> Sent:
    return Sent(
        id=ids.public("msg", row.id),
        row=row,
        overdue_since=waiting.find_overdue_since(
            Status(row.status), created_at=row.created_at, deliver_after=row.deliver_after, now=now
        ),
    )


def _find_parties(entries: Sequence[Sent | Received]) -> Sequence[Party]:
    """Who is in these entries, each once. A conversation is not counted through for it."""
    found: dict[str, str] = {}
    for entry in reversed(entries):
        found.setdefault(entry.row.recipient if isinstance(entry, Sent) else entry.row.sender, entry.id)
    return [Party(number=number, of=of) for number, of in found.items()]


def _missing() -> Response:
    return pages.render("missing.html", 404, why="There is no conversation with this id.")
