"""Saved searches, as addresses hold them: `srch_` and an id. Whoever opens one looks for the same."""

from receiptsvc import ids
from receiptsvc.store.access import searches
from receiptsvc.web.http import context
from receiptsvc.web.ops import pages, terms
from receiptsvc.web.ops.terms import Asked, Person, Saved

PREFIX = "srch"


def save(asked: Asked, after: str | None = None) -> str:
    """Save what is asked for; where it is shown, below /ops/."""
    with context.database().transaction() as session:
        search_id = searches.save(session, terms.write(asked, after), context.now())
    folder = "people" if isinstance(asked, Person) else "search"
    return f"{folder}/{ids.public(PREFIX, search_id)}"


def load(public_id: str) -> Saved | None:
    """What a search asks for; None if there is none, or it has expired. Raises PanelLate."""
    search_id = ids.parse(PREFIX, public_id)
    if search_id is None:
        return None
    with pages.reading() as session:
        found = searches.find(session, search_id, context.now())
    return terms.read(found) if found is not None else None
