"""The embeddings of a gallery's rows and their neighbourhoods, as int8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..heads import CollectionHead
from ..ranking import Neighbours, Quantized, average, quantize
from .mapped import Array
from .records import NEIGHBOURS, Embeddings, Lists

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]

_BLOCK_ROWS = 4096
_LOOKED_UP = 1 << 18  # neighbours at once
_KEPT = 1 << 18  # neighbourhoods of so many rows are kept


@dataclass(frozen=True)
class Part:
    """Some of the rows, by ascending id."""

    ids: Ids
    vectors: Mapping[str, Array]
    """int8, as `Collection.names` says."""
    near: Array
    """``(n, NEIGHBOURS)``: ids of rows, -1 where there are fewer."""
    weights: Array
    listed: Marks
    """Whether a row's neighbours are known."""
    highest: int
    """No larger id is among these and their neighbours."""

    @classmethod
    def of(cls, ids: Ids, vectors: Mapping[str, NDArray[np.int8]], lists: Lists) -> Self:
        """Make one in memory; lists of other rows are passed over."""
        near = np.full((len(ids), NEIGHBOURS), -1, np.int64)
        weights = np.zeros((len(ids), NEIGHBOURS), np.float32)
        slots = slots_of(ids, lists.ids)
        rows = np.flatnonzero(slots >= 0)
        near[slots[rows]], weights[slots[rows]] = lists.near[rows], lists.weights[rows]
        listed = np.zeros(len(ids), np.bool_)
        listed[slots[rows]] = True
        highest = max(ids.max(initial=-1), near.max(initial=-1))
        arrays = {name: Array(rows_) for name, rows_ in vectors.items()}
        return cls(ids, arrays, Array(near), Array(weights), listed, int(highest))

    def lists(self, slots: Ids) -> Lists:
        """The neighbours of rows in these slots, of those that have any."""
        slots = slots[self.listed[slots]]
        return Lists(self.ids[slots], self.near.take(slots).astype(np.int64, copy=False), self.weights.take(slots))

    def that_list(self, marked: Marks) -> Marks:
        """Which rows have a neighbour whose id is marked; of ids beyond the marks, none is."""
        if not len(self.ids) or not marked.any():
            return np.zeros(len(self.ids), np.bool_)
        near = self.near.whole().reshape(-1)
        padded = np.zeros(max(len(marked), self.highest + 1) + 1, np.bool_)  # and one for -1
        padded[: len(marked)] = marked
        found = np.zeros(len(self.ids), np.bool_)
        for start in range(0, len(near), _LOOKED_UP):
            here = np.flatnonzero(padded[near[start : start + _LOOKED_UP]])
            found[(here + start) // NEIGHBOURS] = True
        return found


class Collection:
    """One state of them, which never changes: most rows as they were when all were loaded, and beside them the few that
    came or changed since.

    Averages of neighbourhoods are computed when they are first asked for, and kept.

    Attributes
    ----------
    head : CollectionHead or None
        What the own embeddings were centred with; None before one was fitted.
    names : tuple of str
        Of what similarities are products of: ``"own"``, and every level that is made of labels.
    """

    def __init__(
        self, head: CollectionHead | None, most: Part, few: Part, passed: Marks | None, kept: dict[int, bytes]
    ) -> None:
        self.head = head
        self.names = tuple(most.vectors)
        self._most, self._few = most, few
        self._passed = passed  # which of most have gone, or are among the few; None where none are
        self._kept = kept  # neighbourhoods, by id
        self._n_rows = len(most.ids) + len(few.ids) - (0 if passed is None else int(passed.sum()))

    @classmethod
    def of(cls, head: CollectionHead | None, part: Part) -> Self:
        """Make it of all rows."""
        nothing = {name: np.empty((0, rows.shape[1]), np.int8) for name, rows in part.vectors.items()}
        return cls(head, part, Part.of(np.empty(0, np.int64), nothing, _NO_LISTS), None, {})

    def __len__(self) -> int:
        return self._n_rows

    @property
    def dim(self) -> int:
        """Numbers of an own embedding."""
        return int(self._most.vectors["own"].shape[1])

    # Rows

    def has(self, ids: Ids) -> Marks:
        """Which rows there are."""
        return self._places(ids) >= 0

    def take(self, name: str, ids: Ids) -> Quantized:
        """The vectors of rows that there are, all of length 1."""
        places = self._places(ids)
        rows = np.empty((len(ids), self._most.vectors[name].shape[1]), np.int8)
        early = places < len(self._most.ids)
        rows[early] = self._most.vectors[name].take(places[early])
        rows[~early] = self._few.vectors[name].take(places[~early] - len(self._most.ids))
        return of_length_1(rows)

    def lists(self, ids: Ids) -> Neighbours:
        """The neighbours of rows that there are, as ids; -1 where there is none, or no longer."""
        near = np.full((len(ids), NEIGHBOURS), -1, np.int64)
        weights = np.zeros(near.shape, np.float32)
        places = self._places(ids)
        early = places < len(self._most.ids)
        for part, rows, slots in (
            (self._most, early, places[early]),
            (self._few, ~early, places[~early] - len(self._most.ids)),
        ):
            near[rows], weights[rows] = part.near.take(slots), part.weights.take(slots)
        return Neighbours(np.where(self.has(near), near, -1), weights)

    def _places(self, ids: Ids) -> Ids:
        """Slots among most rows, and behind those among the few; -1 where there is no such row."""
        places = slots_of(self._most.ids, ids)
        if self._passed is not None:
            places[(places >= 0) & self._passed[places]] = -1
        if len(self._few.ids):
            late = slots_of(self._few.ids, ids)
            places = np.where(late >= 0, late + len(self._most.ids), places)
        return places

    def _alive(self) -> Marks:
        return np.ones(len(self._most.ids), np.bool_) if self._passed is None else ~self._passed

    # Changes: another collection

    def changed(self, embeddings: Embeddings, lists: Lists, gone: Ids) -> Self:
        """Return what it becomes with rows added or changed, with their neighbours, and others gone."""
        vectors = vectors_of(self.head, embeddings.vectors.reshape(-1, self.dim), embeddings.norms)
        fresh = Part.of(embeddings.ids, {name: rows.vectors for name, rows in vectors.items()}, lists)
        ids = np.concatenate([embeddings.ids, gone])
        changed = self._with(fresh, ids)
        # A neighbourhood is another one where one of the row's neighbours, or of their neighbours, is.
        touched = ids
        for _ in range(2 if self._kept else 0):
            touched = np.union1d(touched, self._that_list(touched))
        changed._kept = self._kept_without(touched)
        return changed

    def listed_anew(self, lists: Lists) -> tuple[Self, Ids]:
        """Return what it becomes with the neighbours of some rows found anew, and whose neighbourhoods that changes."""
        vectors = {name: self.take(name, lists.ids).vectors for name in self.names}
        changed = self._with(Part.of(lists.ids, vectors, lists), lists.ids)
        touched = np.union1d(lists.ids, changed._that_list(lists.ids))
        changed._kept = self._kept_without(touched)
        return changed, touched

    def _with(self, fresh: Part, ids: Ids) -> Self:
        """With fresh rows in the place of these ids."""
        slots = slots_of(self._most.ids, ids)
        passed = self._passed
        if (slots >= 0).any():
            passed = np.zeros(len(self._most.ids), np.bool_) if passed is None else passed.copy()
            passed[slots[slots >= 0]] = True
        stay = np.ones(len(self._few.ids), np.bool_)
        among = slots_of(self._few.ids, ids)
        stay[among[among >= 0]] = False
        return type(self)(self.head, self._most, _joined(self._few, np.flatnonzero(stay), fresh), passed, {})

    def _that_list(self, ids: Ids) -> Ids:
        """Rows of whose neighbours some are these."""
        highest = max(self._most.highest, self._few.highest)
        named = ids[(ids >= 0) & (ids <= highest)]
        if not len(named):
            return named  # as where all are new: nobody can have named them
        marked = np.zeros(highest + 1, np.bool_)
        marked[named] = True
        found = [self._few.ids[self._few.that_list(marked)]]
        if named.min() <= self._most.highest:
            found.append(self._most.ids[self._most.that_list(marked) & self._alive()])
        return np.concatenate(found)

    def _kept_without(self, touched: Ids) -> dict[int, bytes]:
        gone = {*touched.tolist()}
        return {number: row for number, row in self._kept.copy().items() if number not in gone}

    def unsettled(self) -> Ids:
        """Rows whose neighbours are not known, or that name rows that have gone or changed since."""
        highest = max(self._most.highest, self._few.highest)
        stale = np.ones(highest + 1, np.bool_)
        alive = self._alive()
        stale[self._most.ids[alive & self._most.listed]] = False
        stale[self._few.ids[self._few.listed]] = False
        early = alive & (~self._most.listed | self._most.that_list(stale))
        late = ~self._few.listed | self._few.that_list(stale)
        return np.sort(np.concatenate([self._most.ids[early], self._few.ids[late]]))

    # Neighbourhoods

    def neighbourhoods(self, ids: Ids) -> Quantized:
        """Neighbourhoods of rows that there are."""
        distinct, back = np.unique(ids, return_inverse=True)
        known = [self._kept.get(number) for number in distinct.tolist()]
        missing = np.array([row is None for row in known], np.bool_)
        rows = np.empty((len(distinct), self.dim), np.int8)
        if not missing.all():
            there = b"".join([row for row in known if row is not None])
            rows[~missing] = np.frombuffer(there, np.int8).reshape(-1, self.dim)
        for some in _blocks(np.flatnonzero(missing)):
            here = distinct[some]
            rows[some] = quantize(self.average(self.take("own", here), self.lists(here))).vectors
            if len(self._kept) < _KEPT:
                for number, row in zip(here.tolist(), rows[some], strict=True):
                    self._kept[number] = row.tobytes()
        return of_length_1(rows[back])

    def average(self, own: Quantized, near: Neighbours) -> Floats:
        """Average embeddings with those of their neighbours, which are ids, in two rounds."""
        first = _distinct(near.ids)
        lists = self.lists(first)
        pool = np.union1d(first, _distinct(lists.ids))
        among = Neighbours(
            np.full((len(pool), NEIGHBOURS), -1, np.int64), np.zeros((len(pool), NEIGHBOURS), np.float32)
        )
        here = np.searchsorted(pool, first)
        among.ids[here], among.weights[here] = within(pool, lists.ids), lists.weights
        near = Neighbours(within(pool, near.ids), near.weights)
        return average(own, near, collection=self.take("own", pool), among=among)


_NO_LISTS = Lists(np.empty(0, np.int64), np.empty((0, NEIGHBOURS), np.int64), np.empty((0, NEIGHBOURS), np.float32))


def _joined(a: Part, stay: Ids, b: Part) -> Part:
    """Some rows of one part with those of another."""
    ids = np.concatenate([a.ids[stay], b.ids])
    order = np.argsort(ids, kind="stable")

    def together(one: Array, other: Array) -> Array:
        return Array(np.concatenate([one.take(stay), other.whole()])[order])

    vectors = {name: together(rows, b.vectors[name]) for name, rows in a.vectors.items()}
    listed = np.concatenate([a.listed[stay], b.listed])[order]
    highest = max(a.highest, b.highest)
    near, weights = together(a.near, b.near), together(a.weights, b.weights)
    return replace(b, ids=ids[order], vectors=vectors, near=near, weights=weights, listed=listed, highest=highest)


def slots_of(own: Ids, ids: Ids) -> Ids:
    """Where ids lie among others, which ascend; -1 where they do not."""
    if not len(own):
        return np.full(ids.shape, -1, np.int64)
    slots = np.searchsorted(own, ids)
    slots[slots == len(own)] = 0
    return np.where(own[slots] == ids, slots, -1)


def vectors_of(head: CollectionHead | None, vectors: NDArray[np.int8], norms: Floats) -> dict[str, Quantized]:
    """Return what similarities are products of, under the names of `Collection.names`, of stored embeddings."""
    if head is None:
        return {"own": of_length_1(vectors)}
    levels = [level for level, made in head.made_of.items() if made == "labels"]
    found: dict[str, Quantized] = {}
    for name in ("own", *levels):
        parts = []
        for start in range(0, max(1, len(vectors)), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            embeddings = restored(vectors[rows], norms[rows])
            parts.append(quantize(head.own(embeddings) if name == "own" else head.vectors(embeddings, name)).vectors)
        found[name] = of_length_1(np.concatenate(parts))
    return found


def of_length_1(vectors: NDArray[np.int8]) -> Quantized:
    """Return rows of int8 as directions."""
    return Quantized(vectors, np.ones(len(vectors), np.float32))


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


def within(pool: Ids, ids: Ids) -> Ids:
    """Where ids lie in a pool that has them all; -1 stays."""
    return np.where(ids < 0, -1, np.searchsorted(pool, ids))


def _distinct(ids: Ids) -> Ids:
    found = np.unique(ids)
    return found[found >= 0]


def _blocks(places: Ids) -> Iterable[Ids]:
    return (places[start : start + _BLOCK_ROWS] for start in range(0, len(places), _BLOCK_ROWS))
