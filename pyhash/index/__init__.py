"""Exact search by Hamming distance."""

from __future__ import annotations

from .index import Index
from .results import Hits, Pairs, Ranges

__all__ = [
    "Hits",
    "Index",
    "Pairs",
    "Ranges",
]


def __dir__() -> list[str]:
    return __all__
