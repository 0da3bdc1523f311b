"""What codes cost to store, to open and to pack."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..codes import pack
from ..index import Index
from .bench import Bench, Row, Sizes
from .peers import check, in_turns, ratio, resident, seconds, uniform


def memory(bench: Bench, bits: int) -> Iterator[Row]:
    """What codes cost in memory, and how long a mapped file takes to open."""
    n = bench.sizes.memory
    index, default = _grown(bench, n, bits, custom_ids=False)
    custom = _grown(bench, n, bits, custom_ids=True)[1]
    if default is not None and custom is not None and n == Sizes.memory:
        share = default / (n * bits / 8)
        yield Row("memory, default ids", bits, "bytes resident / bytes of codes", share, 1.1, at_most=True)
        yield Row("memory, custom ids", bits, "bytes resident a code, more", (custom - default) / n)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.pyhash"
        index.save(path)
        taken = statistics.median(seconds(lambda: Index.open(path, mmap=True)) for _ in range(10))
        yield Row("mapped file", bits, "milliseconds to open", taken * 1e3)
    grown = Index(bits=bits)
    halves = np.split(uniform(bench.rng, min(n, 20_000), bits), 2)
    first, second = (seconds(lambda half=half: [grown.add(code) for code in half]) for half in halves)  # type: ignore[misc]
    yield Row("adding one at a time", bits, "second half / first half, time", second / first)


def _grown(bench: Bench, n: int, bits: int, *, custom_ids: bool) -> tuple[Index, int | None]:
    """Return an index that was filled in steps, and the memory that it took."""
    before = resident()
    index = Index(bits=bits, structure="flat")
    step = 100_000
    for i in range(0, n, step):
        ids = 3 * np.arange(i, min(i + step, n)) if custom_ids else None
        index.add(uniform(bench.rng, min(step, n - i), bits), ids)
    after = resident()
    return index, None if before is None or after is None else after - before


def packing(bench: Bench, bits: int) -> Iterator[Row]:
    """Thresholding and packing float32 features."""
    features = bench.rng.standard_normal((6_400_000 // bits, bits), dtype=np.float32)
    functions: dict[str, Callable[[], Any]] = {
        "numpy": lambda: np.packbits(features > 0, axis=1),
        "pyhash": lambda: pack(features),
    }
    times = in_turns(functions, 4 * bench.sizes.rounds)
    check("packing", functions["numpy"](), functions["pyhash"]())
    yield Row("packing float32", bits, "x np.packbits(x > 0)", ratio(times, "numpy", "pyhash"), 1.0)
