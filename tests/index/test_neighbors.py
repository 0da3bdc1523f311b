"""`HammingNeighbors`: the Index's answers under scikit-learn's names, beside scikit-learn's own brute force."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import random_codes
from numpy.testing import assert_array_equal

import pyhash
from pyhash import HammingNeighbors, Index

RNG_SEED = 20


def bits_of(n: int, n_bits: int, seed: int = RNG_SEED) -> np.ndarray[Any, Any]:
    """Rows of bits among which many are equal or near."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (max(1, n // 8), n_bits))
    return (centres[rng.integers(0, len(centres), n)] ^ (rng.random((n, n_bits)) < 0.05)).astype(np.uint8)


@pytest.mark.parametrize("n_bits", [1, 13, 64, 100])
def test_same_as_sklearn(kernel: str, n_bits: int) -> None:
    """Same distances; the rows are compared where scikit-learn, which breaks ties as it likes, has no choice."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    fitted, queries = bits_of(90, n_bits), bits_of(31, n_bits, seed=1)
    ours = HammingNeighbors(7, radius=n_bits // 8, input="bits").fit(fitted)
    theirs = neighbors.NearestNeighbors(n_neighbors=7, metric="hamming", algorithm="brute").fit(fitted)
    share = (n_bits // 8 + 0.5) / n_bits  # between two distances, which are rounded there
    for X in (queries, None):
        distances, indices = ours.kneighbors(X)
        expected, _ = theirs.kneighbors(X)
        assert_array_equal(distances, np.rint(expected * n_bits))
        rows = fitted if X is None else X
        assert_array_equal((rows[:, None] != fitted[indices]).sum(axis=2), distances)
        assert all(len(set(row)) == 7 for row in indices.tolist())
        assert_array_equal(ours.kneighbors(X, return_distance=False), indices)

        far, near = ours.radius_neighbors(X)
        expected_far, expected_near = theirs.radius_neighbors(X, share)
        for d, i, e, f in zip(far, near, expected_far, expected_near, strict=True):
            order = np.lexsort((f, np.rint(e * n_bits)))
            assert_array_equal(i, f[order])
            assert_array_equal(d, np.rint(e[order] * n_bits))
        assert [i.tolist() for i in ours.radius_neighbors(X, return_distance=False)] == [i.tolist() for i in near]

        for mode in ("connectivity", "distance"):
            graph = ours.radius_neighbors_graph(X, mode=mode)
            wanted = theirs.radius_neighbors_graph(X, share, mode=mode)
            scale = n_bits if mode == "distance" else 1
            assert_array_equal(graph.toarray(), np.rint(wanted.toarray() * scale))
            assert graph.nnz == wanted.nnz  # distances of 0 are stored
            graph = ours.kneighbors_graph(X, 3, mode=mode)
            assert graph.shape == (len(rows), 90)
            assert_array_equal(graph.indices.reshape(-1, 3), indices[:, :3])
            assert_array_equal(graph.data.reshape(-1, 3), distances[:, :3] if mode == "distance" else 1)


def test_same_as_the_index(kernel: str) -> None:
    rng = np.random.default_rng(3)
    codes, queries = random_codes(rng, 200, 48), random_codes(rng, 20, 48)
    index = Index(48)
    index.add(codes)
    near = HammingNeighbors(n_jobs=1).fit(codes)
    for ours, expected in zip(near.kneighbors(queries, 9), index.search(queries, 9), strict=True):
        assert_array_equal(ours, expected)
    offsets, distances, ids = index.range_search(queries, 20)
    found = near.radius_neighbors(queries, 20)
    assert_array_equal(np.concatenate(found.distances), distances)
    assert_array_equal(np.concatenate(found.indices), ids)
    assert [len(row) for row in found.indices] == np.diff(offsets).tolist()


def test_equal_rows_are_not_their_own_neighbours(kernel: str) -> None:
    """Of many equal rows the later ones are not in the list of their nearest."""
    near = HammingNeighbors(3).fit(np.zeros((9, 2), np.uint8))
    indices = near.kneighbors(return_distance=False)
    assert indices.tolist() == [[j for j in range(9) if j != i][:3] for i in range(9)]
    assert [row.tolist() for row in near.radius_neighbors(return_distance=False)] == [
        [j for j in range(9) if j != i] for i in range(9)
    ]


def test_before_dbscan_and_in_a_pipeline(kernel: str) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    neighbors = pytest.importorskip("sklearn.neighbors")
    pipeline = pytest.importorskip("sklearn.pipeline")
    bits = bits_of(300, 64)
    near = HammingNeighbors(radius=9, input="bits").fit(bits)
    graph = near.radius_neighbors_graph(mode="distance")
    found = cluster.DBSCAN(eps=9, min_samples=4, metric="precomputed").fit_predict(graph)
    expected = cluster.DBSCAN(eps=9.5 / 64, min_samples=4, metric="hamming", algorithm="brute").fit_predict(bits)
    assert found.max() > 0
    assert_array_equal(found, expected)

    labels = bits[:, 0]
    classify = neighbors.KNeighborsClassifier(5, metric="precomputed")
    model = pipeline.make_pipeline(HammingNeighbors(5, input="bits"), classify).fit(bits, labels)
    graph = HammingNeighbors(5, input="bits").fit_transform(bits)
    transformer = neighbors.KNeighborsTransformer(n_neighbors=5, metric="hamming", algorithm="brute")
    wanted = transformer.fit_transform(bits)
    assert graph.shape == wanted.shape
    assert graph.nnz == wanted.nnz
    assert_array_equal(np.sort(graph.data), np.sort(np.rint(wanted.data * 64)))
    assert model.predict(bits).shape == labels.shape


def test_is_an_estimator() -> None:
    base = pytest.importorskip("sklearn.base")
    validation = pytest.importorskip("sklearn.utils.validation")
    near = HammingNeighbors(4, mode="connectivity")
    twin = base.clone(near)
    assert twin is not near
    assert twin.get_params() == near.get_params() == twin.set_params().get_params()
    assert near.get_params() == {
        "n_neighbors": 4,
        "radius": 1,
        "input": "codes",
        "mode": "connectivity",
        "n_jobs": None,
    }
    assert twin.set_params(n_neighbors=2, input="bits") is twin
    assert repr(twin) == "HammingNeighbors(n_neighbors=2, radius=1, input='bits', mode='connectivity', n_jobs=None)"
    with pytest.raises(validation.NotFittedError):
        validation.check_is_fitted(twin)
    twin.fit([[0, 1], [1, 1]])
    validation.check_is_fitted(twin)
    again = pickle.loads(pickle.dumps(twin))
    assert again.kneighbors([[0, 0]]).distances.tolist() == [[1, 2]]
    assert (again.n_samples_fit_, again.n_features_in_) == (2, 2)


def test_errors() -> None:
    codes = np.zeros((3, 2), np.uint8)
    near = HammingNeighbors().fit(codes)
    with pytest.raises(ValueError, match="call fit first"):
        HammingNeighbors().kneighbors(codes)
    with pytest.raises(ValueError, match="n_neighbors must be at most 3"):
        near.kneighbors(codes, 4)
    with pytest.raises(ValueError, match="n_neighbors must be at most 2, the rows fitted besides a row itself, got 3"):
        near.kneighbors(n_neighbors=3)
    with pytest.raises(ValueError, match="X must have 2 columns"):
        near.kneighbors(codes[:, :1], 1)
    with pytest.raises(ValueError, match="X must be 2-D"):
        near.kneighbors(codes[0], 1)
    with pytest.raises(ValueError, match="at least one row"):
        near.fit(codes[:0])
    with pytest.raises(ValueError, match="nothing but 0 and 1"):
        HammingNeighbors(input="bits").fit([[0, 2]])
    with pytest.raises(ValueError, match="nothing but 0 and 1"):
        HammingNeighbors(input="bits").fit([[0, float("nan")]])
    with pytest.raises(ValueError, match="input must be"):
        HammingNeighbors(input="floats").fit(codes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode must be"):
        near.kneighbors_graph(codes, 1, mode="angle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parameters are n_neighbors"):
        near.set_params(k=3)
    with pytest.raises(ValueError, match="n_jobs must be at least 1, got -2"):
        HammingNeighbors(n_jobs=-2).fit(codes).kneighbors(codes, 1)
    with pytest.raises(ValueError, match="radius must be at least 0"):
        near.radius_neighbors(codes, -1)
    assert near.kneighbors(codes, 1).indices.tolist() == [[0], [0], [0]]  # as it was, after all of that


def test_needs_neither_sklearn_nor_scipy() -> None:
    script = """
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = None
import numpy as np, pyhash
near = pyhash.HammingNeighbors(1).fit(np.zeros((2, 1), np.uint8))
assert near.kneighbors().indices.tolist() == [[1], [0]]
try:
    near.kneighbors_graph()
except ImportError as error:
    assert "scipy" in str(error), error
else:
    raise AssertionError("a graph without SciPy")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert "HammingNeighbors" in dir(pyhash)
