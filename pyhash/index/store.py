"""Blocked storage: runs of codes in blocks of 64, word-major, with ids that ascend with the slot.

The layout is `block[word, lane]`: a SIMD register holds the same word of several codes, so a kernel never sums across
a register, one level of a code is a run of rows, and memory streams in order. Blocks are kept in chunks of about 2 MiB,
so that adding never moves a code and memory not yet used is not yet taken.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Kernel, Ring, Segment
from ..errors import CorruptIndexError
from ..support import hold_through_fork

BLOCK = 64  # codes a block
_CHUNK_BYTES = 2 << 20  # a huge page
_MIN_CHUNK_BLOCKS = 8  # 512 codes
_ALIGNMENT = 64  # bytes: a cache line, and the widest register


def blocks_per_chunk(n_words: int) -> int:
    """Blocks in a full chunk: a power of two, about 2 MiB."""
    blocks = _CHUNK_BYTES // (n_words * BLOCK * 8)
    return max(_MIN_CHUNK_BLOCKS, 1 << (blocks.bit_length() - 1) if blocks else 0)


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """Return zeroed memory, aligned for SIMD; a large piece on huge pages where the system offers them."""
    if size < _CHUNK_BYTES:
        whole = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
        start = -whole.ctypes.data % _ALIGNMENT
        return whole[start : start + size]
    # Anonymous memory: pages that are never written are never taken. Private: a forked child has its own, and the
    # system gives no huge pages to shared memory.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        raw = mmap.mmap(-1, size + _CHUNK_BYTES, **private)
    except OSError as error:  # of anonymous memory there can only be too little
        raise MemoryError(f"cannot have {size:,} bytes: {error.strerror}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            raw.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(raw, dtype=np.uint8)
    start = -whole.ctypes.data % _CHUNK_BYTES
    return whole[start : start + size]


def _allocate(n_blocks: int, n_words: int) -> NDArray[np.uint64]:
    return aligned_bytes(n_blocks * n_words * BLOCK * 8).view(np.uint64).reshape(n_blocks, n_words, BLOCK)


_flattening = threading.RLock()  # held while a flat copy is made, so that one is made and not one a thread
hold_through_fork(_flattening)


class Run:
    """Codes stored together, their ids ascending with the slot, unless a ring keeps them in an order of its own.

    Ids ascend with the rank: `ids` is None while the id of rank `r` is `first_id + r`. `dead` is None while no slot was
    removed. A run with a ring is not added to nor overwritten.
    """

    def __init__(self, n_words: int) -> None:
        self.n_words = n_words
        self.n_codes = 0  # slots, removed ones included
        self.n_dead = 0
        self.first_id = 0
        self.chunks: list[NDArray[np.uint64]] = []
        self.ids: NDArray[np.int64] | None = None  # may be longer than n_codes: room to grow
        self.dead: NDArray[np.uint64] | None = None
        self.ring: Ring | None = None
        self._slot_of_rank: NDArray[np.uint32] | None = None
        self._flattened: Run | None = None
        self._views: dict[type[Kernel], Segment] = {}

    @classmethod
    def from_arrays(
        cls,
        blocks: NDArray[np.uint64],
        n_codes: int,
        first_id: int,
        ids: NDArray[np.int64] | None,
        dead: NDArray[np.uint64] | None,
        ring: Ring | None,
    ) -> Run:
        """Wrap stored arrays, `blocks` being `(n_blocks, n_words, 64)`, without copying them (they may be mapped)."""
        run = cls(blocks.shape[1])
        step = blocks_per_chunk(run.n_words)
        run.chunks = [blocks[i : i + step] for i in range(0, len(blocks), step)]
        run.n_codes, run.first_id, run.ids, run.dead, run.ring = n_codes, first_id, ids, dead, ring
        run.n_dead = 0 if dead is None else int(np.bitwise_count(dead[: run.n_blocks]).sum())
        return run

    @classmethod
    def from_rows(cls, words: NDArray[np.uint64], ids: NDArray[np.int64]) -> Run:
        """Store rows of words; `ids` strictly ascend."""
        run = cls(words.shape[1])
        run.append(words, ids)
        return run

    def __len__(self) -> int:
        return self.n_codes - self.n_dead

    @property
    def n_blocks(self) -> int:
        """Blocks in use."""
        return -(-self.n_codes // BLOCK)

    @property
    def nbytes(self) -> int:
        """Bytes in use for codes, ids and removal marks."""
        used = self.n_blocks * self.n_words * BLOCK * 8
        used += 0 if self.ids is None else 8 * self.n_codes
        used += 0 if self.ring is None else sum(array.nbytes for array in self.ring)
        return used + (0 if self.dead is None else 8 * self.n_blocks)

    @property
    def last_id(self) -> int:
        """The largest id, a removed one included; the run is not empty."""
        return self.first_id + self.n_codes - 1 if self.ids is None else int(self.ids[self.n_codes - 1])

    def view(self, kernel: Kernel) -> Segment:
        """Return this run as a `Segment` of this kernel, and of all of its type: made once after each change."""
        view = self._views.get(type(kernel))
        if view is None:
            try:
                view = kernel.segment(self.chunks, self.n_codes, self.first_id, self.ids, self.dead, self.ring)
            except ValueError as error:  # only a file, mapped and not verified, can hold such a thing
                raise CorruptIndexError(f"the index is damaged: {error}") from error
            self._views[type(kernel)] = view
        return view

    def flattened(self) -> Run:
        """Return this run without its ring, for a backend that cannot use one."""
        if self.ring is None:
            return self
        with _flattening:
            if self._flattened is None or len(self._flattened) != len(self):
                self._flattened = merged([self])
            return self._flattened

    def with_ring(self, kernel: Kernel, n_clusters: int, threads: int) -> Run:
        """Return the codes of this run (flat, nothing removed) as a run with a ring."""
        ring = kernel.build_ring(self.view(kernel), n_clusters, threads)
        run = Run(self.n_words)
        run._reserve(self.n_codes)
        kernel.permute(self.view(kernel), ring.order, run.chunks)
        run.n_codes, run.first_id, run.ring = self.n_codes, self.first_id, ring
        run.ids = None if self.ids is None else self.ids[: self.n_codes]
        return run

    # Changing

    def append(self, words: NDArray[np.uint64], ids: NDArray[np.int64]) -> None:
        """Add rows of words `(n, n_words)` whose ids strictly ascend and follow those there are."""
        n = len(words)
        end = self.n_codes + n
        self._reserve(end)
        self._append_ids(ids)
        self._write(self.n_codes, words)
        if self.dead is not None:
            self.dead = _resized(self.dead, -(-end // BLOCK))
        self.n_codes = end
        self._views = {}

    def overwrite(self, slots: NDArray[np.int64], words: NDArray[np.uint64]) -> None:
        """Replace the codes in these slots."""
        for chunk, here, block, lane in self._by_chunk(slots):
            chunk[block, :, lane] = words[here]

    def prepare_removal(self) -> None:
        """Make room for the marks of removed slots: what of `remove` can fail."""
        if self.dead is None:
            self.dead = np.zeros(self.n_blocks, dtype=np.uint64)
            self._views = {}

    def remove(self, slots: NDArray[np.int64]) -> None:
        """Mark slots, none of them marked before, as removed."""
        self.prepare_removal()
        assert self.dead is not None
        np.bitwise_or.at(self.dead, slots // BLOCK, np.uint64(1) << (slots % BLOCK).astype(np.uint64))
        self.n_dead += len(slots)

    def _reserve(self, n_codes: int) -> None:
        """Make room for this many codes."""
        full = blocks_per_chunk(self.n_words)
        missing = -(-n_codes // BLOCK) - sum(map(len, self.chunks))
        if missing <= 0:
            return
        if not self.chunks or len(self.chunks[-1]) < full:
            # The last chunk is a short one: it grows by copying, at least doubling, until it is full.
            short = self.chunks[-1] if self.chunks else np.empty((0, self.n_words, BLOCK), np.uint64)
            grown = _allocate(min(full, max(len(short) + missing, 2 * len(short))), self.n_words)
            grown[: len(short)] = short
            self.chunks[-1:] = [grown]
            missing -= len(grown) - len(short)
        more = -(-missing // full)
        if more > 0:
            region = _allocate(more * full, self.n_words)
            self.chunks.extend(region[i : i + full] for i in range(0, more * full, full))

    def _append_ids(self, ids: NDArray[np.int64]) -> None:
        n = len(ids)
        if not n:
            return
        if not self.n_codes:
            self.first_id = int(ids[0])
        consecutive = int(ids[-1]) - self.first_id == self.n_codes + n - 1
        if self.ids is None and consecutive:  # strictly ascending, so nothing between can be missing
            return
        if self.ids is None:
            self.ids = np.arange(self.first_id, self.first_id + self.n_codes, dtype=np.int64)
        if self.n_codes + n > len(self.ids):
            room = self.n_codes + n if n > self.n_codes >> 3 else self.n_codes + (self.n_codes >> 3) + 64
            self.ids = _resized(self.ids[: self.n_codes], room)
        self.ids[self.n_codes : self.n_codes + n] = ids

    def _write(self, slot: int, words: NDArray[np.uint64]) -> None:
        """Write rows into slots from `slot` on; room is there."""
        full = len(self.chunks[0]) if self.chunks else 1
        done = 0
        while done < len(words):
            block, lane = divmod(slot + done, BLOCK)
            chunk = self.chunks[block // full]
            block %= full
            if lane or len(words) - done < BLOCK:
                n = min(BLOCK - lane, len(words) - done)
                chunk[block, :, lane : lane + n] = words[done : done + n].T
            else:
                whole = min(len(chunk) - block, (len(words) - done) // BLOCK)
                n = whole * BLOCK
                chunk[block : block + whole] = (
                    words[done : done + n].reshape(whole, BLOCK, self.n_words).transpose(0, 2, 1)
                )
            done += n

    # Reading

    def _rank_ids(self) -> NDArray[np.int64]:
        if self.ids is None:
            return np.arange(self.first_id, self.first_id + self.n_codes, dtype=np.int64)
        return self.ids[: self.n_codes]

    def ids_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids of the codes in these slots."""
        ranks = slots if self.ring is None else self.ring.order[slots].astype(np.int64)
        if self.ring is not None and len(ranks) and ranks.max() >= self.n_codes:
            raise self._bad_order()
        return self.first_id + ranks if self.ids is None else self.ids[ranks]

    def _bad_order(self) -> CorruptIndexError:
        """Only a file, mapped and not verified, can hold such a thing."""
        return CorruptIndexError("the index is damaged: the order of its ring names codes that there are not")

    def alive(self) -> NDArray[np.bool_]:
        """Which slots hold a code: `(n_codes,)`."""
        if self.dead is None:
            return np.ones(self.n_codes, dtype=np.bool_)
        marks = self.dead[: self.n_blocks].astype("<u8", copy=False).view(np.uint8)
        alive: NDArray[np.bool_] = np.unpackbits(marks, count=self.n_codes, bitorder="little") == 0
        return alive

    def live_ids(self) -> NDArray[np.int64]:
        """Ids of the codes that are there, ascending."""
        ids = self._rank_ids()
        if self.dead is None:
            return ids
        alive = self.alive()
        if self.ring is not None:
            by_rank = np.empty_like(alive)
            try:
                by_rank[self.ring.order] = alive
            except IndexError:
                raise self._bad_order() from None
            alive = by_rank
        return ids[alive]

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots of these ids, -1 where there is none (or it was removed)."""
        if self.ids is None:
            # A far id may lie more than an int64 away from the first, so compare before subtracting.
            inside = (ids >= self.first_id) & (ids <= self.last_id)
            slots = np.where(inside, ids, self.first_id) - self.first_id
        else:
            own = self.ids[: self.n_codes]
            slots = np.minimum(np.searchsorted(own, ids), self.n_codes - 1)
            inside = own[slots] == ids
        if self.ring is not None:
            table = self._slot_of_rank
            if table is None:
                table = np.zeros(self.n_codes, dtype=np.uint32)
                try:
                    table[self.ring.order] = np.arange(self.n_codes, dtype=np.uint32)
                except IndexError:
                    raise self._bad_order() from None
                self._slot_of_rank = table  # only when it is whole: other threads search, too
            slots = table[slots].astype(np.int64)
        if self.dead is not None:
            marks = self.dead[slots // BLOCK] >> (slots % BLOCK).astype(np.uint64)
            inside &= (marks & np.uint64(1)) == 0
        return np.where(inside, slots, -1)

    def rows(self, slots: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Codes in these slots as rows of words `(n, n_words)`."""
        words = np.empty((len(slots), self.n_words), dtype=np.uint64)
        for chunk, here, block, lane in self._by_chunk(slots):
            words[here] = chunk[block, :, lane]
        return words

    def all_rows(self) -> NDArray[np.uint64]:
        """Return the codes of all slots, removed ones included, as rows of words `(n_codes, n_words)`."""
        words = np.empty((self.n_blocks, BLOCK, self.n_words), dtype=np.uint64)
        done = 0
        for blocks in self.used_chunks():
            words[done : done + len(blocks)] = blocks.transpose(0, 2, 1)
            done += len(blocks)
        return words.reshape(-1, self.n_words)[: self.n_codes]

    def used_chunks(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the chunks, the last cut after the last block in use."""
        left = self.n_blocks
        for chunk in self.chunks:
            if left <= 0:
                return
            yield chunk[:left]
            left -= len(chunk)

    def _by_chunk(
        self, slots: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.uint64], Any, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield, for each chunk that holds some of these slots: the chunk, which of them, their blocks and lanes."""
        full = len(self.chunks[0]) if self.chunks else 1
        block, lane = np.divmod(slots, BLOCK)
        if len(self.chunks) == 1:
            yield self.chunks[0], slice(None), block, lane
            return
        chunk_of = block // full
        order = np.argsort(chunk_of, kind="stable")
        present, starts = np.unique(chunk_of[order], return_index=True)
        for number, here in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
            yield self.chunks[number], here, block[here] % full, lane[here]


def merged(runs: list[Run]) -> Run:
    """Return one flat run with the codes of all of them, removed slots left out."""
    all_ids, all_rows = [], []
    for run in runs:
        ids, rows = run.ids_of(np.arange(run.n_codes)), run.all_rows()
        if run.dead is not None:
            alive = run.alive()
            ids, rows = ids[alive], rows[alive]
        all_ids.append(ids)
        all_rows.append(rows)
    ids, rows = np.concatenate(all_ids), np.concatenate(all_rows)
    if len(runs) > 1 or runs[0].ring is not None:
        order = np.argsort(ids, kind="stable")  # merges sorted runs in one pass
        ids, rows = ids[order], rows[order]
    return Run.from_rows(rows, ids)


def _resized(array: NDArray[Any], n: int) -> NDArray[Any]:
    """Return a copy with room for `n` entries, new ones zero."""
    if n <= len(array):
        return array
    grown = np.zeros(n, dtype=array.dtype)
    grown[: len(array)] = array
    return grown
