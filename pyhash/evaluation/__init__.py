"""How good codes are: rankings of codes judged by labels."""

from __future__ import annotations

from . import ties
from .evaluating import GRADED, PLOT_SUFFIXES, Protocol, Report, Score, evaluate, plot_pr

__all__ = [
    "GRADED",
    "PLOT_SUFFIXES",
    "Protocol",
    "Report",
    "Score",
    "evaluate",
    "plot_pr",
    "ties",
]


def __dir__() -> list[str]:
    return __all__
