"""Rankings by embeddings, on arrays alone: neighbourhoods, and candidates in a better order."""

from __future__ import annotations

from .averages import average, neighbourhoods
from .helping import Help, neighbourhoods_help
from .neighbours import Neighbours, neighbours
from .reciprocal import k_reciprocal
from .rescoring import Rescored, rescore, rescore_codes
from .vectors import Embeddings, Quantized, quantize

__all__ = [
    "Embeddings",
    "Help",
    "Neighbours",
    "Quantized",
    "Rescored",
    "average",
    "k_reciprocal",
    "neighbourhoods",
    "neighbourhoods_help",
    "neighbours",
    "quantize",
    "rescore",
    "rescore_codes",
]


def __dir__() -> list[str]:
    return __all__
