"""The worker process: threads that process and send until told to stop, and a word about it for ops.

Told to stop, no thread begins anything new. A call to the gateway that does not end within 20 s is left to its lease.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain import opt_outs
from receiptsvc.domain.errors import ReceiptsvcError, StorageUnavailable
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Heartbeat
from receiptsvc.store.core.notify import listen
from receiptsvc.store.health import heartbeats
from receiptsvc.store.inbox import parking
from receiptsvc.store.messages import change_feed
from receiptsvc.store.outbound import call_results
from receiptsvc.worker import single_instance
from receiptsvc.worker.receipt_processor import PendingQueue, ReceiptRules, process
from receiptsvc.worker.sender import release, repeats, submit

STOP_SECONDS = 20.0  # a dyno gives 30 s between SIGTERM and SIGKILL

_BATCH = 1000
_SQLITE_BATCH = 100  # at most about 50 ms
_NOTHING_KEPT_SECONDS = 0.2
_NOTHING_DUE_SECONDS = 0.5
_HEARTBEAT_SECONDS = 5.0
_SILENT_FOR = timedelta(seconds=15)  # after that a worker that did not take its leave has been killed
_TIDY_SECONDS = 5.0
_MAX_LOOKED_AT_AGAIN = 100  # parked receipts, each time
_OUTAGE_SECONDS = (0.5, 30.0)  # the first pause after storage failed, and the longest


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """Something that a thread does again and again. `step` says how much it found to do; after nothing it rests."""

    name: str
    step: Callable[[], int]
    rest_seconds: float
    waits_for_news: bool = False  # whether its rest ends early when callbacks have been kept


def run(settings: Settings, database: Database, gateways: Mapping[str, Gateway], stop: threading.Event) -> None:
    """Work until `stop` is set. `gateways`: by transport; without any, receipts are processed and nothing is sent.

    Raises AnotherWorker on SQLite, if one is at work.
    """
    lock = None
    if database.is_sqlite:
        lock = single_instance.lock_worker(settings.database_url, patience_seconds=30, stop=stop)
        if lock is None:
            return
        # No other worker can be calling, so whatever one left unfinished has lost its answer.
        _insist(lambda: _settle_lost(settings, database, all_calls=True), stop)
    queue = PendingQueue()
    _insist(lambda: _look_round(database, queue), stop)
    logs.info("worker.started", sends=bool(gateways))
    news = threading.Event()
    threads = [_start(duty, stop, news) for duty in _duties(settings, database, gateways, queue, stop)]
    if not database.is_sqlite:
        threading.Thread(
            target=listen, args=(settings.database_listen_url, news.set, stop), name="listen", daemon=True
        ).start()
    stop.wait()
    deadline = monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    unfinished = [thread.name for thread in threads if thread.is_alive()]
    if not unfinished:
        with suppress(StorageUnavailable), database.transaction() as session:
            heartbeats.deregister(session, _name())
    logs.info("worker.stopped", unfinished=unfinished)
    if lock is not None and not unfinished:
        lock.close()


def _duties(
    settings: Settings, database: Database, gateways: Mapping[str, Gateway], queue: PendingQueue, stop: threading.Event
) -> list[Duty]:
    rules = ReceiptRules(
        status_map=status_map.load(settings.status_map),
        zone=settings.gateway_timezone,
        adopt_after=settings.adopt_after,
        reply_window=settings.reply_window,
        opt_out_words=frozenset(map(opt_outs.normalise, settings.opt_out_words)),
        suppresses_opt_outs=settings.suppresses_opt_outs,
    )

    def process_receipts() -> int:
        most = _SQLITE_BATCH if database.is_sqlite else _BATCH
        done = process(database, rules, datetime.now(UTC), most, queue)
        database.rest()
        return done

    def beat() -> int:
        with database.transaction() as session:
            heartbeats.beat(session, _name(), datetime.now(UTC))
        queue.isolate(_bury(database))
        return 0

    duties = [
        Duty(name="heartbeat", step=beat, rest_seconds=_HEARTBEAT_SECONDS),
        Duty(name="process", step=process_receipts, rest_seconds=_NOTHING_KEPT_SECONDS, waits_for_news=True),
        Duty(name="tidy", step=lambda: _tidy(settings, database), rest_seconds=_TIDY_SECONDS),
    ]
    if not gateways:
        logs.warning("worker.cannot_send", missing="DYNMARK_USERNAME, DYNMARK_PASSWORD")
        return duties

    def send() -> int:
        return submit(database, gateways, settings, stop)

    calls = range(settings.send_concurrency)
    return duties + [Duty(name=f"send-{number}", step=send, rest_seconds=_NOTHING_DUE_SECONDS) for number in calls]


def _name() -> str:
    return f"worker:{socket.gethostname()}:{os.getpid()}"


def _look_round(database: Database, queue: PendingQueue) -> int:
    """At the start: a worker of our own name, as a container gives it to each, is one that was killed."""
    queue.isolate(_bury(database, is_starting=True))
    with database.transaction() as session:
        heartbeats.beat(session, _name(), datetime.now(UTC))
    return 0


def _bury(database: Database, *, is_starting: bool = False) -> int:
    """Find workers that were killed; how many rows are to be worked on alone because of that."""
    now = datetime.now(UTC)

    def is_gone(seen: Heartbeat) -> bool:
        if seen.process == _name():
            return is_starting
        _, host, process_id = seen.process.rsplit(":", 2)
        if host == socket.gethostname():
            return not _is_alive(int(process_id))
        return seen.seen_at < now - _SILENT_FOR

    with database.transaction() as session:
        buried = heartbeats.reap(session, "worker", is_gone)
    if buried:
        logs.warning("worker.others_were_killed", workers=buried)
    return buried * _BATCH


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _tidy(settings: Settings, database: Database) -> int:
    """Settle calls that were lost and messages that are too late, let messages go on that waited for what is decided
    of their account, look at parked receipts again, number events.

    Gives more than 0 if there may be more to do at once.
    """
    with database.transaction() as session:
        retired = call_results.retire_late(session, datetime.now(UTC), repeats(settings))
    with database.transaction() as session:
        released = parking.release_due(session, datetime.now(UTC), _MAX_LOOKED_AT_AGAIN)
    settled = _settle_lost(settings, database)
    release(database, settings)
    numbered = 0
    if not database.is_sqlite:  # for streams to come: while one is open, the web process does it
        with database.transaction() as session:
            numbered = change_feed.number(session)
    is_more = released == _MAX_LOOKED_AT_AGAIN or numbered == change_feed.MAX_NUMBERED
    return retired + settled + is_more  # the rest of them at once


def _insist(step: Callable[[], int], stop: threading.Event) -> None:
    """Do a step until there is nothing left of it, through an outage too."""
    left = 1
    while left and not stop.is_set():
        try:
            left = step()
        except StorageUnavailable as error:
            logs.warning("worker.storage_unavailable", duty="start", error=logs.describe(error))
            stop.wait(_OUTAGE_SECONDS[0])


def _settle_lost(settings: Settings, database: Database, *, all_calls: bool = False) -> int:
    with database.transaction() as session:
        return call_results.settle_lost(session, datetime.now(UTC), repeats(settings), all_calls=all_calls)


def _start(duty: Duty, stop: threading.Event, news: threading.Event) -> threading.Thread:
    # A daemon, because a call that hangs must not keep the process from ending.
    wake = news if duty.waits_for_news else stop
    thread = threading.Thread(target=_repeat, args=(duty, stop, wake), name=duty.name, daemon=True)
    thread.start()
    return thread


def _repeat(duty: Duty, stop: threading.Event, wake: threading.Event) -> None:
    pause, longest = _OUTAGE_SECONDS
    while not stop.is_set():
        try:
            done = duty.step()
        except StorageUnavailable as error:
            logs.warning("worker.storage_unavailable", duty=duty.name, error=logs.describe(error), pause_seconds=pause)
            stop.wait(pause)
            pause = min(pause * 2, longest)
        except ReceiptsvcError as error:
            logs.error("worker.duty_failed", error, duty=duty.name)
            stop.wait(longest)
        except Exception as error:  # noqa: BLE001 - a duty that dies in silence is worse than one that complains
            logs.error("worker.duty_failed", error, duty=duty.name)
            stop.wait(pause)
            pause = min(pause * 2, longest)
        else:
            pause = _OUTAGE_SECONDS[0]
            if not done and wake.wait(duty.rest_seconds) and wake is not stop:
                wake.clear()
