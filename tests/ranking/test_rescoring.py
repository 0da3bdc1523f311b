"""Candidates in a new order, beside the slow reference, on every kernel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_ranking
from hypothesis import given
from hypothesis import strategies as st

import pyhash
from pyhash.ranking import Quantized, quantize, rescore, rescore_codes


def int8_rows(rng, n, dim):
    return Quantized(rng.choice(np.array([-128, -2, 0, 1, 127], dtype=np.int8), (n, dim)), np.ones(n, np.float32))


@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_embeddings_order_candidates_as_the_reference(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    q, n, dims = data.draw(st.integers(0, 8)), data.draw(st.integers(0, 40)), {"own": 5, "kind": 33}
    queries = {part: int8_rows(rng, q, dim) for part, dim in dims.items()}
    rows = {part: int8_rows(rng, n, dim) for part, dim in dims.items()}
    ids = rng.integers(-1, n, (q, data.draw(st.integers(0, 20), "candidates")))
    shares = data.draw(st.sampled_from([{"own": 1, "kind": 1}, {"own": 0.25, "kind": 2}, {"kind": 3}]), "shares")
    own = data.draw(st.sampled_from(["own", "kind"]), "own")
    with pyhash.use(name):
        found = rescore(queries, rows, ids, shares=shares, own=own, threads=data.draw(st.integers(1, 3), "threads"))
    for j in range(q):
        keys = []
        for i in ids[j].tolist():
            if i < 0:
                keys.append((math.inf, math.inf, -1))
                continue
            cosines = {
                part: slow_ranking.cosine(queries[part].vectors[j].tolist(), rows[part].vectors[i].tolist())
                for part in dims
            }
            mixed = sum(shares.get(part, 0.0) * cosines[part] for part in dims) / sum(shares.values())
            keys.append((-mixed, -cosines[own], i))
        keys.sort()
        assert found.ids[j].tolist() == [i for *_, i in keys]
        assert found.similarities[j].tolist() == [-mixed for mixed, *_ in keys]


def test_one_query_gives_one_answer(kernel):
    rows = np.random.default_rng(0).standard_normal((20, 6))
    ids = np.arange(19, -1, -1)
    several = rescore(rows[:1], quantize(rows), ids[None])
    one = rescore(rows[0], rows, ids)
    assert one.ids.shape == one.similarities.shape == (20,)
    np.testing.assert_array_equal(one.ids, several.ids[0])
    assert (one.ids[0], one.similarities[0]) == (0, 1)


def test_a_tie_goes_to_the_more_similar_by_its_own():
    queries = {"own": np.array([1.0, 0.0]), "kind": np.array([1.0, 0.0])}
    rows = {"own": np.array([[0.0, 1.0], [1.0, 0.0]]), "kind": np.array([[1.0, 0.0], [0.0, 1.0]])}
    found = rescore(queries, rows, [0, 1])
    assert found.similarities.tolist() == [0.5, 0.5]
    assert found.ids.tolist() == [1, 0]


def test_names_that_share_nothing_are_not_needed_to_fit():
    rows = np.random.default_rng(0).standard_normal((9, 4))
    by_one = rescore(rows[0], rows, np.arange(9))
    by_share = rescore({"a": rows[0], "b": rows[0]}, {"a": rows, "b": -rows}, np.arange(9), shares={"a": 2})
    np.testing.assert_array_equal(by_one.ids, by_share.ids)
    np.testing.assert_array_equal(by_one.similarities, by_share.similarities)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": np.ones((1, 2))}, "queries must be as wide as embeddings, 3 numbers a row, got 2"),
        ({"queries": np.full((1, 3), np.nan)}, "queries must be finite"),
        ({"embeddings": np.full((5, 3), np.inf)}, "embeddings must be finite"),
        ({"embeddings": {"a": np.ones((5, 3))}}, r"queries must have the names of embeddings, \['a'\]"),
        ({"embeddings": {}}, "embeddings must have at least one name"),
        ({"ids": [[5]]}, "ids must be -1 or places from 0 to 4"),
        ({"ids": [[0], [1]]}, r"ids must have shape \(1, any\)"),
        ({"ids": [["x"]]}, "ids must be an array of integers"),
        ({"own": "b"}, "own must be one of"),
        ({"shares": {"b": 1}}, "shares must name some of"),
        ({"shares": {"embedding": -1}}, "must be at least 0, got -1"),
        ({"shares": {"embedding": np.nan}}, "must be at least 0, got nan"),
        ({"shares": {"embedding": 0}}, "shares must have one above 0"),
    ],
)
def test_rescoring_says_what_does_not_fit(changes, message):
    arguments = {"queries": np.ones((1, 3)), "embeddings": np.ones((5, 3)), "ids": [[0, 1]]} | changes
    with pytest.raises((ValueError, TypeError), match=message):
        rescore(**arguments)


# Codes


def signed_cosine(logits, code, bits):
    largest = max(abs(logits).max(), np.float32(1e-38))
    weights = [round(float(value / largest * np.float32(32767))) for value in logits]
    signs = [2 * int(bit) - 1 for bit in np.unpackbits(code)[: len(weights)]]
    length = math.sqrt(sum(w * w for w in weights) * bits)
    return sum(w * s for w, s in zip(weights, signs, strict=True)) / length if length else 0.0


@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_logits_order_codes_as_the_reference(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    bits = data.draw(st.sampled_from([1, 7, 8, 20, 64, 131]), "bits")
    q, n = data.draw(st.integers(0, 6), "queries"), data.draw(st.integers(0, 30), "codes")
    logits = rng.standard_normal((q, bits)).astype(np.float32) * (rng.random((q, 1)) < 0.9)
    codes = pyhash.pack(rng.integers(-1, 2, (n, bits), np.int8))
    ids = rng.integers(-1, n, (q, 15))
    with pyhash.use(name):
        found = rescore_codes(logits, codes, ids, threads=data.draw(st.integers(1, 3), "threads"))
    for j in range(q):
        keys = sorted(
            (math.inf, -1) if i < 0 else (-signed_cosine(logits[j], codes[i], bits), i) for i in ids[j].tolist()
        )
        assert found.ids[j].tolist() == [i for _, i in keys]
        assert found.similarities[j].tolist() == [-similarity for similarity, _ in keys]


def test_the_codes_of_an_index(kernel):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((50, 40)).astype(np.float32)
    codes = pyhash.pack(logits)
    index = pyhash.Index({"a": 16, "b": 24})
    ids = index.add(codes, rng.permutation(1000)[:50])
    place = {int(i): row for row, i in enumerate(ids)}
    hits = index.search(codes[:3], 60)
    found = rescore_codes(logits[:3], index, hits.ids)
    assert found.ids[:, 0].tolist() == ids[:3].tolist()
    places = np.vectorize(lambda i: place.get(i, -1))(hits.ids)
    by_place = rescore_codes(logits[:3], codes, places)
    np.testing.assert_array_equal(found.similarities, by_place.similarities)
    assert (found.ids[:, 50:] == -1).all()
    assert (found.similarities[:, 50:] == -np.inf).all()


def test_levels_have_shares():
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((4, 40)).astype(np.float32)
    codes = pyhash.pack(rng.standard_normal((30, 40)))
    levels, every = {"a": 16, "b": 24}, np.tile(np.arange(30), (4, 1))
    mixed = rescore_codes(logits, codes, every, levels=levels, shares={"a": 3, "b": 1})
    alone = rescore_codes(logits, codes, every, levels=levels, shares={"b": 2})
    np.testing.assert_array_equal(alone.ids, rescore_codes(logits[:, 16:], codes[:, 2:], every).ids)
    for j in range(4):
        for i, similarity in zip(mixed.ids[j], mixed.similarities[j], strict=True):
            a, b = signed_cosine(logits[j, :16], codes[i, :2], 16), signed_cosine(logits[j, 16:], codes[i, 2:], 24)
            assert similarity == (3 * a + b) / 4


def test_the_widest_code_does_not_overflow(kernel):
    logits = np.ones((1, 65536), np.float32)
    codes = np.stack([np.full(8192, 255, np.uint8), np.zeros(8192, np.uint8)])
    assert rescore_codes(logits, codes, [[1, 0]]).similarities.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": np.ones((1, 9))}, "codes must have 2 bytes a code for 9 bits, got 1"),
        ({"queries": np.full((1, 8), np.nan)}, "queries must be finite"),
        ({"levels": 16}, "queries must have 16 logits, one a bit, got 8"),
        ({"codes": np.zeros(1, np.uint8)}, r"codes must have shape \(n, n_bytes\)"),
        ({"codes": np.zeros((5, 1))}, "codes must be packed codes"),
        ({"ids": [[5]]}, "ids must be -1 or places from 0 to 4"),
        ({"shares": {"fine": 1}}, "shares must name some of"),
    ],
)
def test_rescoring_by_codes_says_what_does_not_fit(changes, message):
    arguments = {"queries": np.ones((1, 8)), "codes": np.zeros((5, 1), np.uint8), "ids": [[0, 1]]} | changes
    with pytest.raises((ValueError, TypeError), match=message):
        rescore_codes(**arguments)


def test_an_id_that_the_index_does_not_have():
    index = pyhash.Index(8)
    index.add(np.zeros((2, 1), np.uint8))
    with pytest.raises(KeyError):
        rescore_codes(np.ones(8), index, [0, 7])
