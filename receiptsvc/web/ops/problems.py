"""Problems: what needs attention, by cause; what to do about each, its rows, and what people say about it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import marshmallow as ma
from flask import Response, current_app, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.problems import KINDS, Kind, State, refuse
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.health import problems
from receiptsvc.store.health.service_state import Finding
from receiptsvc.web.answers import problems as answers
from receiptsvc.web.answers.problems import ProblemStory
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import now, pages, saved, verdict
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.schemas.sending import OptionalReason


class _Fresh(NamedTuple):
    """What the first page says to be wrong, and no look has kept yet."""

    text: str
    remedy: str
    is_harm: bool


class _Action(NamedTuple):
    """What can be said of a problem. `words`: of its button; `to`: the state that the problem comes into."""

    words: str
    to: State
    do: Callable[[Session, UUID, Actor, datetime], ProblemRow | None]


_ACTIONS: Mapping[str, _Action] = {
    "acknowledge": _Action("I am working on it", State.ACKNOWLEDGED, problems.acknowledge),
    "resolve": _Action("Mark as resolved", State.RESOLVED, problems.resolve),
    "reopen": _Action("Open it again", State.OPEN, problems.reopen),
}
_OF_KIND = {
    Kind.UNMAPPED: "unmapped receipts",
    Kind.QUARANTINED: "quarantined receipts",
    Kind.DEAD: "receipts on which work failed",
    Kind.UNMATCHED: "unmatched receipts",
    Kind.OVERDUE: "messages without a final report",
}


@blueprint.route("/problems", methods=["GET", "POST"])
@signed_in
def read_problems() -> Response:
    """All that needs attention; or what was resolved."""
    is_over = request.args.get("state") == State.RESOLVED
    states = (State.RESOLVED,) if is_over else problems.WANTING
    snapshot = now.board_of(current_app).look()
    with pages.reading() as session:
        rows, seen = problems.list_problems(session, context.now(), states), problems.find_seen(session)
    items = [answers.describe(row) for row in rows]
    fresh = [] if is_over else list(_find_fresh(snapshot.findings, seen))
    return pages.render("problems.html", about="problems", items=items, fresh=fresh, is_over=is_over)


@blueprint.route("/problems/<problem_id>", methods=["GET", "POST"])
@signed_in
def read_problem(problem_id: str) -> Response:
    """One problem; by POST something is done first, or its rows are opened."""
    identifier = ids.parse(problems.PREFIX, problem_id)
    if identifier is None:
        return _missing()
    action = request.form.get("action", "")
    if action in _ACTIONS:
        return _act(identifier, _ACTIONS[action])
    with pages.reading() as session:
        story = answers.read(session, identifier)
    if story is None:
        return _missing()
    if action == "rows":
        return pages.redirect(_open_rows(story))
    return _render(story)


def _find_fresh(findings: Sequence[Finding], seen: Collection[Kind]) -> Iterator[_Fresh]:
    """What was found of kinds of which no look has seen anything, and has its place among problems."""
    for finding in findings:
        kind = verdict.KINDS_OF.get(finding.name)
        if kind is not None and kind not in seen and verdict.find_page(finding.name)[0] == verdict.PROBLEMS:
            item = verdict.describe(finding)
            yield _Fresh(item.text, KINDS[kind].remedy, item.is_harm)


def _act(identifier: UUID, action: _Action) -> Response:
    """Do what a form asks for by the API's rules, and lead back to the page; or the page with the refusal in words."""
    reason = request.form.get("reason", "").strip()
    try:
        body = OptionalReason().load({"reason": reason} if reason else {})
        with context.database().transaction() as session:
            by = Actor(actor=pages.viewer().actor, reason=body.get("reason"))
            row = action.do(session, identifier, by, context.now())
    except ma.ValidationError as error:
        return _respond(identifier, 422, faults=by_path(error.messages), reason=reason)
    except Refused as refused:
        return _respond(identifier, 409, refused=str(refused), reason=reason)
    return pages.redirect(f"problems/{ids.public(problems.PREFIX, identifier)}") if row is not None else _missing()


def _open_rows(problem: ProblemStory) -> str:
    """Where a problem's rows are listed, below /ops/: by a saved search, since its cause may be personal."""
    return saved.save(problem.rows.where) if problem.rows is not None else "receipts"


def _open_words(problem: ProblemStory) -> str:
    """What the button says that leads to a problem's rows: also that those of other causes are among them."""
    if not problem.is_exact:
        return f"Open all {_OF_KIND[Kind(problem.row.kind)]}, also of other causes" if problem.rows is not None else ""
    return "Open all messages" if problem.message_query is not None else "Open all in the parking lot"


def _respond(identifier: UUID, status: int, **values: object) -> Response:
    with pages.reading() as session:
        story = answers.read(session, identifier)
    return _render(story, status, **values) if story is not None else _missing()


def _render(story: ProblemStory, status: int = 200, **values: object) -> Response:
    subject = ids.public(problems.PREFIX, story.row.id)
    state = State(story.row.state)
    possible = {name: action.words for name, action in _ACTIONS.items() if refuse(state, action.to, None) is None}
    values = {"faults": {}, "reason": "", "refused": None, "open_all": _open_words(story)} | values
    return pages.render(
        "problem.html", status, about=subject, id=subject, problem=story, row=story.row, possible=possible, **values
    )


def _missing() -> Response:
    return pages.render("missing.html", 404, why="There is no problem with this id, or it is long over.")
