"""Neighbours, neighbourhoods and rescoring beside NumPy in float32: `python bench/bench_ranking.py [ROWS ...]`.

NumPy is what people write by hand: a matrix product in BLAS and `argpartition` for neighbours, a gather and a product
for candidates. Times are wall-clock seconds and, in brackets, CPU seconds of all threads: on a machine that others use,
too, the second tells more. Answers are compared after the clock has stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pyhash
from pyhash import ranking, rescore_codes

DIM, K, CANDIDATES, QUERIES = 384, 10, 100, 2000
FLOATS_UP_TO = 50_000  # rows that NumPy is given: beyond, it takes minutes


def embeddings(n: int) -> NDArray[np.float32]:
    """Rows around centres, 20 each, of length 1."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((n // 20 + 1, DIM), dtype=np.float32), 20, axis=0)[:n]
    rows += rng.standard_normal((n, DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def numpy_neighbours(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    found = np.empty((len(rows), K), dtype=np.int64)
    for first in range(0, len(rows), 1024):
        similarities = rows[first : first + 1024] @ rows.T
        here = np.arange(len(similarities))
        similarities[here, first + here] = -np.inf
        near = np.argpartition(-similarities, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(similarities, near, axis=1), axis=1)
        found[first : first + 1024] = np.take_along_axis(near, order, axis=1)
    return found


def numpy_rescore(queries: NDArray[np.float32], rows: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.empty_like(ids)
    for j, query in enumerate(queries):
        found[j] = ids[j, np.argsort(-(rows[ids[j]] @ query), kind="stable")]
    return found


def timed(name: str, call: Callable[[], Any], repeats: int = 3) -> Any:
    best = (np.inf, np.inf)
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        answer = call()
        best = min(best, (time.perf_counter() - start[0], time.process_time() - start[1]))
    print(f"  {name:<44} {best[0]:8.3f} s ({best[1]:.3f})")
    return answer


def measure(n: int) -> None:
    print(f"{n:,} rows")
    rows, own = embeddings(n), np.arange(n)
    repeats = 3 if n <= FLOATS_UP_TO else 1
    stored = timed("quantize", lambda: ranking.quantize(rows))
    near = timed(f"{K} neighbours of each", lambda: ranking.neighbours(stored, stored, K, without=own), repeats)
    timed("neighbourhoods of these, two rounds", lambda: ranking.average(rows, near), repeats)
    if n <= FLOATS_UP_TO:
        by_hand = timed("NumPy: float32 product, argpartition", lambda: numpy_neighbours(rows), repeats)
        same = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(near.ids, by_hand, strict=True)])
        print(f"  the same neighbours: {same:.4f}")
    queries, ids = rows[:QUERIES], np.random.default_rng(1).integers(0, n, (QUERIES, CANDIDATES))
    asked = ranking.quantize(queries)
    ours = timed(f"rescore {CANDIDATES} for each of {QUERIES:,}", lambda: ranking.rescore(asked, stored, ids))
    theirs = timed("NumPy: gather, product, argsort", lambda: numpy_rescore(queries, rows, ids))
    print(f"  the same first: {np.mean(ours.ids[:, 0] == theirs[:, 0]):.4f}")
    codes, logits = pyhash.pack(rows[:, :256]), queries[:, :256]
    timed(f"rescore_codes, 256 bits, {CANDIDATES} for each of {QUERIES:,}", lambda: rescore_codes(logits, codes, ids))


if __name__ == "__main__":
    print(f"kernel {pyhash.kernel()}, {DIM} components")
    for size in sys.argv[1:] or ["10000"]:
        measure(int(size))
