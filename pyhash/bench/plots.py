"""The benchmark's plots, with numbers on the axes as people write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..support import require
from .bench import WIDTHS, Row

Axes = Any

_COLOURS = {
    "pyhash": "#0b6bb8",
    "pyhash, flat": "#62b0e8",
    "flat pass": "#62b0e8",
    "FAISS flat": "#d95f02",
    "FAISS range_search": "#d95f02",
    "USearch exact": "#7a5195",
    "packed NumPy": "#5a8f3d",
}
_LIMITS = ("most that a popcount scan can do", "read rate of the machine")


def plot(rows: list[Row], folder: Path) -> list[Path]:
    """Draw what was measured, searches in benchmarks and joins in joins, each as .svg and .png."""
    require("matplotlib", "plot").use("Agg")
    pyplot = require("matplotlib.pyplot", "plot")
    paths = []
    for name, shape, panels in [("benchmarks", (3, 2), _SEARCHES), ("joins", (2, 2), _JOINS)]:
        figure, grid = pyplot.subplots(*shape, figsize=(11, 3.9 * shape[0]), layout="constrained")
        for axes, panel in zip(grid.flat, panels, strict=True):
            panel(axes, rows)
            axes.set_visible(axes.has_data())  # not where its cases were not run
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        for ending in ("svg", "png"):
            paths.append(folder / f"{name}.{ending}")
            figure.savefig(paths[-1], dpi=120)
        pyplot.close(figure)
    return paths


def amount(value: float) -> str:
    """Write a number as people do: 0.5, 1,000, 10 million."""
    return f"{value / 1e6:g} million" if value >= 1e6 else f"{value:,g}"


def duration(micro: float) -> str:
    """Write a time in its own unit: 5 us, 1 ms, 20 s."""
    for unit, length in {"s": 1e6, "ms": 1e3}.items():
        if micro >= length:
            return f"{micro / length:,g} {unit}"
    return f"{micro:g} us"


def _throughput(axes: Axes, rows: list[Row]) -> None:
    lines = {
        "batch of queries": ("batch", "Gcodes/s (query, code) pairs"),
        "batch, AVX2 kernel": ("batch, AVX2 kernel", "Gcodes/s (query, code) pairs"),
        "most that a popcount scan can do": ("limits", "popcount scan in cache, Gcodes/s"),
    }
    for label, (case, figure) in lines.items():
        _by_bits(axes, rows, case, figure, label)
    _labels(axes, "Throughput of one core", "bits a code", "billion codes measured a second")
    _log(axes, amount)


def _speedup(axes: Axes, rows: list[Row]) -> None:
    lines = {
        "clustered codes, 64 queries a call": ("clustered codes, 64 a call", "x FAISS flat"),
        "clustered codes, one a call": ("clustered codes, one a call", "x FAISS flat"),
        "uniform codes, batch": ("batch", "x FAISS flat"),
        "uniform codes in memory, one a call": ("one query, memory", "x FAISS flat"),
    }
    for label, (case, figure) in lines.items():
        _by_bits(axes, rows, case, figure, label)
    _labels(
        axes, "Times as fast as FAISS, same answers", "bits a code", "times as fast as IndexBinaryFlat", "upper right"
    )
    _log(axes, amount, headroom=12)
    if axes.has_data():
        axes.axhline(1, color="grey", linewidth=1)
        axes.annotate("FAISS", (WIDTHS[0], 1), (0, 3), textcoords="offset points", color="grey", fontsize=8)


def _bandwidth(axes: Axes, rows: list[Row]) -> None:
    names = {"read": "read rate of the machine", "pyhash": "pyhash", "faiss": "FAISS flat"}
    for name, label in names.items():
        _by_bits(axes, rows, "one query, memory", f"GB/s, {name}", label)
    _labels(axes, "One query over codes in memory, one core", "bits a code", "GB a second")
    axes.set_ylim(0)


def _by_number(axes: Axes, rows: list[Row], case: str, title: str) -> None:
    """Draw time by number of codes, of the cases "CASE, N codes", a line for each figure of "microseconds..., NAME"."""
    begin, end = f"{case}, ", " codes"
    timed = [row for row in rows if row.case.startswith(begin) and row.case.endswith(end)]
    for figure in dict.fromkeys(row.figure for row in timed):
        chosen = [row for row in timed if row.figure == figure]
        numbers = [int(row.case[len(begin) : -len(end)].replace(",", "")) for row in chosen]
        label = figure.partition(", ")[2]
        axes.plot(numbers, [row.value for row in chosen], "o-", color=_COLOURS.get(label), label=label)
    if timed:
        axes.set_xscale("log")
        axes.set_xticks(numbers, [amount(number) for number in numbers])
        axes.minorticks_off()
    _labels(axes, title, "codes", "time a query")
    _log(axes, duration)


def _alone(axes: Axes, rows: list[Row]) -> None:
    _by_number(axes, rows, "one query", "One query a call, clustered 64-bit codes")


def _together(axes: Axes, rows: list[Row]) -> None:
    _by_number(axes, rows, "batch", "512 queries a call, clustered 64-bit codes")


def _small(axes: Axes, rows: list[Row]) -> None:
    _by_number(axes, rows, "small call", "One query a call from Python, few 64-bit codes")


def _join_times(axes: Axes, rows: list[Row]) -> None:
    chosen = [row for row in rows if row.case.startswith("pairs, ") and row.case.endswith(" uniform codes, radius 4")]
    case = chosen[0].case if chosen else ""  # the first has all peers
    for name in ("FAISS range_search", "flat pass", "pyhash"):
        _by_bits(axes, chosen, case, f"seconds, {name}", name, unit=1e6)
    title = f"All pairs of {case.split()[1]} uniform codes within 4 bits" if case else ""
    _labels(axes, title, "bits a code", "time, one core", "upper left")
    _log(axes, duration, headroom=12)


def _join_ratios(axes: Axes, rows: list[Row]) -> None:
    chosen = [row for row in rows if row.figure.endswith("x flat pass") and row.figure.startswith(("x", "pairs"))]
    chosen = [row for row in chosen if row.bits == WIDTHS[0]]
    _bars(axes, {row.case.removeprefix("pairs, "): row for row in chosen})
    _labels(axes, "Joins of 64-bit codes", "times as fast as comparing all with all", "")


def _threads(axes: Axes, rows: list[Row]) -> None:
    for case in ("batch", "pairs", "pairs of two sets"):
        _by_bits(axes, rows, f"{case}, two threads", "x one thread", case)
    _labels(axes, "Two threads", "bits a code", "times as fast as one")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 1), max(high, 2.05))


def _evenness(axes: Axes, rows: list[Row]) -> None:
    chosen = {f"{row.case}, {row.bits} bits": row for row in rows if row.figure in ("x shuffled", "x weights 1 and 2")}
    _bars(axes, chosen)
    _labels(axes, "What should make no difference", "times as fast as shuffled, or weights 1 and 2", "")


_SEARCHES: list[Callable[[Axes, list[Row]], None]] = [_throughput, _speedup, _bandwidth, _small, _alone, _together]
_JOINS: list[Callable[[Axes, list[Row]], None]] = [_join_times, _join_ratios, _threads, _evenness]


def _by_bits(axes: Axes, rows: list[Row], case: str, figure: str, label: str, unit: float = 1) -> None:
    """Draw a line of a figure, multiplied by `unit`, over bits a code; dashed grey for a limit of the machine."""
    chosen = [row for row in rows if row.case == case and row.figure == figure]
    if not chosen:
        return
    bits, values = [row.bits for row in chosen], [row.value * unit for row in chosen]
    limit = label in _LIMITS
    axes.plot(bits, values, "o--" if limit else "o-", color="grey" if limit else _COLOURS.get(label), label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(bits, [str(number) for number in bits])
    axes.minorticks_off()


def _bars(axes: Axes, chosen: dict[str, Row]) -> None:
    """Draw ratios as bars that begin at 1, with their values, and a mark at each goal."""
    if not chosen:
        return
    axes.set_xscale("log")
    for place, row in enumerate(chosen.values()):
        axes.barh(place, row.value - 1, left=1, color=_COLOURS["pyhash"], height=0.6)
        farther = max(row.value, 1.0, row.goal or 0.0)
        axes.annotate(f"{row.value:.3g}", (farther, place), (5, 0), textcoords="offset points", va="center", size=8)
        if row.goal is not None:
            label = None if axes.get_legend_handles_labels()[1] else "goal"
            axes.plot([row.goal] * 2, [place - 0.4, place + 0.4], color="black", label=label)
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_yticks(range(len(chosen)), list(chosen), size=8)
    axes.invert_yaxis()
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(1.5 * high, 2.0))  # room for the last value
    _plain(axes.xaxis, amount)


def _labels(axes: Axes, title: str, across: str, up: str, legend: str = "best") -> None:
    axes.set(title=title, xlabel=across, ylabel=up)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, loc=legend)


def _log(axes: Axes, written: Callable[[float], str], headroom: float = 1.0) -> None:
    """Make the upright axis logarithmic, with room above for a legend."""
    if not axes.has_data():
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * headroom)
    _plain(axes.yaxis, written)


def _plain(axis: Any, written: Callable[[float], str]) -> None:
    """Put numbers as people write them on a logarithmic axis: 1, 10, 100, or 1, 2, 5, 10."""
    ticker = require("matplotlib.ticker", "plot")
    low, high = axis.get_view_interval()
    axis.set_major_locator(ticker.LogLocator(subs=(1.0,) if high > 1000 * low else (1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: written(value)))
    axis.set_minor_locator(ticker.NullLocator())
