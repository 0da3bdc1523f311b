"""Exact search by Hamming distance."""

from __future__ import annotations

from .index import Index
from .neighbors import HammingNeighbors, Neighbors
from .results import Hits, Pairs, Ranges
from .stats import IndexHeader

__all__ = [
    "HammingNeighbors",
    "Hits",
    "Index",
    "IndexHeader",
    "Neighbors",
    "Pairs",
    "Ranges",
]


def __dir__() -> list[str]:
    return __all__
