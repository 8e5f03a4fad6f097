"""Which account a refused logon is about, and what the end of one call says of the end of another.

An account is our credentials with or without one `impersonateUserName`. A 401, and a code that a setting calls `stop`,
prove that it is refused. Words of a logon, and a 403, only raise a suspicion: a text may hold "password", and a filter
may dislike one message. The messages of such a call wait. The next call of the same account that began after that
answer, with other messages, decides: what the gateway takes proves that the account works, and what it refuses in the
same way (an item, or the whole call) that it does not. Nothing here knows a database: `store.outbound.accounts` and
`store.outbound.call_results` keep what this says.
"""

from collections.abc import Collection
from enum import StrEnum

from receiptsvc.domain.messages import SendOutcome

OWN = ""  # the account without an impersonateUserName

SUSPECT = frozenset({SendOutcome.SUSPECT_REFUSED, SendOutcome.SUSPECT_UNCLEAR})

# What an answer means for its message as if it held no words of a logon.
_PLAIN = {SendOutcome.SUSPECT_REFUSED: SendOutcome.REFUSED, SendOutcome.SUSPECT_UNCLEAR: SendOutcome.UNCLEAR}


class Finding(StrEnum):
    """What a call says of its account."""

    NOTHING = "nothing"
    WORKS = "works"
    REFUSED = "refused"
    SUSPECTED = "suspected"


def account_of(impersonate_user_name: str | None) -> str:
    """The name of the account that a message goes out by."""
    return impersonate_user_name or OWN


def find(outcomes: Collection[SendOutcome], *, is_held: bool, is_met_again: bool) -> Finding:
    """What the ends of a call's messages say of their account.

    `is_held`: it counts as refused already. `is_met_again`: messages of another call wait, because that ended in the
    same way before this one began.
    """
    if SendOutcome.ACCOUNT_REFUSED in outcomes:
        return Finding.REFUSED
    if SendOutcome.TAKEN in outcomes:
        return Finding.WORKS
    if not SUSPECT.intersection(outcomes):
        return Finding.NOTHING
    return Finding.REFUSED if is_held or is_met_again else Finding.SUSPECTED


def settle(outcome: SendOutcome, finding: Finding, *, was_cleared: bool, refuses_calls: bool) -> SendOutcome:
    """What a message's end comes to once it is known what its call says.

    `was_cleared`: the message ended so before, and the gateway has taken another one of its account since. Then the
    words are about this message, as they are beside one that the same call brought through. `refuses_calls`: the
    account's whole calls are refused, not items only, which proves nothing for a message that may have been sent.
    """
    if outcome not in SUSPECT:
        return outcome
    if was_cleared or finding is Finding.WORKS:
        return _PLAIN[outcome]
    is_explained = outcome is SendOutcome.SUSPECT_REFUSED or refuses_calls
    return SendOutcome.ACCOUNT_REFUSED if finding is Finding.REFUSED and is_explained else outcome
