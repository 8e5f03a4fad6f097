"""An item of the gateway's answer names our recipient in any writing of the number, and nobody else's."""

from collections.abc import Callable
from xml.sax.saxutils import escape

import pytest

from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.dynmark.outbound import answers
from tests.dynmark import calls, test_rest
from tests.dynmark.calls import collection, item, message
from tests.dynmark.wire import answer
from tests.support.numbers import ALL, ALWAYS, DOUBTFUL, HINTED, NUMBERS, STRANGE, Case

SAME = {*ALWAYS, *STRANGE, *HINTED, *DOUBTFUL}


def by_soap(case: Case) -> SendResult:
    results: list[SendResult]
    results, _ = calls.send(answer(collection(item(escape(case.written)))), message(case.number))
    return results[0]


def by_rest(case: Case) -> SendResult:
    results, _ = test_rest.send(test_rest.says([{"to": case.written, "successful": True}]), message(case.number))
    return results[0]


@pytest.mark.parametrize("send", [by_soap, by_rest])
def test_an_item_is_about_a_recipient_in_any_writing(send: Callable[[Case], SendResult]) -> None:
    taken = {case for case in ALL if send(case).outcome is SendOutcome.TAKEN}
    assert taken == SAME


def test_of_a_whole_call_each_writing_names_its_own_recipient() -> None:
    messages = [message(number) for number in NUMBERS]
    for case in SAME:
        rest = [frozenset([number]) for number in NUMBERS if number != case.number]
        places = answers.pair([*rest, frozenset([case.written])], messages)
        assert [places[each.id] for each in messages if each.recipient == case.number] == [len(rest)], case
        assert all(isinstance(place, int) for place in places.values()), case


def test_a_national_writing_that_fits_two_recipients_names_neither() -> None:
    messages = [message("447700900001"), message("497700900001")]
    assert all(isinstance(place, str) for place in answers.pair([frozenset(["07700900001"])], messages).values())
    exact = answers.pair([frozenset([each.recipient]) for each in messages], messages)
    assert list(exact.values()) == [0, 1]


def test_an_international_number_is_not_taken_for_a_national_one_of_the_same_call() -> None:
    egyptian, british = message("2079460000"), message("442079460000")
    places = answers.pair([frozenset(["2079460000"]), frozenset(["442079460000"])], [british, egyptian])
    assert places == {egyptian.id: 0, british.id: 1}


REWRITTEN = [  # kind, our recipient, the only item's, whether it is ours
    ("Argentina", "5491112345678", "541112345678", True),
    ("Argentina", "541112345678", "+5491112345678", True),
    ("Mexico", "525512345678", "5215512345678", True),
    ("Brazil", "5511987654321", "551187654321", True),
    ("Brazil", "551187654321", "5511987654321", True),
    ("hidden digits", "447700900001", "4477****0001", True),
    ("hidden digits", "447700900001", "**********01", True),
    ("one shown", "447700900001", "***********1", False),
    ("another's shown", "447700900001", "4477****0002", False),
    ("too few", "447700900001", "4477***0001", False),
    ("another number", "447700900001", "447700900002", False),
    ("another Argentine", "5491112345678", "541112345679", False),
]


@pytest.mark.parametrize("send", [by_soap, by_rest])
@pytest.mark.parametrize(("recipient", "written", "is_ours"), [case[1:] for case in REWRITTEN])
def test_the_only_item_of_a_call_with_one_message_may_rewrite_its_recipient(
    send: Callable[[Case], SendResult], recipient: str, written: str, is_ours: bool
) -> None:
    result = send(Case(written, recipient, ""))
    assert result.outcome is (SendOutcome.TAKEN if is_ours else SendOutcome.UNCLEAR)
    assert ("its recipient" in (result.detail or "")) is is_ours


def test_a_rewritten_recipient_proves_nothing_beside_other_messages_or_items() -> None:
    mine, other = message("5491112345678"), message("447700900001")
    rewritten, plain = frozenset(["541112345678"]), frozenset(["447700900001"])
    assert isinstance(answers.pair([rewritten, plain], [mine, other])[mine.id], str)
    assert isinstance(answers.pair([rewritten, rewritten], [mine])[mine.id], str)
    assert isinstance(answers.pair([rewritten | plain], [mine])[mine.id], str)
