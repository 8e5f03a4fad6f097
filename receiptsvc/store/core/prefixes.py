"""Texts that begin alike, as a range of an index: the same on both databases, which compare by code points."""

from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute

_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def begins_with(column: InstrumentedAttribute[Any], prefix: str, beyond: str | None = None) -> ColumnElement[bool]:
    """Whether a column's text begins with a prefix. `beyond`: only those after this one."""
    begins = column >= prefix if beyond is None else column > beyond
    end = find_end(prefix)
    return begins & (column < end) if end else begins


def find_end(prefix: str) -> str | None:
    """The first text, by code points, after all that begin with a prefix; None: there is none."""
    head = prefix.rstrip(chr(_LAST_CHARACTER))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
