"""What workers are notified of, and a transaction's mark that it has made work of that kind.

A function that makes work marks its session. `Database` passes the marks on after the commit, and `notify` carries them
to other processes.
"""

from collections.abc import Set
from enum import StrEnum, unique

from sqlalchemy.orm import Session

_MARKS = "topics"


@unique
class Topic(StrEnum):
    """A kind of work. Its value names the channel on which it is notified."""

    RECEIPTS = "inbox"  # there are pending receipts
    MESSAGES = "outbox"  # there are messages to send, or what held them is gone


def mark(session: Session, topic: Topic) -> None:
    """Have workers notified of this topic after the session's commit."""
    session.info.setdefault(_MARKS, set()).add(topic)


def marked(session: Session) -> Set[Topic]:
    """The topics that this session's transaction has marked."""
    return frozenset(session.info.get(_MARKS, ()))
