"""PostgreSQL's advisory locks: every one that we take, and the keys that stand for what is locked.

All are held until the caller's commit. SQLite has one writer at a time anyway, so there every lock is free.
"""

from collections.abc import Collection
from enum import IntEnum, unique
from zlib import crc32

from sqlalchemy import text
from sqlalchemy.orm import Session

from receiptsvc.store.core.db import is_sqlite

# Names share keys: PostgreSQL has room for some thousands of locks, and a batch may have two thousand references.
_KEYS = 256
_TAKE = text("SELECT pg_advisory_xact_lock(CAST(:space AS integer), key) FROM unnest(CAST(:keys AS integer[])) AS key")
_TAKE_SHARED = text(_TAKE.text.replace("_lock(", "_lock_shared("))
_TRY = text("SELECT pg_try_advisory_xact_lock(CAST(:space AS integer), 0)")


@unique
class Lock(IntEnum):
    """What can be locked. Its number is the first key, apart from those of others who use the database.

    A transaction that takes several takes them in this order, which prevents deadlocks.
    """

    USUAL_TURN = 20_160_109  # what waits for its turn, while less than a full batch of it is worked on
    HELD_BACK = 20_160_110  # receipts of a group that is held back, while some are worked on
    REFERENCES = 20_160_111  # transactionIDs and clientRefs, while receipts with them are parked or released
    MSGIDS = 20_160_112  # of replies, while they are recorded
    EVENT_NUMBERS = 20_160_113  # while the change feed is numbered
    TIME_SLICES = 20_160_114  # while a step is taken to make a time slice of the inbox
    SUPPRESSED = 20_160_115  # numbers, while it is decided whether they are suppressed
    RECEIPT_GROUPS = 20_160_116  # groups of receipts, while something is done to a slice of one


def take(session: Session, lock: Lock, names: Collection[str], *, is_shared: bool = False) -> None:
    """Take a lock for each of these names, waiting for it if need be.

    `is_shared`: callers that share do not wait for each other. Call it once in a transaction, for all names: they are
    locked in the order of their keys, which prevents deadlocks.
    """
    if names and not is_sqlite(session):
        keys = sorted({crc32(name.encode()) % _KEYS for name in names})
        session.execute(_TAKE_SHARED if is_shared else _TAKE, {"space": lock.value, "keys": keys})


def try_to_take(session: Session, lock: Lock) -> bool:
    """Take a lock that has no names; False at once if another transaction has it."""
    return is_sqlite(session) or bool(session.scalar(_TRY, {"space": lock.value}))
