"""The signed callback URLs: short, alphanumeric, and invalid after any change of a character."""

import hmac
import re
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.keys import CallbackKey

OLD, NEW = CallbackKey("old", "an old secret of ours"), CallbackKey("newkey01", "a new secret of ours")
SETTINGS = Settings.from_env(
    {
        "PUBLIC_URL": "https://" + "x" * 88 + ".com",
        "CALLBACK_KEYS": f"{NEW.kid}:{NEW.secret}",
        "API_KEYS": "a:read:0123456789abcdef",
    }
)


def test_a_receipt_url_is_short_and_alphanumeric_and_identifies_its_message() -> None:
    message_id = ids.new()
    url = tokens.receipt_url(SETTINGS, message_id)
    token = urlsplit(url).path.removeprefix("/callbacks/receipts/")
    assert len(SETTINGS.public_url) == 100
    assert len(url) <= 200
    assert re.fullmatch(r"[0-9a-z]+", token)
    assert tokens.message_of([NEW], token) == message_id
    assert tokens.message_of([OLD, NEW], token.upper()) == message_id
    assert tokens.message_of([OLD], token) is None


def test_a_token_with_any_changed_character_is_refused() -> None:
    token = tokens.receipt_url(SETTINGS, ids.new()).rpartition("/")[2]
    for index, letter in enumerate(token):
        changed = token[:index] + ("0" if letter != "0" else "1") + token[index + 1 :]
        assert tokens.message_of([OLD, NEW], changed) is None


def test_a_key_for_one_purpose_opens_nothing_else() -> None:
    urls = tokens.static_urls(SETTINGS)
    inbound, account = urls.inbound.rpartition("/")[2], urls.receipts.rpartition("/")[2]
    assert tokens.opens_inbound([NEW], inbound)
    assert tokens.opens_account([OLD, NEW], account)
    assert not tokens.opens_inbound([NEW], account)
    assert not tokens.opens_account([NEW], inbound)
    assert tokens.message_of([NEW], account) is None
    assert not tokens.opens_account([NEW], tokens.receipt_url(SETTINGS, ids.new()).rpartition("/")[2])
    assert not tokens.opens_inbound([OLD], inbound)
    assert NEW.secret not in urls.receipts + urls.inbound


def test_the_static_url_is_alphanumeric_and_any_listed_key_verifies_it() -> None:
    address, _, token = tokens.static_urls(SETTINGS).receipts.rpartition("/")
    assert address == f"{SETTINGS.public_url}/callbacks/receipts"
    assert re.fullmatch(r"[0-9a-z]+", token)
    assert tokens.opens_account([OLD, NEW], token)
    assert tokens.opens_account([OLD, NEW], token.upper())
    assert not tokens.opens_account([OLD], token)


def test_a_token_claims_a_kid_and_its_length_says_whether_it_has_a_message() -> None:
    static = tokens.static_urls(SETTINGS)
    message_token = tokens.receipt_url(SETTINGS, ids.new()).rpartition("/")[2]
    assert tokens.claim(message_token) == tokens.claim(message_token.upper()) == ("newkey01", True)
    for url in (static.receipts, static.inbound):
        assert tokens.claim(url.rpartition("/")[2]) == ("newkey01", False)
    for longest, shortest in (("0" * 40, "0" * 33), ("0" * 72, "0" * 65)):
        assert tokens.claim(longest) == ("0" * 8, len(longest) == 72)
        assert tokens.claim(shortest) == ("0", len(longest) == 72)
    for text in ("", "x", "0" * 32, "0" * 41, "0" * 64, "0" * 73, "x" * 36, "0" * 35 + "-"):
        assert tokens.claim(text) is None


@given(st.text(max_size=90))
def test_no_invented_token_is_accepted(text: str) -> None:
    assert tokens.message_of([OLD, NEW], text) is None
    assert not tokens.opens_inbound([OLD, NEW], text)
    assert not tokens.opens_account([OLD, NEW], text)


@pytest.mark.parametrize(
    "wrong_token", ["", "x", "0" * 64 + "old", "0" * 64 + "newkey01", "0" * 64, "é" * 70, "0" * 500]
)
def test_a_refusal_makes_the_same_comparisons_for_every_wrong_token(
    wrong_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(tokens, "hmac", SimpleNamespace(compare_digest=compare))
    for check in (tokens.message_of, tokens.opens_inbound, tokens.opens_account):
        compared.clear()
        assert not check([OLD, NEW], wrong_token)
        assert [len(compared), compared[0][0], compared[2][0]] == [4, 16, 16], (
            "MAC and kid, of every key that is listed"
        )
