"""Who computes distances: the compiled kernels, or Numba."""

from __future__ import annotations

from . import metric
from .choose import active, kernel, kernels, threads, use
from .contract import LANES, MAX_RING_WORDS, PAD_DISTANCE, PAD_ID, Kernel, Metric, Ring, Segment, Target
from .distances import hamming
from .metric import MAX_DISTANCE
from .native import cpu_features, why_no_native
from .products import cosines

__all__ = [
    "LANES",
    "MAX_DISTANCE",
    "MAX_RING_WORDS",
    "PAD_DISTANCE",
    "PAD_ID",
    "Kernel",
    "Metric",
    "Ring",
    "Segment",
    "Target",
    "active",
    "cosines",
    "cpu_features",
    "hamming",
    "kernel",
    "kernels",
    "metric",
    "threads",
    "use",
    "why_no_native",
]


def __dir__() -> list[str]:
    return __all__
