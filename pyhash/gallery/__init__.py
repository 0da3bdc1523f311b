"""A folder of images that can be searched."""

from __future__ import annotations

from .encoders import GalleryEncoder
from .gallery import Gallery, GalleryStats, Match, SearchOptions, default_radius
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
