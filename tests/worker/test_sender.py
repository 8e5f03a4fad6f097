"""What a call may take, and what of a message goes on the wire."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.messages import NewMessage, content_of
from receiptsvc.store.core.db import Database
from receiptsvc.store.outbound.accounts import Call
from receiptsvc.store.outbound.claims import ClaimedMessage
from receiptsvc.worker import sender
from receiptsvc.worker.sender import outbound
from tests.support.rows import message, seconds

KEYS = {"CALLBACK_KEYS": "a" * 16, "API_KEYS": "a:read:" + "b" * 16}


def claimed(message: NewMessage) -> ClaimedMessage:
    return ClaimedMessage(
        **content_of(message),
        id=message.id,
        recipient=message.recipient,
        message_guid=message.message_guid,
        transport=message.transport,
        tries=1,
        call_limit=None,
        unclear_since=None,
        suspicion=None,
    )


def test_a_lease_outlives_its_call() -> None:
    assert Settings.from_env(KEYS).lease_seconds == 160


def test_a_country_goes_along_only_with_its_own_numbers_and_a_time_only_if_it_is_to_come() -> None:
    settings = Settings.from_env({**KEYS, "PUBLIC_URL": "https://x.org"})
    british = message("447700900001", country_iso_code="GBR", deliver_after=seconds(-1))
    french = message("33612345678", country_iso_code="GBR", deliver_after=seconds(1))
    told = [outbound(settings, claimed(one), seconds(0)) for one in (british, french)]
    assert [(one.country_iso_code, one.deliver_after) for one in told] == [("GBR", None), (None, seconds(1))]
    assert all(one.callback_url.startswith("https://x.org/callbacks/receipts/") for one in told)


def test_an_answer_that_can_not_be_recorded_is_recorded_later(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_RECORD_AGAIN_SECONDS", 0.01)
    real, times = database.transaction, list[int]()

    @contextmanager
    def transaction() -> Iterator[object]:
        times.append(1)
        if len(times) < 4:
            raise StorageUnavailable("away", "unreachable")
        with real() as session:
            yield session

    monkeypatch.setattr(database, "transaction", transaction)
    call = Call(account="", knows_up_to=0)
    sender._record(database, {}, Settings.from_env(KEYS), threading.Event(), call)  # noqa: SLF001 - the end of a call
    first, *rest = [record.message for record in caplog.records]
    assert (first, set(rest) - {"fault.over"}) == ("send.result_not_recorded_yet", set()), (
        "that it is over, if it took long"
    )
