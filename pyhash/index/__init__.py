"""Exact search by Hamming distance."""

from __future__ import annotations

from .index import Index

__all__ = [
    "Index",
]


def __dir__() -> list[str]:
    return __all__
