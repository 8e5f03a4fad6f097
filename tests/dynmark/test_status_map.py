"""Only whole phrases are mapped; STATUS_MAP wins."""

import pytest

from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark import status_map

PHRASES = [
    ("Delivered", Status.DELIVERED),
    ("  DELIVERED to handset. ", Status.DELIVERED),
    ("Delivered-to-network", Status.SENT),
    ("Delivered to operator", Status.SENT),
    ("Message sent", Status.SENT),
    ("en_route", Status.SENT),
    ("EnRoute", Status.SENT),
    ("Not delivered", Status.UNDELIVERED),
    ("Delivery failed", Status.UNDELIVERED),
    ("Undeliverable", Status.UNDELIVERED),
    ("Validity period expired", Status.EXPIRED),
    ("Barred", Status.REJECTED),
    ("Delivered, perhaps", None),
    ("Will be delivered", None),
    ("Unknown", None),
    ("…", None),
    (None, None),
]


@pytest.mark.parametrize(("description", "word"), PHRASES)
def test_a_whole_phrase_decides(description: str | None, word: Status | None) -> None:
    assert status_map.load({}).status_for("4711", description) is word


def test_status_map_wins_over_the_description() -> None:
    words = status_map.load({"7": Status.EXPIRED})
    assert words.status_for(" 7 ", "Delivered") is Status.EXPIRED
    assert words.status_for("07", "Delivered") is Status.DELIVERED
    assert words.status_for("7", None) is Status.EXPIRED


def test_the_version_changes_with_the_map_and_only_with_it() -> None:
    assert status_map.load({}).version == status_map.load({}).version
    assert status_map.load({}).version != status_map.load({"7": Status.EXPIRED}).version
