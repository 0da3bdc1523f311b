"""Searches beside FAISS and USearch, and beside what the machine can do: codes without structure."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..index import Index
from .bench import WIDTHS, Bench, Row
from .peers import (
    Codes,
    K,
    check,
    flat_index,
    flipped,
    in_turns,
    one_by_one,
    ratio,
    seconds,
    uniform,
    usearch_exact,
    with_copies,
)

try:
    from . import _probes
except ImportError:  # not compiled
    _probes = None  # type: ignore[assignment]


def limits(bench: Bench, bits: int) -> Iterator[Row]:
    """The machine: what one core reads from memory, and what a popcount scan can do in cache."""
    if _probes is None:
        bench.skip("limits: the C++ core is not compiled")
        return
    if bits == WIDTHS[0]:
        words = _codes_in_memory(bench, 64)[1]
        taken = min(seconds(lambda: _probes.read_words(words)) for _ in range(2 * bench.sizes.rounds))
        yield Row("limits", 0, "read rate of one core, GB/s", words.nbytes / taken / 1e9)
    yield Row("limits", bits, "popcount scan in cache, Gcodes/s", _popcount_bound(bench, bits))


def _popcount_bound(bench: Bench, bits: int) -> float:
    assert _probes is not None
    n = bench.sizes.scan * 4 * 64 // bits
    kernel = backend.active()
    if kernel.name == "numba":  # it has no scan of its own to ask for
        with backend.use(backend.kernels()[0]):
            kernel = backend.active()
    return n / min(seconds(lambda: _probes.scan_cached(kernel, bits // 64, n)) for _ in range(3)) / 1e9


def one_query(bench: Bench, bits: int) -> Iterator[Row]:
    """One query over codes in memory, against the rate at which that memory can be read."""
    goals = {64: 0.95, 128: 0.95, 256: 0.90, 512: 0.90}
    codes, words = _codes_in_memory(bench, bits)
    index = flat_index(codes)
    query = uniform(bench.rng, 1, bits)[0]
    functions: dict[str, Callable[[], Any]] = {"pyhash": lambda: index.search(query, K, threads=1)}
    if _probes is not None:
        functions["read"] = lambda: _probes.read_words(words)
    peer = bench.faiss(codes)
    if peer is not None:
        functions["faiss"] = lambda: peer.search(query[None], K)
    times = in_turns(functions, 2 * bench.sizes.rounds)
    for name, taken in times.items():
        yield Row("one query, memory", bits, f"GB/s, {name}", codes.nbytes / statistics.median(taken) / 1e9)
    if peer is not None:
        check("one query", peer.search(query[None], K)[0][0], index.search(query, K)[0])
        yield Row("one query, memory", bits, "x FAISS flat", ratio(times, "faiss", "pyhash"))
    if _probes is not None:
        yield Row("one query, memory", bits, "share of the read rate", ratio(times, "read", "pyhash"), goals[bits])


def batch(bench: Bench, bits: int) -> Iterator[Row]:
    """Many queries a call over uniform codes."""
    yield from _batch(bench, "batch", bits, {64: 36.0, 128: 18.0, 256: 10.0, 512: 7.0}[bits], usearch=True)


def narrow_kernel(bench: Bench, bits: int) -> Iterator[Row]:
    """The same on the AVX2 kernel, against FAISS as it comes."""
    if "avx2" not in backend.kernels():
        bench.skip("batch, AVX2 kernel: this CPU has no AVX2")
        return
    goals = {64: 16.0, 128: 8.5, 256: 4.5, 512: 3.2}
    with backend.use("avx2"):
        yield from _batch(bench, "batch, AVX2 kernel", bits, goals[bits], usearch=False)


def _batch(bench: Bench, case: str, bits: int, goal: float, usearch: bool) -> Iterator[Row]:
    codes = uniform(bench.rng, bench.sizes.batch, bits)
    queries = uniform(bench.rng, bench.sizes.batch_queries, bits)
    few = queries[:32]  # enough for a peer, whose time grows with the number of queries
    index = flat_index(codes)
    scale = len(queries) / len(few)
    functions: dict[str, Callable[[], Any]] = {"pyhash": lambda: index.search(queries, K, threads=1)}
    peer = bench.faiss(codes)
    if peer is not None:
        functions["faiss"] = lambda: peer.search(few, K)
    times = in_turns(functions, bench.sizes.rounds)
    rate = len(queries) * len(codes) / statistics.median(times["pyhash"]) / 1e9
    yield Row(case, bits, "Gcodes/s (query, code) pairs", rate)
    if peer is not None:
        distances, _ = index.search(few, K)
        check(case, peer.search(few, K)[0], distances)
        yield Row(case, bits, "x FAISS flat", scale * ratio(times, "faiss", "pyhash"), goal)
    if _probes is not None:
        yield Row(case, bits, "x the bound of the popcount scan", rate / _popcount_bound(bench, bits))
    if usearch and bench.has_usearch():
        search = usearch_exact(codes)
        mine = statistics.median(times["pyhash"]) / len(queries)
        yield Row(case, bits, "x USearch exact", min(seconds(lambda: search(few[:8])) for _ in range(2)) / 8 / mine)


def uniform_indexed(bench: Bench, bits: int) -> Iterator[Row]:
    """Codes without any structure: what an automatic structure costs where it cannot help."""
    goals = {64: 0.95, 128: 0.95, 256: 0.97, 512: 0.97}
    codes = uniform(bench.rng, bench.sizes.clustered, bits)
    queries = uniform(bench.rng, 64, bits)
    flat = flat_index(codes)
    index = Index(bits=bits)
    index.add(codes)
    index.optimize()
    functions = {
        "auto": one_by_one(index, queries),
        "flat": one_by_one(flat, queries),
    }
    times = in_turns(functions, 2 * bench.sizes.rounds)
    check("uniform codes", flat.search(queries, K)[1], index.search(queries, K)[1])
    yield Row("uniform codes, indexed", bits, "x our flat search", ratio(times, "flat", "auto"), goals[bits])


def order(bench: Bench, bits: int) -> Iterator[Row]:
    """The same codes with those near the queries first, last, and anywhere."""
    n, n_near = bench.sizes.clustered, bench.sizes.clustered // 50
    centre = np.repeat(uniform(bench.rng, 1, bits), n_near, axis=0)
    near, far = flipped(bench.rng, centre, 0.2), uniform(bench.rng, n - n_near, bits)
    queries = flipped(bench.rng, centre[:64], 0.2)
    anywhere = np.concatenate([near, far])
    bench.rng.shuffle(anywhere)
    indexes = {
        "shuffled": flat_index(anywhere),
        "first": flat_index(np.concatenate([near, far])),
        "last": flat_index(np.concatenate([far, near])),
    }
    for name, some in {"one query": queries[:1], "batch": queries}.items():
        functions: dict[str, Callable[[], Any]] = {
            where: partial(index.search, some, K, threads=1) for where, index in indexes.items()
        }
        times = in_turns(functions, 2 * bench.sizes.rounds)
        expected = indexes["shuffled"].search(some, K).distances
        for where in ("first", "last"):
            check("order of the codes", expected, indexes[where].search(some, K).distances)
            yield Row(f"near codes {where}, {name}", bits, "x shuffled", ratio(times, "shuffled", where), 0.9)


def two_threads(bench: Bench, bits: int) -> Iterator[Row]:
    """A batch and joins on two threads."""
    if (os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1) < 2:
        bench.skip("two threads: there is one CPU")
        return
    goal = 1.85 if bits < 256 else 1.9
    index = flat_index(uniform(bench.rng, bench.sizes.batch, bits))
    queries = uniform(bench.rng, bench.sizes.batch_queries, bits)
    joined = flat_index(with_copies(bench.rng, uniform(bench.rng, bench.sizes.join, bits)))
    other = flat_index(uniform(bench.rng, bench.sizes.other_join, bits))
    calls: dict[str, Callable[..., Any]] = {
        "batch": partial(index.search, queries, K),
        "pairs": partial(joined.pairs, 4),
        "pairs of two sets": partial(other.pairs, 4, joined),
    }
    for name, call in calls.items():
        functions = {"one": partial(call, threads=1), "two": partial(call, threads=2)}
        times = in_turns(functions, bench.sizes.rounds, time.perf_counter)
        for one, two in zip(call(threads=1), call(threads=2), strict=True):
            check("two threads", one, two)
        yield Row(f"{name}, two threads", bits, "x one thread", ratio(times, "one", "two"), goal)


def _codes_in_memory(bench: Bench, bits: int) -> tuple[Codes, NDArray[np.uint64]]:
    """Return codes of the scan's size, and as many words from elsewhere in memory."""
    codes = uniform(bench.rng, bench.sizes.scan * 64 // bits, bits)
    return codes, np.array(codes.view(np.uint64).reshape(-1))
