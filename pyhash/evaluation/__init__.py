"""How good codes are: rankings of codes judged by labels."""

from __future__ import annotations

from .evaluating import evaluate
from .plot import PLOT_SUFFIXES, plot_pr
from .report import GRADED, Protocol, Report, Score
from .ties import mean_average_precision

__all__ = [
    "GRADED",
    "PLOT_SUFFIXES",
    "Protocol",
    "Report",
    "Score",
    "evaluate",
    "mean_average_precision",
    "plot_pr",
]


def __dir__() -> list[str]:
    return __all__
