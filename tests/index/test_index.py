"""Index: every answer equals the reference's, on every kernel, whatever the codes' length, number and history."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import oracle
import pytest
from conftest import random_codes
from numpy.testing import assert_array_equal
from tuning import tune

import pyhash
from pyhash import Index

LENGTHS = [1, 2, 7, 8, 9, 15, 17, 31, 33, 63, 64, 65, 72, 100, 127, 128, 129, 191, 193, 255, 256, 257, 320, 384, 448]
LENGTHS += [511, 512, 513, 1000, 1023, 1025, 2047, 4096, 7999, 8000]
SIZES = [0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 193, 511, 512, 513, 639, 641, 1030]  # blocks of 64, groups of 2, 4, 8
MOST = 2**63 - 1
FEW, MANY = 3, 40  # queries a call: popcount scan, bit-sliced kernel


def frozen(*arrays: Any) -> Any:
    """Arrays that are computed once for all kernels must not change in between."""
    for array in arrays:
        array.flags.writeable = False
    return arrays


@functools.cache
def sample(n: int, bits: int, n_queries: int = MANY, spread: float = 0.2) -> Any:
    """Codes with some ties, and queries of which some are among them."""
    rng = np.random.default_rng(n * 65537 + bits)
    codes = random_codes(rng, n + n_queries, bits, spread)
    if n > 10:
        codes[n // 2 : n // 2 + n // 10] = codes[0]
    queries = codes[n:].copy()
    queries[: min(n, n_queries // 2)] = codes[: min(n, n_queries // 2)]
    return frozen(codes[:n], queries)


@functools.cache
def truth(n: int, bits: int, k: int) -> Any:
    codes, queries = sample(n, bits)
    return frozen(*oracle.topk(codes, np.arange(n), queries, k))


@functools.cache
def truth_within(n: int, bits: int, radius: int) -> Any:
    codes, queries = sample(n, bits)
    return frozen(*oracle.within(codes, np.arange(n), queries, radius))


@functools.cache
def truth_pairs(n: int, bits: int, radius: int) -> Any:
    return frozen(*oracle.pairs(sample(n, bits)[0], np.arange(n), radius))


def same(found: Any, expected: Any) -> None:
    """Equal values and types, array by array."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert_array_equal(a, b)
        assert a.dtype == b.dtype
        assert a.flags.writeable


def filled(codes: Any, ids: Any = None, **options: Any) -> Index:
    index = Index(codes.shape[1] * 8, **options)
    index.add(codes, ids)
    return index


def check(index: Index, codes: Any, ids: Any, queries: Any, k: int = 10, radius: int | None = None) -> None:
    """The index holds just these codes, and answers as the reference does."""
    order = np.argsort(ids)
    assert len(index) == len(ids)
    assert_array_equal(index.ids, np.asarray(ids)[order])
    assert_array_equal(index.codes(ids), codes)
    same(index.search(queries, k), oracle.topk(codes, ids, queries, k))
    radius = index.bits // 4 if radius is None else radius
    same(index.range_search(queries, radius), oracle.within(codes, ids, queries, radius))


# Lengths and sizes


