"""The C++ core: its kernels keep the contract in `pyhash/backend/contract.py`, which says what each method does."""

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from .backend import contract
from .backend.contract import Codes, Distances, Ids, Int8s, Ring, Similarities, Words

LANES: int
PAD_DISTANCE: int
PAD_ID: int
MAX_RING_WORDS: int

@final
class Segment:
    """What `Kernel.segment` makes."""

    def ring_counters(self) -> tuple[int, int, int] | None: ...

@final
class Target:
    """What `Kernel.target` makes."""

@final
class Metric:
    """What `Kernel.metric` makes."""

    @property
    def largest(self) -> int: ...

@final
class Kernel:
    """One instruction set. Segments and metrics of one serve them all; those of others are a TypeError."""

    @property
    def name(self) -> str: ...
    @property
    def rings(self) -> bool: ...
    def segment(
        self,
        chunks: Sequence[Words],
        n_codes: int,
        first_id: int,
        ids: Ids | None,
        dead: Words | None,
        ring: Ring | None = None,
    ) -> Segment: ...
    def target(self, segments: Sequence[contract.Segment], allowed: Sequence[Words] | None = None) -> Target: ...
    def metric(self, words: NDArray[np.uint32], masks: Words, weights: NDArray[np.uint32]) -> Metric: ...
    def topk(
        self, target: contract.Target, queries: Codes, metric: contract.Metric | None, k: int, threads: int
    ) -> tuple[Distances, Ids]: ...
    def within(
        self,
        target: contract.Target,
        queries: Codes,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        room: int | None = None,
    ) -> tuple[Ids, Distances, Ids]: ...
    def pairs(
        self,
        target: contract.Target,
        other: contract.Target | None,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        most: int | None = None,
        room: int | None = None,
    ) -> tuple[Ids, Ids, Distances]: ...
    def groups(
        self,
        target: contract.Target,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        room: int | None = None,
    ) -> tuple[Ids, Ids]: ...
    def rerank(
        self,
        target: contract.Target,
        queries: Codes,
        slots: NDArray[np.int64],
        metric: contract.Metric | None,
        k: int,
        threads: int,
    ) -> tuple[Distances, Ids]: ...
    def squares(self, rows: Int8s, threads: int) -> NDArray[np.int32]: ...
    def similar(
        self,
        queries: Int8s,
        rows: Int8s,
        row_squares: NDArray[np.int32],
        k: int,
        without: Ids | None,
        threads: int,
    ) -> tuple[Similarities, Ids]: ...
    def products(
        self, queries: Int8s, rows: Int8s, places: Ids, threads: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]: ...
    def signed_sums(
        self, weights: NDArray[np.int16], codes: NDArray[np.uint8], places: Ids, threads: int
    ) -> NDArray[np.int32]: ...
    def hamming(self, a: Words, b: Words, threads: int) -> Distances: ...
    def read_rows(self, chunks: Sequence[Words], slots: NDArray[np.int64]) -> Words: ...
    def choose_clusters(self, segment: contract.Segment, threads: int) -> tuple[int, float]: ...
    def build_ring(self, segment: contract.Segment, n_clusters: int, threads: int) -> Ring: ...
    def permute(self, segment: contract.Segment, order: NDArray[np.uint32], chunks: Sequence[Words]) -> None: ...

def kernels() -> list[Kernel]:
    """Kernels that can run here, best first."""

def compiled_kernels() -> list[str]:
    """Names of all kernels compiled in, best first, whether this CPU can run them or not."""

def cpu_features() -> list[str]:
    """What the CPU and the operating system offer of what the kernels ask for."""
