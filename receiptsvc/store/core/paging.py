"""A page of a list, and how many rows one answer may hold."""

from collections.abc import Callable, Sequence
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


def cut(rows: Sequence[Item], limit: int, key: Callable[[Item], Key]) -> Page[Item, Key]:
    """The page of the first `limit` rows. The caller has asked for one more, to see whether there is a next page."""
    return Page(items=rows[:limit], next=key(rows[limit - 1]) if len(rows) > limit else None)
