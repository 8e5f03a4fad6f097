"""Callbacks that were refused at the door: how many with which key, and the newest few, without what is personal."""

from flask import Response

from receiptsvc.store.inbox import counters, rejected
from receiptsvc.web.ops import pages, raw_callbacks
from receiptsvc.web.ops.pages import blueprint, signed_in

_SHOWN = 20
_WHOLE = "refused"


@blueprint.route("/receipts/refused", methods=["GET", "POST"])
@signed_in
def read_refused() -> Response:
    """The sample of what was refused. Its queries are hidden until they are asked for."""
    with pages.reading() as session:
        by_key = rejected.count_by_kid(session)
        newest = rejected.find_newest(session, _SHOWN)
        total = counters.read_one(session, counters.REFUSED)
    is_revealed = pages.reveals()
    texts = [raw_callbacks.decode(each.query) for each in newest]
    return pages.render(
        "refused_callbacks.html",
        about=_WHOLE,
        by_key=by_key,
        total=total,
        sampled=sum(each.callbacks for each in by_key),
        max_kept=rejected.MAX_KEPT,
        items=[
            (each, text if is_revealed else raw_callbacks.hide(text)) for each, text in zip(newest, texts, strict=True)
        ],
    )
