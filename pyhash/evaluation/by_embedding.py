"""Rankings by embeddings: of the best by code, or of everything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .. import ranking
from ..ranking import Embeddings, Quantized

Ints = NDArray[np.int64]


class ByEmbedding:
    """Orders what is nearest by code by embeddings, as `pyhash.rescore` does, and leaves the rest as it is by code.

    Parameters
    ----------
    queries, database : embeddings, or a mapping of name to embeddings
        One row a query, and one a code, in the order in which they were given.
    n_candidates : int
        How many are ordered.
    order : int array, (n,)
        The row of the database that each column of `groups` stands for.
    """

    def __init__(
        self,
        queries: Embeddings | Mapping[str, Embeddings],
        database: Embeddings | Mapping[str, Embeddings],
        n_candidates: int,
        n_queries: int,
        order: Ints,
    ) -> None:
        self._queries = _quantized(queries, "embeddings of queries", n_queries)
        self._database = _quantized(database, "embeddings of the database", len(order))
        self.n_candidates = min(n_candidates, len(order))
        self._order = order
        self._column = np.argsort(order)

    def groups(self, rows: Ints, distances: NDArray[np.int32], own: Ints | None, last: int) -> Ints:
        """Return for each query and column the group of ties it is in: a rank, or `n_candidates` and the distance.

        rows: numbers of the queries; distances: by code, (rows, n); own: the database row of each that is left out, -1
        for none: it goes to the group `last`.
        """
        n = len(self._order)
        groups = distances.astype(np.int64) + self.n_candidates
        keys = distances.astype(np.int64) * n + self._order  # as an index has it: ties go to the smaller row
        here = np.arange(len(rows))[:, None]
        if own is not None:
            inside = np.flatnonzero(own >= 0)
            groups[inside, self._column[own[inside]]] = last
            keys[inside, self._column[own[inside]]] = np.iinfo(np.int64).max
        chosen = np.argpartition(keys, self.n_candidates - 1, axis=1)[:, : self.n_candidates]
        ids = np.where(groups[here, chosen] == last, -1, self._order[chosen])
        queries = {name: Quantized(some.vectors[rows], some.norms[rows]) for name, some in self._queries.items()}
        found = ranking.rescore(queries, self._database, ids).ids
        query, rank = np.nonzero(found >= 0)
        groups[query, self._column[found[query, rank]]] = rank
        return groups


def _quantized(embeddings: Embeddings | Mapping[str, Embeddings], name: str, n: int) -> dict[str, Quantized]:
    named = embeddings if isinstance(embeddings, Mapping) else {"embedding": embeddings}
    found = {key: rows if isinstance(rows, Quantized) else ranking.quantize(rows) for key, rows in named.items()}
    for rows in found.values():
        if len(rows.vectors) != n:
            raise ValueError(f"{name} must be one row a code, {n}, got {len(rows.vectors)}")
    return found
