"""The whole search for copies: candidates, proofs, groups."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ...images import PixelBudget
from ...support import machine, one_blas_thread
from ..values import Duplicates, Uncompared
from .candidates import Candidates, blank, by_looks, by_neighbours, by_pictures
from .details import detail_of
from .groups import Grouping
from .proof import Compared, Proof
from .prover import Prover
from .sets import Sets
from .stock import Stock

__all__ = ["Progress", "find"]

Progress = Callable[[int, int], None]
"""Called with how many pairs were looked at, and how many there are."""

Places = NDArray[np.int64]

_BATCH = 32
"""Images that a thread compares others with, before it takes more."""


def find(
    stock: Stock,
    *,
    turned: bool = False,
    cropped: bool = False,
    similar: bool = False,
    remembered: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the copies among some images, as `pyhash.duplicates` says.

    What comes of comparing pairs is kept in the file `remembered`, if one is named, and not done again.
    """
    proving = Prover(stock, turned=turned, cropped=cropped, remembered=remembered)
    with proving.working() as prover, one_blas_thread():
        search = _Search(stock, prover, turned, progress)
        search.run()
        grouping = Grouping(stock, prover, search.proofs)
        groups = [*grouping.duplicates(search.sets)]
        if similar:
            groups += grouping.similar(search.alike, search.sets)
    uncompared = [Uncompared(stock.path(place), why) for place, why in sorted(prover.unreadable.items())]
    return Duplicates(
        tuple(groups),
        tuple(sorted([*uncompared, *grouping.uncompared])),
        images=len(stock) - len(prover.unreadable),
        candidates=search.looked_at,
        away=grouping.away,
    )


class _Search:
    """One search under way."""

    def __init__(self, stock: Stock, prover: Prover, turned: bool, progress: Progress | None) -> None:
        self._stock = stock
        self._prover = prover
        self._turned = turned
        self._progress = progress
        self.sets = Sets(len(stock), stock.apart)
        self.proofs: dict[tuple[int, int], Proof | None] = {}
        """Of pairs that were joined, the one placed in the other; None where their files have the same bytes."""
        self.alike: list[tuple[int, int]] = []
        """Pairs that are no copies, and like one another."""
        self.looked_at = 0
        self._failed: list[NDArray[np.int64]] = []
        """Pairs that were not proved, as numbers."""

    def run(self) -> None:
        places = self._without_equals()
        self._join_blank(places)
        for candidates in by_looks(self._stock, places, turns=self._turned):
            self._all_of(candidates)
        for candidates in (
            by_pictures(self._stock, places, self._prover.pictures),
            by_neighbours(self._stock, places),
        ):
            self._all_of(self._without_failed(candidates))

    def _without_failed(self, candidates: Candidates) -> Candidates:
        """Return the pairs that were not compared before in vain, if there is no other way to compare them."""
        if self._turned or not self._failed:
            return candidates
        new = ~np.isin(self._number(candidates.one, candidates.other), np.concatenate(self._failed))
        return Candidates(candidates.one[new], candidates.other[new], candidates.turn[new])

    def _number(self, one: Places, other: Places) -> NDArray[np.int64]:
        return np.minimum(one, other) * len(self._stock) + np.maximum(one, other)

    def _without_equals(self) -> Places:
        """Join the files of equal bytes; return all others, and the first of each."""
        first: dict[bytes, int] = {}
        alone = []
        for place, digest in enumerate(self._stock.digests):
            before = place if digest is None else first.setdefault(digest, place)
            if before == place or not self.sets.join(before, place):
                alone.append(place)
            else:
                self.proofs[before, place] = None
        return np.array(alone, np.int64)

    def _join_blank(self, places: Places) -> None:
        """Join images in which nothing is to be seen where all their pixels are equal: nothing else proves a thing."""
        budget = PixelBudget()
        for some in blank(self._stock, places):
            first: dict[bytes, int] = {}
            for place in some:
                content = detail_of(self._stock, place, budget).content
                if content is not None and self.sets.join(first.setdefault(content, place), place):
                    self.proofs[first[content], place] = None

    def _all_of(self, candidates: Candidates) -> None:
        """Prove pairs in rounds: of each two sets the first pair, until there are none that are not joined."""
        one, other, turn = candidates
        done, total = 0, len(one)
        self._tell(done, total)
        left = np.arange(total)
        while len(left):
            tops = np.stack([self.sets.of(one[left]), self.sets.of(other[left])], axis=1)
            open_ = tops[:, 0] != tops[:, 1]
            left, tops = left[open_], np.sort(tops[open_], axis=1)
            _, chosen = np.unique(tops, axis=0, return_index=True)
            now = left[np.sort(chosen)]
            done = total - len(left)
            for _ in self._round(one[now], other[now], turn[now]):
                done += 1
                self._tell(done, total)
            left = np.setdiff1d(left, now, assume_unique=True)
        self._tell(total, total)

    def _round(self, one: Places, other: Places, turn: NDArray[np.int8]) -> Iterator[None]:
        """Prove pairs, and join those that are proved in their order; yields for each pair."""
        of_one: dict[int, list[int]] = defaultdict(list)
        for k, place in enumerate(one.tolist()):
            of_one[place].append(k)
        outcomes: dict[int, Compared] = {}

        def prove(item: tuple[int, list[int]]) -> tuple[list[int], dict[int, Compared]]:
            place, pairs = item
            found = self._prover.prove(place, other[pairs].tolist(), turn[pairs].tolist())
            of_pair = dict(zip(other[pairs].tolist(), pairs, strict=True))
            return pairs, {of_pair[there]: outcome for there, outcome in found.items()}

        items = sorted(of_one.items())
        with ThreadPoolExecutor(machine.cpus()) as pool:
            for start in range(0, len(items), _BATCH):
                for pairs, found in pool.map(prove, items[start : start + _BATCH]):
                    outcomes |= found
                    self.looked_at += len(pairs)
                    yield from (None for _ in pairs)
        proved = [k for k, (proof, _) in outcomes.items() if proof is not None]
        self._failed.append(np.delete(self._number(one, other), proved))
        for k, (proof, _) in sorted(outcomes.items()):
            pair = int(one[k]), int(other[k])
            if proof is None:
                self.alike.append(pair)
            elif self.sets.join(*pair):
                self.proofs[pair] = proof

    def _tell(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)
