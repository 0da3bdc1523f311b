"""k-reciprocal re-ranking beside its definition in Python's sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_ranking
from hypothesis import given
from hypothesis import strategies as st

from pyhash.ranking import Quantized, k_reciprocal, quantize


def by_definition(query, rows, ids, k1, k2, share):
    """Similarity of each candidate: one set after the other, as dictionaries of place to weight."""
    near = [[place for _, place in slow_ranking.nearest(row, rows, max(k1 + 1, k2)) if place >= 0] for row in rows]

    def reciprocal(place, k):
        return {i for i in near[place][: k + 1] if place in near[i][: k + 1]}

    def expanded(start):
        halves = [reciprocal(i, (k1 + 1) // 2) for i in start]
        return start.union(*[half for half in halves if 3 * len(half & start) >= 2 * len(half)])

    def weighted(row, members):
        weights = {i: math.exp(2 * slow_ranking.cosine(row, rows[i]) - 2) for i in members}
        return {i: weight / sum(weights.values()) for i, weight in weights.items()}

    def mean(sets):
        sets = [s for s in sets if s]
        return {i: sum(s.get(i, 0) for s in sets) / len(sets) for i in set().union(*sets)}

    alone = [weighted(rows[i], expanded(reciprocal(i, k1))) for i in range(len(rows))]
    ranked = [(s, i) for s, i in slow_ranking.nearest(query, rows, max(k1, k2)) if i >= 0]
    start = {i for s, i in ranked[:k1] if len(near[i]) <= k1 or s >= slow_ranking.cosine(rows[i], rows[near[i][k1]])}
    own = mean([weighted(query, expanded(start)), *[alone[i] for _, i in ranked[: k2 - 1]]])
    found = []
    for i in ids:
        other = mean([alone[j] for j in near[i][:k2]])
        both = sum(min(weight, other.get(j, 0)) for j, weight in own.items())
        found.append(share * slow_ranking.cosine(query, rows[i]) + (1 - share) * both / (2 - both))
    return found


@given(data=st.data())
def test_similarities_are_what_they_are_defined_to_be(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    n, dim = data.draw(st.integers(1, 25), "rows"), data.draw(st.integers(1, 4), "dim")
    rows = rng.integers(-127, 128, (n, dim), dtype=np.int8)
    rows[rng.integers(0, n, n // 4)] = rows[0]
    queries = rng.integers(-127, 128, (2, dim), dtype=np.int8)
    k1, k2 = data.draw(st.integers(1, 8), "k1"), data.draw(st.integers(1, 8), "k2")
    share = data.draw(st.sampled_from([0.0, 0.3, 1.0]), "share")
    ids = np.tile(np.arange(n), (2, 1))
    found = k_reciprocal(
        Quantized(queries, np.ones(2)), Quantized(rows, np.ones(n)), ids, k1=k1, k2=k2, share=share, threads=1
    )
    for j in range(2):
        expected = by_definition(queries[j].tolist(), rows.tolist(), range(n), k1, k2, share)
        np.testing.assert_allclose(found.similarities[j], np.array(expected)[found.ids[j]], rtol=1e-12, atol=1e-12)
        assert sorted(found.ids[j].tolist()) == list(range(n))
        assert (np.diff(found.similarities[j]) <= 0).all()


def test_a_query_is_answered_alone_and_none_stays_none():
    rng = np.random.default_rng(0)
    rows = quantize(rng.standard_normal((60, 8)))
    queries = rng.standard_normal((5, 8))
    ids = rng.integers(-1, 60, (5, 20))
    together = k_reciprocal(queries, rows, ids)
    for j in range(5):
        alone = k_reciprocal(queries[j], rows, ids[j])
        np.testing.assert_array_equal(alone.ids, together.ids[j])
        np.testing.assert_array_equal(alone.similarities, together.similarities[j])
        assert (alone.ids == -1).sum() == (ids[j] == -1).sum()
        assert (alone.similarities[alone.ids == -1] == -np.inf).all()


def test_kinds_come_before_strangers_that_are_as_near():
    """Two rings of rows that touch: what is reached through neighbours ranks before what lies across the gap."""
    rng = np.random.default_rng(1)
    centres = np.repeat(np.eye(20)[:2] + 0.45, 30, axis=0)
    rows = centres + 0.16 * rng.standard_normal(centres.shape)
    of_row = np.repeat([0, 1], 30)
    cosine, sets = (
        np.mean(
            [
                (of_row[k_reciprocal(rows[i], rows, np.arange(60), share=s).ids[:30]] == of_row[i]).mean()
                for i in range(60)
            ]
        )
        for s in (1.0, 0.3)
    )
    assert sets > cosine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": np.ones((1, 2))}, "queries must be as wide as collection"),
        ({"ids": [[9]]}, "ids must be -1 or places"),
        ({"k1": 0}, "k1 must be at least 1"),
        ({"k2": 0}, "k2 must be at least 1"),
        ({"share": 1.5}, "share must be from 0 to 1, got 1.5"),
        ({"collection": np.full((5, 3), np.nan)}, "collection must be finite"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    arguments = {"queries": np.ones((1, 3)), "collection": np.ones((5, 3)), "ids": [[0, 1]]} | changes
    with pytest.raises(ValueError, match=message):
        k_reciprocal(**arguments)


def test_nothing_to_rank():
    assert k_reciprocal(np.ones((1, 3)), np.empty((0, 3)), np.empty((1, 0), int)).ids.shape == (1, 0)
    assert k_reciprocal(np.ones((1, 3)), np.empty((0, 3)), [[-1]]).ids.tolist() == [[-1]]
