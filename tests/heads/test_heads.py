"""Hash heads: their mathematics against independent solutions, and what they retrieve on synthetic clusters."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tuning import tune

from pyhash import heads
from pyhash.codes import Levels
from pyhash.evaluation import evaluate
from pyhash.heads import numerics, targets

KINDS = [*heads.SUPERVISED, *heads.UNSUPERVISED]


class Clusters:
    """Gaussian classes in a few of 48 dimensions, in groups, under noise that is loudest where there are no classes."""

    def __init__(self, n: int = 900, n_classes: int = 12, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        groups = rng.standard_normal((n_classes // 3, 12)) * 1.2
        centres = groups[np.arange(n_classes) // 3] + 0.8 * rng.standard_normal((n_classes, 12))
        of_row = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
        inner = centres[of_row] + 0.7 * rng.standard_normal((n, 12))
        outer = rng.standard_normal((n, 36)) * np.linspace(0.5, 3, 36)
        rotation = np.linalg.qr(rng.standard_normal((48, 48)))[0]
        self.features = (np.concatenate([inner, outer], axis=1) @ rotation + 5).astype(np.float32)
        self.labels = {"coarse": of_row // 3, "fine": of_row}

    def half(self, part: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
        return self.features[part::2], {level: values[part::2] for level, values in self.labels.items()}


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    return Clusters()


def fit(kind: str, clusters: Clusters, levels: Any = 32, **options: Any) -> heads.Head:
    features, labels = clusters.half(0)
    if kind == "sign":
        levels = 48
    given = None if kind in heads.UNSUPERVISED else labels if isinstance(levels, dict) else labels["fine"]
    return heads.fit(kind, features, given, levels=levels, **options)


def retrieval(head: Any, clusters: Clusters, level: str = "fine", **options: Any) -> float:
    """Return mAP among pictures that the head was not fitted on."""
    features, labels = clusters.half(1)
    codes = head.encode(features)
    report = evaluate(codes[:100], codes[100:], labels[level][:100], labels[level][100:], ks=[1], **options)
    return report.value("mAP")


@pytest.mark.parametrize("kind", KINDS)
def test_the_affine_map_gives_the_codes(kind: str, clusters: Clusters) -> None:
    head = fit(kind, clusters)
    features, _ = clusters.half(1)
    logits = features.astype(np.float64) @ head.weight + head.bias
    bits = np.unpackbits(head.encode(features), axis=1)[:, : head.bits].astype(bool)
    sure = np.abs(logits) > 1e-4
    assert sure.mean() > 0.99
    assert (bits == (logits > 0))[sure].all()
    assert (head.weight.dtype, head.bias.dtype) == (np.float32, np.float32)
    assert (head.weight.shape, head.bias.shape) == ((48, head.bits), (head.bits,))
    assert (head.kind, head.supervised, head.levels) == (kind, kind in heads.SUPERVISED, Levels({"code": head.bits}))
    training, _ = clusters.half(0)
    ones = np.unpackbits(head.encode(training), axis=1)[:, : head.bits].mean(axis=0)
    np.testing.assert_allclose(head.rates, ones, atol=1e-6)


def test_a_head_says_what_it_is(clusters: Clusters) -> None:
    assert repr(fit("lsh", clusters)) == "<Head lsh: 48 -> 32 bits>"
    assert repr(fit("laplacian", clusters, {"coarse": 8, "fine": 24})) == (
        "<Head laplacian: 48 -> 32 bits (coarse 8, fine 24)>"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equal_arguments_give_equal_heads(kind: str, clusters: Clusters) -> None:
    first, again, other = fit(kind, clusters), fit(kind, clusters), fit(kind, clusters, seed=1)
    np.testing.assert_array_equal(first.weight, again.weight)
    np.testing.assert_array_equal(first.bias, again.bias)
    assert np.array_equal(first.weight, other.weight) == (kind == "sign")


@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_of_features_and_the_size_of_blocks_do_not_show(
    kind: str, clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = fit(kind, clusters)
    strange = Clusters()
    strange.features = np.asfortranarray(clusters.features.astype(np.float64))
    tune(monkeypatch, fitting_bytes=5000)
    other = fit(kind, strange)
    features, _ = clusters.half(1)
    assert (np.unpackbits(head.encode(features)) != np.unpackbits(other.encode(features))).mean() < 1e-3


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


def test_more_dimensions_than_pictures(clusters: Clusters) -> None:
    features, labels = clusters.features[:80], clusters.labels["coarse"][:80]
    wide = np.concatenate([features, np.zeros((80, 60), np.float32)], axis=1)
    for kind in ("hadamard-ridge", "laplacian", "pca-itq"):
        given = labels if kind in heads.SUPERVISED else None
        options = {"ridge": 0.1} if kind in heads.SUPERVISED else {}
        narrow, broad = (heads.fit(kind, x, given, levels=16, **options) for x in (features, wide))
        np.testing.assert_allclose(broad.logits(wide), narrow.logits(features), atol=1e-3)


@pytest.mark.parametrize("order", [1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 60, 64, 72, 128])
def test_hadamard_matrices(order: int) -> None:
    matrix = targets.hadamard(order)
    assert matrix is not None
    np.testing.assert_array_equal(matrix.astype(int) @ matrix.T, order * np.eye(order, dtype=int))


def test_orders_without_a_hadamard_matrix() -> None:
    assert [order for order in range(3, 40) if order % 4 and targets.hadamard(order) is not None] == []


@pytest.mark.parametrize(
    ("n_classes", "bits", "least"),
    [
        (2, 1, 1),
        (3, 3, 2),
        (5, 15, 8),
        (6, 24, 11),  # 24 of all 31 splits: no 6 rows of a Hadamard matrix have distinct columns
        (10, 16, 8),
        (10, 64, 32),
        (16, 48, 24),
        (47, 24, 12),  # rows and their negatives
        (47, 16, 4),
        (100, 64, 32),
        (200, 48, 17),
        (200, 16, 4),
        (200, 8, 1),
        (256, 8, 1),
        (1000, 56, 14),
    ],
)
def test_target_codes_are_far_apart_and_their_bits_differ(n_classes: int, bits: int, least: int) -> None:
    codes = heads.target_codes(n_classes, bits).astype(int)
    assert codes.shape == (n_classes, bits)
    assert set(np.unique(codes)) == {-1, 1}
    assert len(np.unique((codes * codes[0]).T, axis=0)) == bits
    assert (np.abs(codes.sum(axis=0)) < n_classes).all()
    distances = (bits - codes @ codes.T) // 2
    assert distances[~np.eye(n_classes, dtype=bool)].min() >= least
    np.testing.assert_array_equal(codes, heads.target_codes(n_classes, bits))


def test_target_codes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"n_classes must be from 2 to 2 \*\* bits for 3 bits, got 9"):
        heads.target_codes(9, 3)
    with pytest.raises(ValueError, match="bits must be from 1 to the 3 splits of 3 classes, got 4"):
        heads.target_codes(3, 4)


def test_similar_classes_get_near_codes() -> None:
    rng = np.random.default_rng(0)
    codes = heads.target_codes(40, 8)
    points = rng.standard_normal((40, 3))
    similarity = points @ points.T

    def value(codes: NDArray[np.int8]) -> float:
        return float((similarity * (codes.astype(int) @ codes.T.astype(int))).sum())

    assigned = targets.assign(codes, similarity)
    assert sorted(map(bytes, assigned)) == sorted(map(bytes, codes))
    assert value(assigned) > value(codes)
    best = 0.0
    for i, j in itertools.combinations(range(40), 2):
        swapped = assigned.copy()
        swapped[[i, j]] = assigned[[j, i]]
        best = max(best, value(swapped) - value(assigned))
    assert best < 1e-6 * value(assigned)


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


def test_recentred_thresholds_halve_an_unsupervised_gallery(clusters: Clusters) -> None:
    features, _ = clusters.half(1)
    for kind in heads.UNSUPERVISED:
        head = fit(kind, clusters)
        centred = heads.recenter(head, features + np.float32(2))
        ones = np.unpackbits(centred.encode(features + np.float32(2)), axis=1)[:, : head.bits].mean(axis=0)
        np.testing.assert_allclose(ones, 0.5, atol=1 / len(features))
        np.testing.assert_array_equal(centred.weight, head.weight)


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


def test_sign_is_a_threshold() -> None:
    features = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        heads.fit("sign", features, levels=16).encode(features), np.packbits(features > 0, axis=1)
    )
    limits = np.linspace(-1, 1, 16)
    head = heads.sign(features, {"a": 8, "b": 8}, threshold=limits)
    np.testing.assert_array_equal(head.encode(features), np.packbits(features > limits, axis=1))


def test_fitting_holds_no_copy_of_the_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float32, (20_000, 256))
    features[:] = rng.standard_normal(features.shape)
    labels = rng.integers(0, 10, len(features))
    features += np.eye(256, dtype=np.float32)[labels] * 3
    tune(monkeypatch, fitting_bytes=1 << 20)
    for kind in ("hadamard-ridge", "laplacian", "pca-itq"):
        tracemalloc.start()
        heads.fit(kind, features, labels if kind in heads.SUPERVISED else None, levels=32)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.75 * features.nbytes


GOOD = np.random.default_rng(0).standard_normal((40, 8))
HALVES = np.arange(40) % 2


@pytest.mark.parametrize(
    ("kind", "features", "labels", "options", "error", "message"),
    [
        ("itq", GOOD, None, {}, ValueError, "kind must be one of hadamard-ridge, .*, sign, got 'itq'"),
        ("laplacian", GOOD, None, {}, ValueError, "labels must be given for the head 'laplacian', got None"),
        ("lsh", GOOD, HALVES, {}, ValueError, "labels must be None for the head 'lsh'"),
        ("lsh", GOOD.astype(int), None, {}, TypeError, "features must be floating point, got int64"),
        ("lsh", GOOD[:1], None, {}, ValueError, r"features must have shape \(n, dim\) .*, got \(1, 8\)"),
        ("pca-itq", np.ones((5, 3)), None, {}, ValueError, "features must differ between pictures"),
        ("pca-itq", GOOD, None, {"iterations": -1}, ValueError, "iterations must be at least 0, got -1"),
        ("hadamard-ridge", GOOD, HALVES[:-1], {}, ValueError, r"labels of level 'code' must have shape \(40,\)"),
        ("hadamard-ridge", GOOD, GOOD[:, 0], {}, TypeError, "labels of level 'code' must be integers or strings"),
        ("hadamard-ridge", GOOD, HALVES * 0, {}, ValueError, "'code' must have at least 2 classes, got only"),
        ("hadamard-ridge", GOOD, np.arange(40), {}, ValueError, "'code' must repeat: 40 pictures have 40 classes"),
        (
            "hadamard-ridge",
            GOOD,
            {"fine": HALVES},
            {},
            ValueError,
            r"labels must have the levels \['code'\], got \['fine'\]",
        ),
        ("hadamard-ridge", GOOD, HALVES, {"levels": {"a": 8, "b": 8}}, ValueError, "labels must be a mapping with"),
        (
            "laplacian",
            GOOD,
            {"a": HALVES, "c": HALVES},
            {"levels": {"a": 8, "b": 8}},
            ValueError,
            r"labels must have the levels \['a', 'b'\], got \['a', 'c'\]",
        ),
        (
            "hadamard-ridge",
            GOOD,
            np.arange(40) // 2,
            {"levels": 4},
            ValueError,
            "'code' must have enough bits .* 20 cl",
        ),
        ("hadamard-ridge", GOOD, HALVES, {"ridge": -1.0}, ValueError, "ridge must be at least 0 and finite, got -1.0"),
        ("laplacian", GOOD, HALVES, {"rotation": "no"}, ValueError, "rotation must be 'itq' or 'random', got 'no'"),
        ("sign", GOOD, None, {"levels": 16}, ValueError, "levels must have a bit for each of the 8 features, got 16"),
        ("sign", GOOD, None, {"levels": 8, "threshold": [0, 1]}, ValueError, "threshold must be one finite number"),
    ],
)
def test_errors(
    kind: str,
    features: NDArray[Any],
    labels: Any,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        heads.fit(kind, features, labels, **{"levels": 8} | options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(kind: str, value: float) -> None:
    features = GOOD.copy()
    features[17, 3] = value
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity in row 17"):
        heads.fit(kind, features, HALVES if kind in heads.SUPERVISED else None, levels=8)


def test_a_head_refuses_other_features(clusters: Clusters) -> None:
    head = fit("lsh", clusters)
    with pytest.raises(ValueError, match="features must have 48 columns, as the head was fitted on, got 8"):
        head.encode(GOOD)
    with pytest.raises(ValueError, match="rates must be one number from 0 to 1, or one for each of 32 bits, got 2"):
        heads.recenter(head, clusters.features, rates=2)
