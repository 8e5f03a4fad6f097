"""The people who may sign in at the ops page with a name and a password. Upper and lower case of a name are the same.

Passwords come here as hashes; who a session belongs to is in `sessions`.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.store.access import sessions
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import User

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")


def fold(name: str) -> str:
    """A name as it is stored."""
    return name.strip().lower()


def find(session: Session, name: str) -> User | None:
    """The user of this name, disabled ones too."""
    return session.scalars(select(User).where(User.name == fold(name))).one_or_none()


def list_all(session: Session) -> Sequence[User]:
    """Every user, by name."""
    return session.scalars(select(User).order_by(User.name)).all()


def add(session: Session, name: str, password_hash: str, by: Actor, now: datetime) -> User:
    """Add a user. Raises Refused if the name is taken, or can't be one."""
    if not _NAME.fullmatch(fold(name)):
        raise Refused("a name has letters, digits and _.- (64 at most)")
    if find(session, name) is not None:
        raise Refused(f"there is a user {fold(name)}: `users password` gives a new password, to a disabled one too")
    user = User(id=ids.new(), name=fold(name), password_hash=password_hash, made_at=now, disabled_at=None)
    session.add(user)
    _audit(session, user, "add user", by, now)
    return user


def set_password(session: Session, name: str, password_hash: str, by: Actor, now: datetime) -> int:
    """Give a user a new password, and enable them. How many of their sessions that ended. Raises Refused."""
    user = _get(session, name)
    user.password_hash, user.disabled_at = password_hash, None
    _audit(session, user, "set password", by, now)
    return sessions.end_all_of(session, user.id, now)


def disable(session: Session, name: str, by: Actor, now: datetime) -> int:
    """Let a user sign in no more. How many of their sessions that ended. Raises Refused."""
    user = _get(session, name)
    if user.disabled_at is None:
        user.disabled_at = now
        _audit(session, user, "disable user", by, now)
    return sessions.end_all_of(session, user.id, now)


def _get(session: Session, name: str) -> User:
    user = find(session, name)
    if user is None:
        raise Refused(f"there is no user {fold(name)}")
    return user


def _audit(session: Session, user: User, action: str, by: Actor, now: datetime) -> None:
    audits.write(session, at=now, actor=by.actor, action=action, subject=ids.public("usr", user.id), reason=by.reason)
