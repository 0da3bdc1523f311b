"""How good codes are: rankings of codes judged by labels."""

from __future__ import annotations

from . import ties
from .evaluating import evaluate
from .plot import PLOT_SUFFIXES, plot_pr
from .report import GRADED, Protocol, Report, Score

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
