"""Accepted messages go to the gateway: claim and commit, call with no transaction open, record and commit."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic, sleep
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import logs, tokens
from receiptsvc.config import Settings
from receiptsvc.domain import numbers
from receiptsvc.domain.accounts import account_of
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.messages import OutboundMessage, SendResult, content_of
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.store.core.db import Database
from receiptsvc.store.outbound import accounts, call_results, claims, send_gate
from receiptsvc.store.outbound.accounts import Call, Gate
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.outbound.claims import Claim, ClaimedMessage

_SPREAD = 0.2  # so that what failed together, everywhere, does not come back together
_RECORD_AGAIN_SECONDS = 1.0
_RECORD_SECONDS_AFTER_STOP = 15.0


class _Stopped(Exception):
    """Leaves a transaction, and nothing of it behind."""


def submit(
    database: Database,
    gateways: Mapping[str, Gateway],
    settings: Settings,
    stop: threading.Event,
    *,
    on_claim: Callable[[], None] = lambda: None,
    on_end: Callable[[Collection[SendResult], datetime], None] = lambda *_: None,
) -> int:
    """Give one batch of what is due to the gateway; how many messages, or how many do not go out any more.

    Raises StorageUnavailable. `gateways`: by transport. `on_claim` is called before the call is made: there may be
    another batch. `on_end` is told how the call ended, and when it began.
    """
    started = database.clock.now()
    try:
        with database.transaction() as session:
            allowed = send_gate.request(session, started, settings.batch_size, settings.sends_per_second)
            gates = accounts.gates(session, started) if allowed.most else ()
            claim = _claim(session, started, allowed.most, settings, gates)
            claimed = claim.messages
            if stop.is_set() or not (claimed or claim.withdrawn):
                raise _Stopped  # the claim may have waited for its turn; no new call starts now
            if not claimed:
                return claim.withdrawn
            gate = claims.gate_of(claimed[0], gates)
            if gate is not None and not accounts.take_turn(session, gate, started):
                raise _Stopped
            send_gate.spend(session, started, len(claimed), settings.sends_per_second)
    except _Stopped:
        return 0
    on_claim()
    results = gateways[claimed[0].transport].send(
        [outbound(settings, message, started) for message in claimed],
        repeats=frozenset(message.id for message in claimed if message.unclear_since is not None),
    )
    on_end(results.values(), started)
    ended = {message.id: AttemptResult(number=message.tries, result=results[message.id]) for message in claimed}
    _log(results.values(), (database.clock.now() - started).total_seconds())
    call = Call(
        account=account_of(claimed[0].impersonate_user_name),
        knows_up_to=allowed.knows_up_to,
        is_alone=allowed.is_probe or gate is not None,
    )
    if _record(database, ended, settings, stop, call):
        release(database, settings)
    return len(claimed)


def _claim(session: Session, now: datetime, most: int, settings: Settings, gates: Sequence[Gate]) -> Claim:
    if not most:
        return Claim(messages=())
    lease = timedelta(seconds=settings.lease_seconds)
    return claims.claim(session, now, limit=most, lease=lease, repeats=repeats(settings), gates=gates)


def release(database: Database, settings: Settings) -> None:
    """Let messages go on whose account has shown what is with it. Raises StorageUnavailable."""
    is_more = True
    while is_more:
        with database.transaction() as session:
            is_more = call_results.release(session, database.clock.now(), repeats(settings)) > 0


def _record(
    database: Database, ended: Mapping[UUID, AttemptResult], settings: Settings, stop: threading.Event, call: Call
) -> bool:
    """Keep what a call's answer said, through an outage too: an answer that is forgotten becomes a lost one.

    Gives whether messages that wait may go on now.
    """
    now, give_up_at = database.clock.now(), None
    while True:
        try:
            with database.transaction() as session:
                has_decided = call_results.record_results(
                    session, ended, now, repeats(settings), is_one_call=True, call=call
                )
        except StorageUnavailable as error:
            logs.fault("send.result_not_recorded_yet", error)
            if stop.is_set():
                give_up_at = give_up_at or monotonic() + _RECORD_SECONDS_AFTER_STOP
                if monotonic() > give_up_at:
                    raise
            sleep(_RECORD_AGAIN_SECONDS)
        else:
            logs.over("send.result_not_recorded_yet")
            return has_decided


def repeats(settings: Settings) -> RepeatPolicy:
    """When messages may be offered again, as the settings say."""
    return RepeatPolicy(
        after=timedelta(seconds=settings.resend_after_seconds),
        duration=timedelta(seconds=settings.resend_for_seconds),
        transports=IGNORE_REPEATS,
        spread=_SPREAD,
    )


def outbound(settings: Settings, message: ClaimedMessage, now: datetime) -> OutboundMessage:
    """What of a message goes to the gateway, with our callback as its address for receipts."""
    is_ahead = message.deliver_after is not None and message.deliver_after > now
    content = content_of(message) | {
        "country_iso_code": _country(message),
        "deliver_after": message.deliver_after if is_ahead else None,
    }
    return OutboundMessage(
        **content,
        id=message.id,
        recipient=message.recipient,
        message_guid=message.message_guid,
        callback_url=tokens.receipt_url(settings, message.id),
    )


def _country(message: ClaimedMessage) -> str | None:
    """The country that goes along, for a number of that country only: beside another's it could be misread as local."""
    return message.country_iso_code if numbers.is_of_country(message.recipient, message.country_iso_code) else None


def _log(results: Iterable[SendResult], seconds: float) -> None:
    counts: dict[str, int] = {}
    for result in results:
        counts[result.outcome] = counts.get(result.outcome, 0) + 1
    logs.info("send.called", seconds=round(seconds, 3), **counts)
