"""The contract between an index and who computes distances: the compiled kernels (`_native`), or Numba.

A kernel is a value. Who answers a call takes one (`active()`) and hands it down, so that a call has one kernel from
beginning to end. Arguments are validated before they come here; every kernel returns equal arrays for equal arguments.

Words: a code of `n_bytes` bytes is zero-padded to `n_words = ceil(n_bytes / 8)` words of 8 bytes in memory order. A
block holds 64 codes word-major: `block[word, lane]`. A chunk is an array of blocks `(blocks, n_words, 64)`,
C-contiguous. A segment is a run of codes in chunks; their ids ascend with the slot, or with the rank that a ring gives
each slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

LANES = 64  # codes a block
PAD_DISTANCE = 2**31 - 1  # of the places of an answer for which there is no code
PAD_ID = -1
MAX_RING_WORDS = 64  # the widest codes that a ring can hold

Codes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ids = NDArray[np.int64]
Distances = NDArray[np.int32]
Int8s = NDArray[np.int8]
Similarities = NDArray[np.float64]


class Ring(NamedTuple):
    """What a kernel made of a segment to search part of it only; the ring folder of csrc says how."""

    order: NDArray[np.uint32]  # (n_codes,) the rank of a slot: its code's place in the order of ids
    centres: Words  # (blocks, n_words, 64)
    least: NDArray[np.uint32]  # (n_clusters,) smallest radius of a cluster
    first: NDArray[np.uint32]  # (n_clusters + 1,) where a cluster's rings begin in `starts`
    starts: NDArray[np.uint32]  # first slot of each ring, and the end of each cluster


class Segment(Protocol):
    """A read-only view of a segment's arrays, which it keeps alive; every kernel of its maker's type can search it."""

    def ring_counters(self) -> tuple[int, int, int] | None:
        """Queries answered by the ring, queries handed back, codes passed over by those answered; None without one."""


class Target(Protocol):
    """What a search passes over: segments, and which of their slots. It keeps them alive, and serves as they do."""


class Metric(Protocol):
    """What is measured: `sum over terms of weight * popcount((code[word] ^ query[word]) & mask)`."""

    @property
    def largest(self) -> int:
        """The largest distance there can be."""


class Kernel(Protocol):
    """Who computes distances, in one way. Segments and metrics serve every kernel of the Python type that made them.

    `threads` is 0 for as many as this process may run on; work too small to share runs on one. `metric` is None for the
    whole code.
    `room` is None, or how many bytes may be taken by a call whose answer is as long as it turns out; MemoryError where
    they are not enough.
    """

    @property
    def name(self) -> str:
        """Its name, as in `pyhash.kernels()`."""

    @property
    def rings(self) -> bool:
        """Whether it can build and search rings; segments with a ring, and the last three methods, are for those."""

    def segment(
        self,
        chunks: Sequence[Words],
        n_codes: int,
        first_id: int,
        ids: Ids | None,
        dead: Words | None,
        ring: Ring | None = None,
    ) -> Segment:
        """Describe a segment.

        chunks: all but the last hold the same number of blocks. Slot `s` is lane `s % 64` of block `s // 64`, counted
        through the chunks. Lanes from `n_codes` on hold anything.
        first_id, ids: the id of slot `s` is `first_id + s` where `ids` is None, else `ids[s]` (strictly ascending).
        dead: None, or one word a block; bit `lane` set (bit 0 the least significant) means the slot was removed.
        ring: ids then ascend with the rank, and `ring.order` is the rank of each slot.

        Raises
        ------
        ValueError
            When the arrays do not fit one another, so that a search would read outside them.
        """

    def target(self, segments: Sequence[Segment], allowed: Sequence[Words] | None = None) -> Target:
        """Put together what is searched; made once for many searches.

        allowed: None, or for each segment one array of words, one a block; a clear bit hides the slot. Joins hide none.
        """

    def metric(self, words: NDArray[np.uint32], masks: Words, weights: NDArray[np.uint32]) -> Metric:
        """Describe a metric by terms of equal length; the caller has checked that no distance reaches 2**31 - 1."""

    def topk(
        self, target: Target, queries: Codes, metric: Metric | None, k: int, threads: int
    ) -> tuple[Distances, Ids]:
        """The k nearest of each query in (distance, id) order, padded with 2**31 - 1 and -1: `(q, k)`.

        queries: packed codes `(q, n_bytes)`, C-contiguous. One query may be `(n_bytes,)`, and its answer is `(k,)`.
        """

    def within(
        self,
        target: Target,
        queries: Codes,
        metric: Metric | None,
        radius: int,
        threads: int,
        room: int | None = None,
    ) -> tuple[Ids, Distances, Ids]:
        """All with distance <= radius: offsets `(q + 1,)`, distances and ids in (distance, id) order a query."""

    def pairs(
        self,
        target: Target,
        other: Target | None,
        metric: Metric | None,
        radius: int,
        threads: int,
        most: int | None = None,
        room: int | None = None,
    ) -> tuple[Ids, Ids, Distances]:
        """All pairs with distance <= radius, in (i, j) order: ids i < j of one set, or i of the first and j of `other`.

        Raises
        ------
        ValueError
            When a set has more than 2**32 codes.
        MemoryError
            When there are more than `most` pairs, or more than there is room for.
        """

    def groups(
        self,
        target: Target,
        metric: Metric | None,
        radius: int,
        threads: int,
        room: int | None = None,
    ) -> tuple[Ids, Ids]:
        """Codes linked by such pairs, directly or through others: offsets `(g + 1,)` and the ids of each group.

        Ids ascend within a group, groups come by their smallest id; a code without a partner is in none.
        """

    def rerank(
        self, target: Target, queries: Codes, slots: NDArray[np.int64], metric: Metric | None, k: int, threads: int
    ) -> tuple[Distances, Ids]:
        """Measure given candidates again; the answer is as `topk`'s.

        slots: `(q, c)`, counted through the segments in order (segment s's begin at the sum of `n_codes` of those
        before it), -1 where there is none. One named twice counts once; a removed one is not answered.
        """

    def squares(self, rows: Int8s, threads: int) -> NDArray[np.int32]:
        """The product of each row `(n, dim)` with itself; dim is at most 65536 here and below."""

    def similar(
        self,
        queries: Int8s,
        rows: Int8s,
        row_squares: NDArray[np.int32],
        k: int,
        without: Ids | None,
        threads: int,
    ) -> tuple[Similarities, Ids]:
        """Cosine and place of the k most similar rows of each query, by (cosine descending, place ascending).

        The cosine is `dot / sqrt(square * square)` in float64, 0 where one of the two is zero. Padded with minus
        infinity and -1. row_squares: what `squares` says of the rows. without: None, or a place a query to leave out.
        """

    def products(
        self, queries: Int8s, rows: Int8s, places: Ids, threads: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The product of each query with the rows listed for it, `(q, c)`, and of those with themselves.

        Both are 0 where the place is -1; one that there is not is a ValueError, here and below.
        """

    def signed_sums(
        self, weights: NDArray[np.int16], codes: NDArray[np.uint8], places: Ids, threads: int
    ) -> NDArray[np.int32]:
        """Sums of each query's weights `(q, bits)`, with a minus where the code `(n, n_bytes)` listed for it has a 0.

        `(q, c)`, 0 where the place is -1. No weight is below -32767, and bits are at most 65536.
        """

    def hamming(self, a: Words, b: Words, threads: int) -> Distances:
        """Distances `(m, n)` between rows of words `(m, n_words)` and `(n, n_words)`."""

    def read_rows(self, chunks: Sequence[Words], slots: NDArray[np.int64]) -> Words:
        """Return the codes in these slots, counted through the chunks as in a segment, as rows `(n, n_words)`."""

    def choose_clusters(self, segment: Segment, threads: int) -> tuple[int, float]:
        """The number of clusters that makes queries cheapest, and their cost as a share of a flat pass, estimated.

        The segment, here and below, has no ring and no removed slots.
        """

    def build_ring(self, segment: Segment, n_clusters: int, threads: int) -> Ring:
        """Cluster a segment."""

    def permute(self, segment: Segment, order: NDArray[np.uint32], chunks: Sequence[Words]) -> None:
        """Copy the codes in slots `order` of a segment to slots 0, 1, ... of `chunks`, which have room for them."""
