"""Requests that are done at most once: a key is claimed in a commit of its own, and the messages that its request makes
are noted in the commit that accepts them. So a key without messages is one whose request is being done, or whose
process died.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import IdempotencyKey, Message

DEAD_AFTER = timedelta(seconds=60)  # a request that has run for so long counts as dead

_A_LOOK = 10_000  # messages; SQLite takes a parameter for each


class OtherRequest(ReceiptsvcError):
    """The key stands for a request that says something else."""


class StillRunning(ReceiptsvcError):
    """The request is being done, here or elsewhere."""

    retry_helps = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A request that is to be done at most once, and since when. `begun_at` tells it from an earlier try that died."""

    api_key: str  # the name of the API key
    key: str
    digest: bytes  # of what the request says
    begun_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A request that was done. `message_ids`: public ids in the order of its answer."""

    api_key: str  # the name of the API key
    key: str
    begun_at: datetime
    message_ids: Sequence[str]


def begin(session: Session, claim: Claim) -> list[str] | None:
    """Claim a key. None: the request is to be done now; else it was, and these are its messages, as public ids.

    The caller commits before it goes on. Raises OtherRequest, and StillRunning.
    """
    # First of all only a look: an insert would wait for whoever is accepting this request's messages, conflict or not.
    row = session.get(IdempotencyKey, (claim.api_key, claim.key))
    if row is None:
        values = {"api_key": claim.api_key, "key": claim.key, "digest": claim.digest, "begun_at": claim.begun_at}
        statement = bulk.upsert(session, IdempotencyKey).on_conflict_do_nothing(index_elements=["api_key", "key"])
        if session.scalar(statement.values(values).returning(IdempotencyKey.key)) is None:
            raise StillRunning  # another was faster
        return None
    is_dead = row.message_ids is None and row.begun_at <= claim.begun_at - DEAD_AFTER
    if row.digest != claim.digest and not is_dead:
        raise OtherRequest
    if row.message_ids is not None:
        return row.message_ids
    if not is_dead:
        raise StillRunning
    again = update(IdempotencyKey).where(*_is_open(claim.api_key, claim.key, row.begun_at))
    taken = again.values(digest=claim.digest, begun_at=claim.begun_at).returning(IdempotencyKey.key)
    if session.scalar(taken.execution_options(synchronize_session=False)) is None:
        raise StillRunning  # it was not dead, or another was faster
    return None


def finish(session: Session, claim: Claim, message_ids: Sequence[UUID]) -> None:
    """Note what messages the request makes, in the transaction that accepts them.

    Raises StillRunning if it was taken for dead meanwhile, and somebody else is doing it: then it must not be done.
    """
    done = update(IdempotencyKey).where(*_is_open(claim.api_key, claim.key, claim.begun_at))
    listed = [ids.public("msg", message_id) for message_id in message_ids]
    if session.scalar(done.values(message_ids=listed).returning(IdempotencyKey.key)) is None:
        raise StillRunning


def find_submissions(session: Session, api_keys: Collection[str], keys: Collection[str]) -> Sequence[Submission]:
    """The requests with these keys, of each of these API keys, that were done; each key's in their order."""
    query = select(IdempotencyKey.api_key, IdempotencyKey.key, IdempotencyKey.begun_at, IdempotencyKey.message_ids)
    ours = bulk.among(session, IdempotencyKey.api_key, api_keys) & bulk.among(session, IdempotencyKey.key, keys)
    found = session.execute(query.where(ours).order_by(IdempotencyKey.api_key, IdempotencyKey.begun_at)).all()
    return [
        Submission(api_key=api_key, key=key, begun_at=begun_at, message_ids=message_ids)
        for api_key, key, begun_at, message_ids in found
        if message_ids
    ]


def free(session: Session, claim: Claim) -> None:
    """Let go of the key of a request that failed. One that was done after all keeps it."""
    session.execute(delete(IdempotencyKey).where(*_is_open(claim.api_key, claim.key, claim.begun_at)))


def read_messages(session: Session, message_ids: Sequence[str]) -> list[Message]:
    """The messages that a request made, as they stand now and in its order."""
    wanted = [identifier for identifier in (ids.parse("msg", one) for one in message_ids) if identifier is not None]
    found: dict[UUID, Message] = {}
    for start in range(0, len(wanted), _A_LOOK):
        query = select(Message).where(bulk.among(session, Message.id, wanted[start : start + _A_LOOK]))
        found.update((message.id, message) for message in session.scalars(query))
    return [found[identifier] for identifier in wanted if identifier in found]


def _is_open(api_key: str, key: str, begun_at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Whether a key is still claimed by a request that began then."""
    return (
        IdempotencyKey.api_key == api_key,
        IdempotencyKey.key == key,
        IdempotencyKey.begun_at == begun_at,
        IdempotencyKey.message_ids.is_(None),
    )
