"""Joins beside comparing all with all: our own flat pass, FAISS's range search, and pylance's clustering.

Comparing a million codes with each other takes FAISS minutes, so it does a part of the work, and its time is scaled to
the whole: a range search of some of the codes, in all of them. Our own flat pass is the same call.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bench import Bench, Row, Sizes
from .peers import (
    Codes,
    check,
    clustered,
    faiss_range,
    flat_index,
    flipped,
    has,
    in_turns,
    peak_memory,
    pylance_groups,
    ratio,
    seconds,
    uniform,
    with_copies,
)

_PART = 512  # queries of a range search: too few for sorting the codes to pay
_FAISS_PART = 64


def join_uniform(bench: Bench, bits: int) -> Iterator[Row]:
    """Near-duplicates among uniform codes."""
    codes = with_copies(bench.rng, uniform(bench.rng, bench.sizes.join, bits))
    goal = {64: 60.0, 128: 70.0, 256: 55.0}[bits] if bench.sizes.join == Sizes.join else None
    yield from _join(bench, f"pairs, {len(codes):,} uniform codes, radius 4", codes, 4, goal)


def join_clustered(bench: Bench, bits: int) -> Iterator[Row]:
    """Near-duplicates among clustered codes: 25 million of a million."""
    codes, _ = clustered(bench.rng, bench.sizes.join, bits, 1)
    goal = 9.0 if bench.sizes.join == Sizes.join else None
    yield from _join(bench, f"pairs, {len(codes):,} clustered codes, radius 2", codes, 2, goal)


def join_real(bench: Bench, bits: int) -> Iterator[Row]:
    """Near-duplicates among codes of a real network: 140 million of two million."""
    real = bench.real_codes(bits)
    if real is None:
        return
    goal = 6.0 if bench.sizes.batch == Sizes.batch else None
    yield from _join(bench, f"pairs, {len(real[0]):,} real codes, radius 4", real[0], 4, goal)


def _join(bench: Bench, case: str, codes: Codes, radius: int, goal: float | None) -> Iterator[Row]:
    index, peer = flat_index(codes), bench.faiss(codes)
    part, few = codes[:_PART], codes[:_FAISS_PART]
    functions: dict[str, Callable[[], Any]] = {
        "pyhash": lambda: index.pairs(radius, threads=1),
        "flat": lambda: index.range_search(part, radius, threads=1),
    }
    if peer is not None:
        functions["FAISS"] = lambda: faiss_range(peer, few, radius)
    times = in_turns(functions, bench.sizes.join_rounds)
    answer, peak = peak_memory(lambda: index.pairs(radius, threads=1))
    size, n_pairs, found = sum(column.nbytes for column in answer), len(answer[0]), _first(answer, len(part))
    del answer
    check(case, found, _pairs(*index.range_search(part, radius), of_one_set=True))
    # of all with all, and our own takes each pair once
    scale = {"pyhash": 1.0, "flat": len(codes) / len(part) / 2, "FAISS": len(codes) / len(few)}
    detail = {"pairs": float(n_pairs)}
    bits = 8 * codes.shape[1]
    if peak is not None and goal is not None:
        a_code = 8 + bits // 8
        allowed = 1.3 * size + a_code * len(codes) + 64e6
        figure = f"peak memory / (1.3 answers + {a_code} B a code + 64 MB)"
        yield Row(case, bits, figure, peak / allowed, 1.0, at_most=True)
    yield from _taken(case, bits, times, scale, detail)
    yield Row(case, bits, "x flat pass", scale["flat"] * ratio(times, "flat", "pyhash"), goal)
    if peer is not None:
        check(case, _first(found, len(few)), _pairs(*faiss_range(peer, few, radius), of_one_set=True))
        yield Row(case, bits, "x FAISS range_search", scale["FAISS"] * ratio(times, "FAISS", "pyhash"))


def join_large(bench: Bench, bits: int) -> Iterator[Row]:
    """Near-duplicates among ten million uniform codes."""
    codes = with_copies(bench.rng, uniform(bench.rng, bench.sizes.large_join, bits))
    index = flat_index(codes)
    found: list[Any] = []
    taken = seconds(lambda: found.extend(index.pairs(4, threads=1)))
    case = f"pairs, {len(codes):,} uniform codes, radius 4"
    pairs, part = np.stack(found), codes[:_PART]
    check(case, _first(pairs, len(part)), _pairs(*index.range_search(part, 4), of_one_set=True))
    goal = 8.0 if bench.sizes.large_join == Sizes.large_join else None
    yield Row(case, bits, "seconds, pyhash", taken, goal, at_most=True, detail={"pairs": float(pairs.shape[1])})


def join_two(bench: Bench, bits: int) -> Iterator[Row]:
    """Near-duplicates between two sets, and the same asked as a range search of many queries."""
    codes, queries = uniform(bench.rng, bench.sizes.join, bits), uniform(bench.rng, bench.sizes.other_join, bits)
    queries[::100] = flipped(bench.rng, codes[: len(queries[::100])], 0.01)
    index, other, peer = flat_index(codes), flat_index(queries), bench.faiss(codes)
    part, few = queries[:_PART], queries[:_FAISS_PART]
    functions: dict[str, Callable[[], Any]] = {
        "pyhash": lambda: other.pairs(4, other=index, threads=1),
        "range_search": lambda: index.range_search(queries, 4, threads=1),
        "flat": lambda: index.range_search(part, 4, threads=1),
    }
    if peer is not None:
        functions["FAISS"] = lambda: faiss_range(peer, few, 4)
    times = in_turns(functions, bench.sizes.join_rounds)
    case = f"pairs, {len(queries):,} codes and {len(codes):,}, radius 4"
    found = np.stack(other.pairs(4, other=index))
    check(case, found, _pairs(*index.range_search(queries, 4)))
    check(case, _first(found, len(part)), _pairs(*index.range_search(part, 4)))
    scale = {"flat": len(queries) / len(part), "FAISS": len(queries) / len(few)}
    yield from _taken(case, bits, times, scale, {"pairs": float(found.shape[1])})
    goal = 18.0 if bits == 64 and bench.sizes.join == Sizes.join else None
    yield Row(case, bits, "x flat pass", scale["flat"] * ratio(times, "flat", "pyhash"), goal)
    yield Row(case, bits, "range_search, x flat pass", scale["flat"] * ratio(times, "flat", "range_search"), 0.9)
    if peer is not None:
        check(case, _first(found, len(few)), _pairs(*faiss_range(peer, few, 4)))
        yield Row(case, bits, "x FAISS range_search", scale["FAISS"] * ratio(times, "FAISS", "pyhash"))


def hard_joins(bench: Bench, bits: int) -> Iterator[Row]:
    """Codes made to leave a join nothing to gain: it must not be dearer than comparing all with all."""
    for name, (codes, radius) in _hard_sets(bench, bits).items():
        index = flat_index(codes)
        # where all are equal what is found takes the time, so all of it
        part = codes if name == "all equal" else codes[:_PART]
        functions: dict[str, Callable[[], Any]] = {
            "pyhash": partial(index.pairs, radius, threads=1),
            "flat": partial(index.range_search, part, radius, threads=1),
            "range_search": partial(index.range_search, codes, radius, threads=1),
        }
        times = in_turns(functions, bench.sizes.join_rounds)
        found = np.stack(index.pairs(radius))
        case = f"{name}, {len(codes):,} codes, radius {radius}"
        check(case, _first(found, len(part)), _pairs(*index.range_search(part, radius), of_one_set=True))
        check(case, found, _pairs(*index.range_search(codes, radius), of_one_set=True))
        scale, detail = len(codes) / len(part), {"pairs": float(found.shape[1])}
        yield Row(case, bits, "pairs, x flat pass", scale / 2 * ratio(times, "flat", "pyhash"), 0.9, detail=detail)
        if len(part) < len(codes):
            many = scale * ratio(times, "flat", "range_search")
            yield Row(case, bits, "range_search, x flat pass", many, 0.9, detail=detail)


def _hard_sets(bench: Bench, bits: int) -> dict[str, tuple[Codes, int]]:
    """Return codes, and the radius of their join: such that comparing them takes no less than what is found."""
    rng, n = bench.rng, bench.sizes.hard_join
    one, few = uniform(rng, 1, bits), uniform(rng, n // 30, bits)
    live = np.zeros((n, bits // 8), np.uint8)
    live[:, : 2 * 4 : 4] = uniform(rng, n, 16)
    begin, end = np.sort(rng.integers(0, bits + 1, (2, n // 2)), axis=0)
    places = np.arange(bits)
    return {
        "all equal": (np.repeat(one, n // 20, axis=0), 4),
        "one cluster": (flipped(rng, np.repeat(one, n, axis=0), 0.1), 2),
        "16 live bits": (live, 1),
        "one run of ones each": (np.packbits((begin[:, None] <= places) & (places < end[:, None]), axis=1), 1),
        "few distinct codes": (few[rng.integers(0, len(few), n)], 4),
    }


def groups(bench: Bench, bits: int) -> Iterator[Row]:
    """Groups of near-duplicates, beside pylance's: for context, as it compares all with all, and 64 bits alone."""
    if not has("lance"):
        bench.skip("groups: pylance is not installed (pip install pylance)")
        return
    codes = with_copies(bench.rng, uniform(bench.rng, bench.sizes.groups, bits))
    index = flat_index(codes)
    with tempfile.TemporaryDirectory() as folder:
        peer = pylance_groups(codes, folder)
        functions: dict[str, Callable[[], Any]] = {"pyhash": partial(index.groups, 4), "pylance": partial(peer, 4)}
        times = in_turns(functions, bench.sizes.rounds, time.perf_counter)
        case = f"groups, {len(codes):,} codes, radius 4, all threads"
        check(case, peer(4), [group.tolist() for group in index.groups(4)])
    yield Row(case, bits, "x pylance", ratio(times, "pylance", "pyhash"))


def _taken(
    case: str, bits: int, times: dict[str, list[float]], scale: dict[str, float], detail: dict[str, float]
) -> Iterator[Row]:
    """Yield the seconds that each took, those that did a part scaled to the whole."""
    names = {"flat": "flat pass", "FAISS": "FAISS range_search"}
    for name, taken in times.items():
        value = float(np.median(taken)) * scale.get(name, 1.0)
        yield Row(case, bits, f"seconds, {names.get(name, name)}", value, detail=detail)


def _first(pairs: Any, n: int) -> NDArray[np.int64]:
    """Return the pairs whose i is one of the first codes."""
    some = pairs[0] < n
    return np.stack([column[some] for column in pairs])


def _pairs(offsets: Any, distances: Any, ids: Any, *, of_one_set: bool = False) -> NDArray[np.int64]:
    """Return the answer of a range search as i, j and distances in (i, j) order; of one set, each pair once."""
    i = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = np.stack([i, ids, distances]).astype(np.int64)
    if of_one_set:
        pairs = pairs[:, i < ids]
    return pairs[:, np.lexsort((pairs[1], pairs[0]))]
