"""Products of int8 rows: every kernel finds the numbers of plain integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyhash
from pyhash import backend


def int8s(rng, n, dim):
    return rng.integers(-128, 128, (n, dim), dtype=np.int8)


@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_products_are_those_of_integers(name, data):
    with pyhash.use(name):
        active = backend.active()
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    q, n = data.draw(st.integers(0, 40), "queries"), data.draw(st.integers(0, 150), "rows")
    dim, threads = data.draw(st.integers(1, 1100), "dim"), data.draw(st.integers(0, 3), "threads")
    queries, rows = int8s(rng, q, dim), int8s(rng, n, dim)
    exact, squares = queries.astype(np.int64) @ rows.T.astype(np.int64), np.square(rows.astype(np.int64)).sum(axis=1)
    own = active.squares(rows, threads)
    assert own.dtype == np.int32
    np.testing.assert_array_equal(own, squares)
    places = rng.integers(-1, n, (q, data.draw(st.integers(0, 20), "places")))
    dots, listed = active.products(queries, rows, places, threads)
    assert dots.dtype == listed.dtype == np.int32
    found = np.pad(exact, ((0, 0), (0, 1)))  # place -1 is the last column
    np.testing.assert_array_equal(dots, np.take_along_axis(found, places, axis=1))
    np.testing.assert_array_equal(listed, np.append(squares, 0)[places])
    k = data.draw(st.integers(1, 30), "k")
    similarities, near = active.similar(queries, rows, own, k, None, threads)
    cosines = backend.cosines(exact.astype(np.int32), active.squares(queries, threads)[:, None], own)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(near[:, : order.shape[1]], order)
    np.testing.assert_array_equal(similarities[:, : order.shape[1]], np.take_along_axis(cosines, order, axis=1))
    assert (near[:, n:] == -1).all()
    assert (similarities[:, n:] == -np.inf).all()


def test_places_that_are_not_there_are_refused(kernel):
    active = backend.active()
    rows = np.ones((5, 3), np.int8)
    for place in (-2, 5, 2**40):
        with pytest.raises(ValueError, match="places must be -1 or places of rows"):
            active.products(rows[:1], rows, np.array([[0, place]]), 1)
        with pytest.raises(ValueError, match="places must be -1 or places of rows"):
            active.signed_sums(np.ones((1, 8), np.int16), np.zeros((5, 1), np.uint8), np.array([[0, place]]), 1)


def test_rows_may_be_read_only(kernel):
    active = backend.active()
    rows = np.arange(12, dtype=np.int8).reshape(4, 3)
    rows.flags.writeable = False
    np.testing.assert_array_equal(active.squares(rows, 1), (rows.astype(int) ** 2).sum(axis=1))
    _, places = active.similar(rows, rows, active.squares(rows, 1), 1, None, 1)
    assert places.tolist() == [[0], [1], [2], [3]]
