"""The embeddings of a gallery's rows and their neighbourhoods, in memory, as int8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..heads import CollectionHead
from ..ranking import Neighbours, Quantized, average, quantize
from .records import NEIGHBOURS, Embeddings, Lists

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

_BLOCK_ROWS = 4096


class Collection:
    """One state of them, which never changes: places 0 to n - 1 are rows by ascending id.

    Averages of neighbourhoods are computed when they are first asked for, and kept.

    Attributes
    ----------
    head : CollectionHead or None
        What the own embeddings were centred with; None before one was fitted.
    ids : int64 array (n,)
        Of rows.
    vectors : dict of str to Quantized
        What similarities are products of, all of length 1: ``"own"``, and what a level made of labels is compared by,
        under the level's name.
    listed : bool array (n,)
        Whether a row's neighbours are known; it is its own neighbourhood until then.
    """

    def __init__(self, head: CollectionHead | None, ids: Ids, vectors: dict[str, Quantized], lists: Lists) -> None:
        self.head = head
        self.ids = ids
        self.vectors = vectors
        self.listed = np.zeros(len(self.ids), np.bool_)
        self._near = np.full((len(self.ids), NEIGHBOURS), -1, np.int64)
        self._weights = np.zeros((len(self.ids), NEIGHBOURS), np.float32)
        places = self.places(lists.ids)
        rows = np.flatnonzero(places >= 0)
        self.listed[places[rows]] = True
        self._near[places[rows]], self._weights[places[rows]] = lists.near[rows], lists.weights[rows]
        self._around = np.empty_like(self.own.vectors)
        self._known = np.zeros(len(self.ids), np.bool_)

    @classmethod
    def build(cls, head: CollectionHead | None, embeddings: Embeddings, lists: Lists) -> Self:
        """Make it of what a file holds."""
        return cls(head, embeddings.ids, vectors_of(head, embeddings.vectors, embeddings.norms), lists)

    def changed(self, embeddings: Embeddings, lists: Lists, gone: Ids) -> Self:
        """Return what it becomes with rows added or changed, with their neighbours, and others gone."""
        fresh = vectors_of(self.head, embeddings.vectors.reshape(-1, self.own.vectors.shape[1]), embeddings.norms)
        keep = ~np.isin(self.ids, np.concatenate([embeddings.ids, gone]))
        ids = np.concatenate([self.ids[keep], embeddings.ids])
        order = np.argsort(ids, kind="stable")
        vectors = {
            name: Quantized(
                np.concatenate([rows.vectors[keep], fresh[name].vectors])[order],
                np.concatenate([rows.norms[keep], fresh[name].norms])[order],
            )
            for name, rows in self.vectors.items()
        }
        kept = keep & self.listed
        changed = type(self)(self.head, ids[order], vectors, self._lists_with(kept, lists))
        # A neighbourhood is another one where one of the row's neighbours, or of their neighbours, is.
        touched = ~keep
        for _ in range(2):
            touched |= np.isin(self._near, self.ids[touched]).any(axis=1)
        changed._take_known(self, ~touched)
        return changed

    def listed_anew(self, lists: Lists) -> tuple[Self, Ids]:
        """Return what it becomes with the neighbours of some rows found anew, and whose neighbourhoods that changes."""
        touched = np.isin(self.ids, lists.ids)
        changed = type(self)(self.head, self.ids, self.vectors, self._lists_with(self.listed & ~touched, lists))
        touched |= np.isin(changed._near, lists.ids).any(axis=1)
        changed._take_known(self, ~touched)
        return changed, np.flatnonzero(touched)

    def _lists_with(self, kept: NDArray[np.bool_], lists: Lists) -> Lists:
        return Lists(
            np.concatenate([self.ids[kept], lists.ids]),
            np.concatenate([self._near[kept], lists.near.reshape(-1, NEIGHBOURS)]),
            np.concatenate([self._weights[kept], lists.weights.reshape(-1, NEIGHBOURS)]),
        )

    def _take_known(self, before: Collection, still: NDArray[np.bool_]) -> None:
        """Take over the neighbourhoods that are still what they were."""
        known = np.flatnonzero(still & before._known)
        places = self.places(before.ids[known])
        self._around[places] = before._around[known]
        self._known[places] = True

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def own(self) -> Quantized:
        """Own embeddings."""
        return self.vectors["own"]

    def places(self, ids: Ids) -> Ids:
        """Where rows lie, -1 where there is no such row."""
        places = np.searchsorted(self.ids, ids)
        found = self.ids[np.minimum(places, len(self.ids) - 1)] == ids if len(self.ids) else np.zeros(ids.shape, bool)
        return np.where(found, places, -1)

    def lists(self, places: Ids) -> Neighbours:
        """The neighbours of rows, as places."""
        return Neighbours(self.places(self._near[places]), self._weights[places])

    def unsettled(self) -> Ids:
        """Places of rows whose neighbours are not known, or that name rows that have gone or changed since."""
        named = self.places(self._near)
        stale = ((named < 0) & (self._near >= 0)) | ((named >= 0) & ~self.listed[named])
        return np.flatnonzero(~self.listed | stale.any(axis=1))

    def neighbourhoods(self, places: Ids) -> Quantized:
        """Neighbourhoods of rows."""
        self.settle(places)
        return taken(self.around, places)

    @property
    def around(self) -> Quantized:
        """The neighbourhoods of all rows, as far as they were asked for."""
        return Quantized(self._around, self.own.norms)

    def settle(self, places: Ids) -> None:
        """See to it that the neighbourhoods of these rows are known."""
        missing = np.unique(places[~self._known[places]])
        for start in range(0, len(missing), _BLOCK_ROWS):
            some = missing[start : start + _BLOCK_ROWS]
            self._around[some] = quantize(self.average(taken(self.own, some), self.lists(some))).vectors
            self._known[some] = True  # after that: other threads read without a lock

    def average(self, own: Quantized, near: Neighbours) -> Floats:
        """Average embeddings with those of their neighbours, in two rounds."""
        first = _distinct(near.ids)
        lists = self.lists(first)
        pool = np.union1d(first, _distinct(lists.ids))
        among = Neighbours(
            np.full((len(pool), NEIGHBOURS), -1, np.int64), np.zeros((len(pool), NEIGHBOURS), np.float32)
        )
        here = np.searchsorted(pool, first)
        among.ids[here], among.weights[here] = _within(pool, lists.ids), lists.weights
        near = Neighbours(_within(pool, near.ids), near.weights)
        return average(own, near, collection=taken(self.own, pool), among=among)


def vectors_of(head: CollectionHead | None, vectors: NDArray[np.int8], norms: Floats) -> dict[str, Quantized]:
    """Return what similarities are products of, under the names of `Collection.vectors`, of stored embeddings."""
    ones = np.ones(len(vectors), np.float32)
    if head is None:
        return {"own": Quantized(vectors, ones)}
    levels = [level for level, made in head.made_of.items() if made == "labels"]
    found: dict[str, Quantized] = {}
    for name in ("own", *levels):
        parts = []
        for rows in _blocks(max(1, len(vectors))):
            embeddings = restored(vectors[rows], norms[rows])
            parts.append(quantize(head.own(embeddings) if name == "own" else head.vectors(embeddings, name)).vectors)
        found[name] = Quantized(np.concatenate(parts), ones)
    return found


def taken(rows: Quantized, places: Ids | slice) -> Quantized:
    """Return some of the rows."""
    return Quantized(rows.vectors[places], rows.norms[places])


def restored(vectors: NDArray[np.int8], norms: Floats) -> Floats:
    """Embeddings as the network projected them, of int8 vectors and norms."""
    floats = vectors.astype(np.float32)
    lengths = np.sqrt(np.square(floats, dtype=np.float64).sum(axis=1))
    scales = np.where(lengths == 0, 0, norms / np.where(lengths == 0, 1, lengths))
    return floats * scales.astype(np.float32)[:, None]


def directions(rows: Quantized) -> Floats:
    """Rows of int8 as floats of length 1."""
    return restored(rows.vectors, np.ones(len(rows.vectors), np.float32))


def _distinct(places: Ids) -> Ids:
    found = np.unique(places)
    return found[found >= 0]


def _within(pool: Ids, places: Ids) -> Ids:
    return np.where(places < 0, -1, np.searchsorted(pool, places))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK_ROWS) for start in range(0, n, _BLOCK_ROWS))
