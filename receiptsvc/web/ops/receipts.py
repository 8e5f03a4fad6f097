"""A receipt's page: what became of it and why, what it says, as it came and as it is read, and what was done to it."""

from flask import Response

from receiptsvc import ids
from receiptsvc.domain import meanings
from receiptsvc.store.inbox import receipts
from receiptsvc.web.ops import callback_reader, pages, raw_callbacks
from receiptsvc.web.ops.pages import blueprint, signed_in


@blueprint.route("/receipts/<receipt_id>", methods=["GET", "POST"])
@signed_in
def read_receipt(receipt_id: str) -> Response:
    """One that was recorded, or one that is parked."""
    identifier = ids.parse("rcp", receipt_id)
    if identifier is None:
        return _missing()
    with pages.reading() as session:
        receipt = receipts.find_receipt(session, identifier)
    if receipt is None:
        return _missing()
    shown = raw_callbacks.show(receipt.row, receipt.callback, callback_reader.current(), is_revealed=pages.reveals())
    return pages.render(
        "receipt.html",
        about=ids.public("rcp", identifier),
        id=ids.public("rcp", identifier),
        receipt=receipt,
        message_id=ids.public("msg", receipt.message_id) if receipt.message_id else None,
        meaning=meanings.OUTCOMES[receipt.outcome],
        shown=shown,
    )


def _missing() -> Response:
    return pages.render("missing.html", 404, why="There is no receipt with this id.")
