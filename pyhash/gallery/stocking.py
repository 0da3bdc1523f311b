"""What is known of a gallery's images, as a search for copies takes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..copies import Stock, Uncompared
from ..errors import ImageError
from ..images import THUMBNAIL_SIDE, PixelBudget, opened
from ..support import machine
from .adapt import find_near
from .collection import restored, slots_of, vectors_of
from .names import Names
from .records import NEIGHBOURS
from .snapshot import Snapshot
from .store import GalleryFile

Ids = NDArray[np.int64]

_QUERIES = 4096


class Stocking:
    """Makes stocks of one state of an open gallery file."""

    def __init__(self, file: GalleryFile, names: Names, now: Snapshot) -> None:
        self.file = file
        self._names = names
        self._now = now
        self.failed: list[Uncompared] = []
        """What cannot be compared, and why."""

    def of(self, ids: Ids, references: Ids | None = None) -> Stock:
        """Return the stock of some images, by ascending id; some of them may be there to be searched against."""
        with self.file.reading():
            kept = self.file.looks.kept(ids)
            apart = self.file.verdicts.different()
        places = slots_of(kept.ids, np.array(apart, np.int64).reshape(-1, 2))
        stock = Stock(
            path=lambda place: self._names.joined(self._now, kept.ids[place : place + 1])[0],
            n_bytes=kept.n_bytes,
            mtime_ns=kept.mtime_ns,
            digests=kept.digests,
            blocks=kept.blocks,
            thumbnail=lambda place: self._thumbnail(int(kept.ids[place])),
            near=self._near(kept.ids),
            ids=kept.ids,
            reference=None if references is None else np.isin(kept.ids, references),
            apart=places[(places >= 0).all(axis=1)],
        )
        return self._looked_at(stock, np.flatnonzero(~kept.looked_at))

    def note_failed(self) -> None:
        """Note the images that the gallery could not read."""
        with self.file.reading():
            failed = self.file.failed()
        for key, why in failed:
            self.failed.append(Uncompared(self._names.shown(key), why))

    def near_in(self, other: Stocking, ids: Ids) -> Ids:
        """Return the images of another gallery that are the most like each of some of this one, as ids, -1 where there
        are fewer; none where both hold embeddings of different networks, or none.
        """
        none = np.full((len(ids), NEIGHBOURS), -1, np.int64)
        mine, theirs = self._now, other._now
        if mine.collection is None or theirs.collection is None or mine.identity is None or theirs.identity is None:
            return none
        if mine.identity.fingerprint != theirs.identity.fingerprint:
            return none
        with self.file.reading():
            stored = self.file.vectors.embeddings()
        slots = slots_of(stored.ids, ids)
        for start in range(0, len(ids), _QUERIES):
            there = np.flatnonzero(slots[start : start + _QUERIES] >= 0) + start
            vectors, norms = stored.vectors[slots[there]], stored.norms[slots[there]]
            own = vectors_of(theirs.head, vectors, norms)["own"]
            codes = mine.index.codes(ids[there])
            if theirs.head is not None:
                codes = theirs.head.codes(restored(vectors, norms))
            elif mine.head is not None:
                continue
            none[there] = find_near(theirs, theirs.collection, own, codes).ids
        return none

    def _near(self, ids: Ids) -> Ids | None:
        """The neighbours of images, as places among them; None where the gallery has none."""
        collection = self._now.collection
        if collection is None:
            return None
        near = np.concatenate(
            [collection.lists(ids[start : start + _QUERIES]).ids for start in range(0, max(1, len(ids)), _QUERIES)]
        )
        return slots_of(ids, near) if (near >= 0).any() else None

    def _thumbnail(self, number: int) -> bytes | None:
        with self.file.reading():
            return self.file.thumbnail(number)

    def _looked_at(self, stock: Stock, missing: Ids) -> Stock:
        """The stock with the looks of images of which none are kept, made of their files."""
        if not len(missing):
            return stock
        blocks = stock.blocks.copy()
        budget = PixelBudget()

        def look(place: int) -> NDArray[np.int16] | ImageError:
            try:
                with opened(stock.path(place), at_least=THUMBNAIL_SIDE, budget=budget) as image:
                    return image.look().blocks
            except ImageError as error:
                return error

        with ThreadPoolExecutor(machine.cpus()) as pool:
            for place, seen in zip(missing.tolist(), pool.map(look, missing.tolist()), strict=True):
                if isinstance(seen, ImageError):
                    self.failed.append(Uncompared(seen.path, seen.reason))
                else:
                    blocks[place] = seen
        return replace(stock, blocks=blocks)


def compared_file(path: Path) -> Path:
    """Where it is kept what came of comparing images of a gallery; it may be deleted at any time."""
    return path.with_name(f"{path.name}.compared")


def together(mine: Stock, theirs: Stock, near: Ids) -> Stock:
    """Return the stock of two galleries' images, the second there to be searched against.

    Parameters
    ----------
    near : int64 array (n, k)
        Places among theirs of what is the most like each of mine, -1 where there are fewer.
    """
    n = len(mine)

    def of(place: int) -> tuple[Stock, int]:
        return (mine, place) if place < n else (theirs, place - n)

    near = np.where(near < 0, -1, near + n)
    own = np.full((n, 0), -1, np.int64) if mine.near is None else mine.near
    lists = np.full((n + len(theirs), own.shape[1] + near.shape[1]), -1, np.int64)
    lists[:n] = np.concatenate([own, near], axis=1)
    return Stock(
        path=lambda place: of(place)[0].path(of(place)[1]),
        n_bytes=np.concatenate([mine.n_bytes, theirs.n_bytes]),
        mtime_ns=np.concatenate([mine.mtime_ns, theirs.mtime_ns]),
        digests=[*mine.digests, *theirs.digests],
        blocks=np.concatenate([mine.blocks, theirs.blocks]),
        thumbnail=lambda place: of(place)[0].thumbnail(of(place)[1]),
        near=lists if (lists >= 0).any() else None,
        ids=None if mine.ids is None else np.concatenate([mine.ids, np.full(len(theirs), -1)]),
        reference=np.arange(n + len(theirs)) >= n,
        apart=mine.apart,
    )
