"""HTML that a person opens."""

from __future__ import annotations

from .review import write_review
from .sheet import Other, Row, check_target, write_sheet

__all__ = [
    "Other",
    "Row",
    "check_target",
    "write_review",
    "write_sheet",
]


def __dir__() -> list[str]:
    return __all__
