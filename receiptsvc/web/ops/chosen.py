"""Receipts that were chosen to be worked on again or dismissed together: the preview, the doing, and its undoing.

The preview fixes which ones are meant. What is confirmed is done to these and to no others, in slices: a request does
as many as it has time for, and the page goes on by a button, or by itself where there is script.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import marshmallow as ma
from flask import Response, request

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.errors import Refused
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.inbox import receipt_groups, receipts
from receiptsvc.store.inbox.receipt_groups import POSSIBLE, Group, GroupAction, Progress
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.web.http import context, deadlines
from receiptsvc.web.ops import pages, saved
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.ops.terms import Chosen, PackedIds, pack_ids
from receiptsvc.web.schemas import receipts as schemas

PREVIEW = "preview"  # the action of the form that chooses

_MAX_TICKED = 500
_EXAMPLES = 10
_SHARE = 0.4  # of a page's time that is spent on slices: one more may be under way by then
_GAPS = 0.2, 2.0  # seconds before the page goes on by itself: in a round, and before the next one


class _Verb(NamedTuple):
    """What can be done. `schema`: of its reason."""

    action: GroupAction
    schema: type[ma.Schema]
    participle: str


_VERBS = {  # by their words in the form
    "retry": _Verb(GroupAction.RETRY, schemas.Retry, "retried"),
    "dismiss": _Verb(GroupAction.DISMISS, schemas.Dismissal, "dismissed"),
}
POSSIBLE_BY_WORD = {word: POSSIBLE[verb.action] for word, verb in _VERBS.items()}


class Choice(NamedTuple):
    """Receipts that can be acted on. `is_all`, `unfit`: as in `Chosen`."""

    receipt_ids: Sequence[UUID]
    is_all: bool = True
    unfit: int = 0


def choose(where: ReceiptFilter) -> str:
    """Fix what the form chooses among what a filter finds; the address of its preview.

    Raises ValidationError and PanelLate.
    """
    verb = _VERBS.get(request.form.get("do", ""))
    if verb is None:
        raise ma.ValidationError({"do": ["Choose what is to be done."]})
    reason = request.form.get("reason", "").strip()
    if not reason and verb.action is GroupAction.DISMISS:
        raise ma.ValidationError({"reason": [pages.NO_REASON]})
    body = verb.schema().load({"reason": reason} if reason else {})
    possible = POSSIBLE[verb.action]
    if request.form.get("which") == "all":
        possible = tuple(each for each in possible if each in where.outcomes or not where.outcomes)
        choice = _choose_all(replace(where, outcomes=possible), verb)
    else:
        choice = _choose_ticked(possible, verb)
    chosen = Chosen(
        action=verb.action.value,
        reason=body.get("reason"),
        outcomes=tuple(possible),
        packed_ids=pack_ids(choice.receipt_ids),
        is_all=choice.is_all,
        unfit=choice.unfit,
    )
    return saved.save(chosen)


@blueprint.route("/receipts/chosen/<search_id>", methods=["GET", "POST"])
@signed_in
def act_on_chosen(search_id: str) -> Response:
    """What is going to be done, how far that is, or what was done; by POST some more of it is done first."""
    asked = saved.load_as(Chosen, search_id)
    if asked is None:
        why = (
            "This choice is no longer kept: it is for a day, and for 30 days if something was done. What was done then "
            "stands in the audit."
        )
        return pages.render("refused.html", 404, heading="No longer kept", why=why)
    if request.form.get("action") not in {"go", "undo"}:
        return _show(search_id, asked)
    is_undo = request.form["action"] == "undo"
    try:
        bulk_actions.act_on_group(
            context.database(),
            _group_of(search_id, asked),
            GroupAction.RESTORE if is_undo else GroupAction(asked.action),
            Actor(actor=pages.viewer().actor, reason=None if is_undo else asked.reason),
            context.now,
            seconds=deadlines.SECONDS * _SHARE,
        )
    except Refused as refused:
        return _show(search_id, asked, 409, refused=str(refused))
    return pages.redirect(f"receipts/chosen/{search_id}")


def _choose_all(where: ReceiptFilter, verb: _Verb) -> Choice:
    if not where.outcomes:
        raise ma.ValidationError({"which": [f"What this filter finds can't be {verb.participle}."]})
    with pages.reading_much() as session:
        receipt_ids, is_all = receipt_groups.choose(session, where, seconds=deadlines.SECONDS * _SHARE)
    if not receipt_ids:
        raise ma.ValidationError({"which": [f"Nothing that this filter finds can be {verb.participle}."]})
    return Choice(receipt_ids, is_all)


def _choose_ticked(possible: Sequence[str], verb: _Verb) -> Choice:
    named = request.form.getlist("receipt")
    ticked = {identifier for identifier in (ids.parse("rcp", each) for each in named) if identifier is not None}
    if not ticked:
        raise ma.ValidationError({"which": ["Tick at least one row, or choose all that this filter finds."]})
    if len(ticked) > _MAX_TICKED:
        raise ma.ValidationError({"which": [f"Tick at most {_MAX_TICKED} rows."]})
    with pages.reading() as session:
        entries = receipts.find_entries(session, ticked)
    fit = [entry.row.id for entry in entries if entry.outcome in possible]
    if not fit:
        raise ma.ValidationError({"which": [f"None of those that were ticked can be {verb.participle} any more."]})
    return Choice(fit, unfit=len(ticked) - len(fit))


def _show(search_id: str, asked: Chosen, status: int = 200, *, refused: str | None = None) -> Response:
    group = _group_of(search_id, asked)
    with pages.reading() as session:
        progress = receipt_groups.read_progress(session, group, GroupAction(asked.action))
        undone = receipt_groups.read_progress(session, group, GroupAction.RESTORE)
        examples = receipts.find_entries(session, group.receipt_ids[:_EXAMPLES])
    return pages.render(
        "chosen.html",
        status,
        about=search_id,
        count=len(group.receipt_ids),
        asked=asked,
        is_dismissal=asked.action == GroupAction.DISMISS,
        progress=progress,
        undone=undone,
        examples=examples,
        refused=refused,
        gap=_find_gap(undone if undone.at is not None else progress),
        max_chosen=receipt_groups.MAX_CHOSEN,
    )


def _find_gap(progress: Progress) -> float | None:
    """After how many seconds the page goes on by itself; None: there is nothing to go on with."""
    if progress.at is None or progress.is_over:
        return None
    return _GAPS[1] if progress.has_round_ended else _GAPS[0]


def _group_of(search_id: str, asked: Chosen) -> Group:
    return Group(id=search_id, receipt_ids=PackedIds(asked.packed_ids), outcomes=asked.outcomes)
