"""The ring structure: it answers what a flat search answers, on data that suits it and on data made to defeat it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from conftest import random_codes
from numpy.testing import assert_array_equal
from tuning import tune

import pyhash
from pyhash import Index

N = 20_000  # enough for rings to be searched; a query over fewer codes is handed back to a flat pass


def clustered(rng: np.random.Generator, n: int, bits: int, noise: float, n_clusters: int) -> Any:
    """Codes round random centres, and queries: near centres, and some from nowhere."""
    centres = rng.integers(0, 2, (n_clusters, bits), dtype=np.uint8)
    flipped = rng.random((n + 60, bits), dtype=np.float32) < noise
    rows = centres[rng.integers(0, n_clusters, n + 60)] ^ flipped
    rows[n + 50 :] = rng.integers(0, 2, (10, bits))
    codes = np.packbits(rows, axis=1)
    return codes[:n], codes[n:]


def equidistant(rng: np.random.Generator) -> Any:
    """Codes that are all at the same distance from some of the queries."""
    bits = np.zeros((N, 64), dtype=np.uint8)
    bits[:, :7] = 1
    codes = np.packbits(rng.permuted(bits, axis=1), axis=1)
    queries = np.zeros((40, 8), dtype=np.uint8)
    queries[1] = 255
    queries[2:] = codes[:38]
    return codes, queries


@functools.cache
def data(kind: str) -> Any:
    rng = np.random.default_rng(7)
    if kind == "equidistant":
        codes, queries = equidistant(rng)
    elif kind == "all equal":
        codes = np.full((N, 8), 0x3C, dtype=np.uint8)
        queries = np.concatenate([codes[:1], random_codes(rng, 39, 64)])
    elif kind == "two values":
        codes = np.array([[0] * 8, [255] * 8], dtype=np.uint8)[(rng.random(N) < 0.01).astype(int)]
        queries = np.concatenate([codes[:1], ~codes[:1], random_codes(rng, 38, 64)])
    elif kind == "one far away":
        codes, queries = clustered(rng, N, 64, 0.02, 3)
        codes[N // 3] = ~codes[0]
        queries[5] = codes[N // 3]
    else:
        bits, noise, n_clusters = {
            "clustered": (64, 0.05, 200),
            "clustered, 100 bits": (100, 0.05, 100),
            "clustered, 256 bits": (256, 0.1, 100),
            "one cluster": (64, 0.1, 1),
            "uniform": (64, 0.5, 1),
        }[kind]
        codes, queries = clustered(rng, N, bits, noise, n_clusters)
    return codes, queries


KINDS = [
    "clustered",
    "clustered, 100 bits",
    "clustered, 256 bits",
    "one cluster",
    "one far away",
    "uniform",
    "all equal",
]
KINDS += ["two values", "equidistant"]


def measured(codes: Any, queries: Any) -> Any:
    """All distances `(queries, codes)`."""
    return np.array([np.bitwise_count(query ^ codes).sum(axis=1, dtype=np.int32) for query in queries])


def nearest(codes: Any, ids: Any, queries: Any, k: int) -> Any:
    """The reference, for more codes than `oracle` can sort in the time there is."""
    order = np.argsort(ids)
    distances = measured(codes[order], queries)
    best = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, best, axis=1), np.asarray(ids)[order][best]


@functools.cache
def truth(kind: str, k: int) -> Any:
    codes, queries = data(kind)
    found = nearest(codes, np.arange(len(codes)), queries, k)
    anchor = oracle.topk(codes, np.arange(len(codes)), queries[:2], k)
    assert_array_equal(found[0][:2], anchor[0])
    assert_array_equal(found[1][:2], anchor[1])
    return found


@functools.cache
def ring_file(kind: str) -> bytes:
    """An index with a ring, as it is saved; built once for all kernels by the best of them."""
    codes, _ = data(kind)
    with pyhash.use("auto"):
        index = Index(100 if "100" in kind else codes.shape[1] * 8, structure="ring")
        index.add(codes)
        index.optimize()
    return bytes(index)


def ringed(kind: str) -> Index:
    return Index.from_bytes(ring_file(kind))


HAS_RINGS = pyhash.kernels()[0] != "numba"  # built by the native core, opened everywhere


def native(kernel: str) -> bool:
    return kernel != "numba"


def check(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        assert_array_equal(a, b)


def check_within(index: Index, codes: Any, ids: Any, queries: Any, radius: int) -> None:
    offsets, distances, found = index.range_search(queries, radius)
    order = np.argsort(ids)
    for i, row in enumerate(measured(codes[order], queries)):
        best = np.argsort(row, kind="stable")
        best = best[: np.count_nonzero(row <= radius)]
        assert_array_equal(distances[offsets[i] : offsets[i + 1]], row[best])
        assert_array_equal(found[offsets[i] : offsets[i + 1]], np.asarray(ids)[order][best])


@pytest.mark.parametrize("kind", KINDS)
def test_ring_equals_flat(kernel: str, kind: str) -> None:
    _codes, queries = data(kind)
    index = ringed(kind)
    for k in (1, 10, 100):
        check(index.search(queries, k), truth(kind, k))
        for i in range(0, len(queries), 6):
            check(index.search(queries[i], k), [part[i] for part in truth(kind, k)])
    (run,) = index.stats().segments
    assert (run.clusters > 0) == HAS_RINGS
    if native(kernel) and "clustered" in kind:
        assert run.answered > 0  # else nothing was tested
        assert run.codes_per_query < N / 4
        assert run.answered + run.handed_back == 3 * (len(queries) + len(range(0, len(queries), 6)))


@pytest.mark.parametrize("kind", ["clustered", "clustered, 100 bits", "one far away", "equidistant"])
def test_ring_within_a_radius(kernel: str, kind: str) -> None:
    codes, queries = data(kind)
    index = ringed(kind)
    for radius in (0, 3, 7, 15, index.bits):
        check_within(index, codes, np.arange(N), queries[:: 1 if radius < 10 else 8], radius)


def test_ring_after_changes(kernel: str) -> None:
    """Removed, moved and new codes: the ring loses some, a tail beside it holds others."""
    rng = np.random.default_rng(11)
    codes, queries = data("clustered")
    index = ringed("clustered")
    known = dict(enumerate(codes))

    def compare() -> None:
        ids, now = np.array(list(known)), np.array(list(known.values()))
        check(index.search(queries, 10), nearest(now, ids, queries, 10))
        check(index.search(queries[3], 10), [part[0] for part in nearest(now, ids, queries[3:4], 10)])
        check_within(index, now, ids, queries[:20], 5)
        assert_array_equal(index.ids, np.sort(ids))
        some = rng.choice(ids, 500, replace=False)
        assert_array_equal(index.codes(some), [known[id] for id in some.tolist()])

    nearest_of_some = np.unique(index.search(queries[:20], 3)[1])
    index.remove(nearest_of_some)
    for id in nearest_of_some.tolist():
        del known[id]
    compare()
    moved = rng.choice(np.array(list(known)), 1500, replace=False)
    index.update(moved, codes[moved[::-1]])
    known.update(zip(moved.tolist(), codes[moved[::-1]], strict=True))
    compare()
    back = nearest_of_some[::2]
    index.add(codes[back], back)
    index.add(queries[:30], np.arange(30) * 3 + 10**6)
    known.update(zip(back.tolist(), codes[back], strict=True))
    known.update(zip((np.arange(30) * 3 + 10**6).tolist(), queries[:30], strict=True))
    compare()
    assert len(index.stats().segments) > 1 or not HAS_RINGS
    assert (index.stats().segments[0].clusters > 0) == HAS_RINGS
    index = Index.from_bytes(bytes(index))
    compare()
    index.optimize()
    assert len(index.stats().segments) == 1
    compare()
    gone = rng.choice(np.array(list(known)), 12_000, replace=False)
    index.remove(gone)
    for id in gone.tolist():
        del known[id]
    compare()


def test_ring_with_custom_ids(kernel: str) -> None:
    codes, queries = data("clustered")
    ids = np.random.default_rng(1).permutation(N) * 5 - 30_000
    index = Index(64, structure="ring")
    index.add(codes, ids)
    assert index.stats().segments[0].clusters == 0
    check(index.search(queries, 10), nearest(codes, ids, queries, 10))
    assert (index.stats().segments[0].clusters > 0) == native(kernel)
    check(Index.from_bytes(bytes(index)).search(queries, 10), nearest(codes, ids, queries, 10))
    assert_array_equal(index.codes(ids[:100]), codes[:100])


def test_ring_with_filters_levels_and_pairs(kernel: str) -> None:
    codes, queries = data("clustered")
    flat, ring = (Index(levels={"coarse": 16, "fine": 48}, structure=structure) for structure in ("flat", "ring"))
    for index in (flat, ring):
        index.add(codes)
        index.search(queries, 1)
        index.remove(np.arange(0, N, 50))
        index.add(codes[:50], np.arange(50) * 2 + N)
    rng = np.random.default_rng(2)
    mask = rng.random(len(flat)) < 0.6
    few = rng.choice(N, 300, replace=False)
    for options in (
        {"where": mask},
        {"where": few},
        {"where": flat.ids[mask]},
        {"level": "fine"},
        {"level": "coarse", "where": mask},
        {"weights": {"coarse": 3, "fine": 1}},
        {"cascade": ("coarse", 200)},
    ):
        for q in (1, 60):
            check(ring.search(queries[:q], 10, **options), flat.search(queries[:q], 10, **options))
        if "cascade" not in options:
            check(ring.range_search(queries, 3, **options), flat.range_search(queries, 3, **options))
    check(ring.pairs(1), flat.pairs(1))
    assert len(ring.pairs(1)[0]) > 50


@pytest.mark.parametrize("n", [1, 2, 5, 63, 64, 65, 127, 1000])
def test_ring_of_a_few(kernel: str, n: int) -> None:
    rng = np.random.default_rng(n)
    codes, queries = random_codes(rng, n, 64, 0.1), random_codes(rng, 20, 64, 0.3)
    index = Index(64, structure="ring")
    index.add(codes)
    check(index.search(queries, 4), oracle.topk(codes, np.arange(n), queries, 4))
    index.optimize()
    check(index.search(queries[0], 4), [part[0] for part in oracle.topk(codes, np.arange(n), queries[:1], 4)])
    index.add(queries)
    both = np.concatenate([codes, queries])
    check(index.search(queries, 4), oracle.topk(both, np.arange(n + 20), queries, 4))


@pytest.mark.parametrize("bits", [4096, 4104])
def test_longest_codes_with_a_ring_and_longer_ones_without(kernel: str, bits: int) -> None:
    codes, queries = clustered(np.random.default_rng(0), 6000, bits, 0.02, 10)
    queries = queries[::6]
    queries[0] = ~queries[0]
    index = Index(bits, structure="ring")
    index.add(codes)
    check(index.search(queries, 5), nearest(codes, np.arange(6000), queries, 5))
    assert (index.stats().segments[0].clusters > 0) == (native(kernel) and bits == 4096)
    check_within(index, codes, np.arange(6000), queries, bits // 16)


@pytest.mark.parametrize("kind", ["clustered", "uniform"])
def test_auto_builds_a_ring_where_it_pays(kernel: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, ring_from=1000, ring_after=100)
    codes, queries = data(kind)
    auto, flat = Index(64), Index(64, structure="flat")
    for index in (auto, flat):
        index.add(codes)
        for i in range(150):
            j = i % len(queries)
            check(index.search(queries[j], 10), [part[j] for part in truth(kind, 10)])
        check(index.search(queries, 10), truth(kind, 10))
    ring = kind == "clustered" and native(kernel)
    assert (auto.stats().segments[0].clusters > 0) == ring
    assert flat.stats().segments[0].clusters == 0
    flat.optimize()
    assert flat.stats().segments[0].clusters == 0
    at_once = Index(64)
    at_once.add(codes)
    at_once.optimize()
    assert (at_once.stats().segments[0].clusters > 0) == ring
    check(at_once.search(queries, 10), truth(kind, 10))


def test_file_with_a_ring_opens_on_every_kernel(kernel: str, tmp_path: Path) -> None:
    codes, queries = data("clustered, 100 bits")
    path = tmp_path / "ring.pyhash"
    path.write_bytes(ring_file("clustered, 100 bits"))
    for mmap in (False, True):
        index = Index.open(path, mmap=mmap)
        index.verify()
        check(index.search(queries, 10), truth("clustered, 100 bits", 10))
        check(index.search(queries[0], 10), [part[0] for part in truth("clustered, 100 bits", 10)])
        assert_array_equal(index.codes(index.ids), codes)
        assert bytes(index) == path.read_bytes()
        if not mmap:
            index.remove(np.arange(50))
            index.add(codes[:50], np.arange(50))
            index.update(np.arange(100, 150), codes[100:150])
            check(index.search(queries, 10), truth("clustered, 100 bits", 10))


def test_real_codes(kernel: str, data_directory: Path) -> None:
    path = data_directory / "real-codes-64.npz"
    if not path.exists():
        pytest.skip("real-codes-64.npz is not in the directory that PYHASH_DATA names")
    with np.load(path) as arrays:
        codes, queries = arrays["b"], arrays["q"][:64]
    flat, ring = Index(64, structure="flat"), Index(64, structure="ring")
    for index in (flat, ring):
        index.add(codes)
    for k in (1, 10, 100):
        check(ring.search(queries, k), flat.search(queries, k))
    check(flat.search(queries[:8], 10), nearest(codes, np.arange(len(codes)), queries[:8], 10))
    for i in range(16):
        check(ring.search(queries[i], 10), flat.search(queries[i], 10))
    check(ring.range_search(queries, 6), flat.range_search(queries, 6))
    if native(kernel):
        assert ring.stats().segments[0].answered > 0
    gone = np.unique(flat.search(queries[:20], 5)[1])
    for index in (flat, ring):
        index.remove(gone)
        index.update(np.arange(50_000, 50_010), queries[:10])
    check(ring.search(queries, 10), flat.search(queries, 10))


def test_a_ring_is_thought_of_again_when_other_codes_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that a ring does not pay for, then clustered ones in their place; also a backend that has no rings."""
    if not HAS_RINGS:
        pytest.skip("rings are native only")
    tune(monkeypatch, ring_from=1000, ring_after=8)
    rng = np.random.default_rng(0)
    index = Index(64)
    ids = index.add(rng.integers(0, 256, (20_000, 8), dtype=np.uint8))
    codes, _ = clustered(rng, 10_000, 64, 0.02, 30)
    for _ in range(3):
        index.search(codes[:10])
    assert index.stats().segments[0].clusters == 0
    index.remove(ids)
    index.add(codes)
    for _ in range(3):
        index.search(codes[:10])
    assert index.stats().segments[0].clusters > 0

    asked = Index(64, structure="ring")
    asked.add(codes)
    if "numba" in pyhash.kernels():
        with pyhash.use("numba"):
            asked.search(codes[:2])
    asked.search(codes[:2])
    assert asked.stats().segments[0].clusters > 0


