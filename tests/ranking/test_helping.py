"""Whether neighbourhoods help is found by measuring: yes where there are kinds, no where nearness is chance."""

from __future__ import annotations

import numpy as np
import pytest

from pyhash.ranking import neighbourhoods_help, quantize


def kinds(rng, n_kinds, of_each, spread, dim=64):
    """Rows around centres."""
    centres = np.repeat(rng.standard_normal((n_kinds, dim)), of_each, axis=0)
    return centres + spread * rng.standard_normal(centres.shape)


def test_they_help_where_there_are_kinds():
    rng = np.random.default_rng(0)
    found = neighbourhoods_help(kinds(rng, 25, 40, 1.2))
    assert found
    assert found.helps is True
    assert found.neighbourhood > found.own + 0.02
    assert found.error < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_they_do_not_where_nearness_is_chance(seed):
    rng = np.random.default_rng(seed)
    assert not neighbourhoods_help(rng.standard_normal((800, 64)), seed=seed)
    assert not neighbourhoods_help(np.linalg.qr(rng.standard_normal((200, 200)))[0], seed=seed)


def test_little_says_nothing():
    rng = np.random.default_rng(1)
    rows = kinds(rng, 2, 20, 0.1)
    assert not neighbourhoods_help(rows)
    assert np.isnan(neighbourhoods_help(rows).own)
    assert not neighbourhoods_help(np.ones((100, 1)))
    assert not neighbourhoods_help(np.ones((100, 4)))  # all equal
    assert not neighbourhoods_help(np.zeros((100, 4)))


def test_the_same_answers_the_same():
    rows = quantize(kinds(np.random.default_rng(2), 10, 30, 1.0))
    assert neighbourhoods_help(rows, seed=5) == neighbourhoods_help(rows, seed=5)
    assert neighbourhoods_help(rows, seed=5) != neighbourhoods_help(rows, seed=6)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="embeddings must be finite"):
        neighbourhoods_help([[np.nan, 1.0]])
    with pytest.raises(ValueError, match="sample must be at least 1"):
        neighbourhoods_help(np.ones((60, 3)), sample=0)
