"""Curves of precision against recall, as files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping

from ..support import files, require
from .report import Report

PLOT_SUFFIXES = (".png", ".svg")
_MARKS = [b"Software\x00pyhash", b"<dc:title>pyhash</dc:title>"]


def plot_pr(
    reports: Report | Mapping[str, Report],
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Draw precision against recall as PNG or SVG, by the file's ending.

    Parameters
    ----------
    reports : Report or mapping of name to Report
        Several reports are drawn together, their names before those of the curves.
    path : path
        Ends in ``.png`` or ``.svg``.
    title : str, optional
    overwrite : bool
        Replace a file that is no such plot, too.

    Raises
    ------
    ForeignFileError
        When a file is there that is no such plot.
    ImportError
        Without Matplotlib, which the extra ``plot`` brings.
    ValueError
        When the file's ending is another one.
    """
    kind = os.path.splitext(os.fspath(path))[1].lower()
    if kind not in PLOT_SUFFIXES:
        raise ValueError(f"path must end in {' or '.join(PLOT_SUFFIXES)}, got {os.fspath(path)!r}")
    files.check_target(path, _MARKS, overwrite=overwrite)
    matplotlib = require("matplotlib", "plot")
    figure_module = require("matplotlib.figure", "plot")
    named = {"": reports} if isinstance(reports, Report) else dict(reports)
    with matplotlib.rc_context({"svg.hashsalt": "pyhash"}):  # equal reports, equal files
        figure = figure_module.Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.add_subplot()
        for name, report in named.items():
            for score in report.scores:
                if score.recall:
                    label = f"{score.ranking} → {score.relevance} (mAP {score.values['mAP']:.3f})"
                    axes.plot(score.recall, score.precision, label=f"{name} {label}".strip())
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        if title:
            axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        buffer = io.BytesIO()
        made_by = {"Creator": "pyhash", "Date": None} if kind == ".svg" else {"Software": "pyhash"}
        figure.savefig(buffer, format=kind[1:], metadata=made_by)
    files.write(path, [buffer.getvalue()], _MARKS, overwrite=overwrite)
