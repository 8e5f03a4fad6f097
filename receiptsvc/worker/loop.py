"""The worker process: its threads, which process callbacks and send messages until `stop` is set, and its heartbeat.

After `stop` no thread starts anything new. A call to the gateway that does not end within 20 s is left to its lease.
What a thread does in a step belongs to `process`, `submit` or the store, not here.
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
from receiptsvc.domain.backoff import Backoff
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
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_processor import ReceiptRules, process
from receiptsvc.worker.sender import release, repeats, submit

STOP_SECONDS = 20.0  # a dyno gives 30 s between SIGTERM and SIGKILL

_BATCH = 1000  # callbacks in a step
_SQLITE_BATCH = 100  # about 50 ms at most
_PROCESS_POLL_SECONDS = 0.2
_SEND_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 5.0
_DEAD_AFTER = timedelta(seconds=15)  # without a heartbeat a worker of another host counts as killed
_TIDY_SECONDS = 5.0
_PRUNE_SECONDS = 60.0
_MAX_RELEASED = 100  # parked receipts in a step
_MAX_PRUNED = 1000  # rows of events in a step
_SQLITE_MAX_PRUNED = 100
_PAUSES = Backoff.doubling(timedelta(seconds=0.5), timedelta(seconds=30))  # after failures of a duty


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """A step that a thread repeats. `step` returns how much it did; after 0 the thread rests."""

    name: str
    step: Callable[[], int]
    rest_seconds: float
    wakes_on_notify: bool = False  # whether its rest ends early when callbacks have been stored


def run(settings: Settings, database: Database, gateways: Mapping[str, Gateway], stop: threading.Event) -> None:
    """Work until `stop` is set. Raises AnotherWorker on SQLite, if another worker runs.

    `gateways`: transport → gateway; without any, receipts are processed and nothing is sent.
    """
    lock = None
    if database.is_sqlite:
        lock = single_instance.lock_worker(settings.database_url, patience_seconds=30, stop=stop)
        if lock is None:
            return
        # No other worker runs, so the answer to every unfinished call is lost.
        _run_until_done(lambda: _settle_lost(settings, database, all_calls=True), stop)
    queue = PendingQueue()
    _run_until_done(lambda: _register(database, queue), stop)
    logs.info("worker.started", sends=bool(gateways))
    notified = threading.Event()  # set when PostgreSQL says that callbacks have been stored
    threads = [_start(duty, stop, notified) for duty in _duties(settings, database, gateways, queue, stop)]
    if not database.is_sqlite:
        threading.Thread(
            target=listen, args=(settings.database_listen_url, notified.set, stop), name="listen", daemon=True
        ).start()
    stop.wait()
    deadline = monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    unfinished = [thread.name for thread in threads if thread.is_alive()]
    if not unfinished:
        with suppress(StorageUnavailable), database.transaction() as session:
            heartbeats.deregister(session, _process_name())
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
        limit = _SQLITE_BATCH if database.is_sqlite else _BATCH
        done = process(database, rules, datetime.now(UTC), limit, queue)
        database.let_others_write()
        return done

    def beat() -> int:
        with database.transaction() as session:
            heartbeats.beat(session, _process_name(), datetime.now(UTC))
        queue.isolate(_reap_killed_workers(database))
        return 0

    duties = [
        Duty(name="heartbeat", step=beat, rest_seconds=_HEARTBEAT_SECONDS),
        Duty(name="process", step=process_receipts, rest_seconds=_PROCESS_POLL_SECONDS, wakes_on_notify=True),
        Duty(name="tidy", step=lambda: _tidy(settings, database), rest_seconds=_TIDY_SECONDS),
        Duty(name="prune", step=lambda: _prune_events(settings, database), rest_seconds=_PRUNE_SECONDS),
    ]
    if not gateways:
        logs.warning("worker.cannot_send", missing="DYNMARK_USERNAME, DYNMARK_PASSWORD")
        return duties

    def send() -> int:
        return submit(database, gateways, settings, stop)

    numbers = range(settings.send_concurrency)
    return duties + [Duty(name=f"send-{number}", step=send, rest_seconds=_SEND_POLL_SECONDS) for number in numbers]


def _process_name() -> str:
    return f"worker:{socket.gethostname()}:{os.getpid()}"


def _register(database: Database, queue: PendingQueue) -> int:
    """Send the first heartbeat.

    An older heartbeat of our own name is that of a killed worker: a container gives the same name to each.
    """
    queue.isolate(_reap_killed_workers(database, is_starting=True))
    with database.transaction() as session:
        heartbeats.beat(session, _process_name(), datetime.now(UTC))
    return 0


def _reap_killed_workers(database: Database, *, is_starting: bool = False) -> int:
    """Remove the heartbeats of killed workers.

    Returns how many rows must be processed singly, because one of them may have killed a worker.
    """
    now = datetime.now(UTC)

    def is_killed(heartbeat: Heartbeat) -> bool:
        if heartbeat.process == _process_name():
            return is_starting
        _, host, process_id = heartbeat.process.rsplit(":", 2)
        if host == socket.gethostname():
            return not _is_alive(int(process_id))
        return heartbeat.seen_at < now - _DEAD_AFTER

    with database.transaction() as session:
        killed = heartbeats.reap(session, "worker", is_killed)
    if killed:
        logs.warning("worker.others_were_killed", workers=killed)
    return killed * _BATCH


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _tidy(settings: Settings, database: Database) -> int:
    """Settle lost calls and late messages, release parked receipts and messages of decided accounts, number changes.

    Returns more than 0 if there may be more to do at once.
    """
    with database.transaction() as session:
        retired = call_results.retire_late(session, datetime.now(UTC), repeats(settings))
    with database.transaction() as session:
        released = parking.release_due(session, datetime.now(UTC), _MAX_RELEASED)
    settled = _settle_lost(settings, database)
    release(database, settings)
    numbered = 0
    if not database.is_sqlite:  # for future streams; while one is open, the web process does it
        with database.transaction() as session:
            numbered = change_feed.number(session)
    has_more = released == _MAX_RELEASED or numbered == change_feed.MAX_NUMBERED
    return retired + settled + has_more


def _prune_events(settings: Settings, database: Database) -> int:
    """Delete some events that are older than they need to be kept; how many."""
    limit = _SQLITE_MAX_PRUNED if database.is_sqlite else _MAX_PRUNED
    with database.transaction() as session:
        pruned = change_feed.prune(session, datetime.now(UTC) - settings.keep_events, limit)
    database.let_others_write()
    return pruned


def _run_until_done(step: Callable[[], int], stop: threading.Event) -> None:
    """Repeat a step until it returns 0. During an outage it is tried again and again."""
    remaining = 1
    while remaining and not stop.is_set():
        try:
            remaining = step()
        except StorageUnavailable as error:
            logs.warning("worker.storage_unavailable", duty="start", error=logs.describe(error))
            stop.wait(_PAUSES.gaps[0].total_seconds())


def _settle_lost(settings: Settings, database: Database, *, all_calls: bool = False) -> int:
    with database.transaction() as session:
        return call_results.settle_lost(session, datetime.now(UTC), repeats(settings), all_calls=all_calls)


def _start(duty: Duty, stop: threading.Event, notified: threading.Event) -> threading.Thread:
    # A daemon, because a call that hangs must not keep the process from ending.
    wake = notified if duty.wakes_on_notify else stop
    thread = threading.Thread(target=_repeat, args=(duty, stop, wake), name=duty.name, daemon=True)
    thread.start()
    return thread


def _repeat(duty: Duty, stop: threading.Event, wake: threading.Event) -> None:
    failures = 0
    while not stop.is_set():
        pause_seconds = _PAUSES.gap(failures).total_seconds()
        try:
            done = duty.step()
        except StorageUnavailable as error:
            logs.warning(
                "worker.storage_unavailable", duty=duty.name, error=logs.describe(error), pause_seconds=pause_seconds
            )
            stop.wait(pause_seconds)
            failures += 1
        except ReceiptsvcError as error:
            logs.error("worker.duty_failed", error, duty=duty.name)
            stop.wait(_PAUSES.gaps[-1].total_seconds())
        except Exception as error:  # noqa: BLE001 - a thread that dies unnoticed is worse than one that logs errors
            logs.error("worker.duty_failed", error, duty=duty.name)
            stop.wait(pause_seconds)
            failures += 1
        else:
            failures = 0
            if not done and wake.wait(duty.rest_seconds) and wake is not stop:
                wake.clear()
