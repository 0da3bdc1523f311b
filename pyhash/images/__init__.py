"""From a file or an array to pixels."""

from __future__ import annotations

from .decode import CROPS, MAX_PIXELS, RESIZES, PixelBudget, as_shape, decoder_identity, load
from .folder import SUFFIXES, UNREADABLE

__all__ = [
    "CROPS",
    "MAX_PIXELS",
    "RESIZES",
    "SUFFIXES",
    "UNREADABLE",
    "PixelBudget",
    "as_shape",
    "decoder_identity",
    "load",
]


def __dir__() -> list[str]:
    return __all__
