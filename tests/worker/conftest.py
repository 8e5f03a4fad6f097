"""What several tests of the worker look at."""

from typing import Any
from uuid import UUID

import pytest

from receiptsvc.store.core.db import Database
from receiptsvc.worker import receipt_processor


@pytest.fixture
def processed_alone(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The receipts that are processed alone, in this order, after a try of theirs was counted."""
    receipt_ids: list[UUID] = []
    real = receipt_processor._process_alone  # noqa: SLF001 - afterwards nothing shows it

    def note(database: Database, receipt_id: UUID, *args: Any, **more: Any) -> None:
        receipt_ids.append(receipt_id)
        real(database, receipt_id, *args, **more)

    monkeypatch.setattr(receipt_processor, "_process_alone", note)
    return receipt_ids
