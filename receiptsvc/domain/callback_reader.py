"""The interface of what reads a gateway's callbacks. A vendor's folder has one; `dynmark.readers` names it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.domain.statuses import Report, Source, Status


class CallbackReader(Protocol):
    """Tells what callbacks say, and which statuses their words mean.

    It depends on nothing but bytes, settings and the time of receipt, by which a time that could mean several is read.
    """

    @property
    def version(self) -> str:
        """Of the words: another one whenever `status_for` may answer otherwise."""
        ...

    def read_receipts(self, callback: Callback, received_at: datetime) -> Sequence[Receipt | Unreadable]:
        """The receipts of a callback, in their order; never empty, never raises. Unusable ones are Unreadable."""
        ...

    def read_reply(self, callback: Callback, received_at: datetime) -> Reply:
        """The reply of a callback. Raises Unreadable."""
        ...

    def status_for(self, status_id: str | None, description: str | None) -> Status | None:
        """The status that a receipt's words mean; None: unmapped."""
        ...


def report_of(receipt: Receipt, received_at: datetime, reader: CallbackReader) -> Report:
    """What a receipt reports, by the reader's words."""
    return Report(
        source=Source.GATEWAY,
        status=reader.status_for(receipt.status_id, receipt.description),
        received_at=received_at,
        occurred_at=receipt.occurred_at,
        provider_status_id=receipt.status_id,
        provider_description=receipt.description,
    )
