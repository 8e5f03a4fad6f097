"""Kept receipts as operators see them: list, show, and match, retry, dismiss or replay them.

Each action is one short transaction: it locks the receipt before it decides, counts the move, and writes an audit.
Receipts are not read or matched here: what is to be processed again becomes `pending`, and the worker does the rest.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, bindparam, delete, literal, literal_column, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, defer

from receiptsvc import ids
from receiptsvc.domain import correlation
from receiptsvc.domain.errors import ReceiptsvcError, Refused
from receiptsvc.domain.inbox import RECORDED, Channel, ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.keyset import Equals, Scan, scan
from receiptsvc.store.core.models import (
    RARE_CHANNELS,
    RARE_EFFECTS,
    Audit,
    InboxRow,
    Message,
    OutcomeRow,
    Parked,
    PendingRow,
    ReceiptReferences,
    Transition,
)
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import counters, pending, receipt_references
from receiptsvc.store.inbox.receipt_references import FORGETTING, ReferenceFilter

RETRIABLE = (ReceiptOutcome.UNMATCHED, ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD)
MATCHABLE = (*RETRIABLE, ReceiptOutcome.DISMISSED)
DISMISSIBLE = (ReceiptOutcome.UNMAPPED, *RETRIABLE)

WAITING = (*RETRIABLE, ReceiptOutcome.PENDING)  # those of a receipt that fits no message

MAX_UNMATCHED = 10_000  # that are counted at once

_MATCHED = "matched"  # the action of the audits of a match by hand
_HOUR_MILLISECONDS = 3_600_000
_MAX_PAGES = 4  # of rows, each of which is looked up in one or two other tables; of all scans of a page together

# As text: building an expression takes longer than the answer, which is part of the statistics'.
_UNMATCHED = (
    text(
        f"SELECT receipt_id FROM outcomes WHERE outcome = '{ReceiptOutcome.UNMATCHED}' AND receipt_id >= :since "  # noqa: S608 - our own word
        "AND receipt_id < :until ORDER BY receipt_id DESC LIMIT :most"
    )
    .bindparams(bindparam("since", type_=Uuid()), bindparam("until", type_=Uuid()))
    .columns(receipt_id=Uuid())
)

_IS_RARE_EFFECT: ColumnElement[bool] = literal_column(f"({RARE_EFFECTS})")
_IS_RARE_CHANNEL: ColumnElement[bool] = literal_column(f"({RARE_CHANNELS})")

_WITHOUT_BYTES = (defer(InboxRow.query, raiseload=True), defer(InboxRow.body, raiseload=True))


class NoSuchMessage(ReceiptsvcError):
    """The message that an operator assigns a receipt to does not exist."""


class OtherRecipient(ReceiptsvcError):
    """The message that an operator assigns a receipt to went to another number than the receipt names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptFilter:
    """Which receipts to list: those that fit every given field. `message_id`: those recorded about this message.

    `outcomes`: those with one of them; empty: with any. `names`: those that name this, of what was not simply recorded.

    `since` ≤ time of the receipt's id < `until`. An id is made when its callback arrives; the further receipts of one
    callback get theirs when the worker splits it.
    """

    outcomes: Collection[ReceiptOutcome] = ()
    channel: Channel | None = None
    message_id: UUID | None = None
    names: ReferenceFilter = field(default_factory=ReferenceFilter)
    since: datetime | None = None
    until: datetime | None = None

    @property
    def fault(self) -> str | None:
        """Why its outcomes do not go with what it is to name; None: they do."""
        recorded = [outcome.value for outcome in sorted(FORGETTING & set(self.outcomes))]
        if self.names == ReferenceFilter() or not recorded:
            return None
        return f"Can't be {' or '.join(recorded)} with what a receipt names: look for its message, which names it."


