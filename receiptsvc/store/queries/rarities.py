"""Which rare things a term of a search may name exist. Most terms name none: one statement finds that out."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.domain.numbers import INDEXED_DIGITS


class Rarities(NamedTuple):
    """What exists: receipts in `receipt_references` that name the term so, replies of this msgid, requests' keys."""

    recipient: bool
    recipient_end: bool  # its last digits, as far as they are indexed
    transaction_id: bool
    client_ref: bool
    client_ref_prefix: bool  # longer clientRefs begin so
    msgid: bool
    idempotency_key: bool


# The clientRefs behind a term in the order of the index, those that begin with it among them. In the order of code
# points they come first; in that of another collation of PostgreSQL, some that differ in case or marks lie between.
_LONGER = """
SELECT client_ref
FROM (SELECT client_ref FROM receipt_references WHERE client_ref > :client_ref ORDER BY client_ref LIMIT 100) AS behind
WHERE substr(client_ref, 1, length(:client_ref)) = :client_ref
"""
_FIND_LONGER = text(f"SELECT DISTINCT client_ref FROM ({_LONGER}) AS longer ORDER BY client_ref LIMIT :most")  # noqa: S608 - our own words

# As text: building expressions takes longer than the answer.
_STATEMENT = text(f"""
SELECT EXISTS (SELECT 1 FROM receipt_references WHERE recipient IN :writings),
    EXISTS (SELECT 1 FROM receipt_references WHERE recipient_end = :ending),
    EXISTS (SELECT 1 FROM receipt_references WHERE transaction_id = :transaction_id),
    EXISTS (SELECT 1 FROM receipt_references WHERE client_ref = :client_ref),
    EXISTS ({_LONGER}),
    EXISTS (SELECT 1 FROM replies WHERE msgid = :term),
    EXISTS (SELECT 1 FROM idempotency_keys WHERE api_key IN :api_keys AND key = :term)
""").bindparams(  # noqa: S608 - our own words
    bindparam("writings", expanding=True), bindparam("api_keys", expanding=True)
)


def find(
    session: Session,
    *,
    number: str | None = None,
    digits: str | None = None,
    transaction_id: str | None = None,
    term: str = "",
    api_keys: Collection[str] = (),
) -> Rarities:
    """What exists of a term: as a number, its last digits, a transactionID, and any other name."""
    parameters = {
        "writings": numbers.writings(number) if number is not None else [""],
        "ending": digits[-INDEXED_DIGITS:] if digits is not None and len(digits) >= INDEXED_DIGITS else None,
        "transaction_id": transaction_id,
        "client_ref": term or None,
        "term": term or None,
        "api_keys": list(api_keys) or [""],
    }
    return Rarities(*map(bool, session.execute(_STATEMENT, parameters).one()))


def find_longer_client_refs(session: Session, prefix: str, most: int) -> Sequence[str]:
    """Some clientRefs that begin with `prefix`, and are longer, of receipts that were not simply recorded."""
    return session.scalars(_FIND_LONGER, {"client_ref": prefix, "most": most}).all()
