"""Who computes distances: the compiled kernels, or Numba."""

from __future__ import annotations

from . import metric
from .choose import available_memory, cpu_features, kernel, kernels, module, threads, use, why_no_native
from .metric import MAX_DISTANCE

__all__ = [
    "MAX_DISTANCE",
    "available_memory",
    "cpu_features",
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
