"""Back-offs: the gaps between tries of one thing, which grow with each try. Pure.

How long the gaps are is the business of the module that tries.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self


@dataclass(frozen=True, slots=True)
class Backoff:
    """Gaps in their order, each longer than the one before. After the last, all are as long as that."""

    gaps: tuple[timedelta, ...]

    @classmethod
    def doubling(cls, first: timedelta, maximum: timedelta) -> Self:
        """Gaps that double, up to `maximum`. Raises ValueError for a first one that can't grow."""
        if first <= timedelta():
            raise ValueError("the first gap must be above 0")
        gaps = [first]
        while gaps[-1] < maximum:
            gaps.append(min(gaps[-1] * 2, maximum))
        return cls(tuple(gaps))

    def gap(self, before: int) -> timedelta:
        """The gap that comes after `before` others; the first for 0."""
        return self.gaps[min(max(before, 0), len(self.gaps) - 1)]

    def following(self, gap: timedelta) -> timedelta:
        """The gap after one of this length; the first after 0."""
        return next((each for each in self.gaps if each > gap), self.gaps[-1])
