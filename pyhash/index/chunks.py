"""Memory for codes: blocks of 64, word-major, in chunks of about 2 MiB that are added and never moved.

The layout is `block[word, lane]`: a SIMD register holds the same word of several codes, so a kernel never sums across
a register, one level of a code is a range of rows, and memory streams in order. Codes are kept in chunks so that adding
never moves one and memory not yet used is not yet taken.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Slots = NDArray[np.int64]

BLOCK = 64  # codes a block
_CHUNK_BYTES = 2 << 20  # a huge page
_MIN_CHUNK_BLOCKS = 8  # 512 codes
_ALIGNMENT = 64  # bytes: a cache line, and the widest register


def blocks_of(n_codes: int) -> int:
    """Blocks that hold this many codes."""
    return -(-n_codes // BLOCK)


def _blocks_per_chunk(n_words: int) -> int:
    """Blocks in a full chunk: a power of two, about 2 MiB."""
    blocks = _CHUNK_BYTES // (n_words * BLOCK * 8)
    return max(_MIN_CHUNK_BLOCKS, 1 << (blocks.bit_length() - 1) if blocks else 0)


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """Return zeroed memory, aligned for SIMD; a large piece on huge pages where the system offers them."""
    if size < _CHUNK_BYTES:
        whole = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
        start = -whole.__array_interface__["data"][0] % _ALIGNMENT  # quicker than `ctypes.data`
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


def _allocate(n_blocks: int, n_words: int) -> Words:
    return aligned_bytes(n_blocks * n_words * BLOCK * 8).view(np.uint64).reshape(n_blocks, n_words, BLOCK)


class Chunks:
    """Memory for codes that only grows.

    Readers use the slots that a published segment shows, and those are never written again. Whoever holds the writer's
    lock may reserve more and write beyond them. All arrays but the last hold `full` blocks.
    """

    __slots__ = ("__weakref__", "arrays", "full", "n_words")

    def __init__(self, n_words: int, arrays: Iterable[Words] = ()) -> None:
        self.n_words = n_words
        self.full = _blocks_per_chunk(n_words)
        self.arrays = list(arrays)

    @classmethod
    def of_blocks(cls, blocks: Words) -> Chunks:
        """Use the blocks of one array `(n_blocks, n_words, 64)` without copying them (they may be mapped)."""
        chunks = cls(blocks.shape[1])
        chunks.arrays = [blocks[i : i + chunks.full] for i in range(0, len(blocks), chunks.full)]
        return chunks

    @classmethod
    def of_rows(cls, words: Words) -> Chunks:
        """Store rows of words `(n, n_words)` in slots from 0 on."""
        chunks = cls(words.shape[1])
        chunks.reserve(len(words))
        chunks.write(0, words)
        return chunks

    def copy(self, n_codes: int) -> Chunks:
        """Return the chunks of the first `n_codes` codes to grow on its own; only the last one, if short, is copied."""
        arrays = list(self.used(n_codes))
        if arrays and (len(arrays[-1]) < self.full or n_codes % BLOCK):
            last = _allocate(len(arrays[-1]), self.n_words)
            last[:] = arrays[-1]
            arrays[-1] = last
        return Chunks(self.n_words, arrays)

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return sum(array.nbytes for array in self.arrays)

    # Writing

    def reserve(self, n_codes: int) -> None:
        """Make room for this many codes; slots keep what they hold."""
        arrays, full = self.arrays, self.full
        short = arrays[-1] if arrays and len(arrays[-1]) < full else None
        have = len(arrays) * full - (0 if short is None else full - len(short))
        missing = blocks_of(n_codes) - have
        if missing <= 0:
            return
        if short is not None or not arrays:
            # The last chunk is a short one: it grows by copying, at least doubling, until it is full.
            n = 0 if short is None else len(short)
            grown = _allocate(min(full, max(n + missing, 2 * n)), self.n_words)
            if short is not None:
                grown[:n] = short
            missing -= len(grown) - n
            arrays[len(arrays) - (short is not None) :] = [grown]  # who still reads the short one sees the same codes
        if missing > 0:
            more = -(-missing // full)
            region = _allocate(more * full, self.n_words)
            arrays.extend([region[i : i + full] for i in range(0, more * full, full)])

    def write(self, slot: int, words: Words) -> None:
        """Write rows of words into slots from `slot` on; room is there."""
        full, n_words = self.full, self.n_words
        done, n = 0, len(words)
        while done < n:
            block, lane = divmod(slot + done, BLOCK)
            chunk = self.arrays[block // full]
            block %= full
            if lane or n - done < BLOCK:
                end = min(done + BLOCK - lane, n)
                chunk[block, :, lane : lane + end - done] = words[done:end].T
            else:
                whole = min(len(chunk) - block, (n - done) // BLOCK)
                end = done + whole * BLOCK
                chunk[block : block + whole] = words[done:end].reshape(whole, BLOCK, n_words).transpose(0, 2, 1)
            done = end

    # Reading

    def used(self, n_codes: int) -> Iterator[Words]:
        """Yield the arrays that hold the first `n_codes` codes, the last cut after the last block in use."""
        left = blocks_of(n_codes)
        for array in self.arrays:
            if left <= 0:
                return
            yield array[:left]
            left -= len(array)

    def rows(self, slots: Slots) -> Words:
        """Return the codes in these slots as rows of words `(n, n_words)`."""
        block, lane = np.divmod(slots, BLOCK)
        if len(self.arrays) == 1:
            return np.ascontiguousarray(self.arrays[0][block, :, lane])
        words = np.empty((len(slots), self.n_words), dtype=np.uint64)
        chunk, block = np.divmod(block, self.full)
        order = np.argsort(chunk, kind="stable")
        ends = np.flatnonzero(np.diff(chunk[order], append=-1)) + 1
        begin = 0
        for end in ends.tolist():
            here = order[begin:end]
            words[here] = self.arrays[chunk[here[0]]][block[here], :, lane[here]]
            begin = end
        return words

    def all_rows(self, n_codes: int) -> Words:
        """Return the first `n_codes` codes as rows of words `(n_codes, n_words)`."""
        words = np.empty((blocks_of(n_codes), BLOCK, self.n_words), dtype=np.uint64)
        done = 0
        for blocks in self.used(n_codes):
            words[done : done + len(blocks)] = blocks.transpose(0, 2, 1)
            done += len(blocks)
        return words.reshape(-1, self.n_words)[:n_codes]


def resized(array: NDArray[Any], n: int, keep: int) -> NDArray[Any]:
    """Return an array of `n` entries that begins with the first `keep` of this one, zero after them."""
    grown = np.zeros(n, dtype=array.dtype)
    grown[:keep] = array[:keep]
    return grown
