"""Which account a refused logon is about, and what the end of one call says of the end of another.

An account is our credentials with or without one `impersonateUserName`. A 401, and a code that a setting calls `stop`,
prove that it is refused. Words of a logon, and a 403, only raise a suspicion: a text may hold "password", and a filter
may dislike one message. The messages of such a call wait. The next call of the same account that began after that
answer, with other messages, decides: what the gateway takes proves that the account works, and what it refuses in the
same way (an item, or the whole call) that it does not. Nothing here knows a database: `store.outbound.accounts` and
`store.outbound.call_results` keep what this says. What becomes of a message then is `domain.call_ends`' to say.
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from receiptsvc.domain.messages import SendOutcome, SendResult

OWN = ""  # the account without an impersonateUserName
DISPELLED = 0  # the suspicion of a message that met one, before its account was seen to work

SUSPECT = frozenset({SendOutcome.SUSPECT_REFUSED, SendOutcome.SUSPECT_UNCLEAR})
TELLING = SUSPECT | {SendOutcome.ACCOUNT_REFUSED}  # what says something of an account of which nothing is known

# What an answer means for its message as if it held no words of a logon.
_PLAIN = {SendOutcome.SUSPECT_REFUSED: SendOutcome.REFUSED, SendOutcome.SUSPECT_UNCLEAR: SendOutcome.UNCLEAR}


class AccountSign(StrEnum):
    """What a call says of its account."""

    NOTHING = "nothing"
    WORKS = "works"
    REFUSED = "refused"
    SUSPECTED = "suspected"


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountState:
    """How an account stands that is not as it should be, or was not when messages began to wait for it.

    `refuses_calls`: whole calls are refused, not items only. `works_number`: the last suspicion that was dispelled.
    """

    is_refused: bool
    is_suspected: bool
    refuses_calls: bool
    works_number: int

    def explains(self, *, may_be_sent: bool) -> bool:
        """Whether the account's refusal is why a message's call ended as it did, so that it was not sent.

        Refused items prove nothing for a message that may have been sent.
        """
        return self.is_refused and (self.refuses_calls or not may_be_sent)


_SOUND = AccountState(is_refused=False, is_suspected=False, refuses_calls=False, works_number=DISPELLED)


class End(NamedTuple):
    """How a call ended for one message. `suspicion`: the number of the one that it had met before."""

    outcome: SendOutcome
    suspicion: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a call says of its account, and how it ended for each of its messages now that this is known.

    `of_calls`: a refusal is one of whole calls, not of items only. `has_decided`: messages that wait may go on.
    """

    sign: AccountSign
    outcomes: Mapping[UUID, SendOutcome]
    of_calls: bool
    has_decided: bool


def account_of(impersonate_user_name: str | None) -> str:
    """The name of the account that a message goes out by."""
    return impersonate_user_name or OWN


def said_of_credentials(results: Collection[SendResult]) -> Set[SendOutcome]:
    """What a call says of our own credentials: that they were refused, or that something was taken."""
    if any(result.is_of_credentials for result in results):
        return {SendOutcome.ACCOUNT_REFUSED}
    return {SendOutcome.TAKEN} & {result.outcome for result in results}


def blame_credentials(result: SendResult) -> SendResult:
    """A result while our credentials are refused: that explains a suspect end."""
    if result.outcome not in SUSPECT:
        return result
    return replace(result, outcome=SendOutcome.ACCOUNT_REFUSED, is_of_credentials=True)


def doubts(ends: Collection[End], state: AccountState | None) -> Set[SendOutcome]:
    """The suspect outcomes of a call that confirm an open suspicion, if messages of another call have met it so too.

    `state`: of the call's account; None: nothing is known against it.
    """
    if state is None:
        return frozenset()
    return {end.outcome for end in ends if end.outcome in SUSPECT and not _is_dispelled(end, state)}


def judge(ends: Mapping[UUID, End], state: AccountState | None, met_again: Collection[SendOutcome]) -> Judgement:
    """What the ends of one call say of its account, and what they come to. `met_again`: those `doubts` that came true.

    While an account is held or suspected, no message fails for its words, though its own suspicion was dispelled.
    """
    known = state or _SOUND
    cleared = {
        one
        for one, end in ends.items()
        if end.outcome in SUSPECT
        and _is_dispelled(end, known)
        and not known.is_refused
        and (not known.is_suspected or end.outcome is SendOutcome.SUSPECT_UNCLEAR)
    }
    outcomes = {end.outcome for one, end in ends.items() if one not in cleared}
    sign = find(outcomes, is_held=known.is_refused, is_met_again=bool(met_again))
    of_calls = SendOutcome.SUSPECT_UNCLEAR in met_again or SendOutcome.ACCOUNT_REFUSED in outcomes
    return Judgement(
        sign=sign,
        outcomes={
            one: settle(end.outcome, sign, was_cleared=one in cleared, refuses_calls=known.refuses_calls or of_calls)
            for one, end in ends.items()
        },
        of_calls=of_calls,
        has_decided=state is not None and sign in {AccountSign.REFUSED, AccountSign.WORKS},
    )


def _is_dispelled(end: End, state: AccountState) -> bool:
    return end.suspicion is not None and end.suspicion <= state.works_number


def find(outcomes: Collection[SendOutcome], *, is_held: bool, is_met_again: bool) -> AccountSign:
    """What the ends of a call's messages say of their account.

    `is_held`: it counts as refused already. `is_met_again`: messages of another call wait, because that ended in the
    same way before this one began.
    """
    if SendOutcome.ACCOUNT_REFUSED in outcomes:
        return AccountSign.REFUSED
    if SendOutcome.TAKEN in outcomes:
        return AccountSign.WORKS
    if not SUSPECT.intersection(outcomes):
        return AccountSign.NOTHING
    return AccountSign.REFUSED if is_held or is_met_again else AccountSign.SUSPECTED


def settle(outcome: SendOutcome, sign: AccountSign, *, was_cleared: bool, refuses_calls: bool) -> SendOutcome:
    """What a message's end comes to once it is known what its call says.

    `was_cleared`: the message ended so before, and the gateway has taken another one of its account since. Then the
    words are about this message, as they are beside one that the same call brought through. `refuses_calls`: the
    account's whole calls are refused, not items only, which proves nothing for a message that may have been sent.
    """
    if outcome not in SUSPECT:
        return outcome
    if was_cleared or sign is AccountSign.WORKS:
        return _PLAIN[outcome]
    is_explained = outcome is SendOutcome.SUSPECT_REFUSED or refuses_calls
    return SendOutcome.ACCOUNT_REFUSED if sign is AccountSign.REFUSED and is_explained else outcome
