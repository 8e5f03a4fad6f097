"""The explanation names the report that the fold took, and says what each report did."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.explanation import (
    Delays,
    Holds,
    RecordedReport,
    delays,
    explain,
    explain_holds,
    explain_schedule,
    winner,
)
from receiptsvc.domain.statuses import GATEWAY_STATUSES, Effect, Report, Status, classify, fold
from tests.domain.reports import ACCEPTED, T0, minutes, own, said


def recorded(*reports: Report) -> list[RecordedReport]:
    """These reports, each with the effect that it had."""
    told: list[RecordedReport] = []
    for report in reports:
        earlier = [one.report for one in told]
        effect = classify(report, earlier)[0] if earlier else Effect.APPLIED
        told.append(
            RecordedReport(
                report=report, effect=effect, reason="not allowed" if report.status is Status.FAILED else None
            )
        )
    return told


BECAUSE = [
    ([], None, "No word is known for anything that was recorded of it."),
    ([said(None, 1)], None, "No word is known for anything that was recorded of it."),
    ([ACCEPTED], 0, "It was accepted here at 2026-01-05T12:00:00Z; nothing further has been reported."),
    (
        [ACCEPTED, own(Status.SUBMITTED, 1), said(None, 4, code="77")],
        1,
        "The gateway took it at 2026-01-05T12:01:00Z; nothing further that a word is known for has been reported.",
    ),
    (
        [ACCEPTED, own(Status.SEND_UNKNOWN, 1)],
        1,
        "The gateway's answer was lost at 2026-01-05T12:01:00Z, so it may or may not have the message; "
        "nothing further has been reported.",
    ),
    (
        [ACCEPTED, own(Status.FAILED, 1)],
        1,
        "We recorded failed at 2026-01-05T12:01:00Z (not allowed); that is final as long as the gateway says nothing "
        "else, and it has reported nothing.",
    ),
    (
        [ACCEPTED, own(Status.EXPIRED, 2), own(Status.FAILED, 1)],
        2,
        "We recorded failed at 2026-01-05T12:01:00Z (not allowed); we also said expired, but of reports without a time "
        "of their own failed counts more than expired, and it has reported nothing.",
    ),
    (
        [ACCEPTED, own(Status.FAILED, 1), said(Status.SENT, 2)],
        2,
        "The gateway reported sent at 2026-01-05T12:02:00Z by its own clock; any word of the gateway counts more than "
        "our own failed.",
    ),
    (
        [ACCEPTED, said(Status.SENT, 5), said(Status.SENT, 3)],
        2,
        "The gateway reported sent at 2026-01-05T12:03:00Z by its own clock; nothing further has been reported.",
    ),
    (
        [ACCEPTED, said(Status.DELIVERED, 2), said(Status.SENT, 1)],
        1,
        "The gateway reported delivered at 2026-01-05T12:02:00Z by its own clock; that is a final word, and it has "
        "given no other.",
    ),
    (
        [ACCEPTED, own(Status.FAILED, 1), said(Status.REJECTED)],
        2,
        "The gateway reported rejected without a time; it reached us at 2026-01-05T13:00:00Z; any word of the gateway "
        "counts more than our own failed.",
    ),
    (
        [ACCEPTED, said(Status.EXPIRED, 2), said(Status.EXPIRED, 3), said(Status.EXPIRED, 1)],
        2,
        "The gateway reported expired at 2026-01-05T12:03:00Z by its own clock; it said so 3 times and gave no other "
        "final word, and the latest by its own time counts.",
    ),
    (
        [ACCEPTED, said(Status.EXPIRED, 2), said(Status.EXPIRED, 2)],
        1,
        "The gateway reported expired at 2026-01-05T12:02:00Z by its own clock; it said so 2 times and gave no other "
        "final word.",
    ),
    (
        [ACCEPTED, said(Status.EXPIRED, 9), said(Status.UNDELIVERED, 8), said(Status.DELIVERED, 1)],
        3,
        "The gateway reported delivered at 2026-01-05T12:01:00Z by its own clock; it also said undelivered and expired, "
        "but delivered counts more than any other final word.",
    ),
    (
        [ACCEPTED, said(Status.UNDELIVERED), said(Status.REJECTED, 1)],
        2,
        "The gateway reported rejected at 2026-01-05T12:01:00Z by its own clock; it also said undelivered, but a report "
        "with a time of its own counts more than one without.",
    ),
    (
        [ACCEPTED, said(Status.UNDELIVERED, 1), said(Status.REJECTED, 2)],
        2,
        "The gateway reported rejected at 2026-01-05T12:02:00Z by its own clock; it also said undelivered, but the "
        "latest by its own time counts.",
    ),
    (
        [ACCEPTED, said(Status.REJECTED, 2), said(Status.UNDELIVERED, 2)],
        2,
        "The gateway reported undelivered at 2026-01-05T12:02:00Z by its own clock; it also said rejected, but of "
        "reports of the same time undelivered counts more than rejected.",
    ),
]


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (
            "5",
            "Absent \n subscriber",
            "The gateway said: 5 · Absent subscriber, at 2026-01-05T12:01:00Z by its own clock",
        ),
        (None, "Absent", "The gateway said: Absent, at 2026-01-05T12:01:00Z by its own clock, which means undelivered"),
        ("5", None, "The gateway said: 5, at 2026-01-05T12:01:00Z by its own clock, which means undelivered; that is"),
        ("5", "a" * 999, f"The gateway said: 5 · {'a' * 160}…, at 2026-01-05T12:01:00Z"),
        (None, "UNDELIVERED", "The gateway reported undelivered at 2026-01-05T12:01:00Z by its own clock; that is"),
        (None, None, "The gateway reported undelivered at 2026-01-05T12:01:00Z by its own clock; that is"),
    ],
)
def test_what_decides_is_told_in_the_gateways_own_words(code: str | None, words: str | None, expected: str) -> None:
    report = said(Status.UNDELIVERED, 1, code=code)._replace(provider_description=words)
    assert explain(recorded(ACCEPTED, report)).because.startswith(expected)


def test_a_refusal_is_told_with_the_gateways_answer() -> None:
    refused = RecordedReport(
        report=own(Status.FAILED, 1), effect=Effect.APPLIED, rule="the gateway refused it", reason="12: bad number"
    )
    assert explain([*recorded(ACCEPTED), refused]).because.startswith(
        "It was refused at 2026-01-05T12:01:00Z: 12: bad number; that is final as long as"
    )


def test_words_without_a_time_are_quoted_too() -> None:
    report = said(Status.UNDELIVERED, code="5")._replace(provider_description="Absent")
    assert explain(recorded(ACCEPTED, report)).because == (
        "The gateway said: 5 · Absent, without a time, which means undelivered; it reached us at 2026-01-05T13:00:00Z; "
        "that is a final word, and it has given no other."
    )


@pytest.mark.parametrize(("reports", "place", "because"), BECAUSE)
def test_it_says_which_report_counts_and_why(reports: list[Report], place: int | None, because: str) -> None:
    explanation = explain(recorded(*reports))
    assert (explanation.winner, explanation.because) == (place, because)


FROM_PART = [
    (
        [ACCEPTED, said(Status.SENT, 3)],
        "The gateway reported sent at 2026-01-05T12:03:00Z by its own clock; of all that has been reported nothing "
        "counts more.",
    ),
    (
        [ACCEPTED, own(Status.FAILED, 1)],
        "We recorded failed at 2026-01-05T12:01:00Z (not allowed); that is final as long as the gateway says nothing "
        "else, and it has reported nothing that a word is known for.",
    ),
    (
        [ACCEPTED, own(Status.FAILED, 1), said(Status.EXPIRED, 2), said(Status.EXPIRED, 3)],
        "The gateway reported expired at 2026-01-05T12:03:00Z by its own clock; that is a final word, and it has given "
        "no other.",
    ),
    (
        [ACCEPTED, said(Status.EXPIRED, 9), said(Status.DELIVERED, 1)],
        "The gateway reported delivered at 2026-01-05T12:01:00Z by its own clock; it also said expired, but delivered "
        "counts more than any other final word.",
    ),
    (
        [ACCEPTED, said(Status.EXPIRED, 1), said(Status.REJECTED, 2)],
        "The gateway reported rejected at 2026-01-05T12:02:00Z by its own clock; it also said expired, but by the fixed "
        "order of final words this report counts.",
    ),
]


@pytest.mark.parametrize(("reports", "because"), FROM_PART)
def test_of_a_part_it_says_nothing_that_the_rest_could_make_untrue(reports: list[Report], because: str) -> None:
    assert explain(recorded(*reports), gap=len(reports)).because == because


SENTENCES = [
    (ACCEPTED, "The message began as accepted."),
    (own(Status.SUBMITTED, 1), "It changed the status from accepted to submitted."),
    (own(Status.SEND_UNKNOWN, 2), "It left the status as it was: submitted, recorded before, is further than send_unknown."),
    (said(None, 2, code="77"), "No word is known for the gateway's code 77, so it changed nothing."),
    (said(None, 3), "No word is known for what the gateway said, so it changed nothing."),
    (own(Status.FAILED, 2), "It changed the status from submitted to failed."),
    (own(Status.SUBMITTED, 2), "It left the status as it was: failed had been recorded before, and a final word is not taken back by submitted."),
    (said(Status.SENT, 4), "It changed the status from failed to sent."),
    (own(Status.FAILED, 3), "It left the status as it was: the gateway had spoken before, and any word of it counts more than a final word of our own."),
    (said(Status.SENT, 5), "It left the status as it was: that was sent already."),
    (said(Status.EXPIRED, 7), "It changed the status from sent to expired."),
    (said(Status.EXPIRED, 7), "The gateway had said just that before, so it changed nothing."),
    (said(Status.UNDELIVERED, 6), "The gateway had given another final word before, and the two contradict each other; by the fixed order of final words another one counts."),
    (said(Status.DELIVERED, 6, code="1"), "The gateway had given another final word before, and the two contradict each other; by the fixed order of final words this one counts."),
    (said(Status.SENT, 8), "It left the status as it was: delivered had been recorded before, and a final word is not taken back by sent."),
]  # fmt: skip


def test_it_says_that_a_message_waits_because_its_account_may_be_refused() -> None:
    because = explain(recorded(ACCEPTED), is_waiting=True).because
    assert because.startswith(BECAUSE[2][2] + " It was offered, and the gateway's answer was in the words of a refused")


def test_it_says_what_each_report_did() -> None:
    assert list(explain(recorded(*(report for report, _ in SENTENCES))).sentences) == [why for _, why in SENTENCES]


def test_it_knows_which_report_decided_when_another_was_recorded() -> None:
    befores = list(explain(recorded(*(report for report, _ in SENTENCES))).befores)
    assert befores == [None, 0, 1, 1, 1, 1, 5, 5, 7, 7, 7, 10, 10, 10, 13]


def test_of_a_part_it_is_known_only_before_the_gap() -> None:
    told = recorded(ACCEPTED, said(Status.SENT, 5), said(Status.DELIVERED, 6), said(Status.SENT, 7))
    assert list(explain(told, gap=2).befores) == [None, 0, None, None]


def test_a_weaker_report_of_our_own_left_the_status_as_it_was() -> None:
    told = recorded(ACCEPTED, own(Status.FAILED, 1), own(Status.EXPIRED, 2))
    assert explain(told).sentences[2] == "It left the status as it was: failed, recorded before, counts more."


def test_a_superseded_report_does_not_count() -> None:
    old = RecordedReport(report=said(Status.DELIVERED, 1), effect=Effect.APPLIED, superseded_at=minutes(90))
    told = [*recorded(ACCEPTED), old, RecordedReport(report=said(Status.EXPIRED, 1), effect=Effect.APPLIED)]
    explanation = explain(told)
    assert explanation.winner == 2
    assert explanation.because.endswith("; that is a final word, and it has given no other.")
    assert list(explanation.befores) == [None, None, 0]
    assert list(explanation.sentences)[1:] == [
        "Another reading of its receipt took its place at 2026-01-05T13:30:00Z; it counts no more.",
        "It changed the status from accepted to expired.",
    ]


def test_of_equal_reports_the_gateways_wins() -> None:
    assert winner([ACCEPTED, own(Status.EXPIRED, 60), said(Status.EXPIRED, received=60)]) == 2


words = st.none() | st.sampled_from(sorted(GATEWAY_STATUSES))
gateway_reports = st.builds(
    lambda word, at, received: said(word, at, received=received),
    words,
    st.none() | st.integers(0, 3),
    st.integers(0, 5),
)
own_reports = st.builds(
    own, st.sampled_from(sorted(set(Status) - GATEWAY_STATUSES | {Status.EXPIRED})), st.integers(0, 5)
)


@given(st.lists(gateway_reports | own_reports, max_size=8))
def test_the_winner_alone_folds_to_the_same_state(reports: list[Report]) -> None:
    told = recorded(ACCEPTED, *reports)
    explanation = explain(told)
    whole = [ACCEPTED, *reports]
    assert explanation.winner is not None
    alone, state = fold([whole[explanation.winner]]), fold(whole)
    assert (alone.status, alone.status_at) == (state.status, state.status_at)
    assert len(explanation.sentences) == len(told)
    assert all(sentence.endswith(".") for sentence in (explanation.because, *explanation.sentences))
    for one, why in zip(told, explanation.sentences, strict=True):
        assert "None" not in why
        if one.effect is Effect.APPLIED:
            assert why.endswith(f" {one.report.status}.")


def test_the_time_to_explain_grows_linearly_with_the_reports() -> None:
    told = recorded(ACCEPTED) + [
        RecordedReport(report=said(Status.SENT, at), effect=Effect.STALE) for at in range(20_000)
    ]
    assert explain(told).winner == 1


def test_the_delays_add_up() -> None:
    told = recorded(ACCEPTED, own(Status.SUBMITTED, 2), said(Status.DELIVERED, 5, received=9))
    assert delays(told, 2, accepted_at=T0, offered_at=minutes(1)) == Delays(
        accepted_to_offered=60, offered_to_submitted=60, submitted_to_final=180, provider_to_received=240
    )


def test_a_delay_with_an_unknown_end_is_none() -> None:
    nothing = Delays(
        accepted_to_offered=None, offered_to_submitted=None, submitted_to_final=None, provider_to_received=None
    )
    assert delays(recorded(ACCEPTED), 0, accepted_at=T0, offered_at=None) == nothing
    assert delays([], None, accepted_at=T0, offered_at=None) == nothing
    sent = recorded(ACCEPTED, own(Status.SUBMITTED, 2), said(Status.SENT, 1, received=3))
    assert delays(sent, 2, accepted_at=T0, offered_at=minutes(1)) == Delays(
        accepted_to_offered=60, offered_to_submitted=60, submitted_to_final=None, provider_to_received=120
    )


NOTHING = Holds(
    due_at=T0,
    is_scheduled=False,
    is_offered_again=False,
    is_being_offered=False,
    paused_at=None,
    paused_by=None,
    pause_reason=None,
    refused_at=None,
    account_refused_at=None,
    is_any_worker_alive=True,
    worker_seen_at=None,
    can_send=True,
)
PAUSED = replace(NOTHING, paused_at=T0, paused_by="anna", pause_reason="wrong price")


@pytest.mark.parametrize(
    ("holds", "told"),
    [
        (NOTHING, "It waits: others go out before it."),
        (
            replace(PAUSED, due_at=minutes(5), is_scheduled=True),
            "It waits: it is kept here until its deliverAfter, 2026-01-05T12:05:00Z; sending is paused since "
            "2026-01-05T12:00:00Z by anna: wrong price.",
        ),
        (
            replace(PAUSED, is_scheduled=True),
            "It waits: sending is paused since 2026-01-05T12:00:00Z by anna: wrong price.",
        ),
        (
            replace(PAUSED, due_at=minutes(5), is_offered_again=True),
            "It waits to be offered again: sending is paused since 2026-01-05T12:00:00Z by anna: wrong price; its next "
            "turn is at 2026-01-05T12:05:00Z.",
        ),
    ],
)
def test_a_message_that_is_scheduled_waits_for_its_time_first(holds: Holds, told: str) -> None:
    assert explain_holds(holds, minutes(1)) == told


def test_of_what_the_gateway_keeps_until_later_it_is_said_when_it_goes_out() -> None:
    told = {status: explain_schedule(status, minutes(5)) for status in Status}
    at = "its deliverAfter, 2026-01-05T12:05:00Z"
    assert told[Status.SUBMITTED] == f"The gateway keeps it until {at}, and can't give it back."
    assert told[Status.SEND_UNKNOWN] == f"If the gateway has it, it goes out at {at}."
    assert {status for status in Status if told[status] is not None} == {Status.SUBMITTED, Status.SEND_UNKNOWN}
