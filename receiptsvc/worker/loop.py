"""The worker process: its threads, which process callbacks and send messages until `stop` is set, and its heartbeat.

After `stop` no thread starts anything new. A call to the gateway that does not end within 20 s is left to its lease.
What a thread does in a step belongs to `process`, `submit` or the store, not here.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import monotonic

from sqlalchemy import or_, select

from receiptsvc import __version__, logs, problem_looks
from receiptsvc.config import Settings
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.domain.errors import ReceiptsvcError, StorageUnavailable
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.problem_looks import ProblemLooks
from receiptsvc.store.access import searches
from receiptsvc.store.core import database_faults
from receiptsvc.store.core.clock import describe_skew
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Heartbeat
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.health import connection_limits, heartbeats, problems, service_state
from receiptsvc.store.health.health_log import HealthLog
from receiptsvc.store.health.service_state import Finding, ServiceState
from receiptsvc.store.inbox import parking
from receiptsvc.store.messages import change_feed
from receiptsvc.store.outbound import call_results
from receiptsvc.worker import single_instance
from receiptsvc.worker.gateway_watch import GatewayFault, GatewayWatch
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.sender import release, repeats, submit
from receiptsvc.worker.slice_maker import SliceMaker
from receiptsvc.worker.watch import Watch

STOP_SECONDS = 20.0  # a dyno gives 30 s between SIGTERM and SIGKILL

_BATCH = 1000  # callbacks in a step
_SQLITE_BATCH = 100  # about 50 ms at most
_HEARTBEAT_SECONDS = 5.0
_HEALTH_SECONDS = 45.0  # between two looks of a worker that is not the first: each second step
_HEALTH_DELAY_SECONDS = 1.0  # the first time slices need a lock that whoever reads the inbox is in the way of
_REUSED_AFTER = timedelta(days=1)  # without a heartbeat a process of this host with a worker's id is not that worker
_TIDY_SECONDS = 5.0
_PRUNE_SECONDS = 60.0
_TIME_SLICES_SECONDS = 60.0  # also between tries to get a lock
_MAX_RELEASED = 100  # parked receipts in a step
_MAX_PRUNED = 1000  # rows of events, and as many searches, in a step
_SQLITE_MAX_PRUNED = 100
_PAUSES = Backoff.doubling(timedelta(seconds=0.5), timedelta(seconds=30))  # after failures of a duty
_OUTAGE_PAUSES = Backoff.doubling(timedelta(seconds=0.5), timedelta(seconds=4))  # receipts wait for its end, and longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """A step that a thread repeats. `step` returns how much it did; after 0 the thread rests.

    `delay_seconds`: before the first step.
    """

    name: str
    step: Callable[[], int]
    rest: Callable[[], object]
    delay_seconds: float = 0.0


def run(
    settings: Settings,
    database: Database,
    gateways: Mapping[str, Gateway],
    reader: CallbackReader,
    stop: threading.Event,
) -> None:
    """Work until `stop` is set. Raises AnotherWorker on SQLite, if another worker runs.

    `gateways`: transport → gateway; without any, receipts are processed and nothing is sent. `reader`: of callbacks.
    """
    lock, queue = None, PendingQueue()
    steps = [
        partial(_read_clock, database),
        partial(_register, database, queue),
        partial(_warn_of_limits, settings, database),
    ]
    if database.is_sqlite:
        lock = single_instance.lock_worker(settings.database_url, patience_seconds=30, stop=stop)
        if lock is None:
            return
        # No other worker runs, so the answer to every unfinished call is lost.
        steps.insert(0, partial(_settle_lost, settings, database, all_calls=True))
    unfinished: list[str] = []
    if all(_run_until_done(step, stop) for step in steps):
        unfinished = _work(settings, database, gateways, reader, queue=queue, stop=stop)
    if not unfinished:
        with suppress(StorageUnavailable), database.transaction() as session:
            heartbeats.deregister(session, _process_name(), database.clock.now())
    logs.info("worker.stopped", unfinished=unfinished)
    if lock is not None and not unfinished:
        lock.close()


def _work(
    settings: Settings,
    database: Database,
    gateways: Mapping[str, Gateway],
    reader: CallbackReader,
    *,
    queue: PendingQueue,
    stop: threading.Event,
) -> list[str]:
    """Do all duties until `stop` is set. The names of those whose thread has not ended then."""
    logs.info("worker.started", sends=bool(gateways), database=database_faults.describe(settings.database_url))
    watch = Watch(
        database,
        listen_url=None if database.is_sqlite else settings.database_listen_url,
        is_sending=bool(gateways),
        sends_per_second=settings.sends_per_second,
        on_due_receipts=queue.rewind,
    )
    database.notify = watch.notify
    duties = _duties(settings, database, gateways, reader, queue=queue, watch=watch, stop=stop)
    threads = [_start(duty, stop) for duty in duties]
    threading.Thread(target=watch.listen, name="listen", daemon=True).start()
    stop.wait()
    watch.close()
    deadline = monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _duties(
    settings: Settings,
    database: Database,
    gateways: Mapping[str, Gateway],
    reader: CallbackReader,
    *,
    queue: PendingQueue,
    watch: Watch,
    stop: threading.Event,
) -> list[Duty]:
    rules = ReceiptRules.of(settings, reader)

    def process_receipts() -> int:
        limit = _SQLITE_BATCH if database.is_sqlite else _BATCH
        done = process(database, rules, database.clock.now(), limit, queue)
        database.let_others_write()
        return done

    gateway_watch = GatewayWatch()

    health = _Health(settings, database)

    def beat() -> int:
        health.is_first = _beat(database, queue, gateway_watch.fault())
        return 0

    def tidy() -> int:
        done = _tidy(settings, database)
        if done:
            watch.ask()  # what it settled may be due again sooner than anything else
        return done

    duties = [
        Duty(name="heartbeat", step=beat, rest=lambda: stop.wait(_HEARTBEAT_SECONDS)),
        Duty(name="watch", step=watch.look, rest=watch.rest),
        Duty(name="process", step=process_receipts, rest=lambda: watch.rest_until(Topic.RECEIPTS)),
        Duty(
            name="health",
            step=health.step,
            rest=lambda: stop.wait(problem_looks.SECONDS),
            delay_seconds=_HEALTH_DELAY_SECONDS,
        ),
        Duty(name="tidy", step=tidy, rest=lambda: stop.wait(_TIDY_SECONDS)),
        Duty(name="prune", step=lambda: _prune(settings, database), rest=lambda: stop.wait(_PRUNE_SECONDS)),
    ]
    if not database.is_sqlite:
        slice_maker = SliceMaker(database)
        duties.append(Duty(name="time-slices", step=slice_maker.step, rest=lambda: stop.wait(_TIME_SLICES_SECONDS)))
    if not gateways:
        logs.warning("worker.cannot_send", missing="DYNMARK_USERNAME, DYNMARK_PASSWORD")
        return duties

    def send() -> int:
        # One sender is woken at a time, and wakes the next when it has found something.
        wake_another = partial(watch.notify, {Topic.MESSAGES})
        return submit(database, gateways, settings, stop, on_claim=wake_another, on_end=gateway_watch.note)

    rest = partial(watch.rest_until, Topic.MESSAGES)
    return duties + [Duty(name=f"send-{number}", step=send, rest=rest) for number in range(settings.send_concurrency)]


class _Health:
    """What a worker looks at of the whole service, and logs. For one thread.

    `is_first`: whether it looks for problems: of all workers only the first does, lest all ask the same.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.is_first = False
        self._log, self._looks = HealthLog(), ProblemLooks(settings, database)
        self._read_at: float | None = None

    def step(self) -> int:
        """Look once, if it is time to."""
        if not self.is_first and self._read_at is not None and monotonic() - self._read_at < _HEALTH_SECONDS:
            return 0
        state = self._looks.read_state()
        self._read_at = monotonic()
        self._log.update(_find_degraded(state))
        if self.is_first:
            self._looks.look(state)
        return 0


