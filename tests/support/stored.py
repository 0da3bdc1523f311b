"""Stored codes as both a kernel and the reference see them, and what is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import oracle

from pyhash.codes import to_words


@dataclass
class Stored:
    """A run of codes: rows of uint8, ascending ids (or just the first), which rows are removed, which are allowed."""

    rows: np.ndarray
    ids: np.ndarray | int = 0
    dead: np.ndarray | None = None
    allowed: np.ndarray | None = None
    full: int = 2  # blocks a chunk

    def all_ids(self):
        n = len(self.rows)
        return np.arange(self.ids, self.ids + n) if isinstance(self.ids, int) else self.ids

    def marks(self, mask):
        """Bits of a mask of rows, a word a block; the lanes after the last row at random."""
        bits = np.random.default_rng(0).integers(0, 2, -(-len(self.rows) // 64) * 64, dtype=np.uint8)
        bits[: len(self.rows)] = mask
        return np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)

    def segment(self, kernel):
        words = to_words(self.rows)
        n, n_words = words.shape
        n_blocks = -(-n // 64) + n % 2  # now and then a block more than there need be
        blocks = np.random.default_rng(1).integers(0, 2**64, (n_blocks * 64, n_words), dtype=np.uint64)
        blocks[:n] = words
        blocks = np.ascontiguousarray(blocks.reshape(n_blocks, 64, n_words).transpose(0, 2, 1))
        blocks.flags.writeable = n % 3 > 0  # some are mapped files
        chunks = [blocks[i : i + self.full] for i in range(0, n_blocks, self.full)]
        first, ids = (self.ids, None) if isinstance(self.ids, int) else (0, self.ids)
        return kernel.segment(chunks, n, first, ids, None if self.dead is None else self.marks(self.dead))


def flat(stored):
    """All rows, ids, and masks of what is there and of what may be found."""
    rows = np.concatenate([s.rows for s in stored])
    ids = np.concatenate([s.all_ids() for s in stored])
    there = [np.ones(len(s.rows), bool) if s.dead is None else ~s.dead for s in stored]
    shown = [mask if s.allowed is None else mask & s.allowed for s, mask in zip(stored, there, strict=True)]
    return rows, ids, np.concatenate(there), np.concatenate(shown)


def metric_of(kernel, parts, n_words):
    """The kernel's metric for parts `(first byte, end byte, weight)`."""
    if parts is None:
        return None
    terms = []
    for first, end, weight in parts:
        mask = np.zeros(n_words * 8, dtype=np.uint8)
        mask[first:end] = 255
        terms += [(word, bits, weight) for word, bits in enumerate(mask.view(np.uint64).tolist()) if bits]
    words, masks, weights = zip(*terms, strict=True)
    return kernel.metric(
        np.array(words, dtype=np.uint32), np.array(masks, dtype=np.uint64), np.array(weights, dtype=np.uint32)
    )


def assert_same(got, expected, note):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), note
        np.testing.assert_array_equal(one, other, err_msg=str(note))


def check(kernel, stored, queries, ks, radii, parts=None, threads=(1,), expected=None):
    """Compare topk and within with the reference."""
    n_words = -(-queries.shape[1] // 8)
    rows, ids, _, shown = flat(stored)
    segments = [s.segment(kernel) for s in stored]
    allowed = None
    if any(s.allowed is not None for s in stored):
        allowed = [s.marks(np.ones(len(s.rows), bool) if s.allowed is None else s.allowed) for s in stored]
    metric = metric_of(kernel, parts, n_words)
    target = kernel.target(segments, allowed)
    for k in ks:
        expected = oracle.topk(rows, ids, queries, k, parts, shown)
        for n_threads in threads:
            note = f"{len(rows)} codes, {n_words} words, k={k}, {parts}, {n_threads} threads"
            assert_same(kernel.topk(target, queries, metric, k, n_threads), expected, note)
    for radius in radii:
        expected = oracle.within(rows, ids, queries, radius, parts, shown)
        for n_threads in threads:
            note = f"{len(rows)} codes, {n_words} words, radius={radius}, {parts}, {n_threads} threads"
            assert_same(kernel.within(target, queries, metric, radius, n_threads), expected, note)


def clustered(rng, n, n_bytes, flips=6):
    """Codes near a few centres, so that ties are many."""
    centres = rng.integers(0, 256, (4, n_bytes), dtype=np.uint8)
    rows = centres[rng.integers(0, 4, n)]
    for _ in range(flips):
        rows[np.arange(n), rng.integers(0, n_bytes, n)] ^= 1 << rng.integers(0, 8, n).astype(np.uint8)
    return rows


def interleaved(rng, rows, n_segments, dead=0.0, allowed=None):
    """Spread rows over segments whose ids mix, negative and far ones too."""
    ids = np.sort(rng.choice(np.arange(-3000, 3000), len(rows), replace=False)).astype(np.int64)
    ids[ids == -1] = 3000
    ids = np.sort(ids)
    if len(ids) > 1:
        ids[0], ids[-1] = -(2**63), 2**63 - 1
    which = rng.integers(0, n_segments, len(rows))
    return [
        Stored(
            rows[which == s],
            ids[which == s],
            dead=rng.random((which == s).sum()) < dead if dead else None,
            allowed=None if allowed is None else rng.random((which == s).sum()) < allowed,
            full=1 + s,
        )
        for s in range(n_segments)
    ]
