"""What `pyhash bench` runs: this search beside its peers and the machine's limits, in one run, every answer checked.

Machines are shared and noisy, so peers take turns, round by round, and a ratio is the median of the rounds' ratios. One
thread unless a case says otherwise. A peer that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..backend import hamming
from ..codes import pack
from ..index import Index
from .bench import Bench, Case, Row, Sizes
from .peers import (
    Codes,
    K,
    check,
    clustered,
    faiss_hnsw,
    faiss_ivf,
    flipped,
    has,
    in_turns,
    packed_numpy,
    ratio,
    seconds,
    textbook,
    uniform,
    usearch_exact,
)

try:
    from . import _probes
except ImportError:  # not compiled
    _probes = None  # type: ignore[assignment]

WIDTHS = (64, 128, 256, 512)


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
    if peer is not None:
        check("one query", peer.search(query[None], K)[0][0], index.search(query, K)[0])
        yield Row("one query, memory", bits, "x FAISS flat", ratio(times, "faiss", "pyhash"))
    if _probes is not None:
        yield Row("one query, memory", bits, "share of the read rate", ratio(times, "read", "pyhash"), goals[bits])


def batch(bench: Bench, bits: int) -> Iterator[Row]:
    """Many queries a call over uniform codes."""
    yield from _batch(bench, "batch", bits, {64: 25.0, 128: 15.0, 256: 9.0, 512: 6.0}[bits], usearch=True)


def narrow_kernel(bench: Bench, bits: int) -> Iterator[Row]:
    """The same on the AVX2 kernel, against FAISS as it comes."""
    if "avx2" not in backend.kernels():
        bench.skip("batch, AVX2 kernel: this CPU has no AVX2")
        return
    goals = {64: 9.0, 128: 5.0, 256: 3.5, 512: 2.5}
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
    if usearch and has("usearch"):
        search = usearch_exact(codes)
        mine = statistics.median(times["pyhash"]) / len(queries)
        yield Row(case, bits, "x USearch exact", min(seconds(lambda: search(few[:8])) for _ in range(2)) / 8 / mine)
    elif usearch:
        bench.skip("USearch: not installed (pip install 'pyhash-retrieval[bench]')")


def clustered_codes(bench: Bench, bits: int) -> Iterator[Row]:
    """Codes that lie in clusters, as those of a good network do."""
    ivf_goals = {64: 2.0, 128: 2.0, 256: 10.0, 512: 10.0}
    call_goals = {64: 100.0, 128: 100.0, 256: 90.0, 512: 80.0}
    codes, queries = clustered(bench.rng, bench.sizes.clustered, bits, 512)
    index = Index(bits=bits)
    index.add(codes)
    built = seconds(index.optimize)
    yield Row("clustered codes", bits, "seconds to build the structure", built)
    peer = bench.faiss(codes)
    if peer is None:
        return
    functions: dict[str, Callable[[], Any]] = {
        "pyhash 64": lambda: [index.search(queries[i : i + 64], K, threads=1) for i in range(0, 512, 64)],
        "pyhash 1": _one_by_one(index, queries),
        "faiss": lambda: peer.search(queries[:16], K),
    }
    ivf = faiss_ivf(codes, queries[:128], peer.search(queries[:128], K)[0])
    functions["ivf"] = lambda: [ivf.search(queries[i : i + 64], K) for i in range(0, 512, 64)]
    times = in_turns(functions, bench.sizes.rounds)
    check("clustered codes", peer.search(queries[:64], K)[0], index.search(queries[:64], K)[0])
    scale = 512 / 16
    yield Row("clustered codes, 64 a call", bits, "microseconds a query",
              statistics.median(times["pyhash 64"]) / 512 * 1e6)  # fmt: skip
    yield Row("clustered codes, 64 a call", bits, "x FAISS flat",
              scale * ratio(times, "faiss", "pyhash 64"), call_goals[bits])  # fmt: skip
    yield Row("clustered codes, one a call", bits, "x FAISS flat",
              scale * ratio(times, "faiss", "pyhash 1"), 60.0)  # fmt: skip
    yield Row("clustered codes, 64 a call", bits, "x FAISS IVF at recall 1",
              ratio(times, "ivf", "pyhash 64"), ivf_goals[bits])  # fmt: skip


def real_codes(bench: Bench, bits: int) -> Iterator[Row]:
    """Codes of a real network, two million made of them by flipping 3 % of the bits of 20 copies."""
    if bench.real is None:
        bench.skip("real codes: no file of codes was given (--real FILE.npz)")
        return
    with np.load(bench.real) as stored:
        own, queries = stored["b"], stored["q"][:512]
    copies = max(1, bench.sizes.batch // len(own))
    if own.shape[1] * 8 != bits:
        raise ValueError(f"--real must hold codes of {bits} bits, got {own.shape[1] * 8}")
    codes = np.concatenate([flipped(bench.rng, own, 0.03) for _ in range(copies)])
    index = Index(bits=bits)
    index.add(codes)
    index.optimize()
    few = queries[:16]
    peer = bench.faiss(codes)
    if peer is None:
        return
    functions = {
        "pyhash": _one_by_one(index, queries[:128]),
        "faiss": _one_by_one(peer, few),
    }
    times = in_turns(functions, bench.sizes.rounds)
    check("real codes", peer.search(few, K)[0], index.search(few, K)[0])
    micro = statistics.median(times["pyhash"]) / 128 * 1e6
    yield Row("real codes, one a call", bits, "microseconds a query", micro)
    yield Row("real codes, one a call", bits, "x FAISS flat", 128 / 16 * ratio(times, "faiss", "pyhash"), 30.0)


def graph_index(bench: Bench, bits: int) -> Iterator[Row]:
    """FAISS's graph, for context: it need not find the nearest, and takes long to build."""
    codes, queries = clustered(bench.rng, bench.sizes.graph, bits, 256)
    flat = bench.faiss(codes)
    if flat is None:
        return
    index = Index(bits=bits)
    index.add(codes)
    built = seconds(index.optimize)
    start = time.perf_counter()
    graph = faiss_hnsw(codes)
    graph_built = time.perf_counter() - start
    functions = {
        "pyhash": _one_by_one(index, queries),
        "graph": _one_by_one(graph, queries),
    }
    times = in_turns(functions, bench.sizes.rounds)
    exact = flat.search(queries, K)[0]
    check("graph index", exact, index.search(queries, K)[0])
    recall = float((graph.search(queries, K)[0] <= exact[:, -1:]).mean())
    case = "FAISS HNSW, one a call"
    yield Row(case, bits, "recall of its first 10", recall)
    yield Row(case, bits, "its time / ours, a query", ratio(times, "graph", "pyhash"))
    yield Row(case, bits, "its time / ours, to build", graph_built / built)


