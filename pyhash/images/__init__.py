"""From a file or an array to pixels."""

from __future__ import annotations

from .beside import raws_beside
from .budget import MAX_PIXELS, PixelBudget
from .decode import Source, crop_of, load, name_of, opened, size_of
from .decoded import RESIZES, THUMBNAIL_SIDE, Decoded, Resize, as_shape
from .described import Described, described
from .exclude import check_patterns
from .folder import SUFFIXES, FoundImage, Walk, check_min_size, is_empty, walk
from .geometry import CROPS, Crop, check_fill, check_fraction, inner
from .globs import as_regex
from .identity import decoder_identity
from .kinds import KINDS
from .looks import Look, look_codes, look_of, turned
from .readers import readers
from .views import TURNS, Box, Part, Views, check_grid

__all__ = [
    "CROPS",
    "KINDS",
    "MAX_PIXELS",
    "RESIZES",
    "SUFFIXES",
    "THUMBNAIL_SIDE",
    "TURNS",
    "Box",
    "Crop",
    "Decoded",
    "Described",
    "FoundImage",
    "Look",
    "Part",
    "PixelBudget",
    "Resize",
    "Source",
    "Views",
    "Walk",
    "as_regex",
    "as_shape",
    "check_fill",
    "check_fraction",
    "check_grid",
    "check_min_size",
    "check_patterns",
    "crop_of",
    "decoder_identity",
    "described",
    "inner",
    "is_empty",
    "load",
    "look_codes",
    "look_of",
    "name_of",
    "opened",
    "raws_beside",
    "readers",
    "size_of",
    "turned",
    "walk",
]


def __dir__() -> list[str]:
    return __all__
