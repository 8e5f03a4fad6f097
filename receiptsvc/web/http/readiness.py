"""The readiness probe: whether a callback can be kept now, and what else is degraded, within a bounded time.

The group commit answers the first question, because it keeps callbacks. The rest is read from the database, on other
connections. What names a database, a folder or a setting is for operators: others are told what kind of fault it is.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock, Thread
from time import monotonic

from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain import gateway_clock
from receiptsvc.domain.errors import NotMigrated, StorageUnavailable, TooNew
from receiptsvc.domain.gateway_clock import Vote
from receiptsvc.domain.inbox import Kept, ReceiptOutcome
from receiptsvc.domain.sentences import agree
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.spool.backlog import Backlog
from receiptsvc.store.core import schema
from receiptsvc.store.core.clock import describe_skew
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import SendGate
from receiptsvc.store.health import connection_limits, service_state
from receiptsvc.store.health.service_state import Finding, ServiceState, Workers
from receiptsvc.store.inbox import pending, time_slices
from receiptsvc.store.inbox.pending import Crowd
from receiptsvc.store.messages.clock_votes import VoteCache
from receiptsvc.store.outbound import accounts, call_results, send_gate
from receiptsvc.store.outbound.accounts import ImpairedAccount

MAX_WAIT_SECONDS = 2.0
_LOOK_AGAIN = timedelta(seconds=15)

WORKER_UNSEEN = "worker unseen"
DATABASE_AWAY = "database away"
DATABASE_UNREADABLE = "the database can't be looked at"
SPOOL_IN_USE = "spool in use"
SENDING_NOT_CONFIGURED = "sending not configured"
TIME_SLICE_MISSING = "no time slice for next month's receipts"

# What /metrics says of the whole service, as metric → help.
COUNTED = (
    *(ReceiptOutcome.PENDING, ReceiptOutcome.UNMAPPED, ReceiptOutcome.UNMATCHED),
    *(ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD),
)
GAUGES = {
    "receipts_of_one_sender": "Receipts of one sender that wait in a turn of their own, of the next 5,000; 0: fewer "
    "than 1,000",
    "sending_account_refused": "Accounts that the gateway refuses, so that nothing is sent by them",
    "sending_account_suspected": "Accounts that the gateway may refuse, so that some messages wait",
    "sending_paused": "Whether an operator has paused sending",
    "send_unknown_overdue": "Messages whose answer was lost, and that are not offered again",
    "workers": "Workers that have shown themselves within 15 s",
    "gateway_amiss_seconds": "For how long calls have found the gateway unreachable or unclear; 0: they do not",
    "receipts_late_seconds": "How long the first receipt has waited to be worked on, though it is due",
    "messages_late_seconds": "How long the first message has waited to be sent, though it is due and nothing holds it",
    "no_receipts": "Whether messages wait for receipts, and none has come for half an hour",
    "callbacks_refused": "Callbacks that were refused, ever: for a wrong key, or because they are not HTTP",
    "callbacks_refused_for_unlisted_keys": "Callbacks of the last hour's sample that claim a key which is not listed",
    "callbacks_misrouted": "Callbacks of the last hour that came to a process with WEB_ROLE=api; they are kept",
    **{f"receipts_{outcome.value}": f"Receipts that are {outcome.value} now" for outcome in COUNTED},
    "database_readable": "Whether the last look at the database succeeded; if not, the rest is older",
    "settings_unknown": "Names in the environment that begin as ours do and are no settings",
}

_REMEDIES = {send_gate.REFUSED: ": mend DYNMARK_PASSWORD, then restart the worker"}

ProbeStorage = Callable[[float], Kept]
"""Where a callback would be kept now, within a time limit in seconds. Raises StorageUnavailable if nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a look at the database reads, all of it from one snapshot. `overdue`: messages that stay `send_unknown`."""

    at: datetime
    is_current: bool
    state: ServiceState
    gate: SendGate
    impaired: Sequence[ImpairedAccount]
    is_slice_ready: bool
    overdue: int
    crowd: Crowd | None
    votes: Sequence[Vote]
    too_many_connections: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a look at the database found, and when."""

    at: datetime
    gauges: Mapping[str, float]
    findings: Sequence[Finding]