def latency(bench: Bench, bits: int) -> Iterator[Row]:
    """What one query takes by number of codes, clustered."""
    n = 1000
    while n <= bench.sizes.largest:
        codes, queries = clustered(bench.rng, n, bits, 64)
        index = Index(bits=bits)
        index.add(codes)
        index.optimize()
        flat = flat_index(codes)
        few = queries if n < 1_000_000 else queries[:4]
        functions = {
            "pyhash": _one_by_one(index, queries),
            "pyhash, flat": _one_by_one(flat, few),
        }
        peer = bench.faiss(codes)
        if peer is not None:
            functions["FAISS flat"] = _one_by_one(peer, few)
            check("latency", peer.search(few, K)[0], index.search(few, K)[0])
        check("latency", flat.search(queries, K)[1], index.search(queries, K)[1])
        for name, taken in in_turns(functions, bench.sizes.rounds).items():
            micro = statistics.median(taken) / len(queries if name == "pyhash" else few) * 1e6
            yield Row(f"one query, {n:,} codes", bits, f"microseconds, {name}", micro)
        n *= 10


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
        "auto": _one_by_one(index, queries),
        "flat": _one_by_one(flat, queries),
    }
    times = in_turns(functions, 2 * bench.sizes.rounds)
    check("uniform codes", flat.search(queries, K)[1], index.search(queries, K)[1])
    yield Row("uniform codes, indexed", bits, "x our flat search", ratio(times, "flat", "auto"), goals[bits])


def two_threads(bench: Bench, bits: int) -> Iterator[Row]:
    """A batch on two threads."""
    if (os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1) < 2:
        bench.skip("two threads: there is one CPU")
        return
    index = flat_index(uniform(bench.rng, bench.sizes.batch, bits))
    queries = uniform(bench.rng, bench.sizes.batch_queries, bits)
    functions = {
        "one": lambda: index.search(queries, K, threads=1),
        "two": lambda: index.search(queries, K, threads=2),
    }
    times = in_turns(functions, bench.sizes.rounds)
    check("two threads", index.search(queries, K, threads=1)[1], index.search(queries, K, threads=2)[1])
    yield Row("batch, two threads", bits, "x one thread", ratio(times, "one", "two"), 1.8)


def self_join(bench: Bench, bits: int) -> Iterator[Row]:
    """All near-duplicate pairs."""
    codes = uniform(bench.rng, bench.sizes.join, bits)
    codes[1::1000] = flipped(bench.rng, codes[::1000], 0.01)[: len(codes[1::1000])]
    index = flat_index(codes)
    start = time.perf_counter()
    i, j, distances = index.pairs(4, threads=1)
    taken = time.perf_counter() - start
    few = codes[:4096]
    start = time.perf_counter()
    index.range_search(few, 4, threads=1)
    flat = (time.perf_counter() - start) * len(codes) / len(few) / 2  # of all with all, each pair once
    first, second = np.nonzero(np.triu(hamming(codes[:2000], codes[:2000]) <= 4, 1))
    inside = j < 2000
    check("self-join", np.stack([first, second]), np.stack([i[inside], j[inside]]))
    goal, least = {64: (15.0, 60.0), 128: (30.0, 70.0)}[bits] if bench.sizes.join == Sizes.join else (None, None)
    detail = {"pairs": float(len(distances))}
    yield Row("self-join, radius 4", bits, "seconds", taken, goal, at_most=True, detail=detail)
    yield Row("self-join, radius 4", bits, "x flat pass (4,096 codes of it timed)", flat / taken, least)


