"""Exact search by Hamming distance."""

from __future__ import annotations

from .index import CorruptIndexError, Index

__all__ = [
    "CorruptIndexError",
    "Index",
]


def __dir__() -> list[str]:
    return __all__
