"""Rankings by embeddings, slowly: whole numbers of Python, one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def cosine(a: Sequence[int], b: Sequence[int]) -> float:
    """Of two rows of whole numbers; 0 where one of them is zero."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    squares = sum(x * x for x in a) * sum(y * y for y in b)
    return dot / math.sqrt(squares) if squares else 0.0


def nearest(query, rows, k, places=None, without=-1):
    """The k most similar rows as (similarity, place), padded with (-inf, -1)."""
    among = set(range(len(rows)) if places is None else places) - {-1, without}
    ranked = sorted((-cosine(query, rows[place]), place) for place in among)[:k]
    found = [(-similarity, place) for similarity, place in ranked]
    return found + [(-math.inf, -1)] * (k - len(found))


def averaged(vectors, ids, weights, rounds, collection=None, among=None):
    """Averages in float64, by their definition; `among` are ids and weights of the collection's own neighbours."""
    rows = unit(vectors)
    if collection is None:
        for _ in range(rounds):
            rows = mixed(rows, rows, ids, weights)
        return rows
    pool = unit(collection)
    for _ in range(rounds):
        rows, pool = mixed(rows, pool, ids, weights), mixed(pool, pool, *among)
    return rows


def mixed(rows, pool, ids, weights):
    sums = [
        row + sum((w * pool[i] for i, w in zip(near, heavy, strict=True) if i >= 0), np.zeros(len(row)))
        for row, near, heavy in zip(rows, ids, weights, strict=True)
    ]
    return unit(np.array(sums).reshape(np.shape(rows)))


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return np.array([row / (math.sqrt(sum(row * row)) or 1) for row in rows]).reshape(rows.shape)
