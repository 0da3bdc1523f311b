"""What every kernel promises beside searches: its constants, its storage, and candidates measured again."""

from __future__ import annotations

import threading

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import Stored, clustered, flat, interleaved, metric_of

import pyhash
from pyhash import backend


def test_the_core_has_the_constants_of_the_contract():
    native = pytest.importorskip("pyhash._native")
    for name in ("LANES", "PAD_DISTANCE", "PAD_ID", "MAX_RING_WORDS"):
        assert getattr(native, name) == getattr(backend, name)


def test_a_kernel_says_what_it_is(kernel):
    active = backend.active()
    assert active.name == kernel == pyhash.kernel()
    assert active.rings is (kernel != "numba")
    assert active is backend.active()


def test_segments_and_metrics_of_others_are_refused(kernel):
    active = backend.active()
    none, code = active.target([]), np.zeros(8, np.uint8)
    for call in (
        lambda: active.target([object()]),
        lambda: active.topk(object(), code, None, 1, 1),
        lambda: active.topk(none, code, object(), 1, 1),
    ):
        with pytest.raises(TypeError):
            call()


def test_one_query_is_answered_in_its_own_shape(kernel):
    active = backend.active()
    rng = np.random.default_rng(0)
    for n_bytes in (1, 7, 8, 9, 24):
        rows = rng.integers(0, 256, (150, n_bytes), dtype=np.uint8)
        target = active.target([Stored(rows).segment(active)])
        expected = oracle.topk(rows, np.arange(150), rows[:3], 4)
        room = np.empty(3 * n_bytes + 1, np.uint8)
        for begin in (0, 1):  # whatever the memory is aligned to
            queries = room[begin : begin + 3 * n_bytes].reshape(3, n_bytes)
            queries[:] = rows[:3]
            for got, right in zip(active.topk(target, queries, None, 4, 1), expected, strict=True):
                np.testing.assert_array_equal(got, right)
            for got, right in zip(active.topk(target, queries[1], None, 4, 1), expected, strict=True):
                np.testing.assert_array_equal(got, right[1])


def test_the_largest_distance_of_a_metric(kernel):
    assert metric_of(backend.active(), [(0, 2, 3), (5, 8, 100)], 1).largest == 3 * 16 + 100 * 24


def test_a_call_keeps_its_kernel_while_another_is_chosen():
    """Every kernel in turn becomes the active one, while others search; answers stay what they were."""
    rng = np.random.default_rng(0)
    index = pyhash.Index(64)
    index.add(rng.integers(0, 256, (3000, 8), dtype=np.uint8))
    queries = rng.integers(0, 256, (20, 8), dtype=np.uint8)
    expected, wrong, done = index.search(queries, 5), [], threading.Event()

    def search():
        while not done.is_set():
            if not all(map(np.array_equal, index.search(queries, 5), expected)):
                wrong.append(pyhash.kernel())

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for name in pyhash.kernels() * 10:
        with pyhash.use(name):
            index.search(queries, 5)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# Storage


@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_rows_are_read_where_they_lie(name, data):
    with pyhash.use(name):
        active = backend.active()
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    n_words = data.draw(st.integers(1, 20), "words")
    full = data.draw(st.integers(1, 5), "blocks a chunk")
    shape = (full, n_words, 64)
    chunks = [rng.integers(0, 2**64, shape, dtype=np.uint64) for _ in range(data.draw(st.integers(1, 3), "chunks"))]
    rows = np.concatenate(chunks).transpose(0, 2, 1).reshape(-1, n_words)
    slots = rng.integers(0, len(rows), data.draw(st.integers(0, 500), "read"))
    np.testing.assert_array_equal(active.read_rows(chunks, slots), rows[slots])


def test_rows_that_are_not_there_are_refused(kernel):
    active = backend.active()
    chunk = np.zeros((2, 3, 64), np.uint64)
    for slot in (-1, 256, 2**40):
        with pytest.raises(ValueError, match="slots must be slots that there are"):
            active.read_rows([chunk, chunk], np.array([0, slot]))
    assert active.read_rows([chunk], np.array([], np.int64)).shape == (0, 3)


# Candidates measured again


def reranked(stored, queries, slots, parts, k):
    """What the reference says: each query's candidates as codes of their own."""
    rows, ids, there, _ = flat(stored)
    distances = np.full((len(queries), k), 2**31 - 1, np.int32)
    found = np.full((len(queries), k), -1, np.int64)
    for j, query in enumerate(queries):
        few = np.unique(slots[j][slots[j] >= 0])
        few = few[there[few]]
        distances[j], found[j] = (part[0] for part in oracle.topk(rows[few], ids[few], query[None], k, parts))
    return distances, found


@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_candidates_are_measured_again(name, data):
    with pyhash.use(name):
        active = backend.active()
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    n_bytes = data.draw(st.integers(1, 30), "bytes")
    rows = clustered(rng, data.draw(st.integers(0, 400), "codes"), n_bytes, data.draw(st.integers(0, 4), "flips"))
    queries = clustered(rng, data.draw(st.integers(0, 30), "queries"), n_bytes)
    stored = interleaved(rng, rows, data.draw(st.integers(1, 4), "segments"), data.draw(st.sampled_from([0, 0.3])))
    slots = rng.integers(-1, len(rows), (len(queries), data.draw(st.integers(0, 150), "candidates")))
    cut = data.draw(st.integers(0, n_bytes - 1), "cut")
    parts = data.draw(st.sampled_from([None, [(cut, n_bytes, 3)], [(0, cut + 1, 1), (cut, n_bytes, 1_000_000)]]))
    k, threads = data.draw(st.integers(1, 160), "k"), data.draw(st.integers(0, 3), "threads")
    n_words = -(-n_bytes // 8)
    target = active.target([part.segment(active) for part in stored])
    got = active.rerank(target, queries, slots, metric_of(active, parts, n_words), k, threads)
    for one, other in zip(got, reranked(stored, queries, slots, parts, k), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_candidates_that_are_not_there_are_refused(kernel):
    active = backend.active()
    rows = np.zeros((70, 8), np.uint8)
    target = active.target([Stored(rows[:5]).segment(active), Stored(rows, 9).segment(active)])
    for slot in (-2, 75, 2**40):
        with pytest.raises(ValueError, match="slots must be -1 or slots of the segments"):
            active.rerank(target, rows[:1], np.array([[0, slot]]), None, 1, 1)
    distances, ids = active.rerank(active.target([]), rows[:1], np.array([[-1]]), None, 2, 1)
    assert (distances.tolist(), ids.tolist()) == ([[2**31 - 1] * 2], [[-1, -1]])


def test_candidates_in_a_ring(kernel):
    active = backend.active()
    if not active.rings:
        pytest.skip("the Numba kernel searches no rings")
    rng = np.random.default_rng(1)
    rows = clustered(rng, 900, 16)
    flat_segment = Stored(rows, 50).segment(active)
    ring = active.build_ring(flat_segment, 12, 1)
    assert isinstance(ring, backend.Ring)
    assert ring.centres.shape == (1, 2, 64)
    chunks = [np.zeros((15, 2, 64), np.uint64)]
    active.permute(flat_segment, ring.order, chunks)
    segment = active.segment(chunks, 900, 50, None, None, ring)
    queries = clustered(rng, 8, 16)
    slots = rng.integers(-1, 900, (8, 70))
    there = np.where(slots < 0, -1, ring.order[slots])
    for one, other in zip(
        active.rerank(active.target([segment]), queries, slots, None, 20, 2),
        active.rerank(active.target([flat_segment]), queries, there, None, 20, 2),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
