"""A folder of images that can be searched."""

from __future__ import annotations

from .gallery import Changes, Failure, Gallery, GalleryEncoder, Match, default_radius

__all__ = [
    "Changes",
    "Failure",
    "Gallery",
    "GalleryEncoder",
    "Match",
    "default_radius",
]


def __dir__() -> list[str]:
    return __all__
