"""Who did what, when and why: the newest, of people unless all are asked for, or what a saved search asks for."""

from typing import Any

import marshmallow as ma
from flask import Response, request

from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import PROCESSES, AuditFilter
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.queries import persons
from receiptsvc.web.http import cursors
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import lists, pages, saved
from receiptsvc.web.ops.pages import blueprint, only_looks, signed_in
from receiptsvc.web.schemas.audits import AuditQuery

_ALL = "all"  # in the address: of our own processes too
_TEXTS = ("subject", "actor", "action")
_PAGES = {
    "cnv": "conversations",
    "msg": "messages",
    "prb": "problems",
    "rcp": "receipts",
    "srch": "search",
}  # below /ops/, by the prefix of a subject's id


@blueprint.get("/audit")
@signed_in
def read_newest_audits() -> Response:
    """The newest audits, of people unless all are asked for, and the form that narrows them down."""
    return show_audits(_read_newest())


@blueprint.post("/audit")
@signed_in
@only_looks
def narrow_audits() -> Response:
    """Save what the form asks for, and go there: a subject may hold a number. By POST also shown with its texts."""
    if pages.reveals():
        return show_audits(_read_newest())
    typed = {name: request.form.get(name, "").strip() for name in (*_TEXTS, *lists.TIMES)}
    given = {name: lists.as_moment(text) if name in lists.TIMES else text for name, text in typed.items() if text}
    is_of_all = request.form.get("by") == _ALL
    try:
        asked = AuditQuery().load(given)
    except ma.ValidationError as error:
        return _render(422, form={**typed, "is_of_all": is_of_all}, faults=by_path(error.messages))
    is_by_people = not is_of_all and asked.get("actor") not in PROCESSES
    return pages.redirect(saved.save(AuditFilter(is_by_people=is_by_people, **{name: asked[name] for name in given})))


def show_audits(where: AuditFilter, of: str | None = None) -> Response:
    """A page of audits. `of`: the search's id. Raises ValidationError for a position of another list, and PanelLate."""
    position = lists.read_position(cursors.AUDITS)
    with pages.reading() as session:
        page = audits.list_audits(session, where, limit=lists.PAGE_SIZE, after=position)
    return _render(
        about=of or "audit",
        of=of,
        is_by_people=where.is_by_people,
        form={
            "is_of_all": not where.is_by_people,
            **{name: getattr(where, name) for name in _TEXTS},
            **{name: lists.write_time(getattr(where, name)) for name in lists.TIMES},
        },
        items=page.items,
        looked_to=page.next and page.next.at,
        next_cursor=page.next and cursors.AUDITS.encode(page.next),
        is_first=position is None,
    )


def _read_newest() -> AuditFilter:
    return AuditFilter(is_by_people=request.args.get("by") != _ALL)


def _render(status: int = 200, *, about: str | None = None, **values: Any) -> Response:
    known = {"faults": {}, "page_of": _page_of, "pair_of": suppressions.pair_of, "number_of": persons.number_of}
    return pages.render("audit.html", status, about=about, **(known | values))


def _page_of(subject: str) -> str | None:
    """The page of what an audit is about, below /ops/; None: it has none, or no address may name it."""
    folder = _PAGES.get(subject.partition("_")[0])
    return f"{folder}/{subject}" if folder is not None else None