class ReadinessProbe:
    """Runs one check of the database at a time. While a check hangs, the next caller waits for it and starts none."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        backlog: Backlog | None = None,
        probe_storage: ProbeStorage | None = None,
    ) -> None:
        """Without `probe_storage` (no group commit in this process) readiness means that the database can be read."""
        self._settings, self._database, self._backlog, self._probe_storage = settings, database, backlog, probe_storage
        self._lock = Lock()
        self._check: Future[list[Finding]] | None = None
        self._kids = frozenset(key.kid for key in settings.callback_keys)
        self.votes = VoteCache()  # for others, too
        self.last_look: Look | None = None  # that succeeded

    def find_degraded(self, now: datetime) -> list[Finding]:
        """What is degraded. Raises StorageUnavailable if no callback can be kept."""
        deadline = monotonic() + MAX_WAIT_SECONDS
        check = self._begin_check(now)
        destination = self._probe_storage(MAX_WAIT_SECONDS) if self._probe_storage is not None else None
        away = [Finding("database_away", DATABASE_AWAY)] if destination is Kept.IN_SPOOL else []
        rest = self.describe_process()
        try:
            return away + _wait(check, deadline) + rest
        except StorageUnavailable as error:
            if self._probe_storage is None:
                raise
            why = [Finding("database_fault", str(error), error.kind)] if error.kind else []
            return (away or [Finding("database_unreadable", DATABASE_UNREADABLE)]) + why + rest

    def read_gauges(self, now: datetime) -> Mapping[str, float]:
        """What /metrics says of the whole service, as metric → value: of the last good check, if none can be made."""
        is_read = 0
        with suppress(StorageUnavailable):
            _wait(self._begin_check(now), monotonic() + MAX_WAIT_SECONDS)
            is_read = 1
        gauges = self.last_look.gauges if self.last_look is not None else {}
        return {**gauges, "database_readable": is_read, "settings_unknown": len(self._settings.unknown_names)}

    def look_soon(self, now: datetime) -> None:
        """Look at the database, without waiting for it, if the last look is some time ago."""
        if self.last_look is None or now - self.last_look.at > _LOOK_AGAIN:
            self._begin_check(now)

    def read_state(self, session: Session, now: datetime) -> ServiceState:
        """How the service does, for who has a session already."""
        answers_since = self._database.clock.answers_since
        return service_state.read(session, now, listed_kids=self._kids, answers_since=answers_since)

    def read_workers(self, session: Session, now: datetime) -> Workers:
        """Which workers are at work, for who asks nothing else."""
        return service_state.read_workers(session, now, self._database.clock.answers_since)

    def describe_process(self) -> list[Finding]:
        """What is amiss beside the database: with the spool of this host, and with this process's settings."""
        return self._describe_spool() + self._describe_settings()

    def read(self, session: Session, now: datetime) -> Facts:
        """Read all that a look needs."""
        return Facts(
            at=now,
            is_current=schema.is_current(session.connection()),
            state=self.read_state(session, now),
            gate=send_gate.read(session),
            impaired=accounts.read_impaired(session, IGNORE_REPEATS),
            is_slice_ready=time_slices.is_ready(session, now),
            overdue=call_results.count_overdue(session, now - timedelta(seconds=self._settings.resend_for_seconds)),
            crowd=pending.find_crowd(session),
            votes=self.votes.read(session, now),
            too_many_connections=connection_limits.find_fault(session, self._settings.connection_bounds, now),
        )

    def judge(self, facts: Facts) -> Look:
        """What of it is not as it should be. It is the last look from now on. The session that read it has ended."""
        state, impaired = facts.state, facts.impaired
        found = [Finding("worker_unseen", WORKER_UNSEEN)] if state.workers.is_missing else []
        misfit = None if facts.is_current else self._find_misfit()
        found += [misfit] if misfit else []
        found += [] if facts.is_slice_ready else [Finding("time_slice_missing", TIME_SLICE_MISSING)]
        of_gate, pause = send_gate.describe(facts.gate), send_gate.describe_pause(facts.gate)
        of_accounts = [reason for reason in accounts.describe(impaired) if reason not in of_gate]
        held = [each for each in of_accounts + of_gate if each != pause]
        found += [Finding("sending_held", f"{each}{_REMEDIES.get(each, '')}", each) for each in held]
        is_meant = not send_gate.is_paused_long(facts.gate, facts.at)
        found += [Finding("sending_paused", pause, is_meant=is_meant)] if pause is not None else []
        found += [Finding("receipts_crowd", facts.crowd.describe())] if facts.crowd is not None else []
        unknown = agree(facts.overdue, "message stays send_unknown", "messages stay send_unknown")
        found += [Finding("send_unknown_overdue", unknown)] if facts.overdue else []
        too_many = facts.too_many_connections
        found += [Finding("connections_exceed", too_many)] if too_many else []
        found += service_state.describe(state)
        if agreeing := gateway_clock.find_agreeing(facts.votes, facts.at):
            gateway = gateway_clock.write_difference(agreeing)
            setting = gateway_clock.explain_setting(agreeing, self._settings.gateway_timezone)
            text, public = f"{gateway}: see its setting: {setting}", f"{gateway}: DYNMARK_TIMEZONE?"
            found.append(Finding("gateway_clock", text, public))
        clocks = [("a worker's", worker.clock_ahead_seconds) for worker in state.workers.alive]
        clocks.append(("the web process's", self._database.clock.ahead_seconds))
        skews = filter(None, (describe_skew(*clock) for clock in clocks))
        found += [Finding("clock_differs", skew) for skew in skews]
        found += [] if self._settings.account else [Finding("sending_not_configured", SENDING_NOT_CONFIGURED)]
        self.last_look = look = Look(at=facts.at, gauges=_gauges(facts), findings=found)
        return look

    def _describe_spool(self) -> list[Finding]:
        try:
            state = self._backlog.look() if self._backlog is not None else None
        except StorageUnavailable as error:
            return [Finding("spool_unreadable", str(error), error.kind)]
        if state is None:
            return []
        found: list[Finding] = []
        if state.records:
            waiting = agree(state.records, "callback waits", "callbacks wait")
            found.append(Finding("spool_in_use", f"{SPOOL_IN_USE}: {waiting}"))
        if state.aside_files:
            aside = agree(state.aside_files, "file needs a person", "files need a person")
            found.append(Finding("spool_aside", f"spool: {aside}"))
        return found

    def _describe_settings(self) -> list[Finding]:
        names = self._settings.unknown_names
        text = f"unknown settings: {', '.join(names)}: see .env.example"
        return [Finding("settings_unknown", text, "unknown settings")] if names else []

    def _begin_check(self, now: datetime) -> "Future[list[Finding]]":
        with self._lock:
            if self._check is None or self._check.done():
                self._check = Future()
                Thread(target=self._run, args=(self._check, now), daemon=True).start()
            return self._check

    def _run(self, check: "Future[list[Finding]]", now: datetime) -> None:
        try:
            found = self._check_database(now)
        except Exception as error:  # noqa: BLE001 - who waits for the check must hear of it
            check.set_exception(self._log(error))
        else:
            logs.over("readiness.failed")
            check.set_result(found)

    def _log(self, error: Exception) -> StorageUnavailable:
        """Log why the database can't be looked at, and return it as exactly as it is known."""
        if not isinstance(error, StorageUnavailable):
            logs.error("readiness.failed", error)
            return StorageUnavailable(DATABASE_UNREADABLE)
        misfit = self._find_misfit() if isinstance(error, NotMigrated) else None
        fault = StorageUnavailable(misfit.text, misfit.public) if misfit else error
        logs.fault("readiness.failed", fault)
        return fault

    def _find_misfit(self) -> Finding | None:
        """Why this release and the database's tables do not fit, if they do not."""
        try:
            self._database.check_schema()
        except (NotMigrated, TooNew) as error:
            return Finding("database_misfit", str(error), error.kind)
        except StorageUnavailable:
            pass
        return None

    def _check_database(self, now: datetime) -> list[Finding]:
        with self._database.reading() as session:
            facts = self.read(session, now)
        return list(self.judge(facts).findings)


