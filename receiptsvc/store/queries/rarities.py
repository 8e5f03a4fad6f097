"""Which rare things a term of a search may name exist. Most terms name none: one statement finds that out."""

from collections.abc import Collection
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
    msgid: bool
    idempotency_key: bool


# As text: building expressions takes longer than the answer.
_STATEMENT = text("""
SELECT EXISTS (SELECT 1 FROM receipt_references WHERE recipient IN :writings),
    EXISTS (SELECT 1 FROM receipt_references WHERE recipient_end = :ending),
    EXISTS (SELECT 1 FROM receipt_references WHERE transaction_id = :transaction_id),
    EXISTS (SELECT 1 FROM receipt_references WHERE client_ref = :client_ref),
    EXISTS (SELECT 1 FROM replies WHERE msgid = :term),
    EXISTS (SELECT 1 FROM idempotency_keys WHERE api_key IN :api_keys AND key = :term)
""").bindparams(bindparam("writings", expanding=True), bindparam("api_keys", expanding=True))


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
