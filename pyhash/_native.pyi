"""The compute contract that both backends keep: `pyhash._native` (C++) and `pyhash.backend.numba_kernels` (Numba).

Both modules have every name below, except the kernel functions at the end, which only `_native` has. Arguments are
already validated (`index.py`, `codes.py`); both return equal arrays for equal arguments.

Words: a code of `n_bytes` bytes is zero-padded to `n_words = ceil(n_bytes / 8)` words of 8 bytes in memory order. A
block holds 64 codes word-major: `block[word, lane]`. A segment is a run of codes; their ids ascend with the slot, or
with the rank that a ring gives each slot.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .index.store import Ring

class Segment:
    """A read-only view of one stored run of codes; it keeps its arrays alive."""

    def __init__(
        self,
        chunks: Sequence[NDArray[np.uint64]],
        n_codes: int,
        first_id: int,
        ids: NDArray[np.int64] | None,
        dead: NDArray[np.uint64] | None,
        ring: Ring | None = None,
    ) -> None:
        """Describe a run of codes.

        chunks: arrays `(blocks, n_words, 64)`, C-contiguous; all but the last hold the same number of blocks. Slot `s`
        is lane `s % 64` of block `s // 64`, counted through the chunks. Lanes from `n_codes` on hold anything.
        first_id, ids: the id of slot `s` is `first_id + s` where `ids` is None, else `ids[s]` (strictly ascending).
        dead: None, or one word a block; bit `lane` set (bit 0 the least significant) means the slot was removed.
        ring: `_native` only; ids then ascend with the rank, and `ring.order` is the rank of each slot.
        """

    def ring_counters(self) -> tuple[int, int, int] | None:
        """`_native` only: queries answered by the ring, queries handed back, codes passed over by those answered."""

class Metric:
    """What is measured: `sum over terms of weight * popcount((code[word] ^ query[word]) & mask)`."""

    def __init__(self, words: NDArray[np.uint32], masks: NDArray[np.uint64], weights: NDArray[np.uint32]) -> None:
        """Terms of equal length; the caller has checked that no distance can reach 2**31 - 1."""

# `allowed`: None, or for each segment one array of words, one a block; a clear bit hides the slot.
# `threads`: 0 means as many as this process may run on; work too small to share runs on one.

def topk(
    segments: Sequence[Segment],
    queries: NDArray[np.uint64],
    metric: Metric | None,
    k: int,
    allowed: Sequence[NDArray[np.uint64]] | None,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The k nearest of each query `(q, n_words)` in (distance, id) order, padded with 2**31 - 1 and -1."""

def within(
    segments: Sequence[Segment],
    queries: NDArray[np.uint64],
    metric: Metric | None,
    radius: int,
    allowed: Sequence[NDArray[np.uint64]] | None,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """All with distance <= radius: offsets `(q + 1,)`, distances and ids in (distance, id) order a query."""

def pairs(
    segments: Sequence[Segment], radius: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """All pairs of stored codes, ids i < j, with distance <= radius, in (i, j) order."""

def hamming(a: NDArray[np.uint64], b: NDArray[np.uint64], threads: int) -> NDArray[np.int32]:
    """Distances `(m, n)` between rows of words `(m, n_words)` and `(n, n_words)`."""

# Only in `_native`:

def choose_clusters(segment: Segment, threads: int) -> tuple[int, float]:
    """The number of clusters that makes queries cheapest, and their cost as a share of a flat pass; both estimated."""

def build_ring(
    segment: Segment, n_clusters: int, threads: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Cluster a flat segment: order, centres as rows of words `(n * n_words,)`, least, first, starts (`store.Ring`)."""

def permute(segment: Segment, order: NDArray[np.uint32], chunks: Sequence[NDArray[np.uint64]]) -> None:
    """Copy the codes in slots `order` of a segment to slots 0, 1, ... of `chunks`."""

def read_words(words: NDArray[np.uint64]) -> int:
    """The exclusive or of all words, read as fast as memory allows one core: for benchmarks."""

def scan_cached(n_words: int, n_codes: int) -> int:
    """Measure at least `n_codes` codes that stay in cache: the popcount scan's own limit, for benchmarks."""

def available_kernels() -> list[str]:
    """Kernels compiled in that this CPU can run, best first."""

def compiled_kernels() -> list[str]:
    """Every kernel compiled in, best first, whether this CPU can run it or not."""

def get_kernel() -> str:
    """The kernel in use."""

def set_kernel(name: str) -> None:
    """Use the kernel of this name; ValueError when it is not available."""

def cpu_features() -> list[str]:
    """What the CPU and the operating system offer of what the kernels ask for."""
