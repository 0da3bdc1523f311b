"""Who computes distances: the compiled kernels, or Numba."""

from __future__ import annotations

from . import metric
from .choose import cpu_features, kernel, kernels, module, threads, use, why_no_native
from .distances import hamming
from .metric import MAX_DISTANCE

__all__ = [
    "MAX_DISTANCE",
    "cpu_features",
    "hamming",
    "kernel",
    "kernels",
    "metric",
    "module",
    "threads",
    "use",
    "why_no_native",
]


def __dir__() -> list[str]:
    return __all__
