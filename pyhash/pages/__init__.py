"""HTML that a person opens."""

from __future__ import annotations

from .sheet import Row, printable, write_sheet

__all__ = [
    "Row",
    "printable",
    "write_sheet",
]


def __dir__() -> list[str]:
    return __all__
