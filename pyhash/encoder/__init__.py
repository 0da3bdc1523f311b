"""A network with a head, in one file: images in, codes out."""

from __future__ import annotations

from .building import Built, Fitted, build, extract, fit_head
from .encoder import PRESETS, Encoder
from .encoder import _rebuild as _rebuild  # by this name pickles find it
from .gate import Quantized, assess

__all__ = [
    "PRESETS",
    "Built",
    "Encoder",
    "Fitted",
    "Quantized",
    "assess",
    "build",
    "extract",
    "fit_head",
]


def __dir__() -> list[str]:
    return __all__
