"""Ids: `parse` reads what `public` wrote, and nothing else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc import ids

EXAMPLE = "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"


@given(st.uuids())
def test_a_public_id_is_parsed_to_the_same_id(identifier: UUID) -> None:
    assert ids.parse("msg", ids.public("msg", identifier)) == identifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "msg_",
        EXAMPLE.upper(),
        f"msg_{EXAMPLE[4:].upper()}",
        f"rcp_{EXAMPLE[4:]}",
        EXAMPLE[:-1],
        f"{EXAMPLE}0",
        f"msg_8{EXAMPLE[5:]}",  # beyond 128 bits
        "msg_" + "z" * 26,
        *(f"{EXAMPLE[:-1]}{wrong}" for wrong in "ilouA-_ é"),
    ],
)
def test_any_other_text_is_parsed_to_none(text: str) -> None:
    assert ids.parse("msg", text) is None


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [ids.new() for _ in range(1000)]
    assert made == sorted(made)
    assert [ids.public("msg", identifier) for identifier in made] == sorted(
        ids.public("msg", identifier) for identifier in made
    )
