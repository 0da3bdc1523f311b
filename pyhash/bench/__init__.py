"""What ``pyhash bench`` measures."""

from __future__ import annotations

from .cases import CASES, Bench, Row, Sizes
from .report import environment, save

__all__ = [
    "CASES",
    "Bench",
    "Row",
    "Sizes",
    "environment",
    "save",
]


def __dir__() -> list[str]:
    return __all__
