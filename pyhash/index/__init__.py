"""Exact search by Hamming distance."""

from __future__ import annotations

from .index import Index
from .results import Hits, Pairs, Ranges
from .stats import IndexHeader

__all__ = [
    "Hits",
    "Index",
    "IndexHeader",
    "Pairs",
    "Ranges",
]


def __dir__() -> list[str]:
    return __all__
