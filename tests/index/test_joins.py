"""Pairs in blocks, and groups, beside the pairs that they are made of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import oracle
import pytest
from conftest import random_codes
from numpy.testing import assert_array_equal

import pyhash
from pyhash import Index
from pyhash.index import joins


def example(seed: int, n: int = 300, bits: int = 32, structure: str = "auto") -> Index:
    """Codes of few kinds under ids of their own in several segments, some of them removed."""
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, n, bits, 0.08)
    index = Index(levels={"coarse": 8, "fine": bits - 8}, structure=structure)  # type: ignore[arg-type]
    ids = rng.permutation(4 * n)[:n] - n
    ids[ids == -1] = 4 * n
    for part in np.array_split(np.arange(n), 3):
        index.add(codes[part], ids[part])
    index.remove(ids[::7])
    return index


@pytest.mark.parametrize("most", [1, 50, 700, 1 << 21])
@pytest.mark.parametrize("of_two", [False, True])
def test_blocks_are_the_pairs(kernel: str, most: int, of_two: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "_PAIRS", most)
    index, other = example(1), example(2, 200) if of_two else None
    limit = max(most, len(index if other is None else other))
    for radius, weights in ((0, None), (4, None), (32, None), (9, {"coarse": 3, "fine": 1})):
        whole = index.pairs(radius, other, weights=weights)
        blocks = list(index.pairs(radius, other, weights=weights, blocks=True))
        assert all(0 < len(block.i) <= limit for block in blocks)
        assert len(blocks) > 1 or len(whole.i) <= limit
        for name, expected in whole._asdict().items():
            parts = [getattr(block, name) for block in blocks]
            assert_array_equal(np.concatenate([expected[:0], *parts]), expected)


def test_blocks_are_of_the_index_at_the_call(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "_PAIRS", 1)
    index = Index(8)
    index.add(np.zeros((5, 1), np.uint8))
    blocks = index.pairs(0, blocks=True)
    index.remove([0, 1, 2])
    assert [(int(i), int(j)) for block in blocks for i, j in zip(block.i, block.j, strict=True)] == [
        (i, j) for i in range(5) for j in range(i + 1, 5)
    ]


def test_blocks_of_nothing_and_wrong_arguments(kernel: str) -> None:
    index = Index(8)
    assert list(index.pairs(3, blocks=True)) == []
    index.add(np.array([[0], [255]], np.uint8))
    assert list(index.pairs(3, blocks=True)) == []
    with pytest.raises(ValueError, match="radius must be at least 0"):
        index.pairs(-1, blocks=True)


MEMORY = """
import numpy as np, pyhash

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

index = pyhash.Index(64)
codes = np.random.default_rng(0).integers(0, 256, (200, 8), dtype=np.uint8)
index.add(np.tile(codes, (500, 1)))
index.pairs(0, threads=1, other=pyhash.Index(64))
before = peak()
pairs = index.pairs(0, threads=1)
print(peak() - before, sum(part.nbytes for part in pairs))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_of_pairs() -> None:
    """What is gathered does not stay beside the answer that is made of it."""
    if pyhash.kernel() == "numba":
        pytest.skip("the Numba backend copies its answers")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=300, check=True)
    taken, answer = map(int, done.stdout.split())
    assert answer == 20 * 200 * 500 * 499 // 2
    assert taken <= 1.3 * answer + 16 * 200 * 500 + (64 << 20)


def components(i: np.ndarray, j: np.ndarray) -> list[list[int]]:
    """Groups by merging sets, the slow way."""
    group_of: dict[int, set[int]] = {}
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        merged = group_of.get(a, {a}) | group_of.get(b, {b})
        for member in merged:
            group_of[member] = merged
    return sorted({tuple(sorted(group)) for group in group_of.values()})  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 4])
def test_groups_are_the_components_of_the_pairs(kernel: str, threads: int) -> None:
    several = 0
    for seed in range(3):
        index = example(seed, structure="ring" if seed == 2 else "auto")
        if seed == 2:
            index.search(index.codes(index.ids[:1]))
        ids, codes = index.ids, index.codes(index.ids)
        for radius in (0, 2, 3, 5, 32):
            i, j, _ = oracle.pairs(codes, ids, radius)
            groups = index.groups(radius, threads=threads)
            assert [tuple(group.tolist()) for group in groups] == components(i, j)
            several += len(groups) > 1
        i, j, _ = index.pairs(1, level="coarse")
        assert [tuple(group.tolist()) for group in index.groups(1, level="coarse")] == components(i, j)
        i, j, _ = index.pairs(6, weights={"coarse": 2, "fine": 1})
        found = index.groups(6, weights={"coarse": 2, "fine": 1})
        assert [tuple(group.tolist()) for group in found] == components(i, j)
    assert several > 3


def test_groups_of_many_codes_by_keys(kernel: str) -> None:
    """Enough codes for the join to take keys; each group is a chain, so that only links join its ends."""
    rng = np.random.default_rng(4)
    starts = random_codes(rng, 1500, 64)
    chains = np.stack([starts.copy() for _ in range(4)])
    for step in range(1, 4):
        chains[step:, :, step] ^= 1
    index = Index(64)
    index.add(np.concatenate([chains.reshape(-1, 8), random_codes(rng, 500, 64)]))
    assert_array_equal(index.groups(1), np.arange(6000).reshape(4, 1500).T)


def test_groups_of_nothing(kernel: str) -> None:
    index = Index(8)
    assert index.groups(3) == []
    index.add(np.array([[0], [255]], np.uint8))
    assert index.groups(3) == []
    assert [group.tolist() for group in index.groups(8)] == [[0, 1]]
    with pytest.raises(ValueError, match="radius must be at least 0"):
        index.groups(-1)
