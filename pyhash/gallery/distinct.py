"""Answers in which one image stands for all its copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..copies import RADIUS, proving
from ..images import look_codes
from ..index import Index
from .collection import slots_of
from .results import Match
from .snapshot import Snapshot
from .stocking import Stocking
from .store import GalleryFile

Ids = NDArray[np.int64]

_NEAREST = 32


class LookIndex:
    """The looks of all images of an open gallery file, of the state that was asked for last."""

    def __init__(self, file: GalleryFile) -> None:
        self._file = file
        self._known: tuple[int, Index] | None = None

    def near(self, now: Snapshot, blocks: NDArray[np.int16]) -> list[Ids]:
        """Return for each of some looks `(n, ways, 2, 8, 8)` the images whose looks are near it, as ids."""
        known = self._known
        if known is None or known[0] != now.revision:
            with self._file.reading():
                kept = self._file.looks.kept(now.images)
            self._known = known = now.revision, _index(kept.blocks[kept.looked_at], kept.ids[kept.looked_at])
        return _near(known[1], blocks)


def _index(blocks: NDArray[np.int16], ids: Ids) -> Index:
    """The look of the whole is under twice the image's id, that without its border after it."""
    index = Index(bits=64)
    index.add(look_codes(blocks).reshape(-1, 8), ids=(2 * ids[:, None] + [0, 1]).ravel())
    return index


def _near(index: Index, blocks: NDArray[np.int16]) -> list[Ids]:
    codes = look_codes(blocks.reshape(-1, *blocks.shape[-2:])).reshape(-1, 8)
    if not len(index) or not len(codes):
        return [np.empty(0, np.int64) for _ in blocks]
    found = index.search(codes, min(_NEAREST, len(index)))
    each = np.where(found.distances <= RADIUS, found.ids // 2, -1).reshape(len(blocks), -1)
    return [np.unique(ids[ids >= 0]) for ids in each]


class Distinct:
    """Thins out answers of one state of a gallery."""

    def __init__(self, now: Snapshot, stocking: Stocking, looks: LookIndex) -> None:
        self._now = now
        self._stocking = stocking
        self._looks = looks
        self._copies: dict[int, set[int]] = {}

    def first(self, k: int, ask: Callable[[int], Sequence[Sequence[Match]]]) -> list[list[Match]]:
        """Return the k first distinct images of each answer, with how many copies stand behind each.

        Parameters
        ----------
        ask : callable
            Gives answers of so many images, or as many as there are.
        """
        count, most = 2 * k, len(self._now.images)
        while True:
            answers = ask(count)
            new = {match.id for answer in answers for match in answer} - self._copies.keys()
            with self._proving(np.array(sorted(new), np.int64)) as copies_of:
                thinned = [_thinned(answer, k, copies_of) for answer in answers]
            if count >= most or all(len(answer) == k for answer in thinned):
                return thinned
            count *= 2

    @contextmanager
    def _proving(self, new: Ids) -> Iterator[Callable[[int], set[int]]]:
        """Give a function that proves which images of the gallery are copies of one."""
        near = self._near(new)
        stock = self._stocking.of(np.unique(np.concatenate([new, *near.values()])))
        assert stock.ids is not None
        ids: Ids = stock.ids
        with proving(stock) as proved:

            def copies_of(number: int) -> set[int]:
                if number not in self._copies:
                    (place,), others = slots_of(ids, np.array([number])), slots_of(ids, near[number])
                    places = [] if place < 0 else proved(int(place), others[others >= 0].tolist())
                    self._copies[number] = {*ids[places].tolist()}
                return self._copies[number]

            yield copies_of

    def _near(self, new: Ids) -> dict[int, Ids]:
        """The images that may be copies of some: their looks are near, or one lists the other as like it."""
        near: dict[int, list[Ids]] = {number: [] for number in new.tolist()}
        stock = self._stocking.of(new)
        assert stock.ids is not None
        there, blocks = stock.ids, stock.blocks[:, None]  # looks are made of the files where none are kept
        for found in (self._looks.near(self._now, blocks), _near(_index(stock.blocks, there), blocks)):
            for number, some in zip(there.tolist(), found, strict=True):
                near[number].append(some)
        if self._now.collection is not None:
            for number, listed in zip(new.tolist(), self._now.collection.lists(new).ids, strict=True):
                near[number].append(listed)
                for other in listed[listed >= 0].tolist():
                    near.setdefault(other, []).append(np.array([number]))
        own = {*new.tolist()}
        return {
            number: np.setdiff1d(np.concatenate([*found, np.empty(0, np.int64)]), [-1, number]).astype(np.int64)
            for number, found in near.items()
            if number in own
        }


def _thinned(answer: Sequence[Match], k: int, copies_of: Callable[[int], set[int]]) -> list[Match]:
    kept: list[Match] = []
    hidden: set[int] = set()
    for match in answer:
        if len(kept) == k:
            break
        if match.id not in hidden:
            copies = copies_of(match.id)
            hidden |= copies
            kept.append(match._replace(copies=len(copies)))
    return kept
