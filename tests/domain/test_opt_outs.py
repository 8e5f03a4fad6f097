"""Which replies are opt-outs."""

import pytest

from receiptsvc.domain.opt_outs import is_opt_out

WORDS = frozenset({"stop", "stop all", "opt-out", "arr\u00eat"})


@pytest.mark.parametrize(
    "content",
    [
        "stop",
        "STOP",
        " Stop. ",
        "\u00abStop\u00bb!!",
        "stop\u00a0\t\n",
        "...stop...",
        "\ufeffstop\u200b",
        "Stop  \n All",
        "Opt-Out",
        "ARR\u00caT",
    ],
)
def test_the_word_alone_is_an_opt_out(content: str) -> None:
    assert is_opt_out(content, WORDS)


@pytest.mark.parametrize(
    "content", ["", " ", "!", "stopp", "please stop", "stop it", "s t o p", "don't stop", "opt out", "stop-all"]
)
def test_any_other_content_is_not_an_opt_out(content: str) -> None:
    assert not is_opt_out(content, WORDS)
    assert not is_opt_out("stop", ())
