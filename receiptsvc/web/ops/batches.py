"""A batch: a request, a file's requests, or a campaign by how its clientRefs begin. How far it is, and its export."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import references
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import audits
from receiptsvc.store.outbound import idempotency
from receiptsvc.store.outbound.idempotency import Submission
from receiptsvc.store.queries import batches, listing
from receiptsvc.store.queries.batches import RollUp
from receiptsvc.store.queries.exports import Form
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.answers import export_stream
from receiptsvc.web.answers.export_stream import Style
from receiptsvc.web.http import context
from receiptsvc.web.ops import pages, saved
from receiptsvc.web.ops.pages import blueprint, only_looks, signed_in, signed_in_for
from receiptsvc.web.ops.search import show_unknown
from receiptsvc.web.ops.terms import Batch

_MAX_PARTS = 400  # requests of one file: of 250 messages each
_MAX_TERM = 200  # characters: more than any key or clientRef may have
_PREFIX = "prefix"  # what a term is to be taken for, where its kind is known
_MOMENT = timedelta(microseconds=1)
_EXPORT_SECONDS = 10.0  # until its first lines
_EXPORT = "export"  # the action of its audit


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a batch has. `parts`: its requests; none: it has none of its own. `message_ids`: None: `prefix` finds them.

    `is_whole`: whether all its requests are among the parts.
    """

    parts: Sequence[Submission] = ()
    message_ids: Sequence[UUID] | None = None
    prefix: str | None = None
    is_whole: bool = True


@blueprint.get("/batches")
@signed_in
def ask_for_batch() -> Response:
    """The form that leads to a batch."""
    return _ask()


@blueprint.post("/batches")
@signed_in
@only_looks
def open_batch() -> Response:
    """Open the batch that a term names: a message's request, an Idempotency-Key, a file's job, or a clientRef."""
    term = request.form.get("q", "").strip()
    if not term or len(term) > _MAX_TERM or "\0" in term:
        return _ask(422, fault="Type an Idempotency-Key, a job, a message's id, or how clientRefs begin.")
    candidates = [Batch(client_ref_prefix=term)]
    if request.form.get("as") != _PREFIX:
        candidates = [*_name_requests(term), *candidates]
    with pages.reading() as session:
        found = next((each for each in candidates if _has_any(session, each)), None)
    if found is None:
        return _ask(404, fault="There is no such request, file or message, and no clientRef begins so.")
    return pages.redirect(saved.save(found))


@blueprint.get("/batches/<search_id>")
@signed_in
def read_batch(search_id: str) -> Response:
    """How far a batch is."""
    asked = saved.load_as(Batch, search_id)
    if asked is None:
        return show_unknown()
    with pages.reading_much() as session:
        contents = _read(session, asked)
        rolled_up = _roll_up(session, contents)
        notes = audits.read(session, search_id)
    total = len(contents.message_ids) if contents.message_ids is not None else rolled_up.count
    return pages.render(
        "batch.html",
        of=search_id,
        asked=asked,
        parts=contents.parts,
        is_whole=contents.is_whole,
        rolled_up=rolled_up,
        total=total,
        most=batches.MAX_COUNTED,
        can_be_listed=_find_list(contents, rolled_up) is not None,
        job=references.job_of_key(asked.key) if asked.key is not None else None,
        audits=notes,
    )


@blueprint.post("/batches/<search_id>/list")
@signed_in
@only_looks
def list_batch(search_id: str) -> Response:
    """The list of a batch's messages of one status, or of all."""
    asked = saved.load_as(Batch, search_id)
    if asked is None:
        return show_unknown()
    with pages.reading_much() as session:
        contents = _read(session, asked)
        where = _find_list(contents, _roll_up(session, contents))
    if where is None:
        return pages.redirect(f"batches/{search_id}")
    statuses = tuple(status.value for status in Status if status.value == request.form.get("status"))
    return pages.redirect(saved.save(replace(where, statuses=statuses)))