def fallback(bench: Bench, bits: int) -> Iterator[Row]:
    """What people write by hand, and our own fallback without a compiler."""
    codes = uniform(bench.rng, bench.sizes.fallback, bits)
    queries = uniform(bench.rng, 32, bits)
    words, query_words = codes.view(np.uint64), queries.view(np.uint64)
    ones, query_ones = np.unpackbits(codes, axis=1), np.unpackbits(queries, axis=1)
    index = flat_index(codes)
    _, expected = index.search(queries, K)
    check("packed NumPy", expected[0], packed_numpy(words, query_words[0]))
    check("textbook NumPy", expected[0], textbook(ones, query_ones[0]))
    functions: dict[str, Callable[[], Any]] = {
        "textbook": lambda: textbook(ones, query_ones[0]),
        "packed": lambda: packed_numpy(words, query_words[0]),
        "packed batch": lambda: [packed_numpy(words, q) for q in query_words],
        "pyhash": lambda: index.search(queries[0], K, threads=1),
        "pyhash batch": lambda: index.search(queries, K, threads=1),
    }
    if "numba" in backend.kernels():
        functions["numba"] = lambda: _with_numba(lambda: index.search(queries[0], K, threads=1))
        functions["numba batch"] = lambda: _with_numba(lambda: index.search(queries, K, threads=1))
        check("numba", expected, _with_numba(lambda: index.search(queries, K))[1])
    else:
        bench.skip("Numba fallback: Numba is not installed")
    times = in_turns(functions, 2 * bench.sizes.rounds)
    yield Row("by hand", bits, "x textbook NumPy, one query", ratio(times, "textbook", "pyhash"))
    yield Row("by hand", bits, "x packed NumPy, one query", ratio(times, "packed", "pyhash"))
    yield Row("by hand", bits, "x packed NumPy, batch", ratio(times, "packed batch", "pyhash batch"))
    if "numba" in functions:
        one, many = ratio(times, "packed", "numba"), ratio(times, "packed batch", "numba batch")
        yield Row("Numba fallback", bits, "x packed NumPy, one query", one, 5.0)
        yield Row("Numba fallback", bits, "x packed NumPy, batch", many, 10.0)


def small_index(bench: Bench, bits: int) -> Iterator[Row]:
    """A call from Python on 1,000 codes, argument checks included."""
    index = flat_index(uniform(bench.rng, 1000, bits))
    query = uniform(bench.rng, 1, bits)[0]
    calls = 1000
    taken = [seconds(lambda: [index.search(query, K) for _ in range(calls)]) for _ in range(2 * bench.sizes.rounds)]
    micro = statistics.median(taken) / calls * 1e6
    yield Row("1,000 codes, one query", bits, "microseconds a call", micro, 10.0, at_most=True)


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
    before = _resident()
    index = Index(bits=bits, structure="flat")
    step = 100_000
    for i in range(0, n, step):
        ids = 3 * np.arange(i, min(i + step, n)) if custom_ids else None
        index.add(uniform(bench.rng, min(step, n - i), bits), ids)
    after = _resident()
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


def flat_index(codes: Codes) -> Index:
    """An index of codes that is searched one by one."""
    index = Index(bits=codes.shape[1] * 8, structure="flat")
    index.add(codes)
    return index


def _codes_in_memory(bench: Bench, bits: int) -> tuple[Codes, NDArray[np.uint64]]:
    """Return codes of the scan's size, and as many words from elsewhere in memory."""
    codes = uniform(bench.rng, bench.sizes.scan * 64 // bits, bits)
    return codes, np.array(codes.view(np.uint64).reshape(-1))


def _one_by_one(index: Any, queries: Codes) -> Callable[[], Any]:
    """Ask one query a call, of pyhash or FAISS."""
    if isinstance(index, Index):
        return lambda: [index.search(query, K, threads=1) for query in queries]
    return lambda: [index.search(query[None], K) for query in queries]


def _with_numba(function: Callable[[], Any]) -> Any:
    with backend.use("numba"):
        return function()


def _resident() -> int | None:
    """Bytes of memory in use by this process; None where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


CASES: dict[str, tuple[Case, tuple[int, ...]]] = {
    case.__name__: (case, widths)
    for case, widths in [
        (limits, WIDTHS),
        (one_query, WIDTHS),
        (batch, WIDTHS),
        (narrow_kernel, WIDTHS),
        (clustered_codes, WIDTHS),
        (real_codes, (64,)),
        (graph_index, (64, 256)),
        (latency, (64,)),
        (uniform_indexed, WIDTHS),
        (two_threads, WIDTHS),
        (self_join, (64, 128)),
        (fallback, (64,)),
        (small_index, (64,)),
        (memory, (64,)),
        (packing, (64, 4096)),
    ]
}
"""Each case by its name, and the lengths of codes it is run with."""


def run(bench: Bench, only: str | None = None) -> Iterator[Row]:
    """Yield the rows of every case, or of those whose name contains `only`."""
    for name, (case, widths) in CASES.items():
        for bits in widths:
            if only is None or only in name:
                yield from case(bench, bits)
