"""One run of the benchmark: how large it is, what it found, and what it left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .peers import Codes, faiss_flat, flipped, has

WIDTHS = (64, 128, 256, 512)


@dataclass
class Row:
    """One line of the table: what was measured, beside what, and the goal it had."""

    case: str
    bits: int
    figure: str  # what the number is, with its unit
    value: float
    goal: float | None = None
    at_most: bool = False  # whether the goal is an upper bound
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass
class Sizes:
    """How large the cases are."""

    scan: int = 8_000_000  # words of codes for one query: beyond any cache
    batch: int = 2_000_000
    batch_queries: int = 512
    clustered: int = 1_000_000
    join: int = 1_000_000
    large_join: int = 10_000_000
    hard_join: int = 100_000
    other_join: int = 100_000  # joined with `join` codes
    groups: int = 50_000
    fallback: int = 200_000
    memory: int = 10_000_000
    graph: int = 200_000
    largest: int = 10_000_000  # of the sizes that latency is measured at, from 1,000 on in steps of ten
    rounds: int = 5
    join_rounds: int = 3

    @classmethod
    def quick(cls) -> Sizes:
        """Small enough for a test: the figures then mean little."""
        return cls(
            scan=20_000, batch=20_000, batch_queries=64, clustered=20_000, join=5_000, large_join=20_000,
            hard_join=10_000, other_join=1_000, groups=2_000, fallback=5_000, memory=20_000, graph=5_000,
            largest=10_000, rounds=2, join_rounds=1,
        )  # fmt: skip


@dataclass
class Bench:
    """What the cases share: sizes, random numbers, and a list of what could not be measured.

    Attributes
    ----------
    sizes : Sizes
    real : path, optional
        An .npz file with database codes `b` and queries `q`, both uint8 `(n, n_bytes)`: codes of a real network.
    skipped : list of str
        Why something was left out, each reason once.
    """

    sizes: Sizes
    real: str | os.PathLike[str] | None = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    skipped: list[str] = field(default_factory=list)

    def skip(self, reason: str) -> None:
        """Note why something is left out."""
        if reason not in self.skipped:
            self.skipped.append(reason)

    def faiss(self, codes: Codes) -> Any:
        """FAISS's flat index of codes; None, and noted, where FAISS is not installed."""
        if has("faiss"):
            return faiss_flat(codes)
        self.skip("FAISS: not installed (pip install 'pyhash-retrieval[bench]')")
        return None

    def real_codes(self, bits: int) -> tuple[Codes, Codes] | None:
        """Codes of a real network and queries: as many as a batch has, copies with 3 % of the bits flipped."""
        if self.real is None:
            self.skip("real codes: no file of codes was given (--real FILE.npz)")
            return None
        with np.load(self.real) as stored:
            own, queries = stored["b"], stored["q"][:512]
        if own.shape[1] * 8 != bits:
            raise ValueError(f"--real must hold codes of {bits} bits, got {own.shape[1] * 8}")
        copies = max(1, self.sizes.batch // len(own))
        return np.concatenate([flipped(self.rng, own, 0.03) for _ in range(copies)]), queries

    def has_usearch(self) -> bool:
        """Whether USearch is installed; noted where it is not."""
        if not has("usearch"):
            self.skip("USearch: not installed (pip install 'pyhash-retrieval[bench]')")
        return has("usearch")


Case = Callable[[Bench, int], Iterator[Row]]
"""Measures codes of some bits, and yields a row for each figure."""
