"""What the benchmark searches, what it searches with beside pyhash, and how it takes the time."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..index import Index
from ..support import require

Codes = NDArray[np.uint8]
K = 10


Clock = Callable[[], float]
CPU: Clock = time.process_time  # what else the machine does matters less to it
if time.get_clock_info("process_time").resolution > 1e-5:
    CPU = time.perf_counter


def seconds(function: Callable[[], Any], clock: Clock = CPU) -> float:
    """Time one call."""
    start = clock()
    function()
    return clock() - start


def in_turns(functions: Mapping[str, Callable[[], Any]], rounds: int, clock: Clock = CPU) -> dict[str, list[float]]:
    """Time each function once a round, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            taken = seconds(function, clock)
            if turn:
                times[name].append(taken)
    return times


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    """How many times as long the peer takes: the median over rounds."""
    return statistics.median(a / b for a, b in zip(times[peer], times[ours], strict=True))


def uniform(rng: np.random.Generator, n: int, bits: int) -> Codes:
    """Return random codes: the worst case, without any structure."""
    return rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)


def flipped(rng: np.random.Generator, codes: Codes, share: float) -> Codes:
    """Return codes with each bit flipped with this probability."""
    noisy = np.empty_like(codes)
    for i in range(0, len(codes), 50_000):
        part = codes[i : i + 50_000]
        flips = rng.random((len(part), 8 * part.shape[1]), np.float32) < share
        noisy[i : i + 50_000] = part ^ np.packbits(flips, axis=1)
    return noisy


def clustered(rng: np.random.Generator, n: int, bits: int, n_queries: int) -> tuple[Codes, Codes]:
    """Return codes and queries round 1,000 centres, 5 % of the bits flipped (15 % from 256 bits on)."""
    centres = uniform(rng, 1000, bits)
    share = 0.05 if bits < 256 else 0.15
    return (
        flipped(rng, centres[rng.integers(0, 1000, n)], share),
        flipped(rng, centres[rng.integers(0, 1000, n_queries)], share),
    )


def with_copies(rng: np.random.Generator, codes: Codes) -> Codes:
    """Return codes of which one in a thousand is a near-duplicate of the one before it."""
    codes = codes.copy()
    codes[1::1000] = flipped(rng, codes[::1000], 0.01)[: len(codes[1::1000])]
    return codes


def has(module: str) -> bool:
    """Whether a module is installed."""
    return importlib.util.find_spec(module) is not None


def flat_index(codes: Codes) -> Index:
    """Return an index of codes that is searched one by one."""
    index = Index(bits=codes.shape[1] * 8, structure="flat")
    index.add(codes)
    return index


def one_by_one(index: Any, queries: Codes) -> Callable[[], Any]:
    """Return what asks one query a call, of pyhash or FAISS."""
    if isinstance(index, Index):
        return lambda: [index.search(query, K, threads=1) for query in queries]
    return lambda: [index.search(query[None], K) for query in queries]


def faiss_flat(codes: Codes) -> Any:
    """Return a FAISS exact index of these codes, on one thread."""
    faiss = require("faiss", "bench")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    return index


def textbook(codes_bits: NDArray[np.uint8], query_bits: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Rank as the textbook does: one byte a bit, exclusive or, sum, sort."""
    distances = np.bitwise_xor(codes_bits, query_bits).sum(axis=1)
    return np.argsort(distances, kind="stable")[:K]


def packed_numpy(words: NDArray[np.uint64], query: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Rank with packed words and NumPy's population count."""
    distances = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.uint16)
    near = np.argpartition(distances, K)[: 4 * K]
    bound = np.sort(distances[near])[K - 1]
    near = np.flatnonzero(distances <= bound)
    return near[np.argsort(distances[near], kind="stable")][:K]


def check(name: str, expected: Any, got: Any) -> None:
    """Check an answer after the clock has stopped."""
    if not np.array_equal(np.asarray(expected), np.asarray(got)):
        raise AssertionError(f"{name}: the answers differ, so the figures mean nothing")


def faiss_ivf(codes: Codes, queries: Codes, expected: NDArray[np.int32]) -> Any:
    """Return FAISS's inverted file with the fewest probes that find every answer, judged by distances."""
    faiss = require("faiss", "bench")
    n_lists = max(16, int(np.sqrt(len(codes))))
    quantizer = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    ivf = faiss.IndexBinaryIVF(quantizer, codes.shape[1] * 8, n_lists)
    ivf.train(codes[:: max(1, len(codes) // (64 * n_lists))])
    ivf.add(codes)
    ivf.own = quantizer  # kept alive with it
    ivf.nprobe = 1
    while ivf.nprobe < n_lists and not np.array_equal(ivf.search(queries, K)[0], expected):
        ivf.nprobe = min(n_lists, 2 * ivf.nprobe)
    return ivf


def faiss_hnsw(codes: Codes) -> Any:
    """Return FAISS's graph index with its usual settings: approximate."""
    faiss = require("faiss", "bench")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryHNSW(codes.shape[1] * 8, 16)
    index.add(codes)
    return index


def usearch_exact(codes: Codes) -> Callable[[Codes], Any]:
    """Return USearch's exact search over these codes, on one thread."""
    usearch = require("usearch.index", "bench")
    kind = usearch.MetricKind.Hamming
    return lambda queries: usearch.search(codes, queries, K, kind, exact=True, threads=1)


def faiss_range(index: Any, queries: Codes, radius: int) -> tuple[Any, Any, Any]:
    """Return offsets, distances and ids as FAISS's range search gives them; its bound is not itself within."""
    offsets, distances, ids = index.range_search(queries, radius + 1)
    return offsets.astype(np.int64), distances, ids


def pylance_groups(codes: Codes, folder: str) -> Callable[[int], list[list[int]]]:
    """Return pylance's clustering of 64-bit codes, as groups of places; it takes as many threads as it likes."""
    lance, arrow = require("lance", "bench"), require("pyarrow", "bench")
    vector = require("lance.vector", "bench")
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(codes.reshape(-1)), codes.shape[1])
    stored = lance.write_dataset(arrow.table({"code": column}), folder)

    def groups(radius: int) -> list[list[int]]:
        found = vector.hamming_clustering_for_range(stored, "code", 0, 0, len(codes), radius).read_all()
        members = zip(found["representative"].to_pylist(), found["duplicates"].to_pylist(), strict=True)
        return sorted(sorted([first, *others]) for first, others in members)

    return groups


def resident() -> int | None:
    """Bytes of memory in use by this process; None where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def peak_memory(function: Callable[[], Any]) -> tuple[Any, int | None]:
    """Return an answer, and the bytes by which memory in use rose at most; None where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was given back to the heap would be taken again unseen
    before = resident()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return function(), None
    answer = function()
    status = Path("/proc/self/status").read_text().split()
    return answer, int(status[status.index("VmHWM:") + 1]) * 1024 - (before or 0)
