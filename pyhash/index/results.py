"""What searches return: tuples whose parts have names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hits", "Pairs", "Ranges"]


class Hits(NamedTuple):
    """The nearest codes of each query; what `Index.search` returns."""

    distances: NDArray[np.int32]
    """``(q, k)``, or ``(k,)`` for one query."""
    ids: NDArray[np.int64]
    """The same shape; -1 where there are fewer than k codes."""


class Ranges(NamedTuple):
    """All codes within a radius of each query; what `Index.range_search` returns."""

    offsets: NDArray[np.int64]
    """``(q + 1,)``: what was found for query i lies at ``offsets[i]:offsets[i + 1]`` of the others."""
    distances: NDArray[np.int32]
    ids: NDArray[np.int64]


class Pairs(NamedTuple):
    """All pairs of codes within a radius; what `Index.pairs` returns."""

    i: NDArray[np.int64]
    """The smaller id of each pair."""
    j: NDArray[np.int64]
    distances: NDArray[np.int32]
