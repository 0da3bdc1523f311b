"""From a file or an array to pixels."""

from __future__ import annotations

from .budget import MAX_PIXELS, PixelBudget
from .decode import CROPS, RESIZES, Crop, Resize, Source, as_shape, decoder_identity, load
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
