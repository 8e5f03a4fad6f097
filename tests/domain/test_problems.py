"""Problems in words, their ids, which states follow each other, and when what was resolved is there again."""

import re
from datetime import timedelta
from uuid import UUID

import pytest

from receiptsvc.domain.problems import (
    KINDS,
    OTHERS,
    Basis,
    Harm,
    Kind,
    Resolved,
    Seen,
    State,
    comes_back,
    harm_of,
    has_stopped,
    id_of,
    is_over,
    rank,
    refuse,
    remedy,
    title,
)
from tests.support.rows import T0, seconds

# kind, cause, count, whether it is all, title
TITLES = [
    (Kind.WORKER_UNSEEN, {}, None, True, "No worker is at work"),
    (Kind.UNMAPPED, {"code": "17"}, 312, True, "312 receipts with the unknown code 17"),
    (Kind.UNMAPPED, {"description": "in review"}, 1, True, "1 receipt with the unknown description “in review”"),
    (Kind.UNMAPPED, {}, 2, True, "2 receipts with neither code nor description"),
    (Kind.UNMAPPED, OTHERS, 2, True, "2 receipts with other unknown codes"),
    (Kind.UNMAPPED, {"code": "17"}, 10_000, False, "10,000 or more receipts with the unknown code 17"),
    (Kind.UNMAPPED, {"code": "17"}, 1_234, True, "1,234 receipts with the unknown code 17"),
    (Kind.UNMAPPED, {"code": "9" * 99}, 1, True, f"1 receipt with the unknown code {'9' * 59}…"),
    (Kind.UNMATCHED, {"channel": "account"}, 41, True, "41 receipts on the static URL unmatched"),
    (Kind.UNMATCHED, {"channel": "message"}, 1, True, "1 receipt on signed URLs unmatched"),
    (Kind.QUARANTINED, {"kid": "k1"}, 3, True, "3 receipts quarantined for key k1"),
    (Kind.QUARANTINED, {"unclaimed": "yes"}, 3, True, "3 receipts quarantined that claim no key"),
    (Kind.QUARANTINED, {"channel": "inbound"}, 3, True, "3 receipts on the replies' URL can't be read"),
    (Kind.DEAD, {"error": "ValueError"}, 1, True, "Work on 1 receipt failed: ValueError"),
    (Kind.OVERDUE, {"originator": "ACME"}, 9, True, "9 messages from ACME overdue"),
    (Kind.OVERDUE, {}, 9, True, "9 messages from the account's own number overdue"),
    (Kind.CALLBACKS_REFUSED, {"kid": "k1"}, 5, True, "5 callbacks refused for key k1, which is not listed"),
    (
        Kind.CALLBACKS_REFUSED,
        {"kid": "k1", "listed": "yes"},
        5,
        True,
        "5 callbacks refused for key k1, which is listed now",
    ),
    (Kind.CALLBACKS_MISROUTED, {}, 2, True, "2 callbacks kept by processes with WEB_ROLE=api"),
    (Kind.SPOOL_WAITING, {"host": "a"}, 1, True, "1 callback waits in the spool of a"),
    (Kind.SPOOL_WAITING, {}, 2, True, "2 callbacks wait in the spool of ?"),
    (Kind.UNMATCHED, {}, 2, True, "2 receipts on ? unmatched"),
    (Kind.ACCOUNT_SUSPECTED, {}, None, True, "The gateway may refuse our credentials"),
    (Kind.OVERDUE, {"originator": "{count}"}, 1, True, "1 message from {count} overdue"),
]


@pytest.mark.parametrize(("kind", "cause", "count", "is_all", "expected"), TITLES)
def test_a_title_says_how_many_and_why(
    kind: Kind, cause: dict[str, str], count: int | None, is_all: bool, expected: str
) -> None:
    assert title(kind, cause, count, is_all=is_all) == expected


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_says_what_it_is_and_what_to_do(kind: Kind) -> None:
    about = KINDS[kind]
    assert re.fullmatch(r"[A-Z].*[^.]", about.name)
    assert re.fullmatch(r"[A-Z].*[.?]", about.remedy)
    assert "{" not in about.name + about.remedy
    members = ("host", "account", "kid", "originator", "code", "description", "error", "channel")
    assert "{" not in title(kind, dict.fromkeys(members, "x"), 2, is_all=True)


def test_an_id_is_the_same_for_one_kind_and_cause_and_tells_neither() -> None:
    causes = [{}, {"code": "17"}, {"code": "18"}, {"description": "17"}, {"code": "\ud800"}]
    made = {id_of(kind, cause) for kind in (Kind.UNMAPPED, Kind.DEAD) for cause in causes}
    assert len(made) == 10
    assert id_of(Kind.OVERDUE, {"a": "1", "b": "2"}) == id_of(Kind.OVERDUE, {"b": "2", "a": "1"})
    assert b"ACME" not in id_of(Kind.OVERDUE, {"originator": "ACME"}).bytes


def test_what_harms_now_is_listed_first() -> None:
    ordered = sorted(Kind, key=lambda kind: rank(kind, KINDS[kind].harm))
    harms = [KINDS[kind].harm.value for kind in ordered]
    assert harms == sorted(harms)
    assert (ordered[0], len(set(harms))) == (Kind.DATABASE_AWAY, 2)


