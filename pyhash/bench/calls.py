"""Calls from Python on few codes, and what people write by hand."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import backend
from ..index import Index
from .bench import Bench, Row
from .peers import (
    K,
    check,
    flat_index,
    in_turns,
    packed_numpy,
    ratio,
    textbook,
    uniform,
    usearch_exact,
)


def small_calls(bench: Bench, bits: int) -> Iterator[Row]:
    """A call from Python with one query on few codes, argument checks included."""
    query = uniform(bench.rng, 1, bits)[0]
    for n, goal in {100: 2.8, 1_000: 3.2, 10_000: 4.5}.items():
        codes = uniform(bench.rng, n, bits)
        index, peer = flat_index(codes), bench.faiss(codes)
        case = f"small call, {n:,} codes"
        calls: dict[str, Callable[[], Any]] = {"pyhash": partial(index.search, query, K)}
        distances, ids = index.search(query, K)
        if peer is not None:
            calls["FAISS flat"] = partial(peer.search, query[None], K)
            check(case, distances, calls["FAISS flat"]()[0][0])
        if bench.has_usearch():
            calls["USearch exact"] = partial(usearch_exact(codes), query)
            check(case, distances, calls["USearch exact"]().distances.astype(np.int32))
        calls["packed NumPy"] = partial(packed_numpy, codes.view(np.uint64), query.view(np.uint64))
        check(case, ids, calls["packed NumPy"]())
        repeats = {name: 1000 if name in ("pyhash", "FAISS flat") else 20 for name in calls}
        functions = {name: partial(_repeat, call, repeats[name]) for name, call in calls.items()}
        times = in_turns(functions, 2 * bench.sizes.rounds)
        for name, taken in times.items():
            micro = statistics.median(taken) / repeats[name] * 1e6
            yield Row(case, bits, f"microseconds, {name}", micro, goal if name == "pyhash" else None, at_most=True)


def weights(bench: Bench, bits: int) -> Iterator[Row]:
    """Weights of any size on 1,000 codes, beside weights 1 and 2."""
    codes, query = uniform(bench.rng, 1000, bits), uniform(bench.rng, 1, bits)[0]
    index = Index(levels={"coarse": 16, "fine": bits - 16}, structure="flat")
    index.add(codes)
    differing = np.unpackbits(codes ^ query, axis=1)
    coarse, fine = differing[:, :16].sum(axis=1, dtype=np.int64), differing[:, 16:].sum(axis=1, dtype=np.int64)
    sizes = {"1 and 2": (1, 2), "of hundreds": (500, 301), "of millions": (3_000_000, 2_999_999)}
    functions: dict[str, Callable[[], Any]] = {}
    for name, (first, second) in sizes.items():
        call = partial(index.search, query, K, weights={"coarse": first, "fine": second})
        functions[name] = partial(_repeat, call, 500)
        check("weights", np.sort(first * coarse + second * fine)[:K], call().distances)
    times = in_turns(functions, 2 * bench.sizes.rounds)
    for name in list(sizes)[1:]:
        yield Row(f"weights {name}, 1,000 codes", bits, "x weights 1 and 2", ratio(times, "1 and 2", name), 0.8)


def interrupts(bench: Bench, bits: int) -> Iterator[Row]:
    """How soon Ctrl-C is KeyboardInterrupt, in calls that take long."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        bench.skip("interrupts: Ctrl-C is not heard here (a job in the background?)")
        return
    codes = uniform(bench.rng, bench.sizes.batch, bits)
    index, queries = flat_index(codes), codes[: 100 * bench.sizes.batch_queries]
    calls: dict[str, Callable[[], Any]] = {
        "search": partial(index.search, queries, K),
        "range_search": partial(index.range_search, queries, 12),
        "pairs": partial(index.pairs, 12),
        "groups": partial(index.groups, 12),
        "hamming": partial(backend.hamming, codes[:20_000], codes[:20_000]),
    }
    for name, call in calls.items():
        taken = max(_until_heard(call) for _ in range(bench.sizes.rounds))
        yield Row(f"Ctrl-C during {name}", bits, "seconds to KeyboardInterrupt", taken, 0.2, at_most=True)


def _until_heard(call: Callable[[], Any]) -> float:
    """Interrupt a call, repeated until then."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(0.1, send)
    try:
        timer.start()
        while True:
            call()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]


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


def _with_numba(function: Callable[[], Any]) -> Any:
    with backend.use("numba"):
        return function()


def _repeat(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        call()
