"""Every head: an affine map, the same for the same arguments, that says what is wrong with what it is given."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import KINDS, Clusters, fit
from numpy.typing import NDArray
from tuning import tune

from pyhash import heads
from pyhash.codes import Levels


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    return Clusters()


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


def test_more_dimensions_than_pictures(clusters: Clusters) -> None:
    features, labels = clusters.features[:80], clusters.labels["coarse"][:80]
    wide = np.concatenate([features, np.zeros((80, 60), np.float32)], axis=1)
    for kind in ("hadamard-ridge", "laplacian", "pca-itq"):
        given = labels if kind in heads.SUPERVISED else None
        options = {"ridge": 0.1} if kind in heads.SUPERVISED else {}
        narrow, broad = (heads.fit(kind, x, given, levels=16, **options) for x in (features, wide))
        np.testing.assert_allclose(broad.logits(wide), narrow.logits(features), atol=1e-3)


def test_fitting_holds_no_copy_of_the_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float32, (8_000, 128))
    features[:] = rng.standard_normal(features.shape)
    labels = rng.integers(0, 10, len(features))
    features += np.eye(128, dtype=np.float32)[labels] * 3
    tune(monkeypatch, fitting_bytes=1 << 18)
    for kind in ("hadamard-ridge", "laplacian", "pca-itq"):
        tracemalloc.start()
        heads.fit(kind, features, labels if kind in heads.SUPERVISED else None, levels=8)
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
        ("pca-itq", np.ones((5, 3)), None, {}, ValueError, "features must differ between images"),
        ("pca-itq", GOOD, None, {"iterations": -1}, ValueError, "iterations must be at least 0, got -1"),
        ("hadamard-ridge", GOOD, HALVES[:-1], {}, ValueError, r"labels of level 'code' must have shape \(40,\)"),
        ("hadamard-ridge", GOOD, GOOD[:, 0], {}, TypeError, "labels of level 'code' must be integers or strings"),
        ("hadamard-ridge", GOOD, HALVES * 0, {}, ValueError, "'code' must have at least 2 classes, got only"),
        ("hadamard-ridge", GOOD, np.arange(40), {}, ValueError, "'code' must repeat: 40 images have 40 classes"),
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
