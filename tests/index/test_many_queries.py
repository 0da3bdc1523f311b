"""Radius searches of so many queries that they are joined with the codes: the same answers as of few at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal

from pyhash import Index

N, N_QUERIES = 12_000, 8_000
FEW = 60  # queries a call that are passed over the codes


def near(rng: np.random.Generator, codes: Any, n: int, most: int) -> Any:
    """Copies of some codes with up to `most` bits flipped."""
    copies = codes[rng.integers(0, len(codes), n)].copy()
    for _ in range(most):
        bits = rng.integers(0, 2 * 8 * codes.shape[1], n)  # half of them outside: not flipped
        rows = np.flatnonzero(bits < 8 * codes.shape[1])
        copies[rows, bits[rows] // 8] ^= (128 >> bits[rows] % 8).astype(np.uint8)
    return copies


@pytest.fixture(scope="module")
def stored() -> Any:
    """Codes with many near ones, ids that interleave from segment to segment, some removed, and queries."""
    rng = np.random.default_rng(20)
    codes = rng.integers(0, 256, (N, 16), dtype=np.uint8)
    codes[: N // 4] = near(rng, codes[N // 2 :], N // 4, 3)
    codes[5:25] = codes[4]
    ids = rng.permutation(2 * N)[:N] - N // 2
    ids[ids == -1] = 3 * N
    index = Index({"coarse": 64, "fine": 64})
    for begin in range(0, N, 5000):
        index.add(codes[begin : begin + 5000], ids[begin : begin + 5000])
    index.remove(ids[::9])
    kept = np.setdiff1d(np.arange(N), np.arange(0, N, 9))
    queries = near(rng, codes, N_QUERIES, 4)
    queries[::3] = rng.integers(0, 256, queries[::3].shape, dtype=np.uint8)
    return index, codes[kept], ids[kept], queries


def check(index: Index, queries: Any, radius: int, **options: Any) -> Any:
    """All at once, whatever the threads, are what few at a time are."""
    found = index.range_search(queries, radius, **options)
    for threads in (1, 2):
        for a, b in zip(index.range_search(queries, radius, threads=threads, **options), found, strict=True):
            assert_array_equal(a, b)
    starts = range(0, len(queries), FEW)
    parts = [index.range_search(queries[begin : begin + FEW], radius, **options) for begin in starts]
    assert_array_equal(np.diff(found[0]), np.concatenate([np.diff(part[0]) for part in parts]))
    assert_array_equal(found[1], np.concatenate([part[1] for part in parts]))
    assert_array_equal(found[2], np.concatenate([part[2] for part in parts]))
    return found


@pytest.mark.parametrize("radius", [0, 2, 5])
def test_many_queries(kernel: str, stored: Any, radius: int) -> None:
    index, codes, ids, queries = stored
    offsets, distances, near_ids = check(index, queries, radius)
    assert offsets[-1] > 300
    some = oracle.within(codes, ids, queries[:40], radius)
    end = offsets[40]
    for a, b in zip((offsets[:41], distances[:end], near_ids[:end]), some, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options",
    [{"level": "coarse"}, {"level": "fine"}, {"weights": {"coarse": 3, "fine": 1}}, {"weights": {"coarse": 1}}],
)
def test_levels_and_weights(kernel: str, stored: Any, options: Any) -> None:
    index, _, _, queries = stored
    assert check(index, queries[:3000], 4, **options)[0][-1] > 300


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_filters(kernel: str, stored: Any, share: float) -> None:
    index, _, _, queries = stored
    where = np.random.default_rng(3).random(len(index)) < share
    found = check(index, queries, 3, where=where)
    assert found[0][-1] > 0
    assert np.isin(found[2], index.ids[where]).all()


def test_more_queries_than_codes(kernel: str) -> None:
    rng = np.random.default_rng(21)
    codes = rng.integers(0, 256, (900, 32), dtype=np.uint8)
    index = Index(256)
    index.add(codes)
    offsets, _, ids = check(index, near(rng, codes, 20_000, 4), 3)
    assert offsets[-1] > 5_000
    assert len(np.unique(ids)) == 900


def test_rings(kernel: str) -> None:
    rng = np.random.default_rng(22)
    codes = np.concatenate(
        [
            near(rng, rng.integers(0, 256, (20, 8), dtype=np.uint8), 6_000, 6),
            rng.integers(0, 256, (6_000, 8), dtype=np.uint8),
        ]
    )
    index = Index(64)
    index.add(codes, rng.permutation(len(codes)))
    queries = np.concatenate([near(rng, codes[-6_000:], 6_000, 3), codes[:30]])
    before = check(index, queries, 2)
    index.optimize()
    for a, b in zip(check(index, queries, 2), before, strict=True):
        assert_array_equal(a, b)
