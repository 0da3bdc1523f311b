"""From a file or an array to pixels."""

from __future__ import annotations

from .decode import CROPS, MAX_PIXELS, RESIZES, Crop, PixelBudget, Resize, Source, as_shape, decoder_identity, load
from .folder import SUFFIXES, UNREADABLE, FoundImage, Walk, walk

__all__ = [
    "CROPS",
    "MAX_PIXELS",
    "RESIZES",
    "SUFFIXES",
    "UNREADABLE",
    "Crop",
    "FoundImage",
    "PixelBudget",
    "Resize",
    "Source",
    "Walk",
    "as_shape",
    "decoder_identity",
    "load",
    "walk",
]


def __dir__() -> list[str]:
    return __all__
