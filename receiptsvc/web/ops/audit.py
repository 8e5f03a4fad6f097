"""Who did what, when and why: the newest of all, or what a saved search asks for."""

from typing import Any

import marshmallow as ma
from flask import Response, request

from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import AuditFilter
from receiptsvc.web.http import cursors
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import lists, pages, saved
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.schemas.audits import AuditQuery

_TEXTS = ("subject", "actor", "action")
_PAGES = {
    "msg": "messages",
    "prb": "problems",
    "rcp": "receipts",
    "srch": "search",
}  # below /ops/, by the prefix of a subject's id


@blueprint.get("/audit")
@signed_in
def read_newest_audits() -> Response:
    """The newest audits of all, and the form that narrows them down."""
    return show_audits(AuditFilter())


@blueprint.post("/audit")
@signed_in
def narrow_audits() -> Response:
    """Save what the form asks for, and go there: a subject may hold a number. By POST also shown with its texts."""
    if pages.reveals():
        return show_audits(AuditFilter())
    typed = {name: request.form.get(name, "").strip() for name in (*_TEXTS, *lists.TIMES)}
    given = {name: lists.as_moment(text) if name in lists.TIMES else text for name, text in typed.items() if text}
    try:
        asked = AuditQuery().load(given)
    except ma.ValidationError as error:
        return _render(422, form=typed, faults=by_path(error.messages))
    return pages.redirect(saved.save(AuditFilter(**{name: asked[name] for name in given})))


def show_audits(where: AuditFilter, of: str | None = None) -> Response:
    """A page of audits. `of`: the search's id. Raises ValidationError for a position of another list, and PanelLate."""
    position = lists.read_position(cursors.AUDITS)
    with pages.reading() as session:
        page = audits.list_audits(session, where, limit=lists.PAGE_SIZE, after=position)
    return _render(
        about=of or "audit",
        of=of,
        form={
            **{name: getattr(where, name) for name in _TEXTS},
            **{name: lists.write_time(getattr(where, name)) for name in lists.TIMES},
        },
        items=page.items,
        looked_to=page.next and page.next.at,
        next_cursor=page.next and cursors.AUDITS.encode(page.next),
        is_first=position is None,
    )


def _render(status: int = 200, *, about: str | None = None, **values: Any) -> Response:
    return pages.render("audit.html", status, about=about, **({"faults": {}, "page_of": _page_of} | values))


def _page_of(subject: str) -> str | None:
    """The page of what an audit is about, below /ops/; None: it has none, or no address may name it."""
    folder = _PAGES.get(subject.partition("_")[0])
    return f"{folder}/{subject}" if folder is not None else None
