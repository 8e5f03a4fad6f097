"""The gateway's codes: what each means here and why, those that nobody named first; and what if it meant another."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import meanings
from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.domain.statuses import GATEWAY_STATUSES, Status
from receiptsvc.dynmark.readers import open_reader
from receiptsvc.store.messages.hourly_counts import cut_status_id
from receiptsvc.store.queries import breakdowns, codes, rereading
from receiptsvc.store.queries.breakdowns import Breakdown, Group
from receiptsvc.store.queries.codes import Look, Seen
from receiptsvc.store.queries.statistics import By, TooManyCounts
from receiptsvc.web.answers import periods
from receiptsvc.web.http import context
from receiptsvc.web.ops import callback_reader, pages
from receiptsvc.web.ops.failure_rows import MAX_COUNTS
from receiptsvc.web.ops.pages import blueprint, signed_in

_DAYS = 30  # that are counted
_MAX_SHOWN = 200  # codes
_MAX_LABELS = 1_000  # codes with a status, that are counted: a sender may make up ever new ones
_MAX_EXAMPLES = 10  # messages
_WORDS = tuple(status for status in Status if status in GATEWAY_STATUSES)  # that STATUS_MAP may give


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What a code with these words means now. `by_setting`: since STATUS_MAP says so, not by its words."""

    seen: Seen
    status: Status | None
    by_setting: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A code. `meanings`: one for each of its words that were seen, the most frequent first.

    `counted`: in the last days; None: too seldom, or too long ago. `example`: its newest receipt that was looked at.
    """

    status_id: str | None
    meanings: Sequence[Meaning]
    counted: Group | None
    example: UUID | None
    first_at: datetime
    last_at: datetime

    @property
    def receipts(self) -> int:
        """How often it was seen, at least."""
        return max(sum(each.seen.receipts for each in self.meanings), self.counted.count if self.counted else 0)

    @property
    def is_unmapped(self) -> bool:
        """Whether it stands with words that nobody knows."""
        return any(each.status is None for each in self.meanings)


@blueprint.route("/codes", methods=["GET", "POST"])
@signed_in
def read_codes() -> Response:
    """Every code that was seen, those first that nobody has named."""
    since, until = periods.round_out(context.now() - timedelta(days=_DAYS), None, By.HOUR, context.now())
    with pages.reading_much() as session:
        newest, unmapped = codes.find_newest(session), codes.find_unmapped(session)
        counted = _count(session, since, until)
    found = _order(_gather(newest, unmapped, counted.items if counted is not None else ()))
    return pages.render(
        "codes.html",
        about="codes",
        codes=found[:_MAX_SHOWN],
        left_out=max(0, len(found) - _MAX_SHOWN),
        are_more=counted is not None and counted.is_bounded,
        late=sum(seen.receipts for seen in unmapped.items if _read(seen).status is not None),
        days=_DAYS,
        is_counted=counted is not None,
        counted_since=counted and counted.counted_since,
        newest=newest,
        unmapped=unmapped,
    )


@blueprint.route("/codes/<receipt_id>", methods=["GET", "POST"])
@signed_in
def read_code(receipt_id: str) -> Response:
    """The code of a receipt, and what would change if it meant another status. Its address names no code.

    A code is what a gateway sends: it may be somebody's number.
    """
    identifier = ids.parse("rcp", receipt_id)
    if identifier is None:
        return _missing()
    chosen = request.args.get("status", "")
    status = Status(chosen) if chosen in _WORDS else None
    with pages.reading() as session:
        words = codes.find_words(session, identifier)
        if words is None:
            return _missing()
    named = (words.status_id or "").strip()  # as STATUS_MAP names it
    altered = {**context.settings().status_map, named: status} if named and status is not None else None
    found = None
    if altered is not None:
        with pages.reading_much() as session:
            found = rereading.preview(session, words.status_id or "", _reader_of(altered))
    reader_now = callback_reader.current()
    return pages.render(
        "code.html",
        422 if chosen and status is None else 200,
        about=ids.public("rcp", identifier),
        id=ids.public("rcp", identifier),
        words=words,
        can_be_named=bool(named),
        status_now=reader_now.status_for(words.status_id, words.description),
        by_setting=named in context.settings().status_map,
        all_words=_WORDS,
        means=meanings.STATUSES,
        chosen=chosen,
        wanted=status,
        found=found,
        examples=found.changes[:_MAX_EXAMPLES] if found is not None else (),
        looked_through=rereading.LOOKED_THROUGH,
        setting=_write_setting(altered) if altered is not None else None,
    )


def _count(session: Session, since: datetime, until: datetime) -> Breakdown | None:
    """How often each code came; None if that is too much to be added up."""
    by = breakdowns.By.STATUS_ID
    try:
        return breakdowns.read(
            session, since, until, by, limit=_MAX_LABELS, max_counts=MAX_COUNTS, max_labels=_MAX_LABELS
        )
    except TooManyCounts:
        return None


def _gather(newest: Look, unmapped: Look, counted: Iterable[Group]) -> list[Code]:
    """All that was seen or counted, by code."""
    seen: dict[tuple[str | None, str | None], Seen] = {}
    for each in (*newest.items, *unmapped.items):
        key = each.status_id, each.description
        seen[key] = _join(seen[key], each) if key in seen else each
    groups = {group.key.status_id: group for group in counted}
    by_code: dict[str | None, list[Seen]] = {}
    for each in sorted(seen.values(), key=lambda each: -each.receipts):
        by_code.setdefault(each.status_id, []).append(each)
    known = {cut_status_id(status_id) for status_id in by_code}
    return [
        *(_make(status_id, each, groups.get(cut_status_id(status_id))) for status_id, each in by_code.items()),
        *(_make(status_id, (), group) for status_id, group in groups.items() if status_id not in known),
    ]


def _join(one: Seen, other: Seen) -> Seen:
    """The same words, seen in both looks: those that nobody can read are among the newest too."""
    return replace(
        one,
        receipts=max(one.receipts, other.receipts),
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
        newest=max(one.newest, other.newest),
    )


def _make(status_id: str | None, seen: Sequence[Seen], group: Group | None) -> Code:
    begins = [each.first_at for each in seen] + ([group.first_hour] if group is not None else [])
    ends = [each.last_at for each in seen] + ([group.last_hour] if group is not None else [])
    return Code(
        status_id=status_id,
        meanings=[_read(each) for each in seen],
        counted=group,
        example=max((each.newest for each in seen), default=None),
        first_at=min(begins),
        last_at=max(ends),
    )


def _order(found: Iterable[Code]) -> list[Code]:
    return sorted(found, key=lambda code: (not code.is_unmapped, -code.receipts, code.status_id or ""))


def _read(seen: Seen) -> Meaning:
    """What a code with its words means by today's rules."""
    return Meaning(
        seen=seen,
        status=callback_reader.current().status_for(seen.status_id, seen.description),
        by_setting=(seen.status_id or "").strip() in context.settings().status_map,
    )


def _reader_of(status_map: Mapping[str, Status]) -> CallbackReader:
    """The reader that there would be with this STATUS_MAP."""
    return open_reader(replace(context.settings(), status_map=status_map))


def _write_setting(status_map: Mapping[str, Status]) -> str:
    """The line that sets it."""
    return f"STATUS_MAP={json.dumps(dict(sorted(status_map.items())), ensure_ascii=False)}"


def _missing() -> Response:
    why = "There is no receipt with this id, or it says nothing of a status."
    return pages.render("missing.html", 404, why=why)
