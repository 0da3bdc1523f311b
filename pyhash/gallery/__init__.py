"""A folder of images that can be searched."""

from __future__ import annotations

from .duplicates import default_radius
from .encoders import GalleryEncoder
from .gallery import Gallery
from .results import GalleryStats, Match, SearchOptions
from .update import Changes, Failure

__all__ = [
    "Changes",
    "Failure",
    "Gallery",
    "GalleryEncoder",
    "GalleryStats",
    "Match",
    "SearchOptions",
    "default_radius",
]


def __dir__() -> list[str]:
    return __all__
