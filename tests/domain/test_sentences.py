"""No sentence ends in two marks."""

import pytest

from receiptsvc.domain.sentences import end


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
