"""Folders of images that can be searched."""

from __future__ import annotations

from .adapt import Adapted
from .asking import Examples
from .checking import Checked, Damage
from .encoders import GalleryEncoder
from .forgetting import Forgot
from .gallery import Gallery
from .opening import is_gallery
from .results import GalleryStats, Match, SearchOptions
from .salvage import recover
from .update import Changes, Failure
from .whereabouts import default_file

__all__ = [
    "Adapted",
    "Changes",
    "Checked",
    "Damage",
    "Examples",
    "Failure",
    "Forgot",
    "Gallery",
    "GalleryEncoder",
    "GalleryStats",
    "Match",
    "SearchOptions",
    "default_file",
    "is_gallery",
    "recover",
]


def __dir__() -> list[str]:
    return __all__
