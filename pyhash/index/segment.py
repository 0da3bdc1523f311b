"""Segments: codes stored together, that never change once they are published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..backend import Kernel, Ring
from ..backend import Segment as View
from ..errors import CorruptIndexError
from ..support import memory
from .chunks import BLOCK, Chunks, Slots, Words, blocks_of, resized

Ids = NDArray[np.int64]


class Segment:
    """Codes with their ids, immutable: every change gives another segment.

    Ids ascend with the slot, or with the rank that a ring gives each slot: `ids` is None while the id of rank `r` is
    `first_id + r`. `removed` is None while no slot was removed, else one word a block with a bit a slot. Both may be
    longer than need be, room to grow; `removed` is copied when it changes. What is computed once (`_views`,
    `_slot_of_rank`, `_flat`) is set in one store: threads that race compute it twice, and the same.
    """

    __slots__ = (
        "_flat",
        "_slot_of_rank",
        "_views",
        "chunks",
        "first_id",
        "ids",
        "n_codes",
        "n_removed",
        "removed",
        "ring",
    )

    def __init__(
        self,
        chunks: Chunks,
        n_codes: int,
        first_id: int,
        ids: Ids | None = None,
        removed: Words | None = None,
        n_removed: int = 0,
        ring: Ring | None = None,
    ) -> None:
        self.chunks = chunks
        self.n_codes = n_codes  # slots, removed ones included
        self.first_id = first_id
        self.ids = ids
        self.removed = removed
        self.n_removed = n_removed
        self.ring = ring
        self._views: dict[object, View] = {}
        self._slot_of_rank: NDArray[np.uint32] | None = None
        self._flat: Segment | None = None

    @classmethod
    def of_rows(cls, words: Words, ids: Ids) -> Segment:
        """Store rows of words, at least one; `ids` strictly ascend."""
        first, last, n = int(ids[0]), int(ids[-1]), len(ids)
        _ask(n, words.shape[1], n)
        # Strictly ascending, so between the first and the last nothing can be missing where there are just as many.
        return cls(Chunks.of_rows(words), n, first, None if last - first == n - 1 else ids.copy())

    def __len__(self) -> int:
        return self.n_codes - self.n_removed

    @property
    def n_blocks(self) -> int:
        """Blocks in use."""
        return blocks_of(self.n_codes)

    @property
    def nbytes(self) -> int:
        """Bytes in use for codes, ids and removal marks."""
        used = self.n_blocks * self.chunks.n_words * BLOCK * 8
        used += 0 if self.ids is None else 8 * self.n_codes
        used += 0 if self.ring is None else sum(array.nbytes for array in self.ring)
        return used + (0 if self.removed is None else 8 * self.n_blocks)

    @property
    def reserved_bytes(self) -> int:
        """Bytes of memory taken, room to grow included."""
        taken = sum(array.nbytes for array in (self.ids, self.removed) if array is not None)
        taken += 0 if self.ring is None else sum(array.nbytes for array in self.ring)
        return self.chunks.nbytes + taken

    @property
    def last_id(self) -> int:
        """The largest id, a removed one included."""
        return self.first_id + self.n_codes - 1 if self.ids is None else int(self.ids[self.n_codes - 1])

    # What the kernels see

    def view(self, kernel: Kernel) -> View:
        """Return this segment as the kernel's own."""
        view = self._views.get(type(kernel))
        if view is None:
            arrays = self.chunks.arrays[: -(-self.n_blocks // self.chunks.full)]
            try:
                view = kernel.segment(arrays, self.n_codes, self.first_id, self.ids, self.removed, self.ring)
            except ValueError as error:  # only a file, mapped and not verified, can hold such a thing
                raise CorruptIndexError(f"the index is damaged: {error}") from error
            self._views[type(kernel)] = view
        return view

    def for_kernel(self, kernel: Kernel) -> Segment:
        """Return this segment as this kernel can search it: without a ring where it knows none."""
        if self.ring is None or kernel.rings:
            return self
        if self._flat is None:
            self._flat = merged([self])
        return self._flat

    # Reading

    def rows(self, slots: Slots) -> Words:
        """Return the codes in these slots as rows of words."""
        return self.chunks.rows(slots)

    def ids_of(self, slots: Slots) -> Ids:
        """Ids of the codes in these slots."""
        ranks = slots if self.ring is None else self.ring.order[slots].astype(np.int64)
        if self.ring is not None and len(ranks) and ranks.max() >= self.n_codes:
            raise _bad_order()
        return self.first_id + ranks if self.ids is None else self.ids[ranks]

    def alive(self) -> NDArray[np.bool_]:
        """Which slots hold a code: `(n_codes,)`."""
        if self.removed is None:
            return np.ones(self.n_codes, dtype=np.bool_)
        marks = (~self.removed[: self.n_blocks]).astype("<u8", copy=False).view(np.uint8)
        return np.unpackbits(marks, count=self.n_codes, bitorder="little").view(np.bool_)

    def live_ids(self) -> Ids:
        """Ids of the codes that are there, ascending."""
        ids = self._ids_by_rank()
        if self.removed is None:
            return ids
        alive = self.alive()
        if self.ring is not None:
            by_rank = np.empty_like(alive)
            try:
                by_rank[self.ring.order] = alive
            except IndexError:
                raise _bad_order() from None
            alive = by_rank
        return ids[alive]

    def live(self) -> tuple[Ids, Words]:
        """Ids and rows of the codes that are there, in the order of their slots."""
        rows = self.chunks.all_rows(self.n_codes)
        ids = self._ids_by_rank() if self.ring is None else self.ids_of(np.arange(self.n_codes))
        if self.removed is None:
            return ids, rows
        slots = self.alive().nonzero()[0]
        return ids.take(slots), rows.take(slots, axis=0)

    def find(self, ids: Ids) -> Slots:
        """Slots of these ids, -1 where there is none (or it was removed)."""
        if len(ids) == 1:  # where calls count, NumPy's cost more than the work
            return np.array([self._find_one(ids.item())], dtype=np.int64)
        if self.ids is None:
            # A far id may lie more than an int64 away from the first, so compare before subtracting.
            inside = (ids >= self.first_id) & (ids <= self.last_id)
            slots = np.where(inside, ids, self.first_id) - self.first_id
        else:
            own = self.ids[: self.n_codes]
            slots = np.minimum(np.searchsorted(own, ids), self.n_codes - 1)
            inside = own[slots] == ids
        if self.ring is not None:
            slots = self._slots_by_rank(self.ring)[slots].astype(np.int64)
        if self.removed is not None:
            marks = self.removed[slots // BLOCK] >> (slots % BLOCK).astype(np.uint64)
            inside &= (marks & np.uint64(1)) == 0
        return np.where(inside, slots, -1)

    def _find_one(self, id: int) -> int:
        if not self.first_id <= id <= self.last_id:
            return -1
        if self.ids is None:
            slot = id - self.first_id
        else:
            slot = int(self.ids[: self.n_codes].searchsorted(id))
            if self.ids.item(slot) != id:
                return -1
        if self.ring is not None:
            slot = self._slots_by_rank(self.ring).item(slot)
        gone = self.removed is not None and self.removed.item(slot // BLOCK) >> slot % BLOCK & 1
        return -1 if gone else slot

    def _ids_by_rank(self) -> Ids:
        if self.ids is None:
            return np.arange(self.first_id, self.first_id + self.n_codes, dtype=np.int64)
        return self.ids[: self.n_codes]

    def _slots_by_rank(self, ring: Ring) -> NDArray[np.uint32]:
        table = self._slot_of_rank
        if table is None:
            table = np.zeros(self.n_codes, dtype=np.uint32)
            try:
                table[ring.order] = np.arange(self.n_codes, dtype=np.uint32)
            except IndexError:
                raise _bad_order() from None
            self._slot_of_rank = table  # only when it is whole: other threads search, too
        return table

    # Changes: another segment

    def extended(self, words: Words, ids: Ids) -> Segment:
        """Return this segment (flat, the last of its index) with more codes, whose ids follow.

        It shares the memory: only slots that no segment shows are written.
        """
        n, end = self.n_codes, self.n_codes + len(words)
        own = self.ids
        apart = own is None and int(ids[-1]) - self.first_id != end - 1
        _ask(len(words), self.chunks.n_words, n + end if apart else end if own is not None and len(own) < end else 0)
        self.chunks.reserve(end)
        self.chunks.write(n, words)
        if apart:
            own = np.arange(self.first_id, self.first_id + n, dtype=np.int64)
        if own is not None:
            if len(own) < end:
                own = resized(own, max(end, n + (n >> 3) + 64) if len(words) <= n >> 3 else end, n)
            own[n:end] = ids
        removed = self.removed
        if removed is not None and len(removed) < blocks_of(end):
            removed = resized(removed, blocks_of(end) + (len(removed) >> 3), self.n_blocks)
        return Segment(self.chunks, end, self.first_id, own, removed, self.n_removed)

    def without(self, slots: Slots) -> Segment:
        """Return this segment with these slots, none of them removed before, marked as removed."""
        removed = np.zeros(self.n_blocks, dtype=np.uint64) if self.removed is None else self.removed.copy()
        if len(slots) == 1:
            block, lane = divmod(slots.item(), BLOCK)
            removed[block] |= np.uint64(1 << lane)
        else:
            np.bitwise_or.at(removed, slots // BLOCK, np.uint64(1) << (slots % BLOCK).astype(np.uint64))
        twin = Segment(
            self.chunks, self.n_codes, self.first_id, self.ids, removed, self.n_removed + len(slots), self.ring
        )
        twin._slot_of_rank = self._slot_of_rank
        return twin

    def copy(self) -> Segment:
        """Return this segment to be extended by another index."""
        if self.ring is not None:
            return self  # never extended
        ids = None if self.ids is None else self.ids[: self.n_codes]  # without the room to grow, so copied on growth
        chunks = self.chunks.copy(self.n_codes)
        return Segment(chunks, self.n_codes, self.first_id, ids, self.removed, self.n_removed)

    def with_ring(self, kernel: Kernel, n_clusters: int, threads: int) -> Segment:
        """Return the codes of this segment (flat, nothing removed) in the order of a ring."""
        memory.ask(
            self.n_codes * (8 * self.chunks.n_words + 32),
            "there must be fewer codes",
            "a ring of %d codes",
            self.n_codes,
        )
        ring = kernel.build_ring(self.view(kernel), n_clusters, threads)
        chunks = Chunks(self.chunks.n_words)
        chunks.reserve(self.n_codes)
        kernel.permute(self.view(kernel), ring.order, chunks.arrays)
        ids = None if self.ids is None else self.ids[: self.n_codes]
        return Segment(chunks, self.n_codes, self.first_id, ids, ring=ring)

    def after(self, n_codes: int) -> Segment | None:
        """Return the codes of the slots from `n_codes` on as a segment of their own; None if there are none."""
        slots = n_codes + np.flatnonzero(self.alive()[n_codes:])
        return Segment.of_rows(self.rows(slots), self.ids_of(slots)) if len(slots) else None


def merged(segments: Sequence[Segment], words: Words | None = None, ids: Ids | None = None) -> Segment:
    """Return one flat segment with the codes of all of them, without gaps, and these rows; there is at least one."""
    n = sum(segment.n_codes for segment in segments) + (0 if ids is None else len(ids))
    copies = 2 if len(segments) == 1 and ids is None else 4  # parts, together, in order, and stored
    n_bytes = copies * n * (8 * segments[0].chunks.n_words + 8)
    memory.ask(n_bytes, "there must be fewer codes", "%d codes on their way into one segment", n)
    parts = [segment.live() for segment in segments]
    if words is not None and ids is not None:
        parts.append((ids, words))
    all_ids, rows = parts[0]
    if len(parts) > 1:
        all_ids, rows = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    if not (all_ids[1:] > all_ids[:-1]).all():
        order = all_ids.argsort(kind="stable")  # merges sorted parts in one pass
        all_ids, rows = all_ids[order], rows[order]
    return Segment.of_rows(rows, all_ids)


def _ask(n_codes: int, n_words: int, n_ids: int) -> None:
    """Ask for the memory of codes that are to be stored, and of so many ids."""
    memory.ask(8 * (n_codes * n_words + n_ids), "codes must be fewer at a time", "%d codes and their ids", n_codes)


def _bad_order() -> CorruptIndexError:
    """Only a file, mapped and not verified, can hold such a thing."""
    return CorruptIndexError("the index file is damaged: its ring refers to codes beyond the end")
