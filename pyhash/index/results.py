"""What an index returns: tuples whose parts have names, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hits", "IndexStats", "Pairs", "Ranges", "SegmentStats"]


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


@dataclass(frozen=True)
class SegmentStats:
    """One segment of an index: codes that are stored and searched together."""

    codes: int
    removed: int
    """Codes that were removed, and whose place is not yet used again."""
    clusters: int
    """Of its ring; 0 while it is searched flat."""
    answered: int
    """Queries that the ring answered since it was built or opened."""
    handed_back: int
    """Queries that it left to a flat pass."""
    codes_per_query: float | None
    """Codes passed over for an answered query, on average; None before the first."""


@dataclass(frozen=True)
class IndexStats:
    """What `Index.stats` says."""

    codes: int
    bits: int
    levels: dict[str, int]
    structure: str
    segments: list[SegmentStats]
    nbytes: int
    """Bytes in use for codes and ids."""
    reserved_bytes: int
    """Bytes of memory taken for them, room to grow included."""
    readonly: bool
    kernel: str
