"""From features to an embedding: principal components of each tap, and nothing else of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")
from pyhash import heads

BLOCKS = {"early": slice(0, 6), "middle": slice(6, 46), "late": slice(46, 146)}


def features(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(n, width)) * np.linspace(2, 0.1, width) for width in (6, 40, 100)]
    turned = [part @ np.linalg.qr(rng.normal(size=(part.shape[1],) * 2))[0] for part in rows]
    return (np.concatenate(turned, axis=1) + rng.normal(size=146)).astype(np.float32)


@pytest.mark.parametrize(
    ("components", "shares"), [(384, (6, 40, 100)), (60, (6, 27, 27)), (30, (6, 12, 12)), (3, (1, 1, 1))]
)
def test_taps_get_equal_shares_as_far_as_they_are_wide(components: int, shares: tuple[int, ...]) -> None:
    rows = features()
    projection = heads.principal_components(rows, BLOCKS, components)
    assert tuple(part.stop - part.start for part in projection.blocks.values()) == shares
    assert [part.start for part in projection.blocks.values()] == [0, *np.cumsum(shares)[:-1]]
    found = projection(rows)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(axis=0), projection.spread, rtol=1e-4)
    for tap, columns in BLOCKS.items():
        numbers = projection.blocks[tap]
        weight = projection.weight[columns, numbers]
        np.testing.assert_allclose(weight.T @ weight, np.eye(weight.shape[1]), atol=1e-5)
        elsewhere = projection.weight[:, numbers].copy()
        elsewhere[columns] = 0
        assert not elsewhere.any()
        values = np.linalg.eigvalsh(np.cov(rows[:, columns].T, bias=True))[::-1][: weight.shape[1]]
        np.testing.assert_allclose(projection.spread[numbers], values, rtol=1e-4)


def test_a_head_of_the_embedding_is_one_of_the_features() -> None:
    rows = features()
    for projection in (heads.principal_components(rows, BLOCKS, 60), heads.as_they_are(rows, BLOCKS)):
        head = heads.pca_itq(projection(rows), 32)
        whole = projection.before(head)
        np.testing.assert_allclose(whole.logits(rows), head.logits(projection(rows)), atol=1e-3)
    np.testing.assert_array_equal(heads.as_they_are(rows, BLOCKS)(rows), rows)


def test_few_images_and_images_all_alike() -> None:
    few = heads.principal_components(features(5), BLOCKS, 60)
    assert few.weight.shape == (146, 60)
    assert (few.spread > 1e-6).sum() == 3 * 4
    alike = heads.principal_components(np.ones((5, 146), np.float32), BLOCKS, 60)
    assert not alike.spread.any()
    np.testing.assert_allclose(alike(np.ones((2, 146), np.float32)), 0, atol=1e-5)
