"""Loads what decides which messages a batch of receipts is about. The rules are in `domain.correlation`."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.domain.correlation import MatchContext, TransactionLinks
from receiptsvc.domain.messages import Receipt
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import LockedMessage


def load(
    session: Session, receipts: Sequence[tuple[ClaimedReceipt, Receipt]], *, locks_messages: bool = True
) -> MatchContext[LockedMessage]:
    """Load every message that these receipts may be about, and lock them unless the caller only looks."""
    by_transaction: defaultdict[str, TransactionLinks] = defaultdict(TransactionLinks)
    for link in transitions.find_transaction_links(
        session, {receipt.transaction_id for _, receipt in receipts if receipt.transaction_id}
    ):
        by_transaction[link.transaction_id].add(link)
    message_ids = {row.message_id for row, _ in receipts} | {row.assigned_to for row, _ in receipts}
    fitting = {
        (receipt.transaction_id, receipt.recipient): by_transaction[receipt.transaction_id].to(receipt.recipient)
        for _, receipt in receipts
        if receipt.transaction_id and receipt.transaction_id in by_transaction
    }
    message_ids |= {links[0].message_id for links in fitting.values() if len(links) == 1}  # of several none is matched
    # By clientRef only where nothing better is known: a campaign's million messages may share one clientRef.
    references = {
        (receipt.client_ref, numbers.ending(receipt.recipient))
        for row, receipt in receipts
        if row.message_id is None
        and receipt.client_ref
        and receipt.recipient
        and not fitting.get((receipt.transaction_id or "", receipt.recipient))
    }
    by_client_ref = transitions.find_candidates(session, references)
    message_ids.update(*by_client_ref.values())
    return MatchContext(
        messages=transitions.lock_messages(
            session, {message_id for message_id in message_ids if message_id is not None}, takes_lock=locks_messages
        ),
        by_transaction=dict(by_transaction),
        by_client_ref=by_client_ref,
    )
