"""Cosines of int8 rows: exact integers, divided once in float64, so that they are equal wherever they are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..support import memory

Int8s = NDArray[np.int8]
Ids = NDArray[np.int64]

_BLOCK_PRODUCTS = 1 << 36  # multiplied in one call of a kernel, half a second of two cores: Ctrl-C waits for its end
_BLOCK_QUERIES = 256  # so many at least: rows are laid out anew for each call
_BLOCK_NEAREST = 1 << 20  # neighbours found in one call
_HELD = 128  # bytes of such a neighbour, while a kernel looks for it
_BLOCK_CELLS = 1 << 28  # numbers of listed rows that one call reads


def nearest(queries: Int8s, rows: Int8s, k: int, without: Ids | None, threads: int) -> tuple[NDArray[np.float64], Ids]:
    """Return similarity and place of the k most similar rows of each query, padded with -inf and -1."""
    kernel = backend.active()
    step = max(_BLOCK_QUERIES, min(_BLOCK_PRODUCTS // max(1, rows.size), _BLOCK_NEAREST // k))
    n = len(queries)
    memory.ask(16 * k * n + _HELD * k * min(step, n), "k must be smaller", "%d neighbours of each of %d rows", k, n)
    similarities = np.full((len(queries), k), -np.inf)
    places = np.full((len(queries), k), -1, dtype=np.int64)
    squares = kernel.squares(rows, threads)
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        left_out = None if without is None else without[part]
        similarities[part], places[part] = kernel.similar(queries[part], rows, squares, k, left_out, threads)
    return similarities, places


def listed(queries: Int8s, rows: Int8s, places: Ids, threads: int) -> NDArray[np.float64]:
    """Return the cosine of each query with the rows in its places; -inf where the place is -1."""
    kernel = backend.active()
    similarities = np.empty(places.shape)
    step = max(1, _BLOCK_CELLS // max(1, places.shape[1] * rows.shape[1]))
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        dots, squares = kernel.products(queries[part], rows, places[part], threads)
        similarities[part] = backend.cosines(dots, kernel.squares(queries[part], threads)[:, None], squares)
    similarities[places < 0] = -np.inf
    return similarities
