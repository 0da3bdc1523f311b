"""A network with a head, in one file: images in, codes out."""

from __future__ import annotations

from ..networks import is_named
from .building import Built, build
from .encoder import PRESETS, Encoder
from .encoder import _rebuild as _rebuild  # by this name pickles find it
from .features import Extracted, extract
from .gate import Quantized, assess
from .records import Encoded, EncodedPart, Fingerprints
from .saying import LOOKED_AT, silence, warn_of_silence
from .trial import Trial, evaluate_folder

__all__ = [
    "LOOKED_AT",
    "PRESETS",
    "Built",
    "Encoded",
    "EncodedPart",
    "Encoder",
    "Extracted",
    "Fingerprints",
    "Quantized",
    "Trial",
    "assess",
    "build",
    "evaluate_folder",
    "extract",
    "is_named",
    "silence",
    "warn_of_silence",
]


def __dir__() -> list[str]:
    return __all__
