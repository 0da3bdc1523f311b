"""Whether neighbourhoods serve a collection: measured on its embeddings alone, without labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes import check_int
from ..support import memory
from .averages import average
from .neighbours import neighbours
from .vectors import Directions, Embeddings, quantize

Floats = NDArray[np.float32]

_MOST_ROWS = 5_000  # of a collection, drawn at random
_FEWEST_ROWS = 50  # of which anything can be said
_OF_A_KIND = 40  # rows, about
_ROUNDS = 10  # of k-means
_GAIN = 0.005  # mean average precision, below which it is not worth the while
_ERRORS = 2.0  # standard errors that a gain must pass


class Help(NamedTuple):
    """Whether neighbourhoods help, and what was measured; what `neighbourhoods_help` returns. True where they do."""

    helps: bool
    own: float
    """Mean average precision of held-out rows by their own embeddings."""
    neighbourhood: float
    """The same by neighbourhoods."""
    error: float
    """Standard error of the difference."""

    def __bool__(self) -> bool:
        return self.helps


def neighbourhoods_help(
    embeddings: Embeddings,
    k: int = 10,
    rounds: int = 2,
    *,
    power: float = 3.0,
    sample: int = 300,
    seed: int = 0,
    threads: int | None = None,
) -> Help:
    """Measure whether averaging with neighbours makes what is of one kind easier to find, in this collection.

    Embeddings are cut into two halves that have nothing in common, every other principal component. One says what kinds
    there are: groups of some 40 rows each, by k-means. By the other alone, rows that were held out rank the rest, once
    as they are and once averaged. Where neighbours are there by chance, as among few images or images that are all
    different, the halves do not agree on them, and nothing is gained.

    Parameters
    ----------
    embeddings : array_like of float, (n, dim), or Quantized
        Taken as of length 1; of more than 5,000 rows so many are drawn.
    k, rounds, power
        As of `neighbourhoods`.
    sample : int
        How many rows are held out, at most a quarter.
    seed : int
        Of what is drawn; the same answers the same.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    Help
        True where the gain is more than .005 and two standard errors. False for fewer than 50 rows.
    """
    sample = check_int(sample, "sample", 1)
    rows = Directions(embeddings, "embeddings")
    n, dim = rows.shape
    if n < _FEWEST_ROWS or dim < 2:
        return Help(False, np.nan, np.nan, np.nan)
    rng = np.random.default_rng(check_int(seed, "seed", 0))
    memory.ask(
        40 * dim * dim + 16 * min(n, _MOST_ROWS) * dim,
        "embeddings must have fewer columns",
        "the principal components of %d columns",
        dim,
    )
    drawn = np.sort(rng.permutation(n)[:_MOST_ROWS])
    components = _principal(rows.take(drawn))
    held = np.zeros(len(drawn), dtype=np.bool_)
    held[rng.permutation(len(drawn))[: min(sample, len(drawn) // 4)]] = True
    halves = [
        Directions(np.ascontiguousarray(components[:, part::2]), "embeddings").take(slice(None)) for part in (0, 1)
    ]
    measured = np.zeros((2, int(held.sum())))
    for seen, other in (halves, halves[::-1]):
        kinds = _kinds(other, rng)
        relevant = kinds[held][:, None] == kinds[~held]
        asked, collection = seen[held], quantize(seen[~held])
        among = neighbours(collection, collection, k, power=power, without=np.arange((~held).sum()), threads=threads)
        near = neighbours(asked, collection, k, power=power, threads=threads)
        averages = average(collection, among, rounds=rounds, threads=threads)
        queries = average(asked, near, collection=collection, among=among, rounds=rounds, threads=threads)
        measured[0] += _precisions(asked @ seen[~held].T, relevant) / 2
        measured[1] += _precisions(queries @ averages.T, relevant) / 2
    gains = measured[1] - measured[0]
    error = float(gains.std() / np.sqrt(len(gains)))
    own, neighbourhood = measured.mean(axis=1).tolist()
    return Help(bool(gains.mean() > max(_GAIN, _ERRORS * error)), own, neighbourhood, error)


def _principal(rows: Floats) -> Floats:
    """Return rows as their principal components, the largest first."""
    centred = rows - rows.mean(axis=0)
    _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    components: Floats = rows @ directions[:, ::-1].astype(np.float32)
    return components


def _kinds(rows: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the number of each row's group, by k-means on the sphere."""
    kinds: NDArray[np.intp]
    centres = rows[rng.permutation(len(rows))[: max(2, len(rows) // _OF_A_KIND)]]
    for _ in range(_ROUNDS):
        kinds = (rows @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        order = np.argsort(kinds, kind="stable")
        present, starts = np.unique(kinds[order], return_index=True)
        sums[present] = np.add.reduceat(rows[order], starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centres)
    kinds = (rows @ centres.T).argmax(axis=1)
    return kinds


def _precisions(similarities: Floats, relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each ranking."""
    order = np.argsort(-similarities, axis=1)
    hits = np.take_along_axis(relevant, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    found: NDArray[np.float64] = (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)
    return found
