"""Heads fitted without labels, against FAISS and by what they must hold."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from clusters import Clusters, fit, retrieval
from numpy.typing import NDArray

from pyhash import heads
from pyhash.heads import numerics


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    return Clusters()


def test_itq_is_as_good_as_that_of_faiss(clusters: Clusters) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its SWIG wrapper
        faiss = pytest.importorskip("faiss")
    ours, theirs = [], []
    for seed in range(3):
        data = Clusters(n=1500, seed=seed)
        features, _ = data.half(0)
        transform = faiss.ITQTransform(48, 32, True)
        transform.train(features)

        class Theirs:
            """Codes of FAISS's transform."""

            def encode(self, features: NDArray[np.float32], transform: Any = transform) -> NDArray[np.uint8]:
                return np.packbits(transform.apply(np.ascontiguousarray(features)) > 0, axis=1)

        ours.append(retrieval(fit("pca-itq", data), data))
        theirs.append(retrieval(Theirs(), data))
    assert np.mean(ours) > 0.97 * np.mean(theirs)


def test_itq_lowers_the_quantization_error_and_keeps_a_rotation(clusters: Clusters) -> None:
    features, _ = clusters.half(0)
    mean = features.mean(axis=0, dtype=np.float64)
    for bits in (24, 64):  # fewer and more than the 48 components
        vectors = numerics.spectrum(features, mean, np.ones(len(features))).vectors[:, :bits]
        projected = (features - mean) @ vectors
        errors = []
        for iterations in (0, 1, 5, 30):
            rotation = numerics.lift(features, mean, vectors, bits, iterations, 0)
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(len(rotation)), atol=1e-5)
            lifted = projected @ rotation
            errors.append(((np.where(lifted > 0, 1, -1) - lifted) ** 2).sum())
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < errors[0]


def test_a_random_rotation_is_where_quantization_begins(clusters: Clusters) -> None:
    features, _ = clusters.half(0)
    head, begun = heads.pca_random(features, 24, seed=3), heads.pca_itq(features, 24, iterations=0, seed=3)
    assert head.kind == "pca-random"
    np.testing.assert_array_equal(head.weight, begun.weight)
    assert retrieval(head, clusters) < retrieval(heads.pca_itq(features, 24, seed=3), clusters)


def test_recentred_thresholds_halve_an_unsupervised_gallery(clusters: Clusters) -> None:
    features, _ = clusters.half(1)
    for kind in heads.UNSUPERVISED:
        head = fit(kind, clusters)
        centred = heads.recenter(head, features + np.float32(2))
        ones = np.unpackbits(centred.encode(features + np.float32(2)), axis=1)[:, : head.bits].mean(axis=0)
        np.testing.assert_allclose(ones, 0.5, atol=1 / len(features))
        np.testing.assert_array_equal(centred.weight, head.weight)


def test_sign_is_a_threshold() -> None:
    features = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        heads.fit("sign", features, levels=16).encode(features), np.packbits(features > 0, axis=1)
    )
    limits = np.linspace(-1, 1, 16)
    head = heads.sign(features, {"a": 8, "b": 8}, threshold=limits)
    np.testing.assert_array_equal(head.encode(features), np.packbits(features > limits, axis=1))
