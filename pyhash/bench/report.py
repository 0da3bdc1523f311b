"""The benchmark's table and plots."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__, backend
from ..support import require
from .bench import Row
from .cases import WIDTHS
from .peers import has


def environment() -> dict[str, Any]:
    """Describe the machine and the versions of what was compared."""
    versions = {"python": platform.python_version(), "pyhash": __version__}
    for name in ("numpy", "faiss-cpu", "usearch", "numba"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    return {"cpu": cpu, "cpus": os.cpu_count(), "system": platform.system(), "kernel": backend.kernel(), **versions}


def markdown(rows: list[Row], skipped: list[str]) -> str:
    """Return the table as Markdown."""
    about = environment()
    lines = [
        "# Benchmarks",
        "",
        "Written by `pyhash bench`. Every peer is timed in turns with pyhash, on one thread unless a case says",
        "otherwise, and every answer is checked. `x` is how many times as fast; the goals are the project's own.",
        "",
        ", ".join(f"{key} {value}" for key, value in about.items()),
        "",
    ]
    lines += ["| case | bits | figure | value | goal | |", "|---|---:|---|---:|---:|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"{'<=' if row.at_most else '>='} {row.goal:g}"
        mark = {None: "", True: "reached", False: "**missed**"}[row.reached]
        lines.append(f"| {row.case} | {row.bits or ''} | {row.figure} | {row.value:.3g} | {goal} | {mark} |")
    lines += [f"\nNot run: {reason}" for reason in skipped]
    return "\n".join(lines) + "\n"


def save(rows: list[Row], skipped: list[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write benchmarks.md, benchmarks.json and, where matplotlib is installed, benchmarks.svg and .png."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "benchmarks.md", folder / "benchmarks.json"]
    paths[0].write_text(markdown(rows, skipped))
    content = {"environment": environment(), "rows": [asdict(row) for row in rows], "not_run": skipped}
    paths[1].write_text(json.dumps(content, indent=1) + "\n")
    if has("matplotlib"):
        paths += _plot(rows, folder)
    return paths


def _plot(rows: list[Row], folder: Path) -> list[Path]:
    """Draw throughput and speed-up against bits, and latency against the number of codes."""
    matplotlib = require("matplotlib", "plot")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", "plot")

    def by_bits(case: str, figure: str) -> tuple[list[int], list[float]]:
        chosen = [row for row in rows if row.case == case and row.figure == figure]
        return [row.bits for row in chosen], [row.value for row in chosen]

    figure, ((rate, speedup), (latency, share)) = pyplot.subplots(2, 2, figsize=(11, 7.6), layout="constrained")

    rates = {
        "batch of queries": ("batch", "Gcodes/s (query, code) pairs"),
        "batch, AVX2 kernel": ("batch, AVX2 kernel", "Gcodes/s (query, code) pairs"),
        "bound of the popcount scan": ("limits", "popcount scan in cache, Gcodes/s"),
    }
    for label, key in rates.items():
        rate.plot(*by_bits(*key), "o--" if "bound" in label else "o-", label=label)
    rate.set(title="Throughput of one core", xlabel="bits a code", ylabel="billion codes measured a second")

    speedups = {
        "clustered codes, 64 queries a call": ("clustered codes, 64 a call", "x FAISS flat"),
        "clustered codes, one a call": ("clustered codes, one a call", "x FAISS flat"),
        "uniform codes, batch": ("batch", "x FAISS flat"),
        "uniform codes in memory, one a call": ("one query, memory", "x FAISS flat"),
    }
    for label, key in speedups.items():
        speedup.plot(*by_bits(*key), "o-", label=label)
    speedup.axhline(1, color="grey", linewidth=1)
    speedup.annotate(
        "FAISS IndexBinaryFlat", (WIDTHS[0], 1), xytext=(0, 3), textcoords="offset points", color="grey", fontsize=8
    )
    speedup.set(title="Times as fast as FAISS, same answers", xlabel="bits a code", ylabel="x", ylim=(0.6, 4000))

    prefix, suffix = "one query, ", " codes"
    timed = [row for row in rows if row.case.startswith(prefix) and row.case.endswith(suffix)]
    for name in dict.fromkeys(row.figure for row in timed):
        chosen = [row for row in timed if row.figure == name]
        sizes = [int(row.case[len(prefix) : -len(suffix)].replace(",", "")) for row in chosen]
        latency.plot(sizes, [row.value for row in chosen], "o-", label=name.removeprefix("microseconds, "))
    latency.set(title="One query, clustered 64-bit codes", xlabel="codes", ylabel="microseconds a call from Python")

    limits = {
        "one query in memory / read rate": ("one query, memory", "share of the read rate"),
        "batch / bound of the popcount scan": ("batch", "x the bound of the popcount scan"),
        "batch, AVX2 kernel / bound of its popcount scan": ("batch, AVX2 kernel", "x the bound of the popcount scan"),
    }
    for label, key in limits.items():
        share.plot(*by_bits(*key), "o-", label=label)
    share.axhline(1, color="grey", linewidth=1)
    share.set(title="Share of this machine's limit", xlabel="bits a code", ylabel="x", ylim=(0, None))

    for axes in (rate, speedup, latency, share):
        if not any(len(line.get_xdata()) for line in axes.get_lines() if line.get_marker() == "o"):
            axes.set_axis_off()  # its cases were not run
            continue
        if axes is not latency:
            axes.set_xscale("log", base=2)
            axes.set_xticks(WIDTHS, [str(bits) for bits in WIDTHS])
        else:
            axes.set_xscale("log")
        if axes is not share:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper right" if axes is speedup else "best")
    paths = [folder / "benchmarks.svg", folder / "benchmarks.png"]
    for path in paths:
        figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return paths
