"""What the right answers are, computed slowly and plainly: every backend and kernel is compared with it.

Codes are rows of uint8, ids come with the rows in any order. A metric is a list of parts
`(first byte, end byte, weight)`; None is the whole code once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD_DISTANCE = 2**31 - 1
PAD_ID = -1

Parts = Sequence[tuple[int, int, int]]


def pack(features: NDArray, threshold: float | NDArray = 0.0) -> NDArray[np.uint8]:
    n, bits = features.shape
    thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), (bits,)).tolist()
    codes = np.zeros((n, (bits + 7) // 8), dtype=np.uint8)
    for row in range(n):
        for column, value in enumerate(features[row].tolist()):
            if value > thresholds[column]:
                codes[row, column // 8] |= 1 << (7 - column % 8)
    return codes


def unpack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    unpacked = np.zeros((len(codes), bits), dtype=np.uint8)
    for row, code in enumerate(codes.tolist()):
        for column in range(bits):
            unpacked[row, column] = code[column // 8] >> (7 - column % 8) & 1
    return unpacked


def hamming(a: NDArray[np.uint8], b: NDArray[np.uint8], parts: Parts | None = None) -> NDArray[np.int64]:
    """Distances `(m, n)`, weighted by parts."""
    distances = np.zeros((len(a), len(b)), dtype=np.int64)
    for first, end, weight in [(0, a.shape[1], 1)] if parts is None else parts:
        for i, row in enumerate(a):
            differing = np.unpackbits(row[first:end] ^ b[:, first:end], axis=1)
            distances[i] += weight * differing.sum(axis=1, dtype=np.int64)
    return distances


def _ranked(
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    query: NDArray[np.uint8],
    parts: Parts | None,
    allowed: NDArray[np.bool_] | None,
) -> list[tuple[int, int]]:
    """Return (distance, id) of every code that may be found, nearest first."""
    distances = hamming(query[None], codes, parts)[0].tolist()
    found = zip(distances, ids.tolist(), strict=True)
    if allowed is not None:
        found = (pair for pair, shown in zip(found, allowed.tolist(), strict=True) if shown)
    return sorted(found)


def topk(
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    queries: NDArray[np.uint8],
    k: int,
    parts: Parts | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distances and ids `(q, k)` in (distance, id) order, padded. allowed: a mask aligned with the codes."""
    distances = np.full((len(queries), k), PAD_DISTANCE, dtype=np.int32)
    nearest = np.full((len(queries), k), PAD_ID, dtype=np.int64)
    for row, query in enumerate(queries):
        for column, (distance, id) in enumerate(_ranked(codes, ids, query, parts, allowed)[:k]):
            distances[row, column] = distance
            nearest[row, column] = id
    return distances, nearest


def within(
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    queries: NDArray[np.uint8],
    radius: int,
    parts: Parts | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Offsets `(q + 1,)`, distances and ids of all with distance <= radius, in (distance, id) order a query."""
    offsets, found = [0], []
    for query in queries:
        found += [pair for pair in _ranked(codes, ids, query, parts, allowed) if pair[0] <= radius]
        offsets.append(len(found))
    distances = np.array([distance for distance, _ in found], dtype=np.int32)
    return np.array(offsets, dtype=np.int64), distances, np.array([id for _, id in found], dtype=np.int64)


def pairs(
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    radius: int,
    parts: Parts | None = None,
    other: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """All pairs with ids i < j and distance <= radius, in (i, j) order; with `other`, codes and ids, j is of those."""
    found = []
    for row, id in enumerate(ids.tolist()):
        for distance, there in _ranked(*(other or (codes, ids)), codes[row], parts, None):
            if (other is not None or id < there) and distance <= radius:
                found.append((id, there, distance))
    found.sort()
    columns = np.array(found, dtype=np.int64).reshape(-1, 3)
    return columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].astype(np.int32)
