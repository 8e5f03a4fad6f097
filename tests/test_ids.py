"""Ids: what is written is read again, and nothing else is."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc import ids

ONE = "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"


@given(st.uuids())
def test_an_id_is_read_as_it_was_written(identifier: UUID) -> None:
    assert ids.parse("msg", ids.public("msg", identifier)) == identifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "msg_",
        ONE.upper(),
        f"msg_{ONE[4:].upper()}",
        f"rcp_{ONE[4:]}",
        ONE[:-1],
        f"{ONE}0",
        f"msg_8{ONE[5:]}",  # beyond 128 bits
        "msg_" + "z" * 26,
        *(f"{ONE[:-1]}{wrong}" for wrong in "ilouA-_ é"),
    ],
)
def test_what_is_no_id_is_read_as_none(text: str) -> None:
    assert ids.parse("msg", text) is None


def test_ids_rise_in_the_order_in_which_they_were_made() -> None:
    made = [ids.new() for _ in range(1000)]
    assert made == sorted(made)
    assert [ids.public("msg", one) for one in made] == sorted(ids.public("msg", one) for one in made)