class Standing(NamedTuple):
    """Where a receipt stands, and why."""

    outcome: ReceiptOutcome
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptEntry:
    """A receipt without its bytes. `message_id`: of its transition, else the one assigned by hand, else its URL's.

    `recipient`, `transaction_id` and `client_ref`: as it names them; once it is recorded with a word, its message's,
    unless it was matched by hand.
    """

    row: InboxRow
    outcome: ReceiptOutcome
    reason: str | None
    processed_at: datetime | None
    tries: int
    message_id: UUID | None
    candidates: Sequence[str]  # public ids
    look_at: datetime | None
    recipient: str | None
    transaction_id: str | None
    client_ref: str | None
    provider_status_id: str | None
    provider_description: str | None
    kid: str | None

    def adopt_at(self, after: timedelta | None) -> datetime | None:
        """When it is taken for another system's, by its next look, unless a message fits before; None: never.

        `after`: how old it must be; None: that is never done.
        """
        if self.outcome is not ReceiptOutcome.UNMATCHED or self.candidates or self.look_at is None:
            return None
        at = correlation.adopt_at(self.row, self, after)
        return max(at, self.look_at) if at is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptDetail(ReceiptEntry):
    """A receipt with its bytes, which another row may hold, its transition, and its audits."""

    query: bytes
    body: bytes
    content_type: str | None
    content_encoding: str | None
    transition: Transition | None  # the current one; else the last one that was superseded
    message: Message | None  # of `message_id`
    audits: Sequence[Audit]

    @property
    def callback(self) -> Callback:
        """The callback that brought it, as it was kept."""
        return Callback(self.row.method, self.query, self.content_type, self.body, self.content_encoding)


def list_receipts(
    session: Session, where: ReceiptFilter, *, limit: int, after: UUID | None = None
) -> Page[ReceiptEntry, UUID]:
    """Receipts, the newest first, without their bytes. A short page need not be the last one: see `keyset`."""
    page = _find_page(session, where, limit, after, is_newest_first=True)
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(bulk.among(session, InboxRow.id, page.items))
    rows = session.scalars(query.order_by(InboxRow.id.desc())).all() if page.items else []
    return Page(items=_load_entries(session, rows), next=page.next)


