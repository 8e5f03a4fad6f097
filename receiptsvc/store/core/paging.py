"""A page of a list, and how many rows one answer may hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_ROWS = 500  # in one answer

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[Item, Key]):
    """Some rows. `next`: the key after which the next page begins; None: this is the last one."""

    items: Sequence[Item]
    next: Key | None
