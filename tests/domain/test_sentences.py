"""No sentence ends in two marks, and none counts one thing as several."""

import pytest

from receiptsvc.domain.sentences import agree, end


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("wrong texts", "wrong texts."),
        ("Wrong texts.", "Wrong texts."),
        ("is DYNMARK_SOAP_URL right?", "is DYNMARK_SOAP_URL right?"),
        ("stop!", "stop!"),
        ("and so on …", "and so on …"),
    ],
)
def test_a_sentence_keeps_its_own_mark_or_gets_a_full_stop(text: str, ended: str) -> None:
    assert end(text) == ended


@pytest.mark.parametrize(("number", "words"), [(0, "0 files need"), (1, "1 file needs"), (21, "21 files need")])
def test_a_number_and_what_it_counts_agree(number: int, words: str) -> None:
    assert agree(number, "file needs", "files need") == words