def count_unmatched(session: Session, since: datetime, until: datetime) -> tuple[Counter[datetime], bool]:
    """How many receipts that arrived in each hour of [since, until) fit no message now; and whether there are more.

    The newest MAX_UNMATCHED are counted. The hour is that of the receipt's id.
    """
    bounds = {"since": ids.first_at(since), "until": ids.first_at(until), "most": MAX_UNMATCHED + 1}
    found = session.connection().execute(_UNMATCHED, bounds).scalars().all()
    hours = Counter((receipt_id.int >> 80) // _HOUR_MILLISECONDS for receipt_id in found[:MAX_UNMATCHED])
    by_hour = {datetime.fromtimestamp(hour * 3600, UTC): count for hour, count in hours.items()}
    return Counter(by_hour), len(found) > MAX_UNMATCHED


def find_ids(session: Session, where: ReceiptFilter, *, limit: int, after: UUID | None = None) -> Page[UUID, UUID]:
    """The ids of the next receipts that fit, the oldest first. A short page need not be the last one: see `keyset`."""
    return _find_page(session, where, limit, after, is_newest_first=False)


def find_entry(session: Session, receipt_id: UUID) -> ReceiptEntry | None:
    """A receipt without its bytes; None if it does not exist."""
    return next(iter(find_entries(session, [receipt_id])), None)


def find_entries(session: Session, receipt_ids: Collection[UUID]) -> Sequence[ReceiptEntry]:
    """These receipts without their bytes, the oldest first; none that does not exist."""
    if not receipt_ids:
        return []
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(bulk.among(session, InboxRow.id, receipt_ids))
    return _load_entries(session, session.scalars(query.order_by(InboxRow.id)).all())


def find_outcomes(session: Session, receipt_ids: Collection[UUID]) -> Mapping[UUID, Standing]:
    """Where these receipts stand, of those that exist: what `find_entries` says of it, for many."""
    if not receipt_ids:
        return {}

    def find(key: Any, *columns: Any) -> dict[UUID, Any]:
        is_current = [Transition.superseded_at.is_(None)] if key.class_ is Transition else []
        rows = session.execute(select(key, *columns).where(bulk.among(session, key, receipt_ids), *is_current))
        return {row[0]: row for row in rows}

    told = find(Transition.receipt_id, Transition.effect, Transition.reason)
    written = find(OutcomeRow.receipt_id, OutcomeRow.outcome, OutcomeRow.reason)
    waiting = find(PendingRow.receipt_id, literal(ReceiptOutcome.PENDING.value), PendingRow.reason)
    nowhere = dict.fromkeys(find(InboxRow.id), (None, ReceiptOutcome.PENDING.value, None))
    stands = {
        receipt_id: row for receipt_id, row in (nowhere | told | written | waiting).items() if receipt_id in nowhere
    }
    return {
        receipt_id: Standing(ReceiptOutcome(outcome), reason) for receipt_id, (_, outcome, reason) in stands.items()
    }


def find_receipt(session: Session, receipt_id: UUID) -> ReceiptDetail | None:
    """A receipt with everything that is known about it; None if it does not exist."""
    row = session.get(InboxRow, receipt_id)
    if row is None:
        return None
    callback = (session.get(InboxRow, row.callback_id) if row.callback_id else None) or row
    [entry] = _load_entries(session, [row])
    return ReceiptDetail(
        **{each.name: getattr(entry, each.name) for each in fields(entry)},
        query=callback.query,
        body=callback.body,
        content_type=callback.content_type,
        content_encoding=callback.content_encoding,
        transition=_find_transition(session, receipt_id),
        message=session.get(Message, entry.message_id) if entry.message_id else None,
        audits=audits.read(session, ids.public("rcp", receipt_id)),
    )


def _find_transition(session: Session, receipt_id: UUID) -> Transition | None:
    """What it did, or else the last that it did before that was superseded."""
    of_receipt = select(Transition).where(Transition.receipt_id == receipt_id).order_by(Transition.id.desc()).limit(1)
    current = session.scalars(of_receipt.where(Transition.superseded_at.is_(None))).first()
    # Each by an index of its own: without a word on `superseded_at` all transitions are read.
    return current or session.scalars(of_receipt.where(Transition.superseded_at.is_not(None))).first()


def find_callbacks(session: Session, receipt_ids: Collection[UUID]) -> Mapping[UUID, tuple[InboxRow, Callback]]:
    """The rows of these receipts, and the callbacks that brought them. For few: each may have a megabyte."""
    if not receipt_ids:
        return {}

    def load(row_ids: Collection[UUID]) -> dict[UUID, InboxRow]:
        return {row.id: row for row in session.scalars(select(InboxRow).where(InboxRow.id.in_(row_ids)))}

    rows = load(receipt_ids)
    others = {row.callback_id for row in rows.values() if row.callback_id}
    holders = load(others) if others else {}
    found = {}
    for row in rows.values():
        holder = (holders.get(row.callback_id) if row.callback_id else None) or row
        callback = Callback(row.method, holder.query, holder.content_type, holder.body, holder.content_encoding)
        found[row.id] = row, callback
    return found


def describe_matches(session: Session, receipt_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """Who matched these receipts by hand, and why, of those that were."""
    if not receipt_ids:
        return {}
    subjects = {ids.public("rcp", receipt_id): receipt_id for receipt_id in receipt_ids}
    found = audits.find_newest(session, subjects, _MATCHED)
    return {subjects[name]: correlation.describe_hand(each.actor, each.reason) for name, each in found.items()}


def match(
    session: Session, receipt_id: UUID, message_id: UUID, by: Actor, now: datetime, *, to_any_recipient: bool = False
) -> ReceiptEntry | None:
    """Assign a receipt to a message, and make it pending again; None if there is no such receipt.

    `to_any_recipient`: also if the receipt names another number than the message went to, as what is recorded can't be
    taken back. Raises Refused, NoSuchMessage and OtherRecipient.
    """
    entry = _lock(session, receipt_id, _MATCHED, MATCHABLE)
    if entry is None:
        return None
    if entry.row.channel == Channel.INBOUND:
        raise Refused("It is a reply; replies belong to conversations and are not matched to a message.")
    recorded_id = session.scalar(
        select(Transition.message_id).where(Transition.receipt_id == receipt_id, Transition.superseded_at.is_(None))
    )
    if recorded_id is not None:
        raise Refused(f"It was recorded about {ids.public('msg', recorded_id)}, and what was recorded stays.")
    recipient = session.scalar(select(Message.recipient).where(Message.id == message_id))
    if recipient is None:
        raise NoSuchMessage("there is no message with this id")
    if not to_any_recipient and correlation.names_other_number(entry.recipient, recipient):
        raise OtherRecipient("the receipt names another number than the message went to")
    return _reopen(session, entry, _MATCHED, by, now, assigned_to=message_id)


def retry(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Make a receipt pending again; None if there is no such receipt. Raises Refused."""
    entry = _lock(session, receipt_id, "retried", RETRIABLE)
    return None if entry is None else _reopen(session, entry, "retried", by, now)


def dismiss(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Give a receipt up; None if there is no such receipt. Its transition, if any, stays. Raises Refused."""
    entry = _lock(session, receipt_id, "dismissed", DISMISSIBLE)
    if entry is None:
        return None
    session.execute(delete(Parked).where(Parked.receipt_id == receipt_id))
    _audit(session, entry, "dismissed", by, now, to=ReceiptOutcome.DISMISSED)
    dismissed = {"outcome": ReceiptOutcome.DISMISSED, "reason": by.reason, "processed_at": now}
    statement = bulk.upsert(session, OutcomeRow).on_conflict_do_update(index_elements=["receipt_id"], set_=dismissed)
    session.execute(statement, {"receipt_id": receipt_id, **dismissed})
    counters.move(session, {(entry.outcome, ReceiptOutcome.DISMISSED): 1})
    return _load_entries(session, [entry.row])[0]


def restore(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Take the dismissal of a receipt back; None if there is no such receipt. Raises Refused.

    It becomes pending. One that was recorded, with a code of no known meaning, is unmapped again.
    """
    entry = _lock(session, receipt_id, "restored", (ReceiptOutcome.DISMISSED,))
    if entry is None:
        return None
    effect = find_recorded(session, [receipt_id]).get(receipt_id)
    if effect is None:
        return _reopen(session, entry, "restored", by, now)
    _audit(session, entry, "restored", by, now, to=effect)
    forget_outcomes(session, {receipt_id: effect})
    return _load_entries(session, [entry.row])[0]


def find_recorded(session: Session, receipt_ids: Collection[UUID]) -> Mapping[UUID, ReceiptOutcome]:
    """What these receipts did when they were recorded, of those that were, and still count."""
    if not receipt_ids:
        return {}
    is_told = (bulk.among(session, Transition.receipt_id, receipt_ids), Transition.superseded_at.is_(None))
    rows = session.execute(select(Transition.receipt_id, Transition.effect).where(*is_told))
    return {receipt_id: ReceiptOutcome(effect) for receipt_id, effect in rows if receipt_id is not None}


def forget_outcomes(session: Session, recorded: Mapping[UUID, ReceiptOutcome]) -> None:
    """Let the transitions of dismissed receipts tell again where they stand. `recorded`: as `find_recorded` has it."""
    if not recorded:
        return
    is_meant = bulk.among(session, OutcomeRow.receipt_id, list(recorded))
    session.execute(delete(OutcomeRow).where(is_meant).execution_options(synchronize_session=False))
    moves = Counter((ReceiptOutcome.DISMISSED, effect) for effect in recorded.values())
    counters.move(session, moves)


def _find_page(
    session: Session, where: ReceiptFilter, limit: int, after: UUID | None, *, is_newest_first: bool
) -> Page[UUID, UUID]:
    """The ids of a page. The first given filter that an index serves picks the rows, the others are checked by row."""
    key = (after,) if after is not None else None
    plans = [replace(plan, is_descending=is_newest_first) for plan in _plan_scans(where)]
    found = [scan(session, plan, limit=limit, after=key) for plan in plans]
    # Of several, each may have stopped at another place: what lies behind the first stop is found again next time.
    stops = sorted((page.next[0] for page in found if page.next is not None), reverse=is_newest_first)
    stop = stops[0] if stops else None
    receipt_ids = sorted({key[0] for page in found for key in page.keys}, reverse=is_newest_first)
    if stop is not None:
        receipt_ids = [each for each in receipt_ids if (each >= stop if is_newest_first else each <= stop)]
    if len(receipt_ids) > limit:
        return Page(items=receipt_ids[:limit], next=receipt_ids[limit - 1])
    return Page(items=receipt_ids, next=stop)


def _plan_scans(where: ReceiptFilter) -> list[Scan]:
    """How to read a page: from what receipts name, from the ledger, or from where rare outcomes are told."""
    is_of_channel = [InboxRow.channel == where.channel] if where.channel is not None else []
    named = receipt_references.ranges(where.names)
    if named:
        return [_scan_named(where, named, is_of_channel)]
    if where.message_id is not None:
        is_recorded = (Transition.message_id == where.message_id, Transition.superseded_at.is_(None))
        filters = [*_is_kept(Transition.receipt_id, is_of_channel), *_has_outcome(Transition.receipt_id, where)]
        recorded = [*is_recorded, Transition.receipt_id.is_not(None)]
        return [_scan(where, Transition.receipt_id, [[*recorded, *filters]], is_small=True)]
    is_rare_channel = where.channel not in {None, Channel.MESSAGE}
    is_found_by_channel = is_rare_channel and set(where.outcomes) == {ReceiptOutcome.PENDING}
    if not where.outcomes or ReceiptOutcome.APPLIED in where.outcomes or is_found_by_channel:
        branch = [_IS_RARE_CHANNEL] if is_rare_channel else []
        equals: list[Equals] = [(InboxRow.channel, where.channel)] if is_rare_channel else []
        filters = [] if is_rare_channel else is_of_channel
        return [
            _scan(where, InboxRow.id, [branch], equals=[equals], filters=[*filters, *_has_outcome(InboxRow.id, where)])
        ]
    return _scan_outcomes(where, is_of_channel)


def _scan_named(
    where: ReceiptFilter, named: Sequence[Sequence[Equals]], is_of_channel: Sequence[ColumnElement[bool]]
) -> Scan:
    key = ReceiptReferences.receipt_id
    filters = [or_(*(column == value for column, value in each)) for each in named[1:]]
    filters += receipt_references.further_condition(where.names)
    filters += [*_is_kept(key, is_of_channel), *_has_outcome(key, where)]
    if where.message_id is not None:
        told = aliased(Transition)
        is_recorded = (told.receipt_id == key, told.superseded_at.is_(None), told.message_id == where.message_id)
        filters.append(_exists(told.id, *is_recorded))
    return _scan(where, key, [[] for _ in named[0]], equals=[[each] for each in named[0]], filters=filters)


def _scan_outcomes(where: ReceiptFilter, is_of_channel: Sequence[ColumnElement[bool]]) -> list[Scan]:
    """How to read outcomes that are rarer than `applied`, each from where it is told."""
    written = sorted(set(where.outcomes) - {ReceiptOutcome.PENDING})
    recorded = [outcome for outcome in written if outcome in RECORDED]
    scans = bool(written) + bool(recorded) + (ReceiptOutcome.PENDING in where.outcomes)
    plans: list[Scan] = []
    if ReceiptOutcome.PENDING in where.outcomes:
        filters = _is_kept(PendingRow.receipt_id, is_of_channel)
        plans.append(_scan(where, PendingRow.receipt_id, [[]], filters=filters, scans=scans))
    if written:
        equals: list[list[Equals]] = [[(OutcomeRow.outcome, outcome)] for outcome in written]
        filters = _is_kept(OutcomeRow.receipt_id, is_of_channel)
        branches: list[list[ColumnElement[bool]]] = [[] for _ in equals]
        plans.append(_scan(where, OutcomeRow.receipt_id, branches, equals=equals, filters=filters, scans=scans))
    if recorded:
        equals = [[(Transition.effect, outcome)] for outcome in recorded]
        filters = [*_is_kept(Transition.receipt_id, is_of_channel), ~_is_written(Transition.receipt_id)]
        branches = [[_IS_RARE_EFFECT] for _ in equals]
        plans.append(_scan(where, Transition.receipt_id, branches, equals=equals, filters=filters, scans=scans))
    return plans


def _scan(
    where: ReceiptFilter,
    key: InstrumentedAttribute[Any],
    branches: Sequence[Sequence[ColumnElement[bool]]],
    *,
    equals: Sequence[Sequence[Equals]] = (),
    filters: Sequence[ColumnElement[bool]] = (),
    is_small: bool = False,
    scans: int = 1,
) -> Scan:
    """`scans`: of how many that share the rows of a page it is one."""
    return Scan(
        order=(key,),
        branches=branches,
        equals=equals,
        since=ids.first_at(where.since) if where.since is not None else None,
        until=ids.first_at(where.until) if where.until is not None else None,
        filters=filters,
        is_small=is_small,
        max_pages=max(1, _MAX_PAGES // scans),
    )


def _exists(column: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there is such a row. Not EXISTS, for which PostgreSQL may read the whole table into a hash."""
    return select(column).where(*conditions).limit(1).scalar_subquery().is_not(None)


def _is_kept(key: InstrumentedAttribute[Any], conditions: Sequence[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """Whether the receipt of this id fits conditions on its inbox row; nothing if there are none."""
    return [_exists(InboxRow.id, InboxRow.id == key, *conditions)] if conditions else []


def _is_written(
    key: InstrumentedAttribute[Any], outcomes: Collection[ReceiptOutcome] | None = None
) -> ColumnElement[bool]:
    conditions = [OutcomeRow.outcome.in_(sorted(outcomes))] if outcomes is not None else []
    return _exists(OutcomeRow.receipt_id, OutcomeRow.receipt_id == key, *conditions)


def _has_outcome(key: InstrumentedAttribute[Any], where: ReceiptFilter) -> list[ColumnElement[bool]]:
    """Whether the receipt of this id has one of the outcomes; nothing if there are none, or all."""
    outcomes = set(where.outcomes)
    if not outcomes or outcomes == set(ReceiptOutcome):
        return []
    conditions: list[ColumnElement[bool]] = []
    written, recorded = outcomes - {ReceiptOutcome.PENDING}, sorted(outcomes & RECORDED)
    if written:
        conditions.append(_is_written(key, written))
    if recorded:
        told = aliased(Transition)
        is_told = _exists(told.id, told.receipt_id == key, told.superseded_at.is_(None), told.effect.in_(recorded))
        conditions.append(is_told & ~_is_written(key))
    if ReceiptOutcome.PENDING in outcomes:
        conditions.append(_exists(PendingRow.receipt_id, PendingRow.receipt_id == key))
    return [or_(*conditions)]


def _load_entries(session: Session, rows: Sequence[InboxRow]) -> list[ReceiptEntry]:
    if not rows:
        return []
    receipt_ids = [row.id for row in rows]

    def find(model: Any, *conditions: ColumnElement[bool]) -> dict[UUID, Any]:
        query = select(model).where(bulk.among(session, model.receipt_id, receipt_ids), *conditions)
        found = session.scalars(query.execution_options(populate_existing=True))
        return {each.receipt_id: each for each in found}

    told = find(Transition, Transition.superseded_at.is_(None))
    written, waiting, parked = find(OutcomeRow), find(PendingRow), find(Parked)
    named = find(ReceiptReferences)
    # What a person matched may name something else than its message has.
    as_message = [each for each in told.values() if each.receipt_id not in named and each.rule != correlation.BY_HAND]
    of_message = {each.receipt_id: each.message_id for each in as_message}
    messages = _find_named(session, of_message.values())
    return [
        _make_entry(
            row,
            told.get(row.id),
            waiting.get(row.id) or written.get(row.id),
            parked.get(row.id),
            named.get(row.id) or (messages.get(of_message[row.id]) if row.id in of_message else None),
        )
        for row in rows
    ]


def _find_named(session: Session, message_ids: Collection[UUID]) -> Mapping[UUID, Any]:
    """What messages have of what a receipt names, by id."""
    if not message_ids:
        return {}
    query = select(Message.id, Message.recipient, Message.client_ref, Message.transaction_id)
    rows = session.execute(query.where(bulk.among(session, Message.id, set(message_ids))))
    return {row.id: row for row in rows}


def _make_entry(
    row: InboxRow,
    told: Transition | None,
    stands: PendingRow | OutcomeRow | None,
    parked: Parked | None,
    named: Any,
) -> ReceiptEntry:
    """`named`: what it names, a row of `ReceiptReferences`; or its message's, if it was recorded with a word."""
    if isinstance(stands, PendingRow):
        outcome, reason, processed_at = ReceiptOutcome.PENDING, stands.reason, stands.processed_at
    elif stands is not None:
        outcome, reason, processed_at = ReceiptOutcome(stands.outcome), stands.reason, stands.processed_at
    elif told is not None:
        outcome, reason, processed_at = ReceiptOutcome(told.effect), told.reason, told.recorded_at
    else:  # which `verify` says too; a list must not fail because of it
        outcome, reason, processed_at = ReceiptOutcome.PENDING, "it is in no queue", None
    said = told or named
    return ReceiptEntry(
        row=row,
        outcome=outcome,
        reason=reason,
        processed_at=processed_at,
        tries=stands.tries if isinstance(stands, PendingRow) else 0,
        message_id=(told.message_id if told else None) or (stands.assigned_to if stands else None) or row.message_id,
        candidates=parked.candidates if parked else (),
        look_at=parked.look_at if parked else None,
        recipient=named.recipient if named else None,
        transaction_id=named.transaction_id if named else None,
        client_ref=named.client_ref if named else None,
        provider_status_id=said.provider_status_id if said else None,
        provider_description=said.provider_description if said else None,
        kid=row.claimed_kid or None,
    )


def _lock(session: Session, receipt_id: UUID, action: str, outcomes: Sequence[ReceiptOutcome]) -> ReceiptEntry | None:
    """A receipt, locked. Raises Refused if it has none of these outcomes. `action`: a participle such as `matched`."""
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(InboxRow.id == receipt_id)
    row = session.scalars(query.with_for_update()).one_or_none()
    if row is None:
        return None
    session.execute(select(OutcomeRow.receipt_id).where(OutcomeRow.receipt_id == receipt_id).with_for_update())
    [entry] = _load_entries(session, [row])
    if entry.outcome not in outcomes:
        *others, last = outcomes
        which = " or ".join(filter(None, (", ".join(others), last)))
        raise Refused(f"It is {entry.outcome}; only what is {which} can be {action}.")
    return entry


def _reopen(
    session: Session, entry: ReceiptEntry, action: str, by: Actor, now: datetime, *, assigned_to: UUID | None = None
) -> ReceiptEntry:
    # Without look_at the parking lot does not release it meanwhile; the worker unparks it when it settles it.
    session.execute(update(Parked).where(Parked.receipt_id == entry.row.id).values(look_at=None))
    details = {"message": ids.public("msg", assigned_to)} if assigned_to is not None else {}
    _audit(session, entry, action, by, now, to=ReceiptOutcome.PENDING, **details)
    pending.reopen(session, [entry.row.id], now, assigned_to=assigned_to)
    return _load_entries(session, [entry.row])[0]


def _audit(
    session: Session, entry: ReceiptEntry, action: str, by: Actor, now: datetime, *, to: ReceiptOutcome, **details: str
) -> None:
    move = {"from": entry.outcome.value, "to": to.value} | ({"was": entry.reason} if entry.reason else {})
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action=action,
        subject=ids.public("rcp", entry.row.id),
        reason=by.reason,
        details=move | details,
    )