# What a failure leaves


def failing(*_: Any) -> Any:
    raise MemoryError


@pytest.mark.parametrize("structure", ["flat", "ring"])
def test_no_code_is_lost_where_memory_ends(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, _ = clustered(np.random.default_rng(0), 5000, 64, 0.05, 10)
    index = Index(64, structure=structure)
    index.add(codes)
    index.optimize()

    def unchanged() -> None:
        assert (len(index), len(index.ids)) == (5000, 5000)
        assert_array_equal(index.codes(np.arange(5000)), codes)
        assert_array_equal(index.search(codes[:5], 1)[0][:, 0], 0)
        assert index.search(codes[:5], 3, where=np.ones(5000, dtype=np.bool_))[0].shape == (5, 3)

    with monkeypatch.context() as patch:
        patch.setattr("pyhash.index.chunks._allocate", failing)
        with pytest.raises(MemoryError):
            index.add(np.zeros((100_000, 8), dtype=np.uint8))
        unchanged()
        with pytest.raises(MemoryError):
            index.update([1, 2, 3], codes[:3])
        unchanged()
    with monkeypatch.context() as patch:
        patch.setattr("pyhash.index.snapshot.merged", failing)
        index.add(codes[:5], ids=-2 - np.arange(5))  # to be merged with the rest, which can wait
        assert (len(index), len(index.ids)) == (5005, 5005)
        index.remove(-2 - np.arange(5))
    unchanged()
    assert index.add(codes[:1]).tolist() == [5000]


def test_a_ring_that_there_is_no_memory_for_fails_no_search(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if "numba" in pyhash.kernels()[:1]:
        pytest.skip("rings are native only")
    codes = random_codes(np.random.default_rng(0), 3000, 64, 0.02)
    index = Index(64, structure="ring")
    index.add(codes)
    tries = []

    def failing(*_: Any) -> Any:
        tries.append(1)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("pyhash.index.segment.Segment.with_ring", failing)
        for row in range(20):
            assert index.search(codes[row], 1)[0][0] == 0
    assert len(tries) == 1
    assert "no memory to build a ring for 3000 codes" in caplog.text
    with caplog.at_level("INFO", "pyhash"):
        index.add(codes)
        for row in range(20):
            assert index.search(codes[row], 1)[0][0] == 0
    assert "built a ring for 6000 codes" in caplog.text
    assert index.stats().segments[0].clusters > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the address space work on Linux")
def test_too_little_memory_is_a_memory_error() -> None:
    code = """
import resource, numpy as np, pyhash
index = pyhash.Index(4096)
index.add(np.zeros((10, 512), np.uint8))
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
try:
    for _ in range(100):
        index.add(np.zeros((50_000, 512), np.uint8))
except MemoryError as error:
    print("MemoryError", len(index) % 50_000)
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "MemoryError 10", done.stderr


def test_weights_of_every_kind_do_not_pile_up() -> None:
    index = Index(levels={"a": 8, "b": 8})
    index.add(np.zeros((3, 2), dtype=np.uint8))
    for weight in range(1, 500):
        index.search(np.zeros(2, dtype=np.uint8), 1, weights={"a": weight, "b": 1})
    assert len(index._metrics) <= 64
