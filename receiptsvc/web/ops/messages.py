"""A message's page: its status and why, the way there, the tries, the receipts, and what can be done about it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import marshmallow as ma
from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import meanings, waiting
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.operator_actions import refuse_cancelling, refuse_resolving
from receiptsvc.domain.statuses import PROGRESS, RESOLUTIONS, Status
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import Message
from receiptsvc.store.inbox import receipts
from receiptsvc.store.messages import operator_actions
from receiptsvc.store.queries import etags, histories
from receiptsvc.web.answers import explanations
from receiptsvc.web.answers.explanations import ExplainedMessage
from receiptsvc.web.http import caching, context
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import callback_reader, display, pages, raw_callbacks, steps
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.schemas import sending as schemas

_MAX_CALLBACKS = 10  # that are shown as they came; each other one has a page of its own
_MAX_AUDITS = 50
_MAX_STEPS = 12  # that are shown on another page; this one has them all
_STANDS_SECONDS = 30  # for so long a page may say what holds a message, or how old it is, without a new look


@blueprint.route("/messages/<message_id>", methods=["GET", "POST"])
@signed_in
def read_message(message_id: str) -> Response:
    """The page; by POST something is done first."""
    identifier = ids.parse("msg", message_id)
    if identifier is None:
        return _missing()
    if request.method == "GET" and "now" in request.args:
        return _respond_now(identifier, request.args["now"])
    if "steps" in request.args:
        return _respond_steps(identifier)
    actions: Mapping[str, Callable[[UUID], Response]] = {"cancel": _cancel, "resolve": _resolve}
    act = actions.get(request.form.get("action", ""), _respond)
    return act(identifier)


def _respond(identifier: UUID, status: int = 200, **refusal: Any) -> Response:
    """The whole page. `refusal`: why an action was refused, and what had been typed."""
    subject = ids.public("msg", identifier)
    with pages.reading() as session:
        version = etags.find_page_version(session, identifier)
        explained = explanations.read(session, identifier)
        notes = audits.read(session, subject)[-_MAX_AUDITS:]
        chosen = _choose_receipts(explained) if explained is not None else ()
        callbacks = receipts.find_callbacks(session, chosen)
    if explained is None:
        return _missing()
    row = explained.row
    cannot_cancel, can_resolve = _find_actions(row)
    return pages.render(
        "message.html",
        status,
        about=subject,
        **_describe(explained, _tag_of(version, row.status)),
        callbacks={
            ids.public("rcp", each): raw_callbacks.show(
                *callbacks[each], callback_reader.current(), is_revealed=pages.reveals()
            )
            for each in chosen
            if each in callbacks
        },
        audits=notes,
        cannot_cancel=cannot_cancel,
        resolutions=RESOLUTIONS if can_resolve else (),
        **refusal,
    )


def _respond_now(identifier: UUID, shown: str) -> Response:
    """What moves on the page, unless it is as the browser has it. `shown`: the status that it shows."""
    with pages.reading() as session:
        version = etags.find_page_version(session, identifier)
        if caching.has_newest(tag := _tag_of(version, shown)):
            return caching.unchanged(tag)
        explained = explanations.read(session, identifier)
    if explained is None:
        return _missing()
    tag = _tag_of(version, explained.row.status)
    response = pages.render("message_now.html", **_describe(explained, tag), shown=shown)
    response.headers.update(caching.tagged(tag))
    return response


def _respond_steps(identifier: UUID) -> Response:
    """The steps alone, for the page of its conversation; the address has as many parts as that page's, for the links.

    Who comes without a script of ours is led to the whole page.
    """
    if not pages.is_of_a_part():
        return pages.redirect(f"messages/{ids.public('msg', identifier)}")
    with pages.reading() as session:
        message = session.get(Message, identifier)
        history = histories.find(session, [message])[identifier] if message is not None else None
    if message is None or history is None:
        return _missing()
    made = steps.make(explanations.explain_history(history))
    shown = [step for number, step in enumerate(made) if number < _MAX_STEPS or step.is_winner]
    return pages.render(
        "message_steps.html",
        about=ids.public("msg", identifier),
        steps=shown,
        left_out=max(0, message.transition_count - len(shown)),
    )


def _describe(explained: ExplainedMessage, tag: str) -> dict[str, Any]:
    """What both the page and its moving part say."""
    row, now = explained.row, context.now()
    return {
        "id": ids.public("msg", row.id),
        "row": row,
        "meanings": meanings.STATUSES,
        "is_guid": _is_guid,
        "tag": tag,
        "explained": explained,
        "steps": steps.make(explained.reports),
        "delays": steps.describe_delays(explained.delays),
        "left_out": row.transition_count - len(explained.reports) if explained.rest_after is not None else 0,
        "is_open": row.status in PROGRESS,
        "overdue_since": waiting.find_overdue_since(
            Status(row.status), created_at=row.created_at, deliver_after=row.deliver_after, now=now
        ),
    }


def _tag_of(version: etags.Version | None, status: str) -> str:
    """The tag of the moving part. What holds an open message is not in its version, so that tag ages."""
    age = int(context.now().timestamp()) // _STANDS_SECONDS if status in PROGRESS else 0
    return caching.tag_of(version, age)


def _choose_receipts(explained: ExplainedMessage) -> Sequence[UUID]:
    """The receipts that are shown as they came: the newest, and the one that decides, in the order recorded."""
    told = [(report.row.receipt_id, report.is_winner) for report in explained.reports if report.row.receipt_id]
    older, newest = told[:-_MAX_CALLBACKS], told[-_MAX_CALLBACKS:]
    return list(dict.fromkeys(each for each, _ in (*(each for each in older if each[1]), *newest)))


def _is_guid(text: str) -> bool:
    """Whether a messageGuid is one, and not what its sender made of it, which may name somebody."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _find_actions(row: Message) -> tuple[str | None, bool]:
    """Why a message can't be cancelled, if it can't, and whether it can be resolved."""
    refusal = refuse_cancelling(
        row.status,
        calling_since=row.calling_since,
        unclear_since=row.unclear_since,
        scheduled_at=display.scheduled_at(row),
    )
    return refusal, refuse_resolving(row.status, unclear_since=row.unclear_since) is None


def _cancel(identifier: UUID) -> Response:
    return _act(identifier, schemas.OptionalReason(), lambda _: operator_actions.cancel)


def _resolve(identifier: UUID) -> Response:
    def choose(body: Mapping[str, Any]) -> Callable[[Session, UUID, Actor, datetime], bool]:
        return lambda session, message_id, by, now: operator_actions.resolve(
            session, message_id, Status(body["status"]), by, now
        )

    return _act(identifier, schemas.Resolution(), choose)


def _act(
    identifier: UUID,
    schema: ma.Schema,
    choose: Callable[[Mapping[str, Any]], Callable[[Session, UUID, Actor, datetime], bool]],
) -> Response:
    """Do what a form asks for by the API's rules, and lead back to the page; or the page with the refusal in words."""
    typed = {name: value for name in schema.load_fields if (value := request.form.get(name, "").strip())}
    try:
        body = schema.load(typed)
        with context.database().transaction() as session:
            by = Actor(actor=pages.viewer().actor, reason=body.get("reason"))
            choose(body)(session, identifier, by, context.now())
    except ma.ValidationError as error:
        return _respond(identifier, 422, faults=by_path(error.messages), typed=typed)
    except Refused as refused:
        return _respond(identifier, 409, refused=str(refused), typed=typed)
    return pages.redirect(f"messages/{ids.public('msg', identifier)}")


def _missing() -> Response:
    return pages.render("missing.html", 404, why="There is no message with this id.")