@blueprint.post("/batches/<search_id>/export")
@signed_in_for(_EXPORT_SECONDS)
def export_batch(search_id: str) -> Response:
    """All messages of a batch as CSV, with their numbers and texts; that is on record."""
    asked = saved.load_as(Batch, search_id)
    if asked is None:
        return show_unknown()
    with context.database().reading() as session:
        contents = _read(session, asked)
    chosen = contents.message_ids
    table = export_stream.MESSAGES if chosen is None else export_stream.chosen(chosen)
    return _export(search_id, table, MessageFilter(client_ref_prefix=contents.prefix))


@blueprint.post("/search/<search_id>/export")
@signed_in_for(_EXPORT_SECONDS)
def export_list(search_id: str) -> Response:
    """All messages of a list by how clientRefs begin, in the same way."""
    found = saved.load(search_id)
    if found is None or not isinstance(found.asked, MessageFilter) or not found.asked.client_ref_prefix:
        return show_unknown()
    return _export(search_id, export_stream.MESSAGES, found.asked)


def _export(search_id: str, table: export_stream.Table, where: MessageFilter) -> Response:
    """The file, and the audit of it."""
    actor = pages.viewer().actor
    with context.database().transaction() as session:
        audits.write(session, at=context.now(), actor=actor, action=_EXPORT, subject=search_id)
    answer = export_stream.respond(context.database(), table, where, Style(form=Form.CSV, has_bom=True), holder=actor)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _name_requests(term: str) -> Sequence[Batch]:
    """What a term may mean but for a clientRef, the surest first."""
    as_message = [Batch(message=term)] if ids.parse("msg", term) is not None else []
    return [*as_message, Batch(key=term), Batch(job=term)]


def _has_any(session: Session, asked: Batch) -> bool:
    if asked.client_ref_prefix is not None:
        return bool(listing.find_by_prefix(session, asked.client_ref_prefix, 1))
    return bool(_read(session, asked).message_ids)


def _read(session: Session, asked: Batch) -> Contents:
    """What a batch has now."""
    if asked.message is not None:
        identifier = ids.parse("msg", asked.message)
        found = batches.find_request(session, identifier, context.settings().max_recipients) if identifier else ()
        return Contents(message_ids=found)
    if asked.client_ref_prefix is not None:
        return Contents(prefix=asked.client_ref_prefix)
    keys = [asked.key] if asked.key is not None else []
    if asked.job is not None:
        keys = [references.file_key(asked.job, number) for number in range(_MAX_PARTS + 1)]
    api_keys = [key.name for key in context.settings().api_keys]
    parts = idempotency.find_submissions(session, api_keys, keys)
    named = (ids.parse("msg", each) for part in parts[:_MAX_PARTS] for each in part.message_ids)
    return Contents(
        parts=parts[:_MAX_PARTS],
        message_ids=[identifier for identifier in named if identifier is not None],
        is_whole=len(parts) <= _MAX_PARTS,
    )


def _roll_up(session: Session, contents: Contents) -> RollUp:
    if contents.message_ids is not None:
        return batches.roll_up(session, contents.message_ids[: batches.MAX_COUNTED])
    return batches.roll_up_prefix(session, contents.prefix or "")


def _find_list(contents: Contents, rolled_up: RollUp) -> MessageFilter | None:
    """The filter that finds a batch's messages; None: only its parts have one, accepted at a moment each."""
    if contents.prefix is not None:
        return MessageFilter(client_ref_prefix=contents.prefix)
    if rolled_up.first_at is None or rolled_up.first_at != rolled_up.last_at:
        return None
    return MessageFilter(since=rolled_up.first_at, until=rolled_up.first_at + _MOMENT)


def _ask(status: int = 200, *, fault: str | None = None) -> Response:
    return pages.render("batches.html", status, fault=fault, q=request.form.get("q", ""))
