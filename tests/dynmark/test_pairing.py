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
