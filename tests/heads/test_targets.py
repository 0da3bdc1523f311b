"""Target codes: how far apart they lie, and which class gets which."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from pyhash import heads
from pyhash.heads import targets


@pytest.mark.parametrize("order", [1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 60, 64, 72, 128])
def test_hadamard_matrices(order: int) -> None:
    matrix = targets.hadamard(order)
    assert matrix is not None
    np.testing.assert_array_equal(matrix.astype(int) @ matrix.T, order * np.eye(order, dtype=int))


def test_orders_without_a_hadamard_matrix() -> None:
    assert [order for order in range(3, 40) if order % 4 and targets.hadamard(order) is not None] == []


@pytest.mark.parametrize(
    ("n_classes", "bits", "least"),
    [
        (2, 1, 1),
        (3, 3, 2),
        (5, 15, 8),
        (6, 24, 11),  # 24 of all 31 splits: no 6 rows of a Hadamard matrix have distinct columns
        (10, 16, 8),
        (10, 64, 32),
        (16, 48, 24),
        (47, 24, 12),  # rows and their negatives
        (47, 16, 6),
        (100, 32, 14),
        (100, 64, 32),
        (200, 48, 20),
        (200, 16, 5),
        (200, 8, 1),
        (256, 8, 1),
        (1000, 56, 21),
    ],
)
def test_target_codes_are_far_apart_and_their_bits_differ(n_classes: int, bits: int, least: int) -> None:
    codes = heads.target_codes(n_classes, bits).astype(int)
    assert codes.shape == (n_classes, bits)
    assert set(np.unique(codes)) == {-1, 1}
    assert len(np.unique((codes * codes[0]).T, axis=0)) == bits
    assert np.abs(codes.sum(axis=0)).max() < (n_classes if n_classes < 40 else 0.15 * n_classes)
    distances = (bits - codes @ codes.T) // 2
    assert least <= distances[~np.eye(n_classes, dtype=bool)].min() <= targets.distance_bound(n_classes, bits)


def test_equal_seeds_give_equal_target_codes() -> None:
    first, again, other = (heads.target_codes(100, 24, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("n_codes", "bits"), [(2, 3), (3, 3), (3, 4), (4, 4), (5, 4), (6, 4), (8, 4)])
def test_no_codes_are_further_apart_than_the_bound(n_codes: int, bits: int) -> None:
    """All sets of codes, one of them 0."""
    sets = itertools.combinations(range(1, 1 << bits), n_codes - 1)
    best = max(min((a ^ b).bit_count() for a, b in itertools.combinations((0, *rest), 2)) for rest in sets)
    assert best <= targets.distance_bound(n_codes, bits) <= best + 1


def test_target_codes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"n_classes must be from 2 to 2 \*\* bits for 3 bits, got 9"):
        heads.target_codes(9, 3)
    with pytest.raises(ValueError, match="bits must be from 1 to the 3 splits of 3 classes, got 4"):
        heads.target_codes(3, 4)


def test_similar_classes_get_near_codes() -> None:
    rng = np.random.default_rng(0)
    codes = heads.target_codes(40, 8)
    points = rng.standard_normal((40, 3))
    similarity = points @ points.T

    def value(codes: NDArray[np.int8]) -> float:
        return float((similarity * (codes.astype(int) @ codes.T.astype(int))).sum())

    assigned = targets.assign(codes, similarity)
    assert sorted(map(bytes, assigned)) == sorted(map(bytes, codes))
    assert value(assigned) > value(codes)
    best = 0.0
    for i, j in itertools.combinations(range(40), 2):
        swapped = assigned.copy()
        swapped[[i, j]] = assigned[[j, i]]
        best = max(best, value(swapped) - value(assigned))
    assert best < 1e-6 * value(assigned)
