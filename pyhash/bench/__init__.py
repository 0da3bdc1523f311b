"""What ``pyhash bench`` measures."""

from __future__ import annotations

from .bench import Bench, Row, Sizes
from .cases import CASES, run
from .report import environment, save

__all__ = [
    "CASES",
    "Bench",
    "Row",
    "Sizes",
    "environment",
    "run",
    "save",
]


def __dir__() -> list[str]:
    return __all__
