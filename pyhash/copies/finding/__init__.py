"""The search for copies: candidates, proof on the images, groups."""

from __future__ import annotations

from .candidates import RADIUS
from .find import find
from .from_paths import duplicates
from .one import copies_of, proving
from .stock import Stock

__all__ = ["RADIUS", "Stock", "copies_of", "duplicates", "find", "proving"]


def __dir__() -> list[str]:
    return __all__
