"""Problems: what needs attention, grouped by cause, and what people say about it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.problems import State
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.health import problems
from receiptsvc.web.answers import problems as answers
from receiptsvc.web.answers.problems import ProblemStory
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas.problems import ProblemDetail, ProblemPage, ProblemQuery
from receiptsvc.web.schemas.sending import OptionalReason

blueprint = new_blueprint("problems", "What needs attention, grouped by cause and not by row.")

_PATH = {"problem_id": "The problem's id."}

Action = Callable[[Session, UUID, Actor, datetime], ProblemRow | None]


@endpoint(blueprint, "GET", "/problems", query=ProblemQuery, response=ProblemPage, errors=(422,))
@requires("ops")
def list_problems(query: dict[str, Any]) -> dict[str, Any]:
    """List problems

    Open and acknowledged ones, unless states are asked for. A cause is seen within a minute, and its problem ends by
    itself about a minute after it is gone. While the database is away, that is the problem; the others are told when
    it is back.
    """
    states = [State(state) for state in query["states"]]

    def read() -> Sequence[ProblemRow]:
        with context.database().reading() as session:
            return problems.list_problems(session, context.now(), states)

    rows, is_complete = context.problems().read(read)
    return {"items": [answers.describe(row) for row in rows], "is_complete": is_complete}


@endpoint(blueprint, "GET", "/problems/<id:problem_id>", path=_PATH, response=ProblemDetail, errors=(404, 503))
@requires("ops")
def read_problem(problem_id: str) -> ProblemStory:
    """Read a problem

    With the way to its rows, the newest of them, and what was done about it.
    """
    identifier = ids.parse(problems.PREFIX, problem_id)
    with context.database().reading() as session:
        story = answers.read(session, identifier) if identifier is not None else None
    if story is None:
        raise _no_problem()
    return story


@endpoint(
    blueprint,
    "POST",
    "/problems/<id:problem_id>/acknowledge",
    path=_PATH,
    body=OptionalReason,
    response=ProblemDetail,
    errors=(404, 409, 503),
)
@requires("ops")
def acknowledge_problem(body: dict[str, Any], problem_id: str) -> ProblemStory:
    """Acknowledge a problem

    Somebody works on it. It stays acknowledged until it ends, or is resolved or reopened. 409 if it is not open.
    """
    return _change(problems.acknowledge, problem_id, body.get("reason"))


@endpoint(
    blueprint,
    "POST",
    "/problems/<id:problem_id>/resolve",
    path=_PATH,
    body=OptionalReason,
    response=ProblemDetail,
    errors=(404, 409, 503),
)
@requires("ops")
def resolve_problem(body: dict[str, Any], problem_id: str) -> ProblemStory:
    """Resolve a problem

    It reopens by itself: with the first row or event that is newer, if it has more rows than it had, if it was gone
    meanwhile, or, without rows, if it still holds half a minute later. Nothing is done to its rows. 409 if it is
    resolved already.
    """
    return _change(problems.resolve, problem_id, body.get("reason"))


@endpoint(
    blueprint,
    "POST",
    "/problems/<id:problem_id>/reopen",
    path=_PATH,
    body=OptionalReason,
    response=ProblemDetail,
    errors=(404, 409, 503),
)
@requires("ops")
def reopen_problem(body: dict[str, Any], problem_id: str) -> ProblemStory:
    """Reopen a problem

    Takes back that it was acknowledged or resolved. 409 if it is open. One that is there no more ends again by itself.
    """
    return _change(problems.reopen, problem_id, body.get("reason"))


def _change(action: Action, problem_id: str, reason: str | None) -> ProblemStory:
    """Run `action` in the name of the request's key. Raises Problem: 404 without such a problem, 409 if refused."""
    identifier = ids.parse(problems.PREFIX, problem_id)
    if identifier is None:
        raise _no_problem()
    try:
        with context.database().transaction() as session:
            row = action(session, identifier, Actor(actor=auth.key_name(), reason=reason), context.now())
            story = answers.read(session, identifier) if row is not None else None
    except Refused as refused:
        raise Problem(409, str(refused)) from None
    if story is None:
        raise _no_problem()
    return story


def _no_problem() -> Problem:
    return Problem(404, "There is no problem with this id.")
