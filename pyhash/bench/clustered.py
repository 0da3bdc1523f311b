"""Codes as networks give them, in clusters: the structure that is built for them, and its peers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..index import Index
from .bench import Bench, Row
from .peers import (
    K,
    check,
    clustered,
    faiss_hnsw,
    faiss_ivf,
    flat_index,
    in_turns,
    one_by_one,
    ratio,
    seconds,
)


def clustered_codes(bench: Bench, bits: int) -> Iterator[Row]:
    """Codes that lie in clusters, as those of a good network do."""
    ivf_goals = {64: 2.0, 128: 2.0, 256: 10.0, 512: 1.5}
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
        "pyhash 1": one_by_one(index, queries),
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
    """Codes of a real network."""
    real = bench.real_codes(bits)
    if real is None:
        return
    codes, queries = real
    index = Index(bits=bits)
    index.add(codes)
    index.optimize()
    few = queries[:16]
    peer = bench.faiss(codes)
    if peer is None:
        return
    functions = {
        "pyhash": one_by_one(index, queries[:128]),
        "faiss": one_by_one(peer, few),
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
    made: list[Any] = []
    graph_built = seconds(lambda: made.append(faiss_hnsw(codes)))
    graph = made[0]
    functions = {
        "pyhash": one_by_one(index, queries),
        "graph": one_by_one(graph, queries),
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
    """What a query takes by number of codes, clustered: one a call, and of a batch."""
    n = 1000
    while n <= bench.sizes.largest:
        codes, queries = clustered(bench.rng, n, bits, bench.sizes.batch_queries)
        index = Index(bits=bits)
        index.add(codes)
        index.optimize()
        flat, peer = flat_index(codes), bench.faiss(codes)
        exact = index.search(queries, K)
        check("latency", exact.ids, flat.search(queries, K).ids)
        few = 64 if n < 1_000_000 else 4  # for those whose time grows with the codes
        asked = {"pyhash": 64, "pyhash, flat": few, "FAISS flat": few}
        alone = {"pyhash": one_by_one(index, queries[:64]), "pyhash, flat": one_by_one(flat, queries[:few])}
        asked_together = {"pyhash": len(queries), "pyhash, flat": len(queries), "FAISS flat": 32}
        together: dict[str, Callable[[], Any]] = {
            "pyhash": partial(index.search, queries, K, threads=1),
            "pyhash, flat": partial(flat.search, queries, K, threads=1),
        }
        if peer is not None:
            alone["FAISS flat"] = one_by_one(peer, queries[:few])
            together["FAISS flat"] = partial(peer.search, queries[:32], K)
            check("latency", peer.search(queries[:32], K)[0], exact.distances[:32])
        for case, functions, counts in [("one query", alone, asked), ("batch", together, asked_together)]:
            for name, taken in in_turns(functions, bench.sizes.rounds).items():
                micro = statistics.median(taken) / counts[name] * 1e6
                yield Row(f"{case}, {n:,} codes", bits, f"microseconds a query, {name}", micro)
        n *= 10
