"""A network with a head, in one file: images in, codes out."""

from __future__ import annotations

from .building import Built, build, extract
from .encoder import PRESETS, Encoder
from .encoder import _rebuild as _rebuild  # by this name pickles find it
from .gate import Quantized, assess

__all__ = [
    "PRESETS",
    "Built",
    "Encoder",
    "Quantized",
    "assess",
    "build",
    "extract",
]


def __dir__() -> list[str]:
    return __all__