def _process_name() -> str:
    return f"worker:{socket.gethostname()}:{os.getpid()}"


def _read_clock(database: Database) -> int:
    database.read_clock()
    fault = describe_skew("this worker's", database.clock.ahead_seconds)
    if fault:
        logs.warning("worker.clock_differs", fault=fault)
    return 0


def _register(database: Database, queue: PendingQueue) -> int:
    """Send the first heartbeat.

    An older heartbeat of our own name is that of a killed worker: a container gives the same name to each.
    """
    _beat(database, queue, None, is_starting=True)
    return 0


def _warn_of_limits(settings: Settings, database: Database) -> int:
    with database.reading() as session:
        total = connection_limits.measure(session, settings.connection_bounds, database.clock.now())
    if total is not None and total.fault:
        logs.warning("worker.too_many_connections", fault=total.fault)
    elif total is not None and total.sets > 1:
        logs.info("worker.one_of_sets", sets=total.sets, connections=total.connections, allowed=total.limit)
    return 0


def _beat(database: Database, queue: PendingQueue, fault: GatewayFault | None, *, is_starting: bool = False) -> bool:
    """Send a heartbeat, remove those of killed workers, and look for others: whether this is the first of its release.

    `fault`: of the gateway. The queue learns how many rows must be marked before they are processed, as one of them may
    have killed a worker.
    """

    def is_killed(heartbeat: Heartbeat) -> bool:
        if heartbeat.process == _process_name():
            return is_starting
        _, host, process_id = heartbeat.process.rsplit(":", 2)
        if host == socket.gethostname():
            return not _is_alive(int(process_id)) or heartbeat.seen_at < now - _REUSED_AFTER
        return heartbeat.seen_at < now - heartbeats.UNSEEN_AFTER

    with database.transaction() as session:
        known = heartbeats.find_all(session, "worker")
        now = database.clock.now()  # not of before: a database that stood still answers late
        others = [each for each in known if each.process != _process_name() and not is_killed(each)]
        alive = [each for each in others if each.seen_at > now - heartbeats.UNSEEN_AFTER]
        # Asked for once more, with its lock, only where there is one: this is done all the time.
        killed = heartbeats.reap(session, "worker", is_killed) if any(map(is_killed, known)) else 0
        heartbeats.beat(
            session,
            _process_name(),
            now,
            clock_ahead_seconds=database.clock.ahead_seconds,
            gateway_fault=fault.text if fault is not None else None,
            gateway_fault_at=fault.since if fault is not None else None,
            version=__version__,
        )
    queue.has_company = bool(alive)
    queue.mark_next(killed * _BATCH)
    if killed:
        logs.warning("worker.others_were_killed", workers=killed)
    return all(each.process > _process_name() for each in alive if each.version == __version__)


