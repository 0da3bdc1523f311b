"""Every kernel against the reference: the nearest, all within a radius, all pairs."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import Stored, assert_same, check, clustered, flat, interleaved
from tuning import tune

import pyhash
from pyhash import backend

WIDTHS = [*range(1, 10), 16, 125]  # words
SIZES = [0, 1, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1000]
LARGEST = 2**31 - 2


@pytest.fixture(params=pyhash.kernels())
def active(request, monkeypatch):
    """One kernel after the other."""
    with pyhash.use(request.param):
        kernel = backend.active()
        if request.param == "numba":
            tune(monkeypatch, numba_work=1)  # so that little work is shared too
            tune(monkeypatch, numba_hits=100)  # and few answers are more than fit
        yield kernel


@pytest.mark.parametrize("n_words", [1, 2, 3, 8])
def test_sizes_around_blocks_and_chunks(active, n_words):
    rng = np.random.default_rng(n_words)
    for n in SIZES:
        rows = clustered(rng, n, 8 * n_words)
        queries = clustered(rng, 3, 8 * n_words)
        check(active, [Stored(rows, 5)], queries, (1, 10, n + 3), (0, 12, 8 * n_words), threads=(1, 2))


@pytest.mark.parametrize("n_words", WIDTHS)
def test_widths(active, n_words):
    rng = np.random.default_rng(n_words)
    for n_bytes in {8 * n_words, 8 * n_words - 1, 8 * n_words - 5, 8 * n_words - 7}:
        rows = rng.integers(0, 256, (200, n_bytes), dtype=np.uint8)
        queries = np.concatenate([rows[7:8], ~rows[9:10], rng.integers(0, 256, (2, n_bytes), dtype=np.uint8)])
        check(active, [Stored(rows)], queries, (1, 17), (4 * n_bytes, 8 * n_bytes))


@pytest.mark.parametrize("n_words", [1, 2, 5])
@pytest.mark.parametrize("dead", [0, 0.3])
@pytest.mark.parametrize("allowed", [None, 0.02, 0.6])
def test_interleaved_segments_removed_and_allowed(active, n_words, dead, allowed):
    rng = np.random.default_rng(7)
    rows = clustered(rng, 700, 8 * n_words, flips=2)
    queries = np.concatenate([rows[:3], clustered(rng, 2, 8 * n_words)])
    stored = interleaved(rng, rows, 4, dead, allowed)
    check(active, stored, queries, (1, 9, 100, 800), (0, 3, 40), threads=(1, 2, 3))


LEVELS = {
    1: [[(0, 2, 1)], [(2, 8, 1)], [(0, 2, 3), (2, 8, 1)], [(1, 2, 7), (5, 6, 2)]],
    3: [[(0, 4, 1)], [(4, 24, 1)], [(0, 4, 5), (4, 24, 2)], [(12, 20, 1)], [(0, 3, 1), (3, 9, 10), (9, 24, 100)]],
}


@pytest.mark.parametrize("n_words", LEVELS)
def test_levels_and_weights(active, n_words):
    rng = np.random.default_rng(8)
    rows = clustered(rng, 300, 8 * n_words)
    queries = np.concatenate([rows[:2], rng.integers(0, 256, (1, 8 * n_words), dtype=np.uint8)])
    for parts in LEVELS[n_words]:
        check(active, interleaved(rng, rows, 3, 0.1, 0.8), queries, (1, 20, 400), (0, 5, 60), parts, (1, 3))


def test_weights_up_to_the_largest_distance(active):
    rng = np.random.default_rng(9)
    rows = rng.integers(0, 256, (500, 8), dtype=np.uint8)
    queries = np.concatenate([rows[:1], ~rows[1:2], rng.integers(0, 256, (1, 8), dtype=np.uint8)])
    weight = LARGEST // 64
    check(active, interleaved(rng, rows, 2), queries, (1, 30), (0, 20 * weight, LARGEST), [(0, 8, weight)])
    parts = [(0, 4, LARGEST // 64), (4, 6, 1), (6, 8, LARGEST // 33)]
    check(active, interleaved(rng, rows, 2), queries, (1, 30), (0, LARGEST // 3), parts)


def test_the_longest_codes(active):
    rng = np.random.default_rng(10)
    rows = rng.integers(0, 256, (70, 8192), dtype=np.uint8)
    queries = np.concatenate([rows[:1], ~rows[1:2]])
    check(active, [Stored(rows)], queries, (1, 70), (0, 32768, 65536))


@pytest.mark.parametrize("n_segments", [1, 3])
def test_heavy_ties(active, n_segments):
    rng = np.random.default_rng(11)
    for n_different in (1, 2, 5):
        rows = rng.integers(0, 256, (n_different, 8), dtype=np.uint8)[rng.integers(0, n_different, 1000)]
        queries = np.concatenate([rows[:1], rng.integers(0, 256, (1, 8), dtype=np.uint8)])
        check(active, interleaved(rng, rows, n_segments), queries, (1, 10, 63, 64, 65, 500, 1000), (0, 40))


@pytest.mark.parametrize("parts", [None, [(0, 8, 1_000_000)]])
def test_ties_with_ever_smaller_ids(active, parts):
    rows = np.full((250, 8), 15, dtype=np.uint8)
    stored = [Stored(rows, first) for first in range(5000, 0, -500)]
    check(active, stored, np.zeros((2, 8), dtype=np.uint8), (1, 10, 100, 1000), (31,), parts, (1, 3))


@pytest.mark.parametrize("parts", [None, [(0, 1, 1), (1, 8, 1000)], [(0, 2, 1000), (2, 8, 1_000_000)]])
def test_ever_nearer_codes(active, parts):
    """Every code is a candidate, for each is nearer than all before; then with ties, and ids against the order."""
    bits = np.arange(64)[::-1, None] > np.arange(64)  # distances 63, 62, ... 0 from zero
    rows = np.repeat(np.packbits(bits, axis=1), 30, axis=0)
    queries = np.zeros((2, 8), dtype=np.uint8)
    n = len(rows)
    check(active, [Stored(rows)], queries, (1, 7, 200, 900), (10, 3000), parts)
    late = Stored(rows[::2], np.arange(2 * n, 2 * n + n // 2))
    early = Stored(rows[1::2], np.arange(n // 2))
    check(active, [late, early], queries, (1, 7, 200, 900), (10,), parts)


def test_threads_and_many_queries(active):
    rng = np.random.default_rng(12)
    rows = clustered(rng, 1000, 48)
    queries = clustered(rng, 300, 48)
    stored = interleaved(rng, rows, 2, 0.1)
    check(active, stored, queries, (5,), (12,), threads=(0, 1, 2, 3, 64))


def test_nothing_to_search_or_to_search_for(active):
    rows = np.arange(80, dtype=np.uint8).reshape(10, 8)
    queries = rows[:2]
    check(active, [Stored(rows)], queries[:0], (3,), (3,))
    check(active, [Stored(rows, dead=np.ones(10, bool))], queries, (3,), (64,))
    check(active, [Stored(rows, allowed=np.zeros(10, bool))], queries, (3,), (64,))
    check(active, [Stored(rows[:0]), Stored(rows, 100), Stored(rows[:0])], queries, (3,), (64,))
    distances, ids = active.topk(active.target([]), queries, None, 3, 0)
    assert (distances.tolist(), ids.tolist()) == ([[2**31 - 1] * 3] * 2, [[-1] * 3] * 2)
    offsets, distances, ids = active.within(active.target([]), queries, None, 3, 0)
    assert (offsets.tolist(), len(distances), len(ids)) == ([0, 0, 0], 0, 0)
    assert [len(part) for part in active.pairs(active.target([]), None, None, 3, 0)] == [0, 0, 0]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_any_search(name, data):
    with pyhash.use(name):
        seed = data.draw(st.integers(0, 2**32 - 1), "seed")
        rng = np.random.default_rng(seed)
        n_bytes = data.draw(st.integers(1, 40), "bytes")
        rows = clustered(rng, data.draw(st.integers(0, 300), "codes"), n_bytes, data.draw(st.integers(0, 8), "flips"))
        queries = clustered(rng, data.draw(st.integers(1, 70), "queries"), n_bytes)
        fraction = st.sampled_from([0, 0.1, 0.9])
        dead, allowed = data.draw(fraction, "dead"), data.draw(st.none() | fraction, "allowed")
        stored = interleaved(rng, rows, data.draw(st.integers(1, 4), "segments"), dead, allowed)
        cut = data.draw(st.integers(0, n_bytes - 1), "cut")
        weight = data.draw(st.integers(1, 9), "weight")
        parts = data.draw(st.sampled_from([None, [(cut, n_bytes, weight)], [(0, cut + 1, 1), (cut, n_bytes, weight)]]))
        k = data.draw(st.sampled_from([1, 2, 10, 100, 301]), "k")
        radius = data.draw(st.integers(0, 8 * n_bytes), "radius")
        check(backend.active(), stored, queries, (k,), (radius,), parts, (data.draw(st.integers(0, 3), "threads"),))


@functools.cache
def pair_case(n_words, n, n_segments, dead):
    rng = np.random.default_rng(13)
    stored = interleaved(rng, clustered(rng, n, 8 * n_words, flips=3), n_segments, dead)
    stored = [s for s in stored if len(s.rows)] or stored[:1]
    rows, ids, there, _ = flat(stored)
    return stored, {radius: oracle.pairs(rows[there], ids[there], radius) for radius in (0, 4)}


@pytest.mark.parametrize("n_segments", [1, 3])
@pytest.mark.parametrize("dead", [0, 0.3])
def test_pairs(active, n_segments, dead):
    for n_words, n in [(1, 0), (1, 1), (1, 64), (1, 65), (1, 600), (2, 129), (3, 200), (9, 130)]:
        stored, expected = pair_case(n_words, n, n_segments, dead)
        target = active.target([s.segment(active) for s in stored])
        for radius, answer in expected.items():
            for threads in (1, 3):
                assert_same(active.pairs(target, None, None, radius, threads), answer, f"{n} codes, radius {radius}")


def test_pairs_of_all_with_all(active):
    rows = np.random.default_rng(14).integers(0, 256, (150, 8), dtype=np.uint8)
    answer = active.pairs(active.target([Stored(rows, 3).segment(active)]), None, None, LARGEST, 0)
    assert_same(answer, oracle.pairs(rows, np.arange(3, 153), 64), "all pairs")
    assert len(answer[0]) == 150 * 149 // 2
