"""Images that hang together by proofs, and are never put together where a person has told two of them apart."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sets"]


class Sets:
    """Disjoint sets of the places 0 to n - 1, each at first alone."""

    def __init__(self, n: int, apart: NDArray[np.int64]) -> None:
        self._above = np.arange(n)
        self._apart: dict[int, set[int]] = defaultdict(set)
        self._members: dict[int, list[int]] = {}
        for one, other in apart.tolist():
            self._apart[one].add(other)
            self._apart[other].add(one)

    def of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for each place that those in one set share."""
        above = self._above[places]
        while (further := self._above[above] != above).any():
            above[further] = self._above[above[further]]
        self._above[places] = above
        return above

    def joined(self, one: int, other: int) -> bool:
        """Whether two places are in one set."""
        return self._top(one) == self._top(other)

    def may_join(self, one: int, other: int) -> bool:
        """Whether the sets of two places are two, and nobody told members of theirs apart."""
        a, b = self._top(one), self._top(other)
        if a == b:
            return False
        if not self._apart:
            return True
        first, second = self._members.get(a, [a]), self._members.get(b, [b])
        if len(first) > len(second):
            first, second = second, first
        others = set(second)
        return not any(self._apart.get(place, set()) & others for place in first)

    def join(self, one: int, other: int) -> bool:
        """Make one set of those of two places; return whether that was done."""
        if not self.may_join(one, other):
            return False
        a, b = sorted((self._top(one), self._top(other)))
        self._above[b] = a
        self._members.setdefault(a, [a]).extend(self._members.pop(b, [b]))
        return True

    def sets(self) -> list[list[int]]:
        """Return the sets of two or more, their members and themselves in the order of places."""
        return [sorted(members) for _, members in sorted(self._members.items())]

    def _top(self, place: int) -> int:
        top = place
        while self._above[top] != top:
            top = int(self._above[top])
        while self._above[place] != top:
            self._above[place], place = top, int(self._above[place])
        return top
