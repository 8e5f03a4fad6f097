"""A conversation's page: our messages and the replies, the newest at the end, each message with what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import marshmallow as ma
from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import waiting
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.models import ConversationActivity, Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import contacts, histories, lookup
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.histories import History
from receiptsvc.store.queries.timeline import TimelineRow
from receiptsvc.web.answers import explanations
from receiptsvc.web.http import context, cursors
from receiptsvc.web.ops import pages, steps
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.ops.steps import Step

_SHOWN = 100  # messages and replies of one page
_MAX_STEPS = 12  # of one message; its own page has them all


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One of our messages. `left_out`: how many of its steps only its own page has."""

    id: str
    row: Message
    steps: Sequence[Step]
    left_out: int
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
        entries = _load_entries(session, page)
        activity = session.get(ConversationActivity, identifier)
        exists = bool(entries) or lookup.has_conversation(session, identifier)
    if not exists:
        return _missing()
    if pages.reveals():
        pages.note_reveal(ids.public("cnv", identifier))
    return pages.render(
        "conversation.html",
        id=ids.public("cnv", identifier),
        client_ref=next((entry.row.client_ref for entry in entries if entry.row.client_ref), None),
        parties=_find_parties(entries),
        entries=entries,
        activity=activity,
        is_newest=before is None,
        earlier=cursors.CONVERSATION.encode(page.next) if page.next is not None else None,
    )


def _load_entries(session: Session, page: Page[TimelineRow, TimeCursor]) -> Sequence[Sent | Received]:
    """The entries of a page, the earliest first."""
    rows = [entry.row for entry in reversed(page.items)]
    found = histories.find(session, [row for row in rows if isinstance(row, Message)])
    return [
        _describe_message(row, found[row.id])
        if isinstance(row, Message)
        else Received(id=ids.public("rpl", row.id), row=row)
        for row in rows
        if isinstance(row, Message | Reply)
    ]


def _describe_message(row: Message, history: History) -> Sent:
    made = steps.make(explanations.explain_history(history))
    shown = [step for number, step in enumerate(made) if number < _MAX_STEPS or step.is_winner]
    return Sent(
        id=ids.public("msg", row.id),
        row=row,
        steps=shown,
        left_out=max(0, row.transition_count - len(shown)),
        overdue_since=waiting.find_overdue_since(
            Status(row.status), created_at=row.created_at, deliver_after=row.deliver_after, now=context.now()
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