def _gauges(facts: Facts) -> Mapping[str, float]:
    """The values of GAUGES, but for those that need no database."""
    state, gate, impaired, crowd, now = facts.state, facts.gate, facts.impaired, facts.crowd, facts.at
    ledger, faults = state.ledger, state.workers.gateway_faults
    return {
        "receipts_of_one_sender": crowd.size if crowd is not None else 0,
        "sending_account_refused": (gate.refused_at is not None)
        + sum(account.refused_at is not None for account in impaired),
        "sending_account_suspected": sum(account.suspected_at is not None for account in impaired),
        "sending_paused": int(gate.paused_at is not None),
        "send_unknown_overdue": facts.overdue,
        "workers": len(state.workers.alive),
        "gateway_amiss_seconds": max(((now - since).total_seconds() for _, since in faults), default=0),
        "receipts_late_seconds": state.receipts_late_seconds,
        "messages_late_seconds": state.messages_late_seconds,
        "no_receipts": int(state.is_silent),
        "callbacks_refused": ledger.refused,
        "callbacks_refused_for_unlisted_keys": sum(entry.callbacks for entry in state.refused),
        "callbacks_misrouted": state.misrouted.count if state.misrouted is not None else 0,
        **{f"receipts_{outcome.value}": ledger.outcomes[outcome] for outcome in COUNTED},
    }


def _wait(check: "Future[list[Finding]]", deadline: float) -> list[Finding]:
    try:
        return check.result(max(0.0, deadline - monotonic()))
    except FutureTimeout:
        raise StorageUnavailable("the database takes too long") from None
