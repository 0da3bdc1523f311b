"""Embeddings as int8, and their neighbours, beside the slow reference, on every kernel."""

from __future__ import annotations

import numpy as np
import pytest
import slow_ranking
from hypothesis import given
from hypothesis import strategies as st

import pyhash
from pyhash import ranking
from pyhash.ranking import Quantized, neighbours, quantize


def few_values(rng, n, dim):
    """Int8 rows of which some are equal, opposite, parallel or zero, and the extremes occur."""
    rows = rng.choice(np.array([-128, -127, -3, -1, 0, 0, 1, 2, 127], dtype=np.int8), (n, dim))
    for row in range(n):
        rows[row] = rows[rng.integers(0, n)] if rng.random() < 0.3 else rows[row]
        rows[row] *= rng.random() < 0.9
    return Quantized(rows, np.ones(n, np.float32))


def test_rows_keep_direction_and_length():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((50, 384)) * 10.0 ** rng.integers(-30, 30, (50, 1))).astype(np.float32)
    vectors, norms = quantize(rows)
    assert (vectors.dtype, norms.dtype) == (np.int8, np.float32)
    assert (np.abs(vectors.astype(int)).max(axis=1) == 127).all()
    np.testing.assert_allclose(norms, np.linalg.norm(rows.astype(float), axis=1), rtol=1e-6)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    assert np.abs(vectors / 127 - rows / largest).max() <= 0.5 / 127 + 1e-6


def test_rows_are_quantized_alone():
    rows = np.random.default_rng(1).standard_normal((3000, 700)).astype(np.float32)
    whole = quantize(rows)
    for first, end in ((0, 1), (1, 2), (1499, 1500), (17, 2999)):
        part = quantize(rows[first:end])
        np.testing.assert_array_equal(part.vectors, whole.vectors[first:end])
        np.testing.assert_array_equal(part.norms, whole.norms[first:end])


def test_what_is_quantized_need_not_be_float32():
    for rows in ([[1, 2]], np.array([[1, 2]], np.float16), np.asfortranarray([[1.0, 2.0]])):
        assert quantize(rows).vectors.tolist() == [[64, 127]]
    assert quantize(np.empty((0, 3))).vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([[1.0, 2.0], [np.nan, 0.0]], ValueError, "rows must be finite float32 numbers, row 1 is not"),
        ([[1.0, np.inf]], ValueError, "rows must be finite float32 numbers, row 0 is not"),
        ([[1e39, 0]], ValueError, "rows must be finite float32 numbers, row 0 is not"),
        ([1.0, 2.0], ValueError, r"rows must have shape \(n, dim\)"),
        (np.empty((3, 0)), ValueError, r"rows must have shape \(n, dim\)"),
        ([["a"]], TypeError, "rows must be an array of floats"),
        ([[1.0], [1.0, 2.0]], ValueError, "rows must be an array"),
    ],
)
def test_what_cannot_be_quantized(rows, error, message):
    with pytest.raises(error, match=message):
        quantize(rows)


@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_neighbours_are_those_of_the_reference(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    dim = data.draw(st.sampled_from([1, 2, 3, 7, 16, 31, 64, 65, 130]), "dim")
    rows = few_values(rng, data.draw(st.integers(0, 90), "rows"), dim)
    n = len(rows.vectors)
    queries = few_values(rng, data.draw(st.integers(0, 20), "queries"), dim)
    k = data.draw(st.integers(1, 100), "k")
    without = data.draw(st.sampled_from([None, rng.integers(-1, n, len(queries.vectors))]), "without")
    among = data.draw(st.sampled_from([None, rng.integers(-1, n, (len(queries.vectors), 12))]), "candidates")
    threads = data.draw(st.integers(1, 3), "threads")
    with pyhash.use(name):
        found = neighbours(queries, rows, k, candidates=among, power=1, without=without, threads=threads)
    for i, query in enumerate(queries.vectors.tolist()):
        here = slow_ranking.nearest(
            query,
            rows.vectors.tolist(),
            k,
            None if among is None else among[i].tolist(),
            -1 if without is None else int(without[i]),
        )
        assert found.ids[i].tolist() == [place for _, place in here]
        assert found.weights[i].tolist() == [np.float32(max(similarity, 0)) for similarity, _ in here]


def test_neighbours_do_not_depend_on_the_batch(kernel):
    rng = np.random.default_rng(2)
    rows = quantize(rng.standard_normal((700, 384)))
    whole = neighbours(rows, rows, 5, without=np.arange(700), threads=2)
    for first, end in ((0, 1), (3, 20), (100, 612)):
        part = Quantized(rows.vectors[first:end], rows.norms[first:end])
        found = neighbours(part, rows, 5, without=np.arange(first, end), threads=1)
        np.testing.assert_array_equal(found.ids, whole.ids[first:end])
        np.testing.assert_array_equal(found.weights, whole.weights[first:end])


def test_rows_too_wide_for_float32_sums(kernel):
    """The sums pass 2^24, where float32 would round them."""
    rows = np.full((3, 5000), 127, dtype=np.int8)
    rows[1, 0] = 126
    rows[2, :2] = 126
    found = neighbours(Quantized(rows[:1], np.ones(1, np.float32)), Quantized(rows, np.ones(3, np.float32)), 3, power=1)
    assert found.ids.tolist() == [[0, 1, 2]]
    assert found.weights[0, 0] == 1


def test_a_copy_comes_first_and_equal_ones_by_place(kernel):
    rows = np.random.default_rng(3).standard_normal((300, 40)).astype(np.float32)
    rows[250] = rows[7]
    rows[11] = 3 * rows[7]
    found = neighbours(rows[7:8], rows, 3)
    assert found.ids.tolist() == [[7, 11, 250]]
    assert found.weights.tolist() == [[1, 1, 1]]


def test_weights_are_powers_of_similarity():
    rows = [[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]]
    similarity = 127 * 127 / np.sqrt(127**2 * 2 * 127**2)
    ids, weights = neighbours(rows[:1], rows, 4, power=2)
    assert ids.tolist() == [[0, 1, 3, 2]]
    np.testing.assert_allclose(weights, [[1, similarity**2, 0, 0]])
    assert neighbours(rows[:1], rows, 5, power=0).weights.tolist() == [[1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": [[1.0, 2.0]]}, "queries must be as wide as collection, 3 numbers a row, got 2"),
        ({"queries": [[1.0, 2.0, np.nan]]}, "queries must be finite"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"power": -1}, "power must be at least 0, got -1"),
        ({"power": np.nan}, "power must be at least 0, got nan"),
        ({"candidates": [0]}, r"candidates must have shape \(1, any\), got \(1,\)"),
        ({"candidates": [[5]]}, "candidates must be -1 or places from 0 to 4, got 5 to 5"),
        ({"without": [0, 1]}, r"without must have shape \(1\), got \(2,\)"),
        ({"without": [-2]}, "without must be -1 or places"),
        ({"without": [0.5]}, "without must be an array of integers"),
        ({"queries": Quantized(np.ones((1, 3)), np.ones(1))}, "queries.vectors must be an array of int8"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_neighbours_say_what_does_not_fit(changes, message):
    arguments = {"queries": np.ones((1, 3)), "collection": np.ones((5, 3))} | changes
    with pytest.raises((ValueError, TypeError), match=message):
        neighbours(**arguments)


def test_the_face_of_the_package():
    assert dir(ranking) == ranking.__all__ == sorted(ranking.__all__)
