"""HTML that a person opens."""

from __future__ import annotations

from .sheet import Other, Row, check_target, write_sheet

__all__ = [
    "Other",
    "Row",
    "check_target",
    "write_sheet",
]


def __dir__() -> list[str]:
    return __all__
