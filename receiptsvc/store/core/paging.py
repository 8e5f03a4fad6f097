"""A page of rows, and how many rows one answer may hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_ROWS = 500  # in one answer

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[Item, Key]):
    """Some rows, and the key after which the next ones begin; None: these were the last."""

    items: Sequence[Item]
    next: Key | None
