"""How well codes retrieve: tie-aware metrics of Hamming rankings, at one or several granularities.

Hamming distances are small integers, so most of a ranking is ties, and a figure that depends on how a sort happened to
break them means little. Every figure here is the *expectation over all orders of the tied items*, in closed form
(F. McSherry, M. Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores", ECIR 2008): the order of the database cannot move it. A ranking enters only through two histograms a query: how
many items, and how many relevant ones, lie at each distance.

Definitions, for a query with R relevant items among the N of the database (R = 0 counts 0 and is reported):

``mAP``
    Mean over the queries of the average precision ``1/R * sum over relevant items of precision at their rank``.
``mAP@k``
    The same sum cut after rank k. ``truncation="retrieved"`` divides it by the number of relevant items among the first
    k, as the deep hashing literature does (Cao et al., "HashNet", ICCV 2017); ``"possible"`` by ``min(R, k)``.
``P@k``, ``R@k``
    Relevant items among the first k, divided by k and by R.
``P@r<=2``, ``empty@r<=2``
    Precision among the items within Hamming radius 2; an empty ball counts 0. The share of queries whose ball is empty.
``nDCG@k``
    Discounted cumulative gain over its best possible value (Jarvelin and Kekalainen, TOIS 2002): gain = number of label
    levels on which query and item agree, discount ``1 / log2(1 + rank)``.
``mAHP@k``
    Mean average hierarchical precision: the mean of HP@1 ... HP@k, where HP@i is the summed similarity of the first i
    items over the largest sum that i items could have (Deng, Berg, Fei-Fei, CVPR 2011; Barz and Denzler, WACV 2019).
    Similarity is the share of label levels on which query and item agree; in a tree of labels that is one minus the
    height of the lowest common ancestor over the height of the tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backend import hamming
from ..codes import Levels, LevelsLike, as_levels, check_int
from ..labels import Labels, as_labels
from ..ranking import Embeddings
from ..support import memory
from . import ties
from .by_embedding import ByEmbedding
from .report import GRADED, RESCORED, Protocol, Report, Score

Ints = NDArray[np.int64]

_CHUNK_QUERIES = 1024  # queries whose histograms are held at once
_CHUNK_CELLS = 1 << 22  # distances computed at once: 16 MiB of int32
_CURVE_POINTS = 100
_PASSES = 16  # arrays as large as the histograms of a ranking, while its metrics are computed
_ORDERED = 64  # bytes a distance, while the nearest by code are ordered by embeddings


def evaluate(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    query_labels: Labels,
    database_labels: Labels,
    *,
    levels: LevelsLike | None = None,
    rankings: Mapping[str, Mapping[str, int]] | None = None,
    ks: Sequence[int] | None = None,
    radius: int = 2,
    truncation: Literal["retrieved", "possible"] = "retrieved",
    exclude_self: bool | ArrayLike = False,
    protocol: Protocol | None = None,
    embeddings: tuple[Embeddings | Mapping[str, Embeddings], Embeddings | Mapping[str, Embeddings]] | None = None,
    rescore: int | None = 100,
) -> Report:
    """Rank the database for every query by Hamming distance and measure the rankings.

    Two items are relevant to each other at a label level when they carry the same label there. The definitions, and how
    ties are treated, are in the documentation of this module. 10,000 queries x 50,000 codes of 64 bits take seconds.

    Parameters
    ----------
    queries, database : uint8 arrays, shapes (q, n_bytes) and (n, n_bytes)
        Packed codes.
    query_labels, database_labels : array or mapping of level name to array
        One label an image (integers or strings), for each label level; a bare array is the level ``"label"``. With
        several levels, give them from coarse to fine: nDCG and mAHP are reported too.
    levels : Levels, mapping, int or None
        How the code is divided; None is one level of all the bytes' bits.
    rankings : mapping of name to mapping of level to weight, optional
        What to rank by: ``sum of weight * distance at the level``, weights non-negative integers. By default the whole
        code, as ``"code"``, and where there are several levels each of them alone, under its name.
    ks : sequence of int, optional
        The cut-offs of the metrics "@k"; by default those of 1, 10, 100, 1000 that the database has room for.
    radius : int
        The Hamming radius of the ball, in units of the ranking's distance.
    truncation : {"retrieved", "possible"}
        The denominator of ``mAP@k``.
    exclude_self : bool or int array of shape (q,)
        The queries are part of the database: leave each out of its own ranking. True means query i is row i of the
        database; an array gives each query's row, -1 for a query that is not in it.
    protocol : Protocol, optional
        What the images were, for the report.
    embeddings : (queries, database), optional
        Rank by these, too: arrays or mappings as `pyhash.rescore` takes them, one row a code. The ranking is called
        ``"rescored"``; it has no radius.
    rescore : int or None
        How many of the nearest by the whole code are ordered by embeddings; the others follow by code. None is all.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        When shapes, labels, levels or cut-offs do not fit together.
    TypeError
        When codes are not uint8, or labels neither integers nor strings.
    """
    if truncation not in ("retrieved", "possible"):
        raise ValueError(f"truncation must be 'retrieved' or 'possible', got {truncation!r}")
    if radius < 0:
        raise ValueError(f"radius must be at least 0, got {radius}")
    for name, codes in (("queries", queries), ("database", database)):
        if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
            raise TypeError(f"{name} must be a uint8 array, got {getattr(codes, 'dtype', type(codes).__name__)}")
        if codes.ndim != 2 or not codes.size:
            raise ValueError(f"{name} must have shape (n, n_bytes) with n at least 1, got {codes.shape}")
    levels = as_levels(8 * database.shape[1] if levels is None else levels)
    for name, codes in (("queries", queries), ("database", database)):
        if codes.shape[1] != levels.n_bytes:
            raise ValueError(
                f"{name} must have {levels.n_bytes} bytes a code for {levels.bits} bits, got {codes.shape[1]}"
            )
    weights = _rankings(levels, rankings)
    labels = _Labels(query_labels, database_labels, len(queries), len(database))
    by_embedding = None
    if embeddings is not None:
        if RESCORED in weights:
            raise ValueError(f"rankings must not name one {RESCORED!r} where embeddings are given: it is theirs")
        n_candidates = len(database) if rescore is None else check_int(rescore, "rescore", 1)
        by_embedding = ByEmbedding(*embeddings, n_candidates, len(queries), labels.order)
    own = _own_rows(exclude_self, queries, database, labels)
    cuts = _cuts(ks, len(database) - (own is not None))

    _ask(queries, database, levels, weights, labels, by_embedding)
    ranks = np.unique(np.geomspace(1, len(database), _CURVE_POINTS).round().astype(np.int64))
    tables = ties.Tables(len(database))
    query_parts = _by_level(queries, levels)
    parts = _by_level(database[labels.order], levels)
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    without = dict.fromkeys(labels.names, 0)
    for start in range(0, len(queries), _CHUNK_QUERIES):
        rows = np.arange(start, min(start + _CHUNK_QUERIES, len(queries)))
        agreement = labels.agreement(rows, own)
        for ranking, (everything, relevant) in _histograms(
            query_parts, parts, weights, labels, rows, own, by_embedding
        ).items():
            for label, hits in relevant.items():
                reach = None if ranking == RESCORED else radius
                part = ties.binary(everything, hits, cuts, reach, truncation, ranks, tables)
                _add(sums.setdefault((ranking, label), {}), part)
            if len(labels.names) > 1:
                gains = np.sum(list(relevant.values()), axis=0)
                part = ties.graded(everything, gains, agreement, cuts, tables)
                _add(sums.setdefault((ranking, GRADED), {}), part)
        for label, hits in relevant.items():
            without[label] += int((hits.sum(axis=1) == 0).sum())

    def score(ranking: str, relevance: str, part: dict[str, Any]) -> Score:
        means = {name: total / len(queries) for name, total in part.items()}
        precision, recall = means.pop("precision", np.empty(0)), means.pop("recall", np.empty(0))
        return Score(
            ranking,
            relevance,
            {name: float(mean) for name, mean in means.items()},
            ranks.tolist() if len(precision) else [],
            precision.tolist(),
            recall.tolist(),
        )

    return Report(
        protocol=protocol or Protocol(),
        n_queries=len(queries),
        n_database=len(database),
        bits=levels.bits,
        levels=dict(levels.items()),
        excluded_self=own is not None,
        truncation=truncation,
        rescored=None if by_embedding is None else by_embedding.n_candidates,
        without_relevant=without,
        scores=tuple(score(*names, part) for names, part in sums.items()),
    )


def _ask(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    levels: Levels,
    rankings: Mapping[str, Mapping[str, int]],
    labels: _Labels,
    by_embedding: ByEmbedding | None,
) -> None:
    """Ask for the memory of what is held of the queries that are counted together, and of the codes by level."""
    n_rows, n_codes = min(len(queries), _CHUNK_QUERIES), len(database)
    widths = _widths({level: -(-bits // 8) for level, bits in levels.items()}, rankings, by_embedding)
    kept, counted = sum(widths.values()) * (1 + len(labels.names)), _PASSES * max(widths.values())
    cells = max(n_codes, min(_CHUNK_CELLS, n_rows * n_codes))
    n_bytes = n_rows * 8 * (kept + counted) + n_rows * len(labels.groups) * (17 + len(labels.names))
    n_bytes += (
        cells * (4 * len(levels) + 8 + (0 if by_embedding is None else _ORDERED)) + 2 * database.nbytes + 48 * n_codes
    )
    cure = "database must be smaller" if by_embedding is None else "database or rescore must be smaller"
    memory.ask(n_bytes, cure, "rankings of %d codes for %d queries at a time", n_codes, n_rows)


def _rankings(levels: Levels, rankings: Mapping[str, Mapping[str, int]] | None) -> dict[str, dict[str, int]]:
    names = list(levels)
    if rankings is None:
        several = {name: {name: 1} for name in names} if len(names) > 1 else {}
        return {"code": dict.fromkeys(names, 1)} | several
    if not rankings:
        raise ValueError("rankings must name at least one ranking, got none")
    for ranking, weights in rankings.items():
        for name, weight in weights.items():
            if name not in names:
                raise ValueError(f"rankings[{ranking!r}] must weight levels among {names}, got {name!r}")
            if int(weight) != weight or weight < 0:
                raise ValueError(f"rankings[{ranking!r}][{name!r}] must be a non-negative integer, got {weight!r}")
        if not any(weights.values()):
            raise ValueError(f"rankings[{ranking!r}] must give some level a weight above 0, got {dict(weights)}")
    return {ranking: {name: int(weight) for name, weight in weights.items()} for ranking, weights in rankings.items()}


def _cuts(ks: Sequence[int] | None, room: int) -> list[int]:
    if ks is None:
        return [k for k in (1, 10, 100, 1000) if k <= room]
    for k in ks:
        if int(k) != k or not 1 <= k <= room:
            raise ValueError(f"ks must be integers from 1 to the {room} codes that are ranked, got {k!r}")
    return sorted({int(k) for k in ks})


def _own_rows(
    exclude_self: bool | ArrayLike, queries: NDArray[np.uint8], database: NDArray[np.uint8], labels: _Labels
) -> Ints | None:
    """The database row of each query, -1 for none; None when nothing is to be left out."""
    if exclude_self is False:
        return None
    if exclude_self is True:
        own = np.arange(len(queries))
        if len(queries) > len(database):
            raise ValueError(
                f"exclude_self must be an array where there are more queries than codes, got True for "
                f"{len(queries)} queries and {len(database)} codes"
            )
    else:
        own = np.asarray(exclude_self)
        if own.shape != (len(queries),) or own.dtype.kind not in "iu":
            raise ValueError(
                f"exclude_self must be a bool or an integer array of shape ({len(queries)},), "
                f"got {own.dtype} of shape {own.shape}"
            )
        own = own.astype(np.int64)
        if own.min() < -1 or own.max() >= len(database):
            raise ValueError(
                f"exclude_self must hold rows from -1 to {len(database) - 1}, got {own.min()} to {own.max()}"
            )
    inside = own >= 0
    same_code = (queries[inside] == database[own[inside]]).all(axis=1)
    same_labels = (labels.queries[inside] == labels.database[own[inside]]).all(axis=1)
    if not (same_code & same_labels).all():
        row = int(np.flatnonzero(inside)[(same_code & same_labels).argmin()])
        raise ValueError(
            f"exclude_self must give each query's own row, got row {own[row]} for query {row}, "
            f"whose code or labels are different"
        )
    return own


class _Labels:
    """Labels of both sides as small integers, and the database sorted so that a class is a few runs of rows."""

    def __init__(self, queries: Labels, database: Labels, n_queries: int, n_database: int) -> None:
        of_queries = as_labels("query_labels", queries, n_queries)
        of_database = as_labels("database_labels", database, n_database)
        if list(of_queries) != list(of_database):
            raise ValueError(
                f"database_labels must have the levels of query_labels, {list(of_queries)}, got {list(of_database)}"
            )
        self.names = list(of_queries)
        columns = []
        for name in self.names:
            pair = (of_database[name], of_queries[name])
            if (pair[0].dtype.kind == "U") != (pair[1].dtype.kind == "U"):
                raise TypeError(f"labels of level {name!r} must be all integers or all strings, got both")
            columns.append(np.unique(np.concatenate(pair), return_inverse=True)[1])
        joint = np.stack(columns, axis=1).astype(np.int64)
        self.database, self.queries = joint[:n_database], joint[n_database:]
        self.order = np.lexsort(self.database.T[::-1])
        self.groups, self._group_sizes = np.unique(self.database, axis=0, return_counts=True)
        self._runs = [self._runs_of(column) for column in self.database[self.order].T]

    @staticmethod
    def _runs_of(column: Ints) -> dict[int, list[tuple[int, int]]]:
        edges = np.flatnonzero(np.diff(column)) + 1
        runs: dict[int, list[tuple[int, int]]] = {}
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(column)], strict=True):
            runs.setdefault(int(column[start]), []).append((start, stop))
        return runs

    def runs(self, query: int) -> list[list[tuple[int, int]]]:
        """For each level, the runs of sorted database rows that are relevant to the query."""
        return [runs.get(int(label), []) for runs, label in zip(self._runs, self.queries[query], strict=True)]

    def agreement(self, rows: Ints, own: Ints | None) -> Ints:
        """How many items agree with each query on 0, 1, ... levels: shape (rows, levels + 1)."""
        kinds, of_row = np.unique(self.queries[rows], axis=0, return_inverse=True)
        matched = np.sum(
            [kinds[:, None, level] == self.groups[:, level] for level in range(len(self.names))], axis=0, dtype=np.int64
        )
        counts = np.stack([(matched == m) @ self._group_sizes for m in range(len(self.names) + 1)], axis=1)
        agreement: Ints = counts[of_row.reshape(-1)]
        if own is not None:
            agreement[:, -1] -= own[rows] >= 0
        return agreement


def _by_level(codes: NDArray[np.uint8], levels: Levels) -> dict[str, NDArray[np.uint8]]:
    return {level: np.ascontiguousarray(codes[:, levels.byte_range(level)]) for level in levels}


def _widths(
    n_bytes: Mapping[str, int], rankings: Mapping[str, Mapping[str, int]], by_embedding: ByEmbedding | None
) -> dict[str, int]:
    """How many groups of ties each ranking has at most, where levels have so many bytes."""
    widths = {
        name: 1 + sum(8 * weight * n_bytes[level] for level, weight in weights.items())
        for name, weights in rankings.items()
    }
    if by_embedding is not None:
        widths[RESCORED] = by_embedding.n_candidates + 1 + 8 * sum(n_bytes.values())
    return widths


def _histograms(
    queries: dict[str, NDArray[np.uint8]],
    database: dict[str, NDArray[np.uint8]],
    rankings: Mapping[str, Mapping[str, int]],
    labels: _Labels,
    rows: Ints,
    own: Ints | None,
    by_embedding: ByEmbedding | None,
) -> dict[str, tuple[Ints, dict[str, Ints]]]:
    """For each ranking: items at each distance, (rows, distances), and relevant items, the same for each label level.

    The codes come by level, those of the database in the order of `labels`.
    """
    widths = _widths({level: codes.shape[1] for level, codes in queries.items()}, rankings, by_embedding)
    found = {
        name: (
            np.zeros((len(rows), width), np.int64),
            {label: np.zeros((len(rows), width), np.int64) for label in labels.names},
        )
        for name, width in widths.items()
    }
    runs = [labels.runs(row) for row in rows.tolist()]
    step = max(1, _CHUNK_CELLS // len(labels.order))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        parts = {level: hamming(codes[block], database[level]) for level, codes in queries.items()}
        for name, weights in rankings.items():
            terms = [
                parts[level] if weight == 1 else weight * parts[level] for level, weight in weights.items() if weight
            ]
            _count(sum(terms[1:], terms[0]), start, runs, *found[name])
        if by_embedding is not None:
            whole = sum(list(parts.values())[1:], next(iter(parts.values())))
            left_out = None if own is None else own[block]
            groups = by_embedding.groups(block, whole, left_out, widths[RESCORED])
            _count(groups, start, runs, *found[RESCORED])
    if own is not None:  # a query's own row has its code and its labels: it is relevant, at distance 0
        inside = (own[rows] >= 0).astype(np.int64)
        for name, (everything, relevant) in found.items():
            if name != RESCORED:
                everything[:, 0] -= inside
                for hits in relevant.values():
                    hits[:, 0] -= inside
    return found


def _count(
    groups: NDArray[Any],
    start: int,
    runs: list[list[list[tuple[int, int]]]],
    everything: Ints,
    relevant: dict[str, Ints],
) -> None:
    """Count the items of each group, for the queries from `start` on; groups beyond the last are left out."""
    width = everything.shape[1]
    for i, row in enumerate(groups, start):
        everything[i] = np.bincount(row, minlength=width)[:width]
        for hits, spans in zip(relevant.values(), runs[i], strict=True):
            for first, last in spans:
                hits[i] += np.bincount(row[first:last], minlength=width)[:width]


def _add(sums: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        sums[name] = sums[name] + value if name in sums else value
