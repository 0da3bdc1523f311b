"""Heads fitted with labels: their mathematics against independent solutions, and what they retrieve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clusters import KINDS, Clusters, fit, retrieval
from numpy.typing import NDArray

from pyhash import heads
from pyhash.evaluation import evaluate
from pyhash.heads import numerics


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    return Clusters()


def test_supervised_heads_retrieve_much_better_than_lsh_and_itq_no_worse(clusters: Clusters) -> None:
    found = {kind: retrieval(fit(kind, clusters), clusters) for kind in KINDS}
    for kind in heads.SUPERVISED:
        assert found[kind] > 1.5 * max(found["lsh"], found["pca-itq"])
    assert found["pca-itq"] > 0.95 * found["lsh"]


def test_each_level_answers_at_its_granularity(clusters: Clusters) -> None:
    levels = {"coarse": 16, "fine": 16}
    for kind in heads.SUPERVISED:
        head, flat = fit(kind, clusters, levels), fit(kind, clusters, 32)
        coarse = {"levels": levels, "rankings": {"coarse": {"coarse": 1}}}
        assert retrieval(head, clusters, "coarse", **coarse) > retrieval(flat, clusters, "coarse") + 0.02
        assert retrieval(head, clusters, "coarse", levels=levels) > retrieval(flat, clusters, "coarse")
        assert list(head.details) == ["coarse", "fine"]


def subspace_gap(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Sine of the largest angle between the spans of columns, of equal rank."""
    spans = [np.linalg.svd(x.astype(np.float64), full_matrices=False) for x in (a, b)]
    left, right = (u[:, s > 1e-4 * s[0]] for u, s, _ in spans)
    assert left.shape == right.shape
    return float(np.linalg.norm(left - right @ (right.T @ left), 2))


def test_laplacian_of_class_similarity_is_linear_discriminant_analysis(clusters: Clusters) -> None:
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    features, labels = clusters.half(0)
    analysis = discriminant.LinearDiscriminantAnalysis(solver="eigen").fit(features.astype(np.float64), labels["fine"])
    head = heads.laplacian(features, labels["fine"], 32, ridge=0, balance=False)
    assert head.details["code"]["directions"] == 11
    assert subspace_gap(head.weight, analysis.scalings_[:, :11]) < 1e-3


def test_laplacian_solves_its_eigenproblem_for_several_levels(clusters: Clusters) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    features, labels = (clusters.half(0)[0][:200], {k: v[:200] for k, v in clusters.half(0)[1].items()})
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    similarity = np.zeros((200, 200))
    for values in labels.values():
        same = values[:, None] == values
        similarity += same / same.sum(axis=1)
    graph = np.diag(similarity.sum(axis=1)) - similarity
    values, vectors = linalg.eigh(centred.T @ graph @ centred, centred.T @ centred)
    for bits in (3, 7):
        head = heads.laplacian(features, labels, bits, ridge=0, balance=False)
        assert subspace_gap(head.weight, vectors[:, :bits]) < 1e-3
    assert values[8] > values[6] + 0.01


def test_balance_is_as_if_classes_were_equally_large() -> None:
    rng = np.random.default_rng(3)
    of_row = np.repeat(np.arange(4), [10, 20, 30, 60])
    features = rng.standard_normal((4, 9))[of_row] + rng.standard_normal((120, 9))
    copies = np.repeat(np.arange(120), np.array([6, 3, 2, 1])[of_row])
    for kind in heads.SUPERVISED.values():
        balanced = kind(features, of_row, 5, ridge=0.01)
        repeated = kind(features[copies], of_row[copies], 5, ridge=0.01, balance=False)
        plain = kind(features, of_row, 5, ridge=0.01, balance=False)
        # the rotation of laplacian sees other rows, its span does not
        assert subspace_gap(balanced.weight[:, :3], repeated.weight[:, :3]) < 1e-4
        assert subspace_gap(balanced.weight[:, :3], plain.weight[:, :3]) > 1e-2
    balanced = heads.hadamard_ridge(features, of_row, 5, ridge=0.01)
    repeated = heads.hadamard_ridge(features[copies], of_row[copies], 5, ridge=0.01, balance=False)
    np.testing.assert_allclose(balanced.weight, repeated.weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(balanced.bias, repeated.bias, rtol=1e-4, atol=1e-6)


def test_ridge_is_chosen_by_generalised_cross_validation(clusters: Clusters) -> None:
    features, labels = (clusters.half(0)[0][:150].astype(np.float64), clusters.half(0)[1]["coarse"][:150])
    ones = np.ones(150)
    fitted = numerics.regress(features, [labels], ones, None, {})
    centred = features - features.mean(axis=0)
    indicators = (labels[:, None] == np.arange(4)).astype(float)
    scatter = centred.T @ centred
    errors = []
    for relative in numerics._RIDGES:
        damped = scatter + relative * np.linalg.eigvalsh(scatter).mean() * np.eye(48)
        hat = centred @ np.linalg.solve(damped, centred.T) + 1 / 150
        residual = ((indicators - hat @ indicators) ** 2).sum()
        errors.append(residual / (1 - np.trace(hat) / 150) ** 2)
    assert fitted.ridge == numerics._RIDGES[int(np.argmin(errors))]
    assert numerics._RIDGES[0] < fitted.ridge < numerics._RIDGES[-1]


@pytest.mark.parametrize("kind", list(heads.SUPERVISED))
def test_two_classes_are_graded_by_thresholds_along_one_direction(kind: str, clusters: Clusters) -> None:
    features, labels = clusters.half(0)
    binary = (labels["coarse"] == 0).astype(int)
    head = heads.fit(kind, features, binary, levels=16)
    bits = np.unpackbits(head.encode(features), axis=1)
    order = np.argsort(bits.sum(axis=0))
    assert (np.diff(bits[:, order].astype(int), axis=1) >= 0).all()  # each set of ones holds the one before
    assert len(np.unique(head.bias)) == 16
    assert len(np.unique(head.weight, axis=1).T) == 1
    assert len(np.unique(bits.sum(axis=0))) > 8
    graded, plain = (heads.fit(kind, features, binary, levels=b) for b in (16, 1))
    held, held_labels = clusters.half(1)
    held_binary = (held_labels["coarse"] == 0).astype(int)
    values = []
    for head in (graded, plain):
        codes = head.encode(held)
        values.append(evaluate(codes, codes, held_binary, held_binary, exclude_self=True, ks=[1]).value("mAP"))
    assert values[0] > values[1]


def test_recentred_thresholds_keep_the_rates_of_a_supervised_head(clusters: Clusters) -> None:
    training, _ = clusters.half(0)
    for kind in heads.SUPERVISED:
        head = fit(kind, clusters)
        moved = heads.recenter(head, training + np.float32(2))
        changed = np.unpackbits(moved.encode(training + np.float32(2))) != np.unpackbits(head.encode(training))
        assert changed.mean() < 0.005
    quarter = heads.recenter(head, training, rates=0.25)
    ones = np.unpackbits(quarter.encode(training), axis=1).mean(axis=0)
    np.testing.assert_allclose(ones, 0.25, atol=2 / len(training))
