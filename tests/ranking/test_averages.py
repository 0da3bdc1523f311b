"""Neighbourhoods beside their definition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import slow_ranking
from hypothesis import given
from hypothesis import strategies as st
from tuning import tune

import pyhash
from pyhash.ranking import Neighbours, average, neighbourhoods, neighbours, quantize


def random_neighbours(rng, n, n_collection, k):
    ids = rng.integers(-1, n_collection, (n, k)) if n_collection else np.full((n, k), -1)
    return Neighbours(ids, rng.random((n, k), dtype=np.float32) * (rng.random((n, k)) < 0.8))


@given(data=st.data())
def test_averages_are_what_they_are_defined_to_be(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    n, m, dim = (data.draw(st.integers(least, 30)) for least in (0, 0, 1))
    k, rounds = data.draw(st.integers(1, 12), "k"), data.draw(st.integers(0, 3), "rounds")
    vectors, collection = rng.standard_normal((n, dim)), rng.standard_normal((m, dim))
    vectors[rng.random(n) < 0.1] = 0
    near = random_neighbours(rng, n, n, k)
    expected = slow_ranking.averaged(vectors, *near, rounds)
    np.testing.assert_allclose(average(vectors, near, rounds=rounds), expected, atol=2e-6)
    near, among = random_neighbours(rng, n, m, k), random_neighbours(rng, m, m, k)
    expected = slow_ranking.averaged(vectors, *near, rounds, collection, among)
    found = average(vectors, near, collection=collection, among=among, rounds=rounds)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("quantized", [False, True])
def test_some_rows_are_averaged_as_all_are(quantized):
    """Rows of the collection, asked for alone, come out bit for bit as all at once, on any number of threads."""
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((1500, 24)).astype(np.float32)
    rows = quantize(floats) if quantized else floats
    near = neighbours(rows, rows, 6, without=np.arange(1500))
    for rounds in range(4):
        whole = average(rows, near, rounds=rounds, threads=2)
        np.testing.assert_array_equal(whole, average(rows, near, rounds=rounds, threads=1))
        for places in (np.array([3]), np.array([1499, 0, 0]), np.arange(200, 900)):
            some = type(rows)(*(part[places] for part in rows)) if quantized else rows[places]
            of_some = Neighbours(*(part[places] for part in near))
            found = average(some, of_some, collection=rows, among=near, rounds=rounds)
            np.testing.assert_array_equal(found, whole[places])


def test_a_neighbour_without_weight_does_not_count():
    vectors = np.eye(3)
    near = Neighbours(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[0, 1], [0, 0], [1, 1]], np.float32))
    half = np.sqrt(0.5)
    found = average(vectors, near, rounds=1)
    np.testing.assert_allclose(found, [[half, 0, half], [0, 1, 0], [3**-0.5] * 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": np.full((2, 3), np.nan)}, "vectors must be finite"),
        ({"rounds": -1}, "rounds must be at least 0"),
        ({"collection": np.ones((2, 4))}, "vectors must be as wide as collection, 4 numbers, got 3"),
        ({"collection": np.ones((2, 3))}, "among must be the neighbours of the collection"),
        ({"among": Neighbours(np.array([[1], [0]]), np.ones((2, 1), np.float32))}, "among is for a collection"),
        ({"neighbours": Neighbours(np.array([[2], [0]]), np.ones((2, 1)))}, "neighbours.ids must be -1 or places"),
        ({"neighbours": Neighbours(np.array([[1], [0]]), np.ones((2, 2)))}, "neighbours.weights must have the shape"),
        ({"neighbours": Neighbours(np.array([[1], [0]]), [[1], [np.inf]])}, "neighbours.weights must be finite"),
    ],
)
def test_averages_say_what_does_not_fit(changes, message):
    near = Neighbours(np.array([[1], [0]]), np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match=message):
        average(**{"vectors": np.ones((2, 3)), "neighbours": near} | changes)


def test_neighbourhoods_are_the_two_steps():
    rows = np.random.default_rng(1).standard_normal((80, 16))
    near = neighbours(rows, rows, 4, power=2, without=np.arange(80))
    expected = average(rows, near, rounds=1)
    np.testing.assert_array_equal(neighbourhoods(rows, 4, 1, power=2), expected)
    np.testing.assert_array_equal(pyhash.neighbourhoods(rows, 4, 1, power=2, threads=1), expected)


def test_neighbours_are_found_by_code():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((300, 64)).astype(np.float32)
    codes = pyhash.pack(rows)
    index = pyhash.Index(64)
    index.add(codes)
    among = index.search(codes, 21).ids
    expected = average(rows, neighbours(rows, rows, 10, candidates=among, without=np.arange(300)))
    for given_codes in (codes, index):
        np.testing.assert_array_equal(neighbourhoods(rows, codes=given_codes, candidates=20), expected)
    np.testing.assert_array_equal(neighbourhoods(rows, codes=codes, candidates=300), neighbourhoods(rows))


def test_blocks_do_not_change_what_is_found(monkeypatch):
    rows = np.random.default_rng(3).standard_normal((200, 32)).astype(np.float32)
    codes = pyhash.pack(rows)
    whole = neighbourhoods(rows), neighbourhoods(rows, codes=codes)
    tune(monkeypatch, product_queries=7, product_numbers=1, listed_numbers=1, searched_queries=9, averaged_rows=3)
    for one, other in zip(whole, (neighbourhoods(rows), neighbourhoods(rows, codes=codes)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_codes_that_do_not_fit_are_refused():
    rows = np.ones((3, 8))
    with pytest.raises(ValueError, match="codes must be one for each of the 3 embeddings"):
        neighbourhoods(rows, codes=np.zeros((2, 1), np.uint8))
    index = pyhash.Index(8)
    index.add(np.zeros((3, 1), np.uint8), [0, 1, 5])
    with pytest.raises(ValueError, match="with ids from 0 on"):
        neighbourhoods(rows, codes=index)
    with pytest.raises(ValueError, match="candidates must be at least 1"):
        neighbourhoods(rows, codes=np.zeros((3, 1), np.uint8), candidates=0)


def test_nothing_and_little():
    assert neighbourhoods(np.empty((0, 5))).shape == (0, 5)
    assert neighbourhoods(np.empty((0, 8)), codes=np.empty((0, 1), np.uint8)).shape == (0, 8)
    np.testing.assert_allclose(neighbourhoods([[3.0, 4.0]]), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(neighbourhoods(np.zeros((4, 2))), np.zeros((4, 2)))


def test_an_image_alone_in_its_kind_stays_what_it_is():
    rows = np.eye(50)
    np.testing.assert_array_equal(neighbourhoods(rows), rows)
