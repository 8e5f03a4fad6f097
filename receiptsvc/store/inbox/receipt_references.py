"""What a receipt names that was not simply recorded, written down so that it is found by that.

The worker writes it for the rare outcomes alone. What is recorded with a word is found by its message. Which writings
of a number are one number, `domain.numbers` says.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, delete
from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.domain.inbox import RECORDED, ReceiptOutcome
from receiptsvc.domain.messages import Receipt, Reply
from receiptsvc.domain.numbers import INDEXED_DIGITS
from receiptsvc.domain.references import trim_client_ref
from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import Equals
from receiptsvc.store.core.models import ReceiptReferences

NAMING = frozenset(  # the outcomes of which it is written down
    {ReceiptOutcome.UNMATCHED, ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD, ReceiptOutcome.UNMAPPED}
)
FORGETTING = RECORDED - NAMING  # those with which it is deleted

_MAX_KEY = 200  # characters of a description by which it is compared: an index holds no longer ones


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFilter:
    """What a receipt must name: all that is given. `recipient`: by any of its writings."""

    transaction_id: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    recipient_ends: str | None = None  # at least INDEXED_DIGITS
    provider_description: str | None = None  # in any case
    provider_status_id: str | None = None
    kid: str | None = None


def row_of(receipt_id: UUID, named: Receipt | Reply | None, kid: str | None) -> dict[str, object] | None:
    """The row of a receipt that names this; None if it names nothing. `named`: None if it can't be read."""
    receipt = named if isinstance(named, Receipt) else None
    number = named.sender if isinstance(named, Reply) else receipt and receipt.recipient
    recipient = numbers.fold(number) or None if number else None
    description = receipt and receipt.description
    values = {
        "recipient": recipient,
        "recipient_end": recipient and recipient[-INDEXED_DIGITS:],
        "transaction_id": receipt and receipt.transaction_id,
        "client_ref": named and named.client_ref,
        "provider_status_id": receipt and receipt.status_id,
        "provider_description": description,
        "description_key": description and fold_description(description),
        "kid": kid,
    }
    return {"receipt_id": receipt_id, **values} if any(values.values()) else None


def write(session: Session, rows: Sequence[Mapping[str, object]], *, replaces: bool = True) -> None:
    """Write rows of `row_of`. `replaces`: in place of earlier ones of the same receipts, which else stay."""
    if not rows:
        return
    statement = bulk.upsert(session, ReceiptReferences)
    if replaces:
        new_values = {name: statement.excluded[name] for name in rows[0] if name != "receipt_id"}
        statement = statement.on_conflict_do_update(index_elements=["receipt_id"], set_=new_values)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=["receipt_id"])
    bulk.execute_all(session, statement, ReceiptReferences, rows)


def forget(session: Session, receipt_ids: Collection[UUID]) -> None:
    """Delete what these receipts name: they are recorded now."""
    if receipt_ids:
        is_meant = bulk.among(session, ReceiptReferences.receipt_id, receipt_ids)
        session.execute(delete(ReceiptReferences).where(is_meant).execution_options(synchronize_session=False))


def ranges(where: ReferenceFilter) -> list[list[Equals]]:
    """For each given field the column with the values that fit it, each a range of an index; the smallest first."""
    row = ReceiptReferences
    found: list[list[Equals]] = []
    if where.transaction_id is not None:
        found.append([(row.transaction_id, where.transaction_id)])
    if where.recipient is not None:
        found.append([(row.recipient, each) for each in numbers.writings(where.recipient)])
    if where.client_ref is not None:
        found.append([(row.client_ref, trim_client_ref(where.client_ref) or where.client_ref)])
    if where.recipient_ends is not None:
        found.append([(row.recipient_end, where.recipient_ends[-INDEXED_DIGITS:])])
    if where.provider_description is not None:
        found.append([(row.description_key, fold_description(where.provider_description))])
    if where.provider_status_id is not None:
        found.append([(row.provider_status_id, where.provider_status_id)])
    if where.kid is not None:
        found.append([(row.kid, where.kid)])
    return found


def further_condition(where: ReferenceFilter) -> list[ColumnElement[bool]]:
    """What `ranges` can't say: digits before the last ones that are indexed."""
    if where.recipient_ends is None or len(where.recipient_ends) <= INDEXED_DIGITS:
        return []
    return [ReceiptReferences.recipient.endswith(where.recipient_ends, autoescape=True)]


def fold_description(description: str) -> str:
    """A description as it is compared."""
    return " ".join(description.casefold().split())[:_MAX_KEY]
