"""The benchmark's table and plots."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__, backend
from .bench import Row
from .peers import has
from .plots import plot


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


def markdown(rows: list[Row], skipped: list[str], plots: Sequence[Path] = ()) -> str:
    """Return the table as Markdown, and plots that lie beside it."""
    about = environment()
    lines = [
        "# Benchmarks",
        "",
        "Written by `pyhash bench`. Every peer is timed in turns with pyhash, on one thread and in CPU time unless a",
        "case says otherwise, and every answer is checked. `x` is how many times as fast; the goals are the project's",
        "own. What compares a million codes with all others is timed on a part of them, and scaled.",
        "",
        ", ".join(f"{key} {value}" for key, value in about.items()),
        "",
    ]
    lines += [f"![What the table says of {path.stem}]({path.name})\n" for path in plots if path.suffix == ".png"]
    lines += ["| case | bits | figure | value | goal | |", "|---|---:|---|---:|---:|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"{'<=' if row.at_most else '>='} {row.goal:g}"
        mark = {None: "", True: "reached", False: "**missed**"}[row.reached]
        lines.append(f"| {row.case} | {row.bits or ''} | {row.figure} | {row.value:.3g} | {goal} | {mark} |")
    lines += [f"\nNot run: {reason}" for reason in skipped]
    return "\n".join(lines) + "\n"


def save(rows: list[Row], skipped: list[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write benchmarks.md, benchmarks.json and, where matplotlib is installed, plots of searches and of joins."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plots = plot(rows, folder) if has("matplotlib") else []
    paths = [folder / "benchmarks.md", folder / "benchmarks.json", *plots]
    paths[0].write_text(markdown(rows, skipped, plots))
    content = {"environment": environment(), "rows": [asdict(row) for row in rows], "not_run": skipped}
    paths[1].write_text(json.dumps(content, indent=1) + "\n")
    return paths
