"""Products of int8 vectors in NumPy, exactly, for where the C++ core is not compiled: the contract says what they are.

A float32 holds every integer up to 2^24. Products are at most 2^14, so BLAS sums up to 1024 of them in float32, in
whatever order it likes, and the result is exact; more are summed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Ids, Int8s, Similarities

_MOST_COMPONENTS = 1024  # whose products float32 sums exactly: 1024 * 128 * 128 = 2^24
_CELLS = 1 << 23  # held at once
_MARGIN = 1e-6  # above what three roundings in float32 can change


def squares(rows: Int8s) -> NDArray[np.int32]:
    """Return the product of each row with itself."""
    sums = np.empty(len(rows), dtype=np.int32)
    step = max(1, _CELLS // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        part = _exact(rows[first : first + step])
        sums[first : first + step] = np.einsum("ij,ij->i", part, part)
    return sums


def cosines(
    dots: NDArray[np.int32], query_squares: NDArray[np.int32], row_squares: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return cosines: 0 where one of the two is zero, 1 where both are equal. IEEE 754 rounds every step."""
    lengths = np.sqrt((query_squares.astype(np.int64) * row_squares).astype(np.float64))
    similarities: NDArray[np.float64] = dots / np.where(lengths == 0, 1.0, lengths)
    return similarities


def similar(
    queries: Int8s, rows: Int8s, row_squares: NDArray[np.int32], k: int, without: Ids | None
) -> tuple[Similarities, Ids]:
    """Cosine and place of the k most similar rows of each query."""
    similarities = np.full((len(queries), k), -np.inf)
    places = np.full((len(queries), k), -1, dtype=np.int64)
    k = min(k, len(rows))
    if not k:
        return similarities, places
    own_squares = squares(queries)
    with np.errstate(divide="ignore"):
        scales = np.where(row_squares == 0, 0, 1 / np.sqrt(row_squares)).astype(np.float32)
    step = max(1, _CELLS // len(rows))
    for first in range(0, len(queries), step):
        some = slice(first, first + step)
        dots = np.concatenate([_products(queries[some], part) for part in _parts(rows)], axis=1)
        near = dots.astype(np.float32) * scales
        here = np.arange(len(near))
        if without is not None:
            left_out = without[some] >= 0
            near[here[left_out], without[some][left_out]] = -np.inf
        least = np.partition(near, len(rows) - k, axis=1)[:, len(rows) - k, None]
        owner, found = np.nonzero((near >= least - _MARGIN * np.abs(least)) & (near != -np.inf))
        measured = cosines(dots[owner, found].astype(np.int32), own_squares[some][owner], row_squares[found])
        order = np.lexsort((found, -measured, owner))
        owner = owner[order]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = rank < k
        similarities[first + owner[kept], rank[kept]] = measured[order][kept]
        places[first + owner[kept], rank[kept]] = found[order][kept]
    return similarities, places


def products(queries: Int8s, rows: Int8s, places: Ids) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Products of each query with the rows listed for it, and of those rows with themselves."""
    _check(places, len(rows))
    dots, own = np.zeros(places.shape, dtype=np.int32), np.zeros(places.shape, dtype=np.int32)
    if not len(rows) or not places.size:
        return dots, own
    step = max(1, _CELLS // (places.shape[1] * max(1, rows.shape[1])))
    for first in range(0, len(queries), step):
        some = places[first : first + step]
        listed = _exact(rows[some])
        dots[first : first + step] = np.einsum("ijk,ik->ij", listed, _exact(queries[first : first + step]))
        own[first : first + step] = np.einsum("ijk,ijk->ij", listed, listed)
    dots[places < 0] = own[places < 0] = 0
    return dots, own


def signed_sums(weights: NDArray[np.int16], codes: NDArray[np.uint8], places: Ids) -> NDArray[np.int32]:
    """Sums of each query's weights, with a minus where the code listed for it has a 0."""
    _check(places, len(codes))
    sums = np.zeros(places.shape, dtype=np.int32)
    if not len(codes) or not places.size:
        return sums
    n_bits = weights.shape[1]
    step = max(1, _CELLS // (places.shape[1] * n_bits))
    for first in range(0, len(weights), step):
        bits = np.unpackbits(codes[places[first : first + step]], axis=2, count=n_bits).astype(np.float64)
        some = weights[first : first + step].astype(np.float64)
        set_ones = np.einsum("ijk,ik->ij", bits, some)  # at most 2^16 * 2^15: exact
        sums[first : first + step] = 2 * set_ones - some.sum(axis=1, keepdims=True)
    sums[places < 0] = 0
    return sums


def _check(places: Ids, n: int) -> None:
    if places.size and (places.min() < -1 or places.max() >= n):
        raise ValueError("places must be -1 or places of rows")


def _exact(vectors: Int8s) -> NDArray[Any]:
    return vectors.astype(np.float32 if vectors.shape[-1] <= _MOST_COMPONENTS else np.float64)


def _parts(rows: Int8s) -> list[Int8s]:
    step = max(1, _CELLS // max(1, rows.shape[1]))
    return [rows[first : first + step] for first in range(0, len(rows), step)]


def _products(queries: Int8s, rows: Int8s) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):  # some kernels of BLAS raise the flag, though all is finite
        dots: NDArray[Any] = _exact(queries) @ _exact(rows).T
    return dots
