"""Saved searches, as addresses hold them: `srch_` and an id. Whoever opens one looks for the same.

So are receipts that were chosen for an action: whoever opens them sees how far that has come.
"""

from collections.abc import Mapping
from typing import TypeVar

from receiptsvc import ids
from receiptsvc.store.access import searches
from receiptsvc.web.http import context
from receiptsvc.web.ops import pages, terms
from receiptsvc.web.ops.terms import Asked, Batch, Cancellation, Chosen, Person, Saved

Kind = TypeVar("Kind", bound=Asked)

_FOLDERS: Mapping[type[Asked], str] = {  # of what is no list
    Person: "people",
    Cancellation: "cancel",
    Batch: "batches",
    Chosen: "receipts/chosen",
}


def save(asked: Asked, after: str | None = None) -> str:
    """Save what is asked for; where it is shown, below /ops/."""
    with context.database().transaction() as session:
        search_id = searches.save(session, terms.write(asked, after), context.now())
    return f"{folder_of(asked)}/{ids.public(searches.PREFIX, search_id)}"


def folder_of(asked: Asked) -> str:
    """Below which address of /ops/ it is shown."""
    return _FOLDERS.get(type(asked), "search")


def load(public_id: str) -> Saved | None:
    """What a search asks for; None if there is none, or it has expired. Raises PanelLate."""
    search_id = ids.parse(searches.PREFIX, public_id)
    if search_id is None:
        return None
    with pages.reading() as session:
        found = searches.find(session, search_id, context.now())
    return terms.read(found) if found is not None else None


def load_as(kind: type[Kind], public_id: str) -> Kind | None:
    """The same, if what it asks for is of this kind; else None."""
    found = load(public_id)
    return found.asked if found is not None and isinstance(found.asked, kind) else None