@pytest.mark.parametrize("bits", LENGTHS)
def test_every_length(kernel: str, bits: int) -> None:
    n = 150 if bits < 1000 else 70
    codes, queries = sample(n, bits)
    index = Index(bits)
    assert_array_equal(index.add(codes), np.arange(n))
    assert (index.bits, len(index)) == (bits, n)
    assert_array_equal(index.codes(index.ids), codes)
    radius = bits // 3
    offsets, distances, ids = truth_within(n, bits, radius)
    for q in (FEW, MANY):
        same(index.search(queries[:q], 10), [part[:q] for part in truth(n, bits, 10)])
        end = offsets[q]
        same(index.range_search(queries[:q], radius), (offsets[: q + 1], distances[:end], ids[:end]))
    same(index.pairs(radius // 2), truth_pairs(n, bits, radius // 2))


@pytest.mark.parametrize("bits", [64, 100, 300])
@pytest.mark.parametrize("n", SIZES)
def test_every_size(kernel: str, n: int, bits: int) -> None:
    codes, queries = sample(n, bits)
    whole, grown = Index(bits), Index(bits)
    whole.add(codes)
    for begin in range(0, n, 77):
        grown.add(codes[begin : begin + 77])
    for index in (whole, grown):
        for q in (1, FEW, MANY):
            same(index.search(queries[:q], 5), [part[:q] for part in truth(n, bits, 5)])
        same(index.range_search(queries, bits // 4), truth_within(n, bits, bits // 4))
    if bits == 64:
        same(grown.pairs(9), truth_pairs(n, bits, 9))


@pytest.mark.parametrize("n", [511, 512, 513, 1024, 1025, 1700])
def test_chunk_boundaries(kernel: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, chunk_bytes=4096)  # chunks of 8 blocks, the fewest
    codes, queries = sample(n, 72)
    ids = np.arange(n)
    index = Index(72)
    index.add(codes[: n // 3])
    for code in codes[n // 3 : n // 3 + 20]:
        index.add(code)
    index.add(codes[n // 3 + 20 :])
    check(index, codes, ids, queries)
    same(index.pairs(12), truth_pairs(n, 72, 12))
    gone = np.r_[0:3, 60:70, n - 5 : n - 1, np.arange(500, n, 97)]
    kept = np.setdiff1d(ids, gone)
    index.remove(gone)
    check(index, codes[kept], kept, queries)
    changed = kept[::7]
    now = codes.copy()
    now[changed] = codes[changed[::-1]]
    index.update(changed, now[changed])
    check(index, now[kept], kept, queries)
    check(Index.from_bytes(bytes(index)), now[kept], kept, queries)


def test_real_chunk_boundary(kernel: str) -> None:
    """65536 bits: a chunk holds 512 codes; one query is work enough to be split over the codes."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 256, (1100, 8192), dtype=np.uint8)
    index = Index(65536)
    index.add(codes[:500])
    index.add(codes[500:])
    queries = codes[[3, 511, 512, 1099]] ^ np.packbits(rng.random((4, 65536)) < 0.1, axis=1)
    differing = np.bitwise_count(queries[:, None].view(np.uint64) ^ codes.view(np.uint64)).sum(axis=2, dtype=np.int32)
    order = np.argsort(differing, axis=1, kind="stable")[:, :7]
    for threads in (1, 2, 3, 4):
        for q in (1, 4):
            distances, ids = index.search(queries[:q], 7, threads=threads)
            assert_array_equal(ids, order[:q])
            assert_array_equal(distances, np.take_along_axis(differing, order, axis=1)[:q])
    assert_array_equal(ids[:, 0], [3, 511, 512, 1099])


@pytest.mark.parametrize("bits", [64, 1000])
def test_threads_do_not_change_answers(kernel: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes = random_codes(rng, 20_000, bits, 0.1)
    ids = rng.permutation(20_000) - 7000
    ids[ids == -1] = 50_000
    queries = random_codes(rng, 300, bits, 0.1)
    index = Index(bits)
    index.add(codes, ids)
    index.remove(ids[::5])
    first = index.search(queries, 20, threads=1)
    radius = int(first[0][:, 3].max())
    ranged = index.range_search(queries[:60], radius, threads=1)
    # Anchored in the reference for a few, then the same for all.
    kept = np.setdiff1d(np.arange(20_000), np.arange(0, 20_000, 5))
    same([part[:2] for part in first], oracle.topk(codes[kept], ids[kept], queries[:2], 20))
    for threads in (2, 3, 4, None):
        same(index.search(queries, 20, threads=threads), first)
        same(index.search(queries[:1], 20, threads=threads), [part[:1] for part in first])
        same(index.range_search(queries[:60], radius, threads=threads), ranged)


def test_pairs_do_not_depend_on_threads_or_runs(kernel: str) -> None:
    rng = np.random.default_rng(3)
    codes = random_codes(rng, 12_000, 64, 0.15)
    ids = rng.permutation(12_000)
    whole, parts = Index(64), Index(64)
    whole.add(codes, ids)
    for begin in range(0, 12_000, 3000):  # ids that interleave make several runs
        parts.add(codes[begin : begin + 3000], ids[begin : begin + 3000])
    i, j, distances = first = whole.pairs(5, threads=1)
    assert len(i) > 100
    assert np.all(i < j)
    assert np.all(np.diff(i * 20_000 + j) > 0)
    assert_array_equal(np.bitwise_count(whole.codes(i) ^ whole.codes(j)).sum(axis=1), distances)
    near = np.bitwise_count(codes.view(np.uint64).ravel()[:, None] ^ codes.view(np.uint64).ravel()[:1500]) <= 5
    assert near.sum() - 1500 == sum(np.isin(ids[:1500], end).sum() for end in (i, j)) or near.sum() > 1500
    for threads in (2, 4):
        same(whole.pairs(5, threads=threads), first)
        same(parts.pairs(5, threads=threads), first)


@pytest.mark.parametrize("bits", [64, 104, 256])
def test_pairs_of_levels_and_of_two_indexes(kernel: str, bits: int) -> None:
    """With levels, weights, removed codes and several segments, as the oracle finds them."""
    rng = np.random.default_rng(bits)
    levels = pyhash.Levels({"coarse": 16, "fine": bits - 16})
    left, right = Index(levels), Index(levels)
    codes = random_codes(rng, 700, bits, 0.04)
    left.add(codes[:400], rng.permutation(1000)[:400])
    right.add(codes[400:550])
    right.add(codes[550:], rng.permutation(500)[:150] - 700)
    left.remove(left.ids[::7])
    right.remove(right.ids[::5])
    of = {id(index): (index.codes(index.ids), index.ids) for index in (left, right)}
    options: list[tuple[dict[str, Any], list[tuple[int, int, int]] | None]] = [
        ({}, None),
        ({"level": "coarse"}, [(0, 2, 1)]),
        ({"level": "fine"}, [(2, levels.n_bytes, 1)]),
        ({"weights": {"coarse": 3, "fine": 1}}, [(0, 2, 3), (2, levels.n_bytes, 1)]),
    ]
    for option, parts in options:
        for radius in (0, 2, 5):
            for index, other in ((left, None), (left, right), (right, left), (left, left)):
                expected = oracle.pairs(*of[id(index)], radius, parts, None if other is None else of[id(other)])
                same(index.pairs(radius, other, **option), expected)


def test_pairs_of_very_many_codes_are_those_of_a_flat_pass(kernel: str) -> None:
    """So many that codes are sorted by keys instead: counted and measured beside radius search."""
    if kernel == "numba":
        pytest.skip("Numba compares all with all")
    rng = np.random.default_rng(6)
    for bits, n in ((64, 60_000), (256, 30_000)):
        codes = random_codes(rng, n, bits)
        near = rng.integers(0, n, 3000)
        codes[near] = codes[(near + 1) % n] ^ np.packbits(rng.random((3000, bits)) < 0.02, axis=1)
        index = Index(bits)
        index.add(codes)
        i, j, distances = index.pairs(3)
        offsets, near_distances, ids = index.range_search(codes, 3)
        first = np.repeat(np.arange(n), np.diff(offsets))
        order = np.lexsort((ids, first))
        kept = order[ids[order] > first[order]]
        same((i, j, distances), (first[kept], ids[kept], near_distances[kept]))
        assert len(i) > 500
        i, j, distances = index.pairs(3, index.snapshot())
        same((i, j, distances), (first[order], ids[order], near_distances[order]))


# Ties, k, shapes


@pytest.mark.parametrize("q", [1, FEW, MANY])
@pytest.mark.parametrize("kind", ["equal", "two", "equidistant"])
def test_heavy_ties_go_to_the_smaller_id(kernel: str, kind: str, q: int) -> None:
    rng = np.random.default_rng(2)
    n = 1500
    if kind == "equal":
        codes = np.full((n, 8), 0xA5, dtype=np.uint8)
    elif kind == "two":
        codes = np.where(rng.random((n, 1)) < 0.5, 0x00, 0x0F).astype(np.uint8).repeat(8, axis=1)
    else:  # each with 7 of 64 bits set: all at distance 7 from zero
        bits = np.zeros((n, 64), dtype=np.uint8)
        bits[:, :7] = 1
        codes = np.packbits(rng.permuted(bits, axis=1), axis=1)
    ids = rng.permutation(n) * 3 - 2000
    index = filled(codes, ids)
    queries = np.zeros((q, 8), dtype=np.uint8)
    queries[1:] = codes[: q - 1]
    for k in (1, 10, 700):
        same(index.search(queries, k), oracle.topk(codes, ids, queries, k))
    distances, nearest = index.search(queries[0], 700)
    if kind != "two":
        assert_array_equal(nearest, np.sort(ids)[:700])
        assert len(set(distances.tolist())) == 1


@pytest.mark.parametrize("k", [1, 2, 63, 64, 65, 200, 201, 1000])
def test_k_up_to_more_than_there_are(kernel: str, k: int) -> None:
    codes, queries = sample(200, 40)
    index = Index(40)
    index.add(codes)
    distances, ids = index.search(queries, k)
    same((distances, ids), truth(200, 40, k))
    assert distances.shape == ids.shape == (MANY, k)
    if k > 200:
        assert np.all(distances[:, 200:] == 2**31 - 1)
        assert np.all(ids[:, 200:] == -1)


def test_one_query_gives_one_dimensional_answers(kernel: str) -> None:
    codes, queries = sample(200, 40)
    index = Index(40)
    index.add(codes)
    distances, ids = index.search(queries[0], 6)
    assert distances.shape == ids.shape == (6,)
    for found, rows in zip((distances, ids), truth(200, 40, 6), strict=True):
        assert_array_equal(found, rows[0])
    assert index.search(queries[0])[0].shape == (10,)  # k is 10 unless told
    same(index.range_search(queries[0], 9), oracle.within(codes, np.arange(200), queries[:1], 9))
    assert index.codes(3).shape == (5,)
    assert index.codes([3]).shape == (1, 5)


def test_no_queries(kernel: str) -> None:
    codes, _ = sample(200, 40)
    for index in (Index(40), filled(codes), filled(codes, structure="ring")):
        for options in ({}, {"where": [1, 2]}, {"cascade": ("code", 3)}, {"level": "code"}):
            distances, ids = index.search(codes[:0], 3, **options)
            assert distances.shape == ids.shape == (0, 3)
            assert (distances.dtype, ids.dtype) == (np.int32, np.int64)
        offsets, distances, ids = index.range_search(codes[:0], 3)
        assert (offsets.tolist(), len(distances), len(ids)) == ([0], 0, 0)


@pytest.mark.parametrize("structure", ["auto", "flat", "ring"])
def test_empty_index(kernel: str, structure: str) -> None:
    _, queries = sample(200, 40)
    fresh, emptied = Index(40, structure=structure), Index(40, structure=structure)
    emptied.add(queries)
    emptied.remove(emptied.ids)
    for index in (fresh, emptied, Index.from_bytes(bytes(fresh)), Index.from_bytes(bytes(emptied))):
        index.optimize()
        assert len(index) == 0
        assert (index.ids.dtype, index.ids.shape, 0 in index) == (np.int64, (0,), False)
        assert index.codes([]).shape == (0, 5)
        for options in ({}, {"where": np.zeros(0, dtype=bool)}, {"where": [4]}, {"cascade": ("code", 9)}):
            distances, ids = index.search(queries, 3, **options)
            assert np.all(distances == 2**31 - 1)
            assert np.all(ids == -1)
        offsets, distances, ids = index.range_search(queries, 40)
        assert_array_equal(offsets, np.zeros(MANY + 1))
        assert len(distances) == len(ids) == 0
        assert [len(part) for part in index.pairs(40)] == [0, 0, 0]
        index.remove([])
        index.update([], queries[:0])
        assert len(index.add(queries[:0])) == 0
    assert fresh.add(queries[0]).tolist() == [0]
    assert emptied.add(queries[0]).tolist() == [MANY]  # ids are not used twice


@pytest.mark.parametrize("radius", [0, 1, 20, 39, 40, 41, 2**31 - 1, 2**40])
def test_radius(kernel: str, radius: int) -> None:
    codes, queries = sample(300, 40)
    index = Index(40)
    index.add(codes)
    for q in (FEW, MANY):
        same(index.range_search(queries[:q], radius), oracle.within(codes, np.arange(300), queries[:q], radius))
    if radius < 3:
        same(index.pairs(radius), oracle.pairs(codes, np.arange(300), radius))
    elif radius >= 40:
        assert len(index.pairs(radius)[0]) == 300 * 299 // 2


# Ids


def test_ids_in_any_order_and_of_any_size(kernel: str) -> None:
    rng = np.random.default_rng(8)
    codes, queries = sample(500, 64)
    ids = np.unique(rng.integers(-MOST - 1, MOST, 600))[:500]
    ids[:4] = [-MOST - 1, -MOST, MOST - 1, MOST]
    ids[4:10] = [-3, -2, 0, 1, 2, 4]
    ids = rng.permutation(ids)
    index = Index(64)
    assert_array_equal(index.add(codes[:200], ids[:200]), ids[:200])
    assert_array_equal(index.add(codes[200:], ids[200:].tolist()), ids[200:])
    check(index, codes, ids, queries)
    assert all(id in index for id in ids.tolist())
    assert not any(id in index for id in (-1, 5, MOST - 2, 2**63, -(2**63) - 1, 2**70, "0", 0.0, None, True))
    assert np.int64(4) in index
    same(index.pairs(12), oracle.pairs(codes, ids, 12))
    check(Index.from_bytes(bytes(index)), codes, ids, queries)


def test_ids_up_to_the_last_there_is(kernel: str) -> None:
    codes, queries = sample(100, 64)
    ids = np.arange(MOST - 99, MOST, dtype=np.int64)
    index = filled(codes[:99], ids)
    index.add(codes[99:], [MOST])
    check(index, codes, np.append(ids, MOST), queries)
    with pytest.raises(ValueError, match="the next free id, 9223372036854775808, leaves no room for 1"):
        index.add(codes[:1])
    assert len(index.add(codes[:0])) == 0
    index.remove(ids[3])
    index.optimize()
    check(index, np.delete(codes, 3, axis=0), np.append(np.delete(ids, 3), MOST), queries)
    index.add(codes[:1], [7])
    assert 7 in index


def test_default_ids_count_on_from_the_largest(kernel: str) -> None:
    codes, _ = sample(100, 64)
    index = Index(64)
    assert index.add(codes[:2]).tolist() == [0, 1]
    assert index.add(codes[2], 10).tolist() == [10]
    assert index.add(codes[3:5]).tolist() == [11, 12]
    assert index.add(codes[5:7], [-5, 7]).tolist() == [-5, 7]
    assert index.add(codes[7]).tolist() == [13]
    index.remove([13, 12])
    assert index.add(codes[8]).tolist() == [14]
    assert Index.from_bytes(bytes(index)).add(codes[9]).tolist() == [15]
    index.optimize()
    assert index.add(codes[9]).tolist() == [15]
    only_negative = filled(codes[:2], [-9, -8])
    assert only_negative.add(codes[2:4]).tolist() == [0, 1]


@pytest.mark.parametrize("order", ["descending", "interleaved", "random"])
def test_one_at_a_time_in_any_order(kernel: str, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, small_segment=16)  # so that there are several runs
    rng = np.random.default_rng(1)
    codes, queries = sample(300, 64)
    ids = {
        "descending": np.arange(300)[::-1],
        "interleaved": np.arange(300) * 2 % 301,
        "random": rng.permutation(300),
    }[order]
    index = Index(64)
    for code, id in zip(codes, ids.tolist(), strict=True):
        index.add(code, id)
    assert len(index.stats().segments) <= 8
    check(index, codes, ids, queries)
    index.optimize()
    assert len(index.stats().segments) == 1
    check(index, codes, ids, queries)


def test_ids_that_are_handed_out_are_the_callers(kernel: str) -> None:
    """Neither arrays that were given nor arrays that were returned are the index's own memory."""
    codes, queries = sample(100, 64)
    mine, ids = codes.copy(), np.arange(100) * 2
    index = Index(64)
    given = index.add(mine, ids)
    mine[:], ids[:], given[:] = 0, 5, 6
    index.ids[:] = 7
    index.codes(0)[:] = 1
    index.codes(np.arange(10) * 2)[:] = 1
    default = filled(codes)
    default.add(codes[:0])[:] = 1
    default.ids[:] = 3
    check(index, codes, np.arange(100) * 2, queries)
    check(default, codes, np.arange(100), queries)


# Changes


@pytest.mark.parametrize("small_segment", [16, 4096])
@pytest.mark.parametrize("custom", [False, True])
def test_remove_update_and_add_again(
    kernel: str, custom: bool, small_segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(monkeypatch, small_segment=small_segment)
    codes, queries = sample(700, 64)
    ids = np.random.default_rng(4).permutation(700) * 3 - 900 if custom else np.arange(700)
    index = filled(codes, ids)
    gone = np.r_[0:70, 128:192, 300, 640:700]
    kept = np.setdiff1d(np.arange(700), gone)
    index.remove(ids[gone][::-1])
    assert not any(id in index for id in ids[gone].tolist())
    check(index, codes[kept], ids[kept], queries)
    same(index.pairs(12), oracle.pairs(codes[kept], ids[kept], 12))

    now = codes.copy()
    now[kept[::9]] = codes[gone[0]]
    index.update(ids[kept[::9]], now[kept[::9]])
    check(index, now[kept], ids[kept], queries)

    back = gone[::3]
    now[back] = codes[back[::-1]]
    index.add(now[back], ids[back])
    kept = np.union1d(kept, back)
    check(index, now[kept], ids[kept], queries)
    same(index.pairs(12), oracle.pairs(now[kept], ids[kept], 12))

    index.optimize()
    assert [run.removed for run in index.stats().segments] == [0]
    check(index, now[kept], ids[kept], queries)
    index.remove(ids[kept[:-1]])
    check(index, now[kept[-1:]], ids[kept[-1:]], queries)
    index.remove(int(ids[kept[-1]]))
    assert len(index) == 0


def test_update_of_one(kernel: str) -> None:
    codes, queries = sample(100, 12)
    index = Index(12)
    index.add(codes)
    now = codes.copy()
    now[7], now[8], now[9] = codes[0], codes[1], codes[2]
    index.update(7, now[7])
    index.update([8], now[8])
    index.update(np.array([9], dtype=np.uint8), now[9:10])
    check(index, now, np.arange(100), queries)


def test_removing_an_id_named_twice_removes_it_once(kernel: str) -> None:
    codes, queries = sample(100, 64)
    index = filled(codes)
    index.remove([5, 5, 6])
    kept = np.delete(np.arange(100), [5, 6])
    check(index, codes[kept], kept, queries)


# What is measured


LEVELS = [
    {"coarse": 16, "fine": 48},
    {"a": 8, "b": 24, "c": 40},  # borders inside words
    {"a": 64, "b": 64, "c": 8},
    {"a": 136, "b": 64, "c": 312},
    {"only": 13},
]


def parts_of(levels: dict[str, int], weights: dict[str, int]) -> list[tuple[int, int, int]]:
    ranges = pyhash.Levels(levels)
    return [(ranges.byte_range(name).start, ranges.byte_range(name).stop, w) for name, w in weights.items() if w]


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_levels_and_weights(kernel: str, levels: dict[str, int]) -> None:
    codes, queries = sample(300, sum(levels.values()))
    ids = np.random.default_rng(0).permutation(300)
    index = Index(levels=levels)
    index.add(codes, ids)
    index.remove(ids[:20])
    codes, ids = codes[20:], ids[20:]
    names = list(levels)
    chosen: list[tuple[dict[str, Any], dict[str, int]]] = [({"level": name}, {name: 1}) for name in names]
    for weights in (
        dict.fromkeys(names, 1),
        dict.fromkeys(names, 3),
        {names[0]: 3, names[-1]: 2},
        {names[-1]: 1},
        {names[0]: 1000, **dict.fromkeys(names[1:], 1)},
        {names[0]: 2**31 // 1000, names[-1]: 5, **dict.fromkeys(names[1:-1], 0)},
    ):
        chosen.append(({"weights": weights}, weights))
    for options, weights in chosen:
        parts = parts_of(levels, weights)
        for q in (FEW, MANY):
            expected = oracle.topk(codes, ids, queries[:q], 12, parts)
            same(index.search(queries[:q], 12, **options), expected)
        radius = int(expected[0][:, 5].max())
        expected = oracle.within(codes, ids, queries, radius, parts)
        same(index.range_search(queries, radius, **options), expected)


def test_largest_weights(kernel: str) -> None:
    codes, queries = sample(100, 64)
    index = Index(levels={"coarse": 16, "fine": 48})
    index.add(codes)
    weights = {"coarse": (2**31 - 2) // 16, "fine": 0}
    parts = parts_of({"coarse": 16, "fine": 48}, weights)
    worst = ~codes[:1]
    for q in (queries, worst):
        same(index.search(q, 5, weights=weights), oracle.topk(codes, np.arange(100), q, 5, parts))
        expected = oracle.within(codes, np.arange(100), q, 2**31 - 2, parts)
        same(index.range_search(q, 2**40, weights=weights), expected)


@pytest.mark.parametrize("q", [1, FEW, MANY])
def test_cascade(kernel: str, q: int) -> None:
    levels = {"coarse": 16, "fine": 48}
    codes, queries = sample(400, 64)
    queries = queries[:q]
    ids = np.random.default_rng(0).permutation(400)
    index = Index(levels=levels)
    index.add(codes, ids)
    by_id = dict(zip(ids.tolist(), codes, strict=True))
    for n_candidates in (1, 8, 30, 399, 400, 5000):
        for name, weights, options in (
            ("coarse", None, {}),
            ("fine", {"coarse": 1}, {"level": "coarse"}),
            ("coarse", {"coarse": 1, "fine": 2}, {"weights": {"fine": 2, "coarse": 1}}),
        ):
            _, near = oracle.topk(codes, ids, queries, n_candidates, parts_of(levels, {name: 1}))
            found = index.search(queries, 10, cascade=(name, n_candidates), **options)
            for i, candidates in enumerate(near):
                candidates = candidates[candidates >= 0]
                rows = np.array([by_id[id] for id in candidates.tolist()])
                parts = None if weights is None else parts_of(levels, weights)
                expected = oracle.topk(rows, candidates, queries[i : i + 1], 10, parts)
                same([part[i : i + 1].copy() for part in found], expected)


def test_cascade_obeys_filters(kernel: str) -> None:
    codes, queries = sample(400, 64)
    index = Index(levels={"coarse": 16, "fine": 48})
    index.add(codes)
    allowed = np.arange(0, 400, 3)
    expected = Index(levels={"coarse": 16, "fine": 48})
    expected.add(codes[allowed], allowed)
    mask = np.zeros(400, dtype=bool)
    mask[allowed] = True
    for where in (allowed, mask):
        found = index.search(queries, 10, where=where, cascade=("coarse", 20))
        same(found, expected.search(queries, 10, cascade=("coarse", 20)))


# Filters


@pytest.mark.parametrize("structure", ["flat", "ring"])
@pytest.mark.parametrize("history", ["one run", "several runs", "removed"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.97, 1.0])
def test_filters(kernel: str, share: float, history: str, structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, small_segment=16)
    rng = np.random.default_rng(int(share * 100))
    codes, queries = sample(900, 64)
    ids = rng.permutation(900) * 2 - 300 if history == "several runs" else np.arange(900)
    index = Index(levels={"coarse": 16, "fine": 48}, structure=structure)
    for begin in range(0, 900, 250):
        index.add(codes[begin : begin + 250], ids[begin : begin + 250])
    if history == "removed":
        index.remove(ids[100:200])
        codes, ids = np.delete(codes, np.s_[100:200], axis=0), np.delete(ids, np.s_[100:200])
    index.search(queries, 1)  # makes the ring
    order = np.argsort(ids)
    codes, ids = codes[order], ids[order]
    mask = rng.random(len(ids)) < share
    named = rng.permutation(np.concatenate([ids[mask], ids[mask][:5], [10**6, -(10**9), -1, MOST]]))
    for where in (mask, mask.tolist(), named, named.tolist()):
        for q in (1, FEW, MANY):
            for options, parts in (({}, None), ({"level": "fine"}, [(2, 8, 1)])):
                expected = oracle.topk(codes, ids, queries[:q], 10, parts, mask)
                same(index.search(queries[:q], 10, where=where, **options), expected)
        expected = oracle.within(codes, ids, queries, 14, None, mask)
        same(index.range_search(queries, 14, where=where), expected)


def test_filter_by_a_few_of_many(kernel: str) -> None:
    """Where few are allowed they are gathered, where many are the scan tests them; the answers are one."""
    rng = np.random.default_rng(0)
    codes = random_codes(rng, 30_000, 64, 0.3)
    queries = random_codes(rng, 40, 64, 0.3)
    index = filled(codes)
    distances = np.bitwise_count(queries.view(np.uint64) ^ codes.view(np.uint64).T).astype(np.int32)
    for n_allowed in (1, 64, 65, 1000, 3000, 29_999):
        mask = np.zeros(30_000, dtype=bool)
        mask[rng.choice(30_000, n_allowed, replace=False)] = True
        hidden = np.where(mask, distances, 2**31 - 1)
        order = np.argsort(hidden, axis=1, kind="stable")[:, :10]
        found = np.take_along_axis(hidden, order, axis=1)
        order[found == 2**31 - 1] = -1
        for q in (1, 40):
            for where in (mask, np.flatnonzero(mask)):
                same(index.search(queries[:q], 10, where=where), (found[:q], order[:q]))


# Inputs


def laid_out(array: Any, layout: str) -> Any:
    """The same values in other memory."""
    if layout == "strided":
        room = np.full((array.shape[0] * 2, array.shape[1] * 3), 77, dtype=np.uint8)
        room[::2, 1::3] = array
        return room[::2, 1::3]
    if layout == "reversed":
        return array[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "unaligned":
        room = np.zeros(array.size + 64, dtype=np.uint8)
        start = 3 - room.ctypes.data % 8
        view = room[start + 8 : start + 8 + array.size].reshape(array.shape)
        view[:] = array
        return view
    if layout == "subclass":
        return array.copy().view(type("Own", (np.ndarray,), {}))
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("bits", [64, 100])
@pytest.mark.parametrize("layout", ["strided", "reversed", "fortran", "unaligned", "subclass", "read-only"])
def test_memory_layouts(kernel: str, layout: str, bits: int) -> None:
    codes, queries = sample(200, bits)
    index = Index(bits)
    ids = laid_out(np.arange(200).astype(np.uint8)[:, None], layout)[:, 0]
    assert_array_equal(index.add(laid_out(codes, layout), ids), np.arange(200))
    for q in (1, FEW, MANY):
        same(index.search(laid_out(queries[:q], layout), 10), [part[:q] for part in truth(200, bits, 10)])
    row = laid_out(queries, layout)[1]
    assert_array_equal(index.search(row, 10)[1], truth(200, bits, 10)[1][1])
    index.update(ids[:50], laid_out(codes[50:100], layout))
    assert_array_equal(index.codes(np.arange(50)), codes[50:100])
    mask = laid_out(np.arange(200).astype(np.uint8)[:, None] % 2, layout)[:, 0] == 1
    expected = oracle.topk(codes[1::2], np.arange(1, 200, 2), queries[5:6], 4)[1]
    index.update(np.arange(50), codes[:50])
    assert_array_equal(index.search(queries[5:6], 4, where=mask)[1], expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">i8", ">u4"])
def test_ids_of_any_integer_type(kernel: str, dtype: Any) -> None:
    codes, queries = sample(100, 64)
    ids = np.arange(100).astype(dtype)
    index = filled(codes, ids)
    index.update(ids[:3], codes[:3])
    check(index, codes, np.arange(100), queries)
    assert_array_equal(index.search(queries, 3, where=ids[::2]), index.search(queries, 3, where=np.arange(0, 100, 2)))
    index.remove(ids[:99])
    assert index.ids.tolist() == [99]


# Facts about memory, none of them timed


def test_default_ids_cost_nothing_and_custom_ids_eight_bytes() -> None:
    n = 1_000_000
    codes = np.random.default_rng(0).integers(0, 256, (n, 8), dtype=np.uint8)
    index = Index(64)
    for begin in range(0, n, 100_000):
        index.add(codes[begin : begin + 100_000])
    assert index.nbytes <= 1.1 * 8 * n
    assert index.stats().reserved_bytes <= 1.1 * 8 * n  # room to grow included
    custom = filled(codes, np.arange(n)[::-1] * 2)
    assert index.nbytes + 7 * n < custom.nbytes <= 1.1 * 8 * n + 8 * n
    custom.remove(custom.ids[::3])
    assert custom.nbytes <= 1.1 * 8 * n + 8 * n + n
    assert index.stats().nbytes == index.nbytes


def test_small_indexes_are_small() -> None:
    for bits in (64, 256, 8000):
        index = Index(bits)
        assert index.nbytes == 0
        index.add(np.zeros((1, bits // 8), dtype=np.uint8))
        assert index.stats().reserved_bytes <= 64 * (bits + 63)


def test_what_there_is(kernel: str) -> None:
    codes, _queries = sample(100, 64)
    index = Index(levels={"coarse": 16, "fine": 48}, structure="flat")
    index.add(codes)
    index.remove([3, 4])
    assert repr(index) == "<pyhash.Index levels={'coarse': 16, 'fine': 48}, 98 codes>"
    assert repr(Index(5)) == "<pyhash.Index bits=5, 0 codes>"
    assert (index.bits, index.levels, index.structure, index.readonly) == (
        64,
        {"coarse": 16, "fine": 48},
        "flat",
        False,
    )
    stats = index.stats()
    assert (stats.codes, stats.bits, stats.kernel, stats.structure) == (98, 64, kernel, "flat")
    assert [(segment.codes, segment.removed, segment.clusters) for segment in stats.segments] == [(98, 2, 0)]
    assert stats.levels == {"coarse": 16, "fine": 48}
    assert Index(64).levels == {"code": 64}


def test_levels_are_taken_in_any_form() -> None:
    layout = {"coarse": 16, "fine": 48}
    for index in (Index(layout), Index(levels=layout), Index(pyhash.Levels(layout)), Index(pyhash.Levels(**layout))):
        assert index.levels == layout
    for index in (Index(64), Index(bits=64), Index(levels=64)):
        assert index.levels == {"code": 64}
    with pytest.raises(TypeError, match="as a mapping or by keyword, got both"):
        pyhash.Levels(layout, other=8)


def test_answers_have_names() -> None:
    index = Index(64)
    index.add(np.array([[0] * 8, [255] * 8, [0] * 7 + [1]], np.uint8))
    hits = index.search(np.zeros((1, 8), np.uint8), 2)
    assert (hits.distances.tolist(), hits.ids.tolist()) == ([[0, 1]], [[0, 2]])
    assert index.search(np.zeros(8, np.uint8), 2).ids.tolist() == [0, 2]
    near = index.range_search(np.zeros(8, np.uint8), 1)
    assert (near.offsets.tolist(), near.distances.tolist(), near.ids.tolist()) == ([0, 2], [0, 1], [0, 2])
    pairs = index.pairs(1)
    assert (pairs.i.tolist(), pairs.j.tolist(), pairs.distances.tolist()) == ([0], [2], [1])


def test_a_snapshot_and_a_copy_are_not_changed_by_what_comes_after(kernel: str) -> None:
    codes = random_codes(np.random.default_rng(9), 1000, 64)
    index = Index(64)
    index.add(codes[:700])
    index.remove(range(0, 60, 3))  # so that there are marks to be copied when the next ones come
    kept = [index.snapshot(), copy.copy(index)]
    before = [(each.ids, each.codes(each.ids), each.search(codes[:20], 5)) for each in kept]
    for change in (
        lambda: index.remove(range(1, 60, 3)),
        lambda: index.update(range(2, 60, 3), codes[700:720]),
        lambda: index.add(codes[720:]),
        lambda: index.add(codes[:5], range(-9, -4)),
        lambda: index.optimize(),
    ):
        change()
        for each, (ids, rows, hits) in zip(kept, before, strict=True):
            assert_array_equal(each.ids, ids)
            assert_array_equal(each.codes(ids), rows)
            same(each.search(codes[:20], 5), hits)


def test_an_index_and_its_copy_grow_apart(kernel: str) -> None:
    codes = random_codes(np.random.default_rng(10), 1000, 64)
    index = Index(64)
    index.add(codes[:700])
    twin = copy.copy(index)
    index.add(codes[700:750])
    twin.add(codes[800:900])  # in the same slots
    assert_array_equal(index.codes(range(750)), codes[:750])
    assert_array_equal(twin.codes(range(700, 800)), codes[800:900])
