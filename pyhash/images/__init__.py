"""From a file or an array to pixels."""

from __future__ import annotations

from .budget import MAX_PIXELS, PixelBudget
from .decode import Source, load, name_of, opened
from .decoded import RESIZES, THUMBNAIL_SIDE, Decoded, Resize, as_shape
from .exclude import check_patterns
from .folder import SUFFIXES, FoundImage, Walk, is_empty, walk
from .geometry import CROPS, Crop, check_fill, check_fraction, inner
from .identity import decoder_identity
from .kinds import KINDS
from .looks import Look, look_codes, look_of, turned
from .readers import readers

__all__ = [
    "CROPS",
    "KINDS",
    "MAX_PIXELS",
    "RESIZES",
    "SUFFIXES",
    "THUMBNAIL_SIDE",
    "Crop",
    "Decoded",
    "FoundImage",
    "Look",
    "PixelBudget",
    "Resize",
    "Source",
    "Walk",
    "as_shape",
    "check_fill",
    "check_fraction",
    "check_patterns",
    "decoder_identity",
    "inner",
    "is_empty",
    "load",
    "look_codes",
    "look_of",
    "name_of",
    "opened",
    "readers",
    "turned",
    "walk",
]


def __dir__() -> list[str]:
    return __all__