def _find_degraded(state: ServiceState) -> Sequence[Finding]:
    """What is not as it should be. What the gateway does is not in it: the calls have logged that already."""
    return [finding for finding in service_state.describe(state) if finding.name != service_state.GATEWAY_AMISS]


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

    Returns more than 0 if there may be more to do at once. When there is nothing to do, that costs one statement.
    """
    now = database.clock.now()
    is_any = [call_results.is_any_to_settle(now, repeats(settings)), parking.is_any_due(now)]
    if not database.is_sqlite:
        is_any.append(change_feed.is_any_unnumbered())
    with database.glance() as connection:
        if not connection.scalar(select(or_(*is_any))):
            return 0
    with database.transaction() as session:
        retired = call_results.retire_late(session, database.clock.now(), repeats(settings))
    with database.transaction() as session:
        released = parking.release_due(session, database.clock.now(), _MAX_RELEASED)
    settled = _settle_lost(settings, database)
    release(database, settings)
    numbered = 0
    if not database.is_sqlite:  # for future streams; while one is open, the web process does it
        with database.transaction() as session:
            numbered = change_feed.number(session)
    has_more = released == _MAX_RELEASED or numbered == change_feed.MAX_NUMBERED
    return retired + settled + has_more


def _prune(settings: Settings, database: Database) -> int:
    """Delete some events, saved searches and problems that are older than they need to be kept; how many."""
    limit, now = _SQLITE_MAX_PRUNED if database.is_sqlite else _MAX_PRUNED, database.clock.now()
    with database.transaction() as session:
        pruned = change_feed.prune(session, now - settings.keep_events, limit)
        pruned += searches.prune(session, now, limit)
        pruned += problems.prune(session, now, limit)
    database.let_others_write()
    return pruned


def _run_until_done(step: Callable[[], int], stop: threading.Event) -> bool:
    """Repeat a step until it returns 0, during an outage too. False: `stop` was set before that."""
    remaining = 1
    while remaining:
        if stop.is_set():
            return False
        try:
            remaining = step()
        except StorageUnavailable as error:
            logs.fault("worker.storage_unavailable", error, source="start")
            stop.wait(_PAUSES.gaps[0].total_seconds())
    logs.over("worker.storage_unavailable", source="start")
    return True


def _settle_lost(settings: Settings, database: Database, *, all_calls: bool = False) -> int:
    with database.transaction() as session:
        return call_results.settle_lost(session, database.clock.now(), repeats(settings), all_calls=all_calls)


def _start(duty: Duty, stop: threading.Event) -> threading.Thread:
    # A daemon, because a call that hangs must not keep the process from ending.
    thread = threading.Thread(target=_repeat, args=(duty, stop), name=duty.name, daemon=True)
    thread.start()
    return thread


def _repeat(duty: Duty, stop: threading.Event) -> None:
    failures = 0
    stop.wait(duty.delay_seconds)
    while not stop.is_set():
        pause_seconds = _PAUSES.gap(failures).total_seconds()
        try:
            if not duty.step():
                duty.rest()
        except StorageUnavailable as error:
            logs.fault("worker.storage_unavailable", error, source=duty.name, duty=duty.name)
            stop.wait(_OUTAGE_PAUSES.gap(failures).total_seconds())
            failures += 1
        except ReceiptsvcError as error:
            logs.error("worker.duty_failed", error, duty=duty.name)
            stop.wait(_PAUSES.gaps[-1].total_seconds())
        except Exception as error:  # noqa: BLE001 - a thread that dies unnoticed is worse than one that logs errors
            logs.error("worker.duty_failed", error, duty=duty.name)
            stop.wait(pause_seconds)
            failures += 1
        else:
            if failures:
                logs.over("worker.storage_unavailable", source=duty.name)
            failures = 0
