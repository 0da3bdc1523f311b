"""A folder of images that can be searched."""

from __future__ import annotations

from .adapt import Adapted
from .encoders import GalleryEncoder
from .gallery import Gallery
from .results import GalleryStats, Match, SearchOptions
from .update import Changes, Failure

__all__ = [
    "Adapted",
    "Changes",
    "Failure",
    "Gallery",
    "GalleryEncoder",
    "GalleryStats",
    "Match",
    "SearchOptions",
]


def __dir__() -> list[str]:
    return __all__
