"""The sign-ins at the ops page. A row ends one in all processes at once, since each request asks for it.

The secret of a session is only in its browser; here is its digest. It has 256 random bits, so a plain digest will do.
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core.models import OpsSession, User
from receiptsvc.store.core.paging import MAX_ROWS

LASTS = timedelta(hours=12)  # a working day
IDLE = timedelta(hours=1)
TOUCHED_AFTER = timedelta(minutes=1)  # `seen_at` is written at most so often

_KEPT = timedelta(days=7)  # after its end, for whoever asks who was signed in
_TAG_END = "~"  # which is not in the random part of a secret
_TAG_BYTES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Who:
    """Who signs in. `key_secret`: of an API key; without it, it is a user."""

    name: str
    user_id: UUID | None = None
    key_secret: str | None = None

    @property
    def actor(self) -> str:
        """As audits name it."""
        return f"{'user' if self.key_secret is None else 'key'} {self.name}"


def digest_of(secret: str) -> bytes:
    """By which a session is found."""
    return hashlib.sha256(secret.encode()).digest()


def key_digest_of(secret: str, key_secret: str) -> bytes:
    """By which is seen whether the API key of a session is still the same. Without `secret` it tells nothing."""
    return hashlib.blake2b(key_secret.encode(), key=digest_of(secret), digest_size=32).digest()


def tag_of(secret: str) -> str:
    """Whose session a secret opens, the same for all of theirs, without asking the database.

    Of a secret that an earlier release made: which session, in as many letters as tell nothing of it.
    """
    tag, end, _ = secret.partition(_TAG_END)
    return tag if end else _make_tag(secret)


def begin(session: Session, who: Who, now: datetime) -> tuple[str, UUID]:
    """Sign somebody in, and forget sessions that ended long ago. Returns the new session's secret, and its id."""
    secret, session_id = f"{_make_tag(who.actor)}{_TAG_END}{secrets.token_urlsafe(32)}", ids.new()
    session.add(
        OpsSession(
            id=session_id,
            secret_digest=digest_of(secret),
            who=who.actor,
            user_id=who.user_id,
            key_digest=None if who.key_secret is None else key_digest_of(secret, who.key_secret),
            made_at=now,
            seen_at=now,
            ends_at=now + LASTS,
            ended_at=None,
        )
    )
    session.execute(delete(OpsSession).where(OpsSession.ends_at < now - _KEPT))
    return secret, session_id


def find(session: Session, secret: str, now: datetime) -> OpsSession | None:
    """The session with this secret; None if it has ended, or its user is disabled.

    Whether its API key is still the same is for the caller to see: the keys stand in the settings.
    """
    query = (
        select(OpsSession)
        .outerjoin(User, User.id == OpsSession.user_id)
        .where(OpsSession.secret_digest == digest_of(secret), *_open(now), User.disabled_at.is_(None))
    )
    return session.scalars(query).one_or_none()


def find_open(session: Session, session_ids: Collection[UUID], now: datetime) -> Sequence[UUID]:
    """Which of these sessions have not ended, and their users not been disabled."""
    if not session_ids:
        return []
    query = select(OpsSession.id).outerjoin(User, User.id == OpsSession.user_id)
    is_asked = OpsSession.id.in_(session_ids)
    return session.scalars(query.where(is_asked, *_open(now), User.disabled_at.is_(None))).all()


def touch(session: Session, session_id: UUID, now: datetime) -> None:
    """Note that a session is in use."""
    session.execute(update(OpsSession).where(OpsSession.id == session_id).values(seen_at=now))


def list_open(session: Session, who: str, now: datetime) -> Sequence[OpsSession]:
    """The open sessions of somebody, the newest first."""
    query = select(OpsSession).where(OpsSession.who == who, *_open(now))
    return session.scalars(query.order_by(OpsSession.id.desc()).limit(MAX_ROWS)).all()


def end(session: Session, who: str, session_ids: Collection[UUID], now: datetime) -> int:
    """End sessions of somebody; how many were open."""
    return _end(session, OpsSession.who == who, OpsSession.id.in_(session_ids), now=now)


def end_all_of(session: Session, user_id: UUID, now: datetime) -> int:
    """End all sessions of a user; how many were open."""
    return _end(session, OpsSession.user_id == user_id, now=now)


def _make_tag(text: str) -> str:
    return ids.base32(digest_of(text)[:_TAG_BYTES])


def _end(session: Session, *conditions: ColumnElement[bool], now: datetime) -> int:
    ended = update(OpsSession).where(*conditions, *_open(now)).values(ended_at=now).returning(OpsSession.id)
    return len(session.scalars(ended).all())


def _open(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return OpsSession.ended_at.is_(None), OpsSession.ends_at > now, OpsSession.seen_at > now - IDLE
