"""The search for copies: candidates, proof on the images, groups."""

from __future__ import annotations

from .find import find
from .from_paths import duplicates
from .stock import Stock

__all__ = ["Stock", "duplicates", "find"]


def __dir__() -> list[str]:
    return __all__
