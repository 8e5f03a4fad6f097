"""Which replies are opt-outs or opt-ins, and what the words of one person come to."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc.config import OPT_IN_WORDS, OPT_OUT_WORDS
from receiptsvc.domain.opt_outs import answered_senders, is_refused, is_word, normalise
from tests.support.forms import examples
from tests.support.rows import seconds

OUT, IN = (frozenset(map(normalise, words)) for words in (OPT_OUT_WORDS, OPT_IN_WORDS))
ANSWERED = frozenset({"60030", "447740101097", "acme shop", "24-7"})

# A kind of opt-out → how people and handsets write it.
OPT_OUT_KINDS: dict[str, list[str]] = {
    "the word in any case": ["STOP", "stop", "Stop", "sTOP", "UNSUBSCRIBE", "Quit"],
    "emoji around it": [
        "STOP \U0001f44d",
        "\U0001f6d1 stop",
        "STOP\U0001f621\U0001f621",
        "stop \u26d4\ufe0f",
        "Stop \U0001f44d\U0001f3fd",
        "STOP \U0001f1ec\U0001f1e7",
        "stop \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "STOP \u2122",
    ],
    "punctuation around it": [
        "Stop.",
        "STOP!!!",
        "\u201cSTOP\u201d",
        "'stop'",
        "\u00abStop\u00bb !",
        "...stop...",
        "(stop)",
        "*STOP*",
        "_stop_",
        "> STOP",
        "#stop",
        "STOP :-)",
        "\u00bfstop?",
        "stop\u2026",
        "=stop",
        "\u300cSTOP\u300d",
    ],
    "blanks and what cannot be seen": [
        " stop ",
        "stop\u00a0\t",
        "\ufeffstop\u200b",
        "\u202astop\u202c",
        "st\u00adop",
        "s\u200bt\u200bo\u200bp",
        "\u3000STOP\u3000",
        "stop\x00",
    ],
    "another keyboard": [
        "\uff33\uff34\uff2f\uff30",
        "\uff53\uff54\uff4f\uff50",
        "\U0001d412\U0001d413\U0001d40e\U0001d40f",
        "\u24c8\u24c9\u24c4\u24c5",
        "\U0001f142\U0001f143\U0001f13e\U0001f13f",
        "\U0001f162\U0001f163\U0001f15e\U0001f15f",
        "QU\u0130T",
        "unsubscr\u0131be",
        "st\u00f3p",
        "sto\u0301p",
        "CAN\u00c7EL",
        "ST\u041e\u0420",  # two Cyrillic letters in it
        "S\u03a4\u039fP",  # two Greek ones
        "\u0415ND",
    ],
    "a hyphen, a blank or nothing within it": [
        "OPT-OUT",
        "Opt out",
        "optout",
        "opt\u2010out",
        "OPT\u2013OUT",
        "opt_out",
        "opt.out",
        "UN-SUBSCRIBE",
        "stop-all",
        "StopAll",
        "STOP ALL",
        "Opt  \t out",
    ],
    "repeated": [
        "STOP STOP",
        "stop stop stop",
        "STOP, STOP!",
        "stop.stop.stop",
        "STOP-STOP",
        "Unsubscribe unsubscribe",
        "opt out, opt out",
    ],
    "followed by the number or name that it answers": [
        "STOP 60030",
        "stop +60030",
        "STOP 447740101097",
        "STOP +44 7740 101097",
        "stop 07740 101097",
        "STOP 0044 7740 101-097",
        "STOP ACME Shop",
        "stop: Acme shop.",
        "STOP STOP acme shop",
        "stop 24-7",
        "STOP (ACME SHOP) \U0001f44d",
    ],
    "the first line that is not empty": [
        "STOP\nSent from my phone",
        "\n\nStop\r\n\r\n-- \r\nJo",
        "STOP\n\n> Your parcel arrives today",
        "\r\nunsubscribe\rthanks",
        "\u2028stop\u2028please",
        "\U0001f44d\nstop",
        " \n--\nSTOP\nACME: your code is 1234",
    ],
    "what CTIA lists": ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "Please opt me out"],
    "what the FCC's rule of 2025 lists": ["stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"],
    "what gateways list": ["STOP ALL", "OPTOUT", "REVOKE", "OPT-OUT", "REMOVE", "stopall"],
}

# A kind of reply that is none → examples.
OTHER_KINDS: dict[str, list[str]] = {
    "a sentence": [
        "please stop by",
        "Please stop by tomorrow",
        "stop it",
        "don't stop",
        "Don\u2019t stop",
        "stop by at 5",
        "end of the road",
        "cancel my order",
        "I quit smoking",
        "bus stop",
        "Stop. Thank you",
        "STOP PLEASE",
    ],
    "another word": ["stopp", "stops", "nonstop", "unstop", "ending", "stop1", "1stop", "Re: move", "opt", "out"],
    "no letter or digit": ["", " ", "!", "\U0001f6d1", "\U0001f44e\U0001f44e", "\n\n", "\u200b", "..."],
    "letters that are no word": ["s t o p", "S.T.O.P.", "st op", "can cel", "o p t out"],
    "another number or name": [
        "STOP 2",
        "stop 60031",
        "STOP 447740101098",
        "STOP ACME",
        "STOP Acme Shop Ltd",
        "STOP 24",
    ],
    "a later line": ["Hello\nSTOP", "Who is this?\nstop", "1\nSTOP", "thanks\n\nSTOP", "Yes\r\nstop"],
    "a word that ends another": ["stop end", "cancel stop", "quit stop", "end stop", "stop unstop", "start stop"],
    "an answer": ["YES", "No", "ok", "Y", "yes \U0001f44d", "No thanks"],
    "a word of opt-in": ["START", "unstop", "subscribe", "OPT-IN", "optin", "re-subscribe"],
}

OPT_IN_KINDS: dict[str, list[str]] = {
    "the word": ["START", "Unstop", "subscribe", "RESUBSCRIBE", "opt in", "OPTIN"],
    "as opt-outs are read": [
        "START \U0001f44d",
        "OPT-IN",
        "re-subscribe!",
        "un-stop",
        "\uff33\uff34\uff21\uff32\uff34",
        "start start",
        "START 60030",
        "start Acme Shop",
        "Start.\nThanks",
    ],
}
NO_OPT_INS: dict[str, list[str]] = {
    "an answer to a question": ["YES", "yes", "Y", "ok", "Yes please", "\U0001f44d", "sure", "Yeah"],
    "a sentence": [
        "start tomorrow",
        "please start",
        "when do you start",
        "I'll subscribe later",
        "start 2",
        "starting",
    ],
    "a word of opt-out": ["STOP", "unsubscribe", "opt out", "end", "don't start", "stop start"],
}


def each(kinds: dict[str, list[str]]) -> pytest.MarkDecorator:
    cases = [(kind, content) for kind, contents in kinds.items() for content in contents]
    return pytest.mark.parametrize(("kind", "content"), cases)


@each(OPT_OUT_KINDS)
def test_it_is_an_opt_out(kind: str, content: str) -> None:
    assert is_word(content, OUT, ANSWERED), kind
    assert not is_word(content, IN, ANSWERED), kind


@each(OTHER_KINDS)
def test_it_is_no_opt_out(kind: str, content: str) -> None:
    assert not is_word(content, OUT, ANSWERED), kind


@each(OPT_IN_KINDS)
def test_it_is_an_opt_in(kind: str, content: str) -> None:
    assert is_word(content, IN, ANSWERED), kind
    assert not is_word(content, OUT, ANSWERED), kind


@each(NO_OPT_INS)
def test_it_is_no_opt_in(kind: str, content: str) -> None:
    assert not is_word(content, IN, ANSWERED), kind


def test_words_of_other_languages_are_read_alike() -> None:
    words = frozenset(
        map(
            normalise,
            ("ARR\u00caT", "ferma", "\u0441\u0442\u043e\u043f", "\u505c\u6b62", "\u0930\u094b\u0915\u0947\u0902"),
        )
    )
    for content in (
        "Arr\u00eat !",
        "ARRE\u0302T",
        "arret",
        "FERMA.",
        "\u0421\u0422\u041e\u041f!",
        "\u505c\u6b62\u3002",
        "\u0930\u094b\u0915\u0947\u0902",
    ):
        assert is_word(content, words), content
    assert not is_word("stop", words)
    assert not is_word("stop", ())


def test_a_line_that_is_too_long_to_be_a_word_is_none() -> None:
    assert is_word("stop " * 100, OUT)
    assert not is_word("stop" + " " * 2_000 + "by", OUT)
    assert is_word("stop\n" + "x" * 2_000, OUT)


def test_a_reply_answers_its_recipient_and_the_originator_of_its_message() -> None:
    assert answered_senders("+44 7740 101097", ["ACME"]) == {"447740101097", "acme"}
    assert answered_senders("60030", [None]) == {"60030", ""}
    assert answered_senders(None, []) == {""}
    assert answered_senders("60030", []) == {"60030"}


@pytest.mark.parametrize(
    ("outs", "ins", "is_refusal"),
    [
        ([], [], False),
        ([], [1], False),
        ([1], [], True),
        ([1], [2], False),
        ([2], [1], True),
        ([1, 3], [2], True),
        ([1, 3], [2, 4], False),
        ([2], [2], True),  # undecidable, all of these
        ([None], [2], True),
        ([1], [None], True),
        ([None, 1], [2], True),
        ([None], [None], True),
        ([1], [None, 2], False),
    ],
)
def test_the_latest_word_by_provider_time_decides(
    outs: list[int | None], ins: list[int | None], is_refusal: bool
) -> None:
    said = [[None if at is None else seconds(at) for at in times] for times in (outs, ins)]
    for one in permutations(said[0]):
        for other in permutations(said[1]):
            assert is_refused(one, other) is is_refusal


@given(st.text(max_size=200), st.sampled_from(sorted(OUT)))
@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
def test_no_reply_raises_and_nothing_but_letters_and_digits_counts(text: str, word: str) -> None:
    is_word(text, OUT, {text})
    around = "".join(
        each for each in text if not normalise(each) and each not in "\r\n" and each.splitlines() == [each]
    )
    assert is_word(f"{around} {word} {around}", OUT)
