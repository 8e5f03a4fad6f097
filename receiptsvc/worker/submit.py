"""Accepted messages go to the gateway: claim and commit, call with no transaction open, record and commit."""

import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from uuid import UUID

from receiptsvc import logs, tokens
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.messages import OutboundMessage, Outcome, SendResult
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.store import sending
from receiptsvc.store.db import Database
from receiptsvc.store.models import Message
from receiptsvc.store.sending import Ended, Repeats

_FIRST_HOLD = timedelta(seconds=30)
_LONGEST_HOLD = timedelta(minutes=5)
_RECORD_AGAIN_SECONDS = 1.0
_RECORD_SECONDS_AFTER_STOP = 15.0


class _Stopped(Exception):
    """Leaves a transaction, and nothing of it behind."""


class AccountHold:
    """Whether sending is held because the gateway refused our credentials. Shared by every thread that sends.

    While it is held nothing is claimed, but for one message at growing gaps, to see whether the account is back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gap = timedelta(0)  # none: sending is free
        self._probe_at = datetime.min.replace(tzinfo=UTC)
        self._is_probing = False

    @property
    def is_on(self) -> bool:
        """Whether the account was refused and has not worked since."""
        return bool(self._gap)

    def allowance(self, batch_size: int, now: datetime) -> int:
        """How many messages may be claimed now: a batch, one as a probe, or none."""
        with self._lock:
            if not self._gap:
                return batch_size
            if now < self._probe_at:
                return 0
            self._probe_at, self._is_probing = now + self._gap, True
            return 1

    def probe_later(self) -> None:
        """Take back a probe for which there was no message."""
        with self._lock:
            if self._is_probing:
                self._probe_at, self._is_probing = datetime.min.replace(tzinfo=UTC), False

    def note(self, outcomes: Iterable[Outcome], now: datetime) -> None:
        """Learn from how a call ended."""
        seen = set(outcomes)
        with self._lock:
            if Outcome.ACCOUNT_REFUSED in seen:
                if self._is_probing or not self._gap:  # several calls may learn of one refusal
                    self._gap = min(self._gap * 2 or _FIRST_HOLD, _LONGEST_HOLD)
                self._probe_at, self._is_probing = now + self._gap, False
                logs.error("send.account_refused", next_probe_seconds=self._gap.total_seconds())
            elif self._gap and Outcome.TAKEN in seen:  # a refusal may be our own, made without a call
                self._gap = timedelta(0)
                logs.info("send.account_works_again")


def submit(database: Database, gateway: Gateway, settings: Settings, hold: AccountHold, stop: threading.Event) -> int:
    """Give one batch of what is due to the gateway; how many messages. Raises StorageUnavailable."""
    started = datetime.now(UTC)
    allowed = hold.allowance(settings.batch_size, started)
    if not allowed:
        return 0
    try:
        with database.transaction() as session:
            claimed = sending.claim(
                session,
                started,
                limit=allowed,
                lease=timedelta(seconds=settings.lease_seconds),
                repeats=repeats(settings),
            )
            if stop.is_set():  # the claim may have waited for its turn; no new call starts now
                raise _Stopped
    except _Stopped:
        return 0
    if not claimed:
        hold.probe_later()
        return 0
    results = gateway.send(
        [_outbound(settings, message) for message in claimed],
        repeats=frozenset(message.id for message in claimed if message.unclear_since is not None),
    )
    ended = {message.id: Ended(number=message.tries, result=results[message.id]) for message in claimed}
    now = datetime.now(UTC)
    hold.note((result.outcome for result in results.values()), now)
    _log(results.values(), (now - started).total_seconds())
    _record(database, ended, now, settings, stop)
    return len(claimed)


def _record(
    database: Database, ended: Mapping[UUID, Ended], now: datetime, settings: Settings, stop: threading.Event
) -> None:
    """Keep what a call's answer said, through an outage too: an answer that is forgotten becomes a lost one."""
    give_up_at = None
    while True:
        try:
            with database.transaction() as session:
                sending.record_results(session, ended, now, repeats(settings))
        except StorageUnavailable as error:
            logs.warning("send.result_not_recorded_yet", error=logs.describe(error))
            if stop.is_set():
                give_up_at = give_up_at or monotonic() + _RECORD_SECONDS_AFTER_STOP
                if monotonic() > give_up_at:
                    raise
            sleep(_RECORD_AGAIN_SECONDS)
        else:
            return


def repeats(settings: Settings) -> Repeats:
    """When messages may be offered again, as the settings say."""
    return Repeats(
        after=timedelta(seconds=settings.resend_after_seconds),
        duration=timedelta(seconds=settings.resend_for_seconds),
    )


def _outbound(settings: Settings, message: Message) -> OutboundMessage:
    return OutboundMessage(
        id=message.id,
        recipient=message.recipient,
        text=message.text,
        message_guid=message.message_guid,
        callback_url=tokens.receipt_url(settings, message.id),
        originator=message.originator,
        client_ref=message.client_ref,
        country_iso_code=message.country_iso_code,
        deliver_after=message.deliver_after,
        valid_until=message.valid_until,
        reject_unicode=message.reject_unicode,
        include_message_text=message.include_message_text,
        filter_set_name=message.filter_set_name,
        impersonate_user_name=message.impersonate_user_name,
        additional_options=message.additional_options,
    )


def _log(results: Iterable[SendResult], seconds: float) -> None:
    counts: dict[str, int] = {}
    for result in results:
        counts[result.outcome] = counts.get(result.outcome, 0) + 1
    logs.info("send.called", seconds=round(seconds, 3), **counts)
