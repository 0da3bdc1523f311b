"""Taps joined and a head on them: one affine map, judged by steps done by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from pyhash import heads
from pyhash.heads.fusion import _whitening

LEVELS = {"coarse": 8, "fine": 24}


def sample(n: int = 300) -> tuple[np.ndarray, dict[str, slice], dict[str, np.ndarray]]:
    """Two taps: the first is loud and knows nothing, the second knows the class."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 6, n)
    knowing = rng.normal(size=(6, 10))[classes] + 0.5 * rng.normal(size=(n, 10))
    features = np.concatenate([50 + 30 * rng.normal(size=(n, 12)), knowing], axis=1).astype(np.float32)
    return features, {"loud": slice(0, 12), "knowing": slice(12, 22)}, {"coarse": classes // 3, "fine": classes}


@pytest.mark.parametrize("kind", [*heads.SUPERVISED, "pca-itq", "lsh"])
def test_a_fitted_head_is_folded_into_one_affine_map(kind: str) -> None:
    """Whitening, weights and head in steps, by hand, against the one matrix."""
    features, blocks, labels = sample()
    named = labels if kind in heads.SUPERVISED else None
    fitted = heads.fit_fused(features.copy(), blocks, LEVELS, named, kind=kind)
    assert isinstance(fitted, heads.Head)
    assert (fitted.weight.shape, fitted.bias.shape) == ((22, 32), (32,))
    bits = features @ fitted.weight + fitted.bias > 0
    assert 0.1 < bits.mean() < 0.9
    if named:
        for level in LEVELS:
            assert fitted.details[level]["taps"]["knowing"] == 1
            assert fitted.details[level]["taps"]["loud"] < 0.5
    shifted = heads.fit_fused(features + np.float32(3), blocks, LEVELS, named, kind=kind)
    same = ((features + 3) @ shifted.weight + shifted.bias > 0) == bits
    assert same.mean() > 0.97  # centring takes a shift away, but for rounding


def test_scales_of_taps_do_not_matter() -> None:
    features, blocks, labels = sample()
    scaled = features.copy()
    scaled[:, :12] *= 1000
    codes = []
    for part in (features, scaled):
        fitted = heads.fit_fused(part.copy(), blocks, LEVELS, labels)
        codes.append(part @ fitted.weight + fitted.bias > 0)
    assert (codes[0] == codes[1]).mean() > 0.99


def test_without_labels_taps_weigh_what_they_vary() -> None:
    """As if nothing had been scaled: the head is the one of the bare features."""
    features, blocks, _ = sample()
    fitted = heads.fit_fused(features.copy(), blocks, LEVELS, None, kind="pca-itq")
    bare = heads.pca_itq(features, LEVELS)
    same = (features @ fitted.weight + fitted.bias > 0) == (bare.logits(features) > 0)
    assert same.mean() > 0.99
    lengths = [np.sqrt(features[:, columns].var(axis=0).sum()) for columns in blocks.values()]
    assert fitted.details["fine"]["taps"] == pytest.approx(
        dict(zip(blocks, lengths / max(lengths), strict=True)), rel=1e-3
    )
    even = heads.fit_fused(
        features.copy(), blocks, LEVELS, None, kind="pca-itq", weights={level: [1, 1] for level in LEVELS}
    )
    assert ((features @ even.weight + even.bias > 0) != (bare.logits(features) > 0)).mean() > 0.1


@pytest.mark.parametrize("kind", [*heads.SUPERVISED, "pca-itq", "lsh", "sign"])
def test_a_fitted_head_can_be_centred_on_other_pictures(kind: str) -> None:
    features, blocks, labels = sample()
    named = labels if kind in heads.SUPERVISED else None
    fitted = heads.fit_fused(features.copy(), blocks, {"code": 22} if kind == "sign" else LEVELS, named, kind=kind)
    np.testing.assert_allclose(fitted.rates, (fitted.logits(features) > 0).mean(axis=0), atol=0.01)
    elsewhere = features + np.float32(5)
    centred = heads.recenter(fitted, elsewhere)
    assert centred.details == fitted.details
    wanted = fitted.rates if named else 0.5
    np.testing.assert_allclose((centred.logits(elsewhere) > 0).mean(axis=0), wanted, atol=0.01)


def test_what_the_head_of_each_level_chose() -> None:
    features, blocks, labels = sample()
    details = heads.fit_fused(features, blocks, LEVELS, labels).details
    assert list(details) == ["coarse", "fine"]
    assert (details["coarse"]["classes"], details["fine"]["classes"]) == (2, 6)
    assert details["fine"]["ridge"] >= 0


def test_a_tap_that_weighs_nothing_has_no_weights() -> None:
    features, blocks, labels = sample()
    fitted = heads.fit_fused(features, blocks, LEVELS, labels, weights={"coarse": [0, 1], "fine": [1, 1]})
    assert not fitted.weight[blocks["loud"], :8].any()
    assert fitted.weight[blocks["loud"], 8:].all()


def test_whitening_by_hand() -> None:
    """The covariance behind the map is that of damped principal axes, whichever way they are turned."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 6)) @ np.diag([5, 3, 1, 0.3, 0.01, 0])
    covariance = np.cov(rows.T, bias=True)
    matrix, energy = _whitening(covariance, 1.0)
    values = np.linalg.eigvalsh(covariance)
    expected = values / (values + 0.01 * values.mean())
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix.T @ covariance @ matrix), np.sort(expected), atol=1e-9)
    assert energy == pytest.approx(expected.sum())


def test_a_tap_that_never_varies_is_not_read() -> None:
    features, blocks, labels = sample()
    features[:, blocks["loud"]] = 1 / 3
    fitted = heads.fit_fused(features.copy(), blocks, LEVELS, labels)
    assert not fitted.weight[blocks["loud"]].any()
    assert np.isfinite(fitted.bias).all()
    bits = features @ fitted.weight + fitted.bias > 0
    assert 0.1 < bits.mean() < 0.9


def test_constant_features_are_told() -> None:
    features, blocks, _ = sample()
    features[:] = 1
    with pytest.raises(ValueError, match="features"):
        heads.fit_fused(features, blocks, LEVELS, None, kind="pca-itq")
