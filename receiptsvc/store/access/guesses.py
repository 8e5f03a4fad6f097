"""How often sign-ins are tried: with one name, and in all. It stands in the database, so all processes count together.

A try is counted before the password is looked at, and one that is refused here is not counted: so at most MAX_OF_ONE a
minute are ever looked at with one name, and a name that is being guessed opens again by itself.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import SignInGuesses

MAX_OF_ONE = 10  # with one name, in any two minutes of the clock
MAX_OF_ALL = 60  # together
WAIT = timedelta(minutes=2)  # after which as many are free again

_ALL = b""
_MINUTE = timedelta(minutes=1)


class TooManyGuesses(ReceiptsvcError):
    """Sign-ins were tried too often. Nothing was counted: the caller's transaction is left without a commit."""


def count(session: Session, who: bytes, now: datetime) -> None:
    """Count a try with a name, given as a digest. Raises TooManyGuesses.

    The rows of a minute are locked until the commit, in the same order by everybody.
    """
    minute = now.replace(second=0, microsecond=0)
    for each, most in ((who, MAX_OF_ONE), (_ALL, MAX_OF_ALL)):
        if _add(session, each, minute) > most:
            raise TooManyGuesses("sign-ins are tried too often")
    session.execute(delete(SignInGuesses).where(SignInGuesses.minute < minute - _MINUTE))


def _add(session: Session, who: bytes, minute: datetime) -> int:
    """Count a try. How many there were in this minute and the one before."""
    insert = bulk.upsert(session, SignInGuesses).values(who_digest=who, minute=minute, guesses=1)
    key = [SignInGuesses.who_digest, SignInGuesses.minute]
    session.execute(insert.on_conflict_do_update(index_elements=key, set_={"guesses": SignInGuesses.guesses + 1}))
    of_both = select(func.sum(SignInGuesses.guesses)).where(
        SignInGuesses.who_digest == who, SignInGuesses.minute >= minute - _MINUTE
    )
    return session.scalar(of_both) or 0
