"""Failures of a period: by reason, code, sender, country, prefix and number, the messages behind each, and files."""

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import marshmallow as ma
from flask import Response, request

from receiptsvc import ids
from receiptsvc.domain import meanings, numbers
from receiptsvc.domain.failures import FailureReason
from receiptsvc.store.core.models import Message
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import failed_messages, listing
from receiptsvc.store.queries.exports import Form
from receiptsvc.store.queries.failed_messages import FAILED, FailedFilter
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.store.queries.statistics import By, TooManyCounts
from receiptsvc.web.answers import export_stream, periods
from receiptsvc.web.answers.export_stream import Style
from receiptsvc.web.http import context, cursors
from receiptsvc.web.http.errors import Problem, by_path
from receiptsvc.web.ops import failure_rows, lists, pages, saved, terms
from receiptsvc.web.ops.failure_rows import Part, Told
from receiptsvc.web.ops.pages import PanelLate, blueprint, only_looks, signed_in, viewer
from receiptsvc.web.schemas.statistics import BreakdownQuery

_SUBJECT = "failures"  # as audits name it
_RANGES = {"24h": "24 hours", "today": "Today", "yesterday": "Yesterday", "7d": "7 days", "30d": "30 days"}
_DAYS = {"24h": 1, "7d": 7, "30d": 30}
_MAX_SHOWN = 100  # parts; a file has all
_MAX_KEY = 64  # characters: no part is named by more
_KEYS = ("originator", "calling_code", "prefix", "status_id", "reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """What is looked at: whole hours. `name`: by which it was chosen, if it was by one."""

    since: datetime
    until: datetime
    name: str | None = None

    @property
    def times(self) -> dict[str, str]:
        """Its ends, as a browser's fields have them."""
        return {name: lists.write_time(getattr(self, name)) or "" for name in lists.TIMES}

    @property
    def before(self) -> "Period":
        """The one of the same length before it."""
        return Period(since=self.since - (self.until - self.since), until=self.since)

    def query(self, **more: str) -> str:
        """The query of an address that shows it."""
        return urlencode(({"range": self.name} if self.name else self.times) | more)


@blueprint.route("/failures", methods=["GET", "POST"])
@signed_in
def read_failures() -> Response:
    """What failed in a period, the most first. By POST also shown with its numbers."""
    part = _read_part(request.args)
    try:
        period = _read_period(request.args)
    except Problem as problem:
        return _render(422, part=part, form=request.args, faults=problem.errors or {})
    try:
        told = _read(period, part)
    except TooManyCounts:
        return _render(422, part=part, period=period, form=period.times, is_too_much=True)
    wider = None if told.total.failures else _find_wider(period)
    return _render(about=_SUBJECT, part=part, period=period, form=period.times, told=told, wider=wider)


@blueprint.route("/failures.csv", methods=["GET", "POST"])
@signed_in
def download_failures() -> Response:
    """The same lines as a file. By POST with whole numbers."""
    given = request.form if request.method == "POST" else request.args
    part, period = _read_part(given), _read_period(given)
    try:
        told = _read(period, part)
    except TooManyCounts:
        raise periods.too_many("Too much was counted in this period: choose a shorter one.") from None
    lines = "".join(failure_rows.write_csv(told, part, is_revealed=pages.reveals()))
    name = f"failures-by-{part}-from-{period.since:%Y-%m-%dT%H}Z-until-{period.until:%Y-%m-%dT%H}Z.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    file = Response(BOM_UTF8 + lines.encode(), content_type=export_stream.MEDIA[Form.CSV], headers=headers)
    return pages.send(file, about=_SUBJECT)


@blueprint.route("/failures/messages.csv", methods=["GET", "POST"])
@signed_in
def download_messages() -> Response:
    """The failed messages of the period as a file. By POST with whole numbers and texts."""
    period = _read_period(request.form if request.method == "POST" else request.args)
    return _send_messages(MessageFilter(statuses=FAILED, since=period.since, until=period.until), _SUBJECT)


@blueprint.route("/search/<search_id>/failures.csv", methods=["GET", "POST"])
@signed_in
def download_list(search_id: str) -> Response:
    """A list of failed messages as a file, such as those of one sender. By POST with whole numbers and texts."""
    found = saved.load(search_id)
    if found is None or not terms.is_of_failed(found.asked):
        raise Problem(404, "There is no list of failed messages at this address.")
    return _send_messages(found.asked, search_id)


@blueprint.post("/failures/messages")
@signed_in
@only_looks
def open_messages() -> Response:
    """The list of what a number counts: the failed messages of a part, all or with one status, now or before.

    Reports are counted by when they came. So messages are listed by that too, whenever they were accepted.
    """
    period = _read_period(request.form)
    if request.form.get("when") == "before":
        period = period.before
    word = request.form.get("status")
    between: dict[str, Any] = {"since": period.since, "until": period.until}
    between["statuses"] = (word,) if word in FAILED else FAILED
    if request.form.get("of"):
        number = _find_number(request.form["of"])
        return pages.redirect(saved.save(MessageFilter(recipient=number, **between)))
    key: dict[str, Any] = {name: request.form[name][:_MAX_KEY] for name in _KEYS if name in request.form}
    if key.keys() <= {"originator"} and all(key.values()):  # the list of messages knows it, and has an index for it
        return pages.redirect(saved.save(MessageFilter(**between, **key)))
    if not key.keys().isdisjoint({"status_id", "reason"}):
        between |= {"since": None, "reported_since": period.since, "reported_until": period.until}
    return pages.redirect(saved.save(FailedFilter(**between, **key)))


def show_failed(where: FailedFilter, of: str) -> Response:
    """A page of failed messages. `of`: the search's id. Raises ValidationError and PanelLate."""
    position = lists.read_position(cursors.FAILED)
    with pages.reading() as session:
        page = failed_messages.list_failed(session, where, limit=lists.PAGE_SIZE, after=position)
        is_by_report = position is None and where.reported_since is not None
        recovered = failed_messages.find_recovered(session, where, limit=lists.PAGE_SIZE) if is_by_report else []
        failures = failed_messages.find_failures(session, [message.id for message in page.items])
    return pages.render(
        "failed.html",
        about=of,
        of=of,
        where=where,
        countries=numbers.countries_of(where.calling_code or ""),
        reason=_mean(where.reason),
        items=page.items,
        failures=failures,
        recovered=recovered,
        looked_to=page.next and page.next.at,
        next_cursor=page.next and cursors.FAILED.encode(page.next),
        is_first=position is None,
    )


def _send_messages(where: MessageFilter | FailedFilter, about: str) -> Response:
    """The file of failed messages, and why each failed. `about`: as in `pages.send`."""
    if isinstance(where, MessageFilter):
        find: Callable[..., Page[UUID, Any]] = partial(listing.find_ids, where=where)
    else:
        find = partial(failed_messages.find_ids, where=where)
    table = export_stream.failed(find, is_masked=not pages.reveals())
    since, until = where.since, where.until
    if isinstance(where, FailedFilter) and where.reported_since is not None:
        since, until = where.reported_since, where.reported_until
    between = MessageFilter(since=since, until=until)  # in its name
    style = Style(form=Form.CSV, has_bom=True)
    file = export_stream.respond(context.database(), table, between, style, holder=viewer().actor)
    return pages.send(file, about=about)


def _read(period: Period, part: Part) -> Told:
    with pages.reading_much() as session:
        return failure_rows.read(session, period.since, period.until, part)


def _find_wider(period: Period) -> tuple[str, int] | None:
    """A range that goes further back in which something failed, and how much; None: none has, or it takes too long."""
    for name in _DAYS:
        found = _make_range(name)
        with suppress(PanelLate, TooManyCounts), pages.reading() as session:
            count = failure_rows.count(session, found.since, found.until) if found.since < period.since else 0
            if count:
                return name, count
    return None


def _read_part(given: Mapping[str, str]) -> Part:
    """What is asked for; what nobody knows is the first one."""
    asked = given.get("by", "")
    return Part(asked) if asked in set(Part) else Part.REASON


def _read_period(given: Mapping[str, str]) -> Period:
    """The period that is asked for; the last 24 hours, if none is. Raises Problem 422."""
    typed = {name: lists.as_moment(given[name]) for name in lists.TIMES if given.get(name)}
    if typed:
        try:
            asked = BreakdownQuery().load({"by": "reason", **typed})
        except ma.ValidationError as error:
            raise Problem(422, "The period can't be understood.", errors=by_path(error.messages)) from None
        since, until = periods.round_out(asked.get("since"), asked.get("until"), By.HOUR, context.now())
        return Period(since=since, until=until)
    return _make_range(given.get("range", ""))


def _make_range(name: str) -> Period:
    """The period of this name; what is no name is the first one."""
    now = context.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "yesterday":
        return Period(since=today - timedelta(days=1), until=today, name=name)
    name = name if name in _RANGES else next(iter(_RANGES))
    begin = today if name == "today" else now - timedelta(days=_DAYS[name])
    since, until = periods.round_out(begin, now, By.HOUR, now)
    return Period(since=since, until=until, name=name)


def _find_number(public_id: str) -> str:
    """The number that a message went to. Raises Problem 404."""
    identifier = ids.parse("msg", public_id)
    if identifier is not None:
        with pages.reading() as session:
            message = session.get(Message, identifier)
            if message is not None:
                return message.recipient
    raise Problem(404, "There is no such message.")


def _mean(reason: str | None) -> str | None:
    """What a class of reason means."""
    return meanings.FAILURE_REASONS[FailureReason(reason)].means if reason in set(FailureReason) else None


def _render(status: int = 200, **values: Any) -> Response:
    known: dict[str, Any] = {"parts": list(Part), "ranges": _RANGES, "max_shown": _MAX_SHOWN, "faults": {}}
    return pages.render("failures.html", status, **(known | values))