@pytest.mark.parametrize(
    ("state", "to", "by", "refusal"),
    [
        (State.OPEN, State.ACKNOWLEDGED, None, None),
        (State.OPEN, State.RESOLVED, None, None),
        (State.ACKNOWLEDGED, State.RESOLVED, "anna", None),
        (State.ACKNOWLEDGED, State.OPEN, "anna", None),
        (State.RESOLVED, State.OPEN, "anna", None),
        (State.OPEN, State.OPEN, "anna", "It is open already."),
        (State.ACKNOWLEDGED, State.ACKNOWLEDGED, "anna", "It is acknowledged already, by anna."),
        (State.RESOLVED, State.RESOLVED, "anna", "It is resolved already, by anna."),
        (State.RESOLVED, State.RESOLVED, None, "It is resolved already."),
        (State.RESOLVED, State.ACKNOWLEDGED, "anna", "It is resolved by anna: reopen it first."),
        (State.RESOLVED, State.ACKNOWLEDGED, None, "It is resolved: reopen it first."),
    ],
)
def test_a_state_follows_another_or_it_is_said_why_not(
    state: State, to: State, by: str | None, refusal: str | None
) -> None:
    assert refuse(state, to, by) == refusal


def kind_by(basis: Basis) -> Kind:
    return next(kind for kind in Kind if KINDS[kind].basis is basis)


def is_back(
    basis: Basis,
    *,
    at: float = 1,
    last: float = -1,
    newest: int | None = None,
    count: int = 2,
    is_all: bool = True,
    has_ended: bool = False,
) -> bool:
    """Whether it is, as it is seen so many seconds after it was resolved; then it had two rows, its newest was row 5."""
    seen = Seen(
        kind=kind_by(basis),
        first_at=T0 - timedelta(days=1),
        last_at=seconds(last),
        count=count,
        is_all=is_all,
        newest_id=UUID(int=newest) if newest is not None else None,
    )
    known = Resolved(at=T0, has_ended=has_ended, count=2, newest_id=UUID(int=5))
    return comes_back(seen, known, seconds(at))


def test_a_condition_that_was_resolved_is_there_again_if_it_still_holds_after_a_while() -> None:
    assert not is_back(Basis.CONDITION, at=29, count=3)
    assert is_back(Basis.CONDITION, at=31)


def test_of_events_a_later_one_shows_it() -> None:
    assert not is_back(Basis.EVENTS, at=600, last=-1, newest=6)
    assert is_back(Basis.EVENTS, last=1)


def test_of_rows_a_newer_one_shows_it() -> None:
    assert not is_back(Basis.ROWS, at=600, last=600, newest=5)
    assert not is_back(Basis.ROWS, at=600, newest=4)
    assert not is_back(Basis.ROWS, at=600)
    assert is_back(Basis.ROWS, newest=6)


@pytest.mark.parametrize("basis", [Basis.ROWS, Basis.EVENTS])
def test_more_than_there_were_show_it_though_none_is_newer_if_all_are_counted(basis: Basis) -> None:
    assert is_back(basis, newest=4, count=3)
    assert not is_back(basis, newest=4, count=2)
    assert not is_back(basis, newest=4, count=3, is_all=False)


@pytest.mark.parametrize("kind", [Kind.SEND_UNKNOWN, Kind.OVERDUE])
def test_messages_come_back_by_when_they_became_so_and_not_by_when_they_were_accepted(kind: Kind) -> None:
    old = Seen(kind=kind, first_at=T0, last_at=seconds(1), count=1, newest_id=UUID(int=1))
    assert comes_back(old, Resolved(at=T0, has_ended=False, count=1, newest_id=UUID(int=5)), seconds(2))


@pytest.mark.parametrize("basis", Basis)
def test_what_has_ended_is_there_again_as_soon_as_it_is_seen(basis: Basis) -> None:
    assert is_back(basis, newest=1, count=1, has_ended=True)


def test_what_is_missed_by_three_looks_is_gone() -> None:
    assert [is_over(T0, seconds(at)) for at in (0, 25, 50)] == [False, False, True]


def test_refused_callbacks_harm_no_more_once_none_has_come_for_a_while() -> None:
    for at, harm in ((89, Harm.NOW), (90, Harm.WAITS)):
        assert harm_of(Kind.CALLBACKS_REFUSED, T0, seconds(at)) is harm
        assert has_stopped(Kind.CALLBACKS_REFUSED, T0, seconds(at)) is (harm is Harm.WAITS)
    assert harm_of(Kind.NO_RECEIPTS, T0, seconds(9000)) is Harm.NOW, "it is there until it is over"


def test_a_listed_key_whose_secret_was_changed_has_a_remedy_of_its_own() -> None:
    assert "List the key in `CALLBACK_KEYS` again" in remedy(Kind.CALLBACKS_REFUSED, {"kid": "k1"})
    assert "put the old one back" in remedy(Kind.CALLBACKS_REFUSED, {"kid": "k1", "listed": "yes"})


@pytest.mark.parametrize("cause", [{"kid": "k1"}, {"kid": "k1", "listed": "yes"}, OTHERS])
def test_refused_callbacks_say_how_to_keep_what_comes_meanwhile(cause: dict[str, str]) -> None:
    assert "`UNAUTHENTICATED_CALLBACKS=quarantine`" in remedy(Kind.CALLBACKS_REFUSED, cause)
