"""The head of a collection: what its codes and vectors are made of, how it is kept, and what few images change."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyhash import hamming, unpack
from pyhash.errors import CorruptHeadError
from pyhash.heads import CollectionHead, adapt

LEVELS = {"coarse": 16, "fine": 48}
DIM = 40


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def kinds(n: int = 200, n_classes: int = 8, seed: int = 0, noise: float = 0.7) -> tuple[NDArray[Any], NDArray[Any]]:
    """Embeddings around the means of classes, away from 0, some directions longer than others."""
    centres = np.random.default_rng(5).normal(size=(n_classes, DIM))
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n)
    rows = centres[labels] + noise * rng.normal(size=(n, DIM))
    return (3 + rows * np.linspace(2, 0.2, DIM)).astype(np.float32), labels


def averaged(own: NDArray[Any], k: int = 10) -> NDArray[Any]:
    """Neighbourhoods of one round."""
    similar = own @ own.T
    np.fill_diagonal(similar, 0)
    similar[similar < np.sort(similar, axis=1)[:, -k, None]] = 0
    return unit(own + np.maximum(similar, 0) ** 3 @ own).astype(np.float32)


def precision(distances: NDArray[Any], own: NDArray[Any], theirs: NDArray[Any], k: int = 5) -> float:
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return float((theirs[nearest] == own[:, None]).mean())


def test_codes_are_signs_of_the_centred_embedding_and_of_the_neighbourhood() -> None:
    rows, _ = kinds()
    head = adapt(rows, LEVELS)
    assert head.made_of == {"coarse": "own", "fine": "own"}
    assert not head.supervised
    np.testing.assert_allclose(head.mean, rows.mean(axis=0), rtol=1e-5)
    own = unit(rows.astype(np.float64) - head.mean)
    np.testing.assert_allclose(head.own(rows), own, atol=1e-6)
    np.testing.assert_allclose(head.vectors(rows, "fine"), own, atol=1e-6)
    np.testing.assert_array_equal(unpack(head.codes(rows), 64), own @ head.weight > 0)
    around = averaged(head.own(rows))
    both = head.with_neighbourhoods(around)
    assert both.made_of == {"coarse": "neighbourhood", "fine": "own"}
    np.testing.assert_array_equal(both.weight[:, 16:], head.weight[:, 16:])
    expected = np.hstack([around @ both.weight[:, :16] > 0, own @ both.weight[:, 16:] > 0])
    np.testing.assert_array_equal(unpack(both.codes(rows, around), 64), expected)
    lone = unpack(both.codes(rows), 64)
    np.testing.assert_array_equal(lone, own @ both.weight > 0)
    assert adapt(rows, LEVELS, neighbourhoods=around).to_bytes() == both.to_bytes()
    assert adapt(rows, 64, neighbourhoods=around).made_of == {"code": "own"}


def test_the_affine_map_of_a_lone_encoder_gives_the_same_bits() -> None:
    rows, labels = kinds()
    for head in (adapt(rows, LEVELS), adapt(rows, LEVELS, labels=labels), adapt(rows, LEVELS, labels={"fine": labels})):
        alone = head.affine()
        assert alone.levels == LEVELS
        assert alone.supervised == head.supervised
        agree = unpack(alone.encode(rows), 64) == unpack(head.codes(rows), 64)
        assert agree.mean() > 0.9999  # float32 beside float64
        np.testing.assert_allclose(alone.rates, unpack(head.codes(rows), 64).mean(axis=0), atol=0.02)


def test_own_codes_find_what_neighbourhood_codes_were_made_of() -> None:
    rows, labels = kinds(600)
    head = adapt(rows, LEVELS)
    around = averaged(head.own(rows))
    head = head.with_neighbourhoods(around)
    coarse = head.levels.byte_range("coarse")
    collection, alone = (head.codes(rows[100:], around[100:])[:, coarse], head.codes(rows[:100])[:, coarse])
    assert precision(hamming(alone, collection), labels[:100], labels[100:]) > 0.9


def test_labels_find_their_class_by_code_and_by_vector() -> None:
    (rows, labels), (queries, wanted) = kinds(600, noise=2.2), kinds(200, noise=2.2, seed=1)
    plain, head = adapt(rows, LEVELS), adapt(rows, LEVELS, labels={"fine": labels})
    assert head.made_of == {"coarse": "own", "fine": "labels"}
    fine = head.levels.byte_range("fine")
    found = [
        precision(hamming(one.codes(queries)[:, fine], one.codes(rows)[:, fine]), wanted, labels)
        for one in (plain, head)
    ]
    assert found[1] > found[0] + 0.05
    vectors, collection = head.vectors(queries, "fine"), head.vectors(rows, "fine")
    assert vectors.shape == (200, 8 + DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    by_labels, by_own = (
        precision(-a @ b.T, wanted, labels) for a, b in ((vectors, collection), (head.own(queries), head.own(rows)))
    )
    assert by_labels > by_own + 0.05


def test_probabilities_are_as_sure_as_they_are_right() -> None:
    sharpness = []
    for noise in (1.5, 4.0):
        (rows, labels), (others, wanted) = kinds(500, noise=noise), kinds(500, noise=noise, seed=1)
        posterior = adapt(rows, 32, labels=labels).posteriors["code"]
        shares = posterior(others)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        assert abs(shares.max(axis=1).mean() - (shares.argmax(axis=1) == wanted).mean()) < 0.06
        sharpness.append(posterior.sharpness)
    assert sharpness[0] > sharpness[1]


@pytest.mark.parametrize("n", [3, 10, 50])
def test_few_images_are_filled_up_by_images_in_general(n: int) -> None:
    rows, _ = kinds(n)
    variances = np.linspace(4, 0.1, DIM)
    head = adapt(rows, LEVELS, general=variances)
    assert head.weight.shape == (DIM, 64)
    assert np.linalg.matrix_rank(head.weight[:, 16:]) == DIM  # alone, n images span n - 1 directions
    assert np.linalg.matrix_rank(adapt(rows, LEVELS).weight[:, 16:]) == min(n - 1, DIM)
    np.testing.assert_allclose(head.mean, rows.mean(axis=0) * n / (n + 10), rtol=1e-4)
    others, _ = kinds(50, seed=3)
    assert len(np.unique(head.codes(others), axis=0)) == 50
    around = averaged(head.own(rows), k=2)
    full = head.with_neighbourhoods(around, general=variances)
    assert np.linalg.matrix_rank(full.weight[:, :16]) == 16


def test_alone_images_that_are_all_alike_make_no_head() -> None:
    alike = np.ones((20, DIM), np.float32)
    with pytest.raises(ValueError, match="features must differ between images, got equal rows only"):
        adapt(alike, LEVELS)
    assert len(np.unique(adapt(alike, LEVELS, general=np.ones(DIM)).codes(alike), axis=0)) == 1


def test_equal_arguments_give_equal_heads() -> None:
    rows, labels = kinds(300)
    for options in (
        {},
        {"labels": labels},
        {"head": "lsh"},
        {"head": "pca-random"},
        {"general": np.ones(DIM), "levels": {"a": 8, "b": 400}},
    ):
        first, again, other = (adapt(rows, **{"levels": LEVELS, **options}, seed=seed).to_bytes() for seed in (3, 3, 4))
        assert first == again
        assert first != other


def test_codes_do_not_depend_on_how_many_are_made_at_once() -> None:
    rows, _ = kinds(400)
    head = adapt(rows, LEVELS)
    together = head.codes(rows)
    np.testing.assert_array_equal(together, np.concatenate([head.codes(row[None]) for row in rows]))
    assert head.codes(rows[:0]).shape == (0, 8)


def test_many_images_are_fitted_on_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = kinds(900)
    whole = adapt(rows, LEVELS)
    monkeypatch.setattr("pyhash.heads.adapting._ROWS", 300)
    monkeypatch.setattr("pyhash.heads.posterior._ROWS", 300)
    part = adapt(rows, LEVELS)
    assert part.fitted_on == 900
    np.testing.assert_array_equal(part.mean, whole.mean)
    assert not np.array_equal(part.weight, whole.weight)
    own = part.own(rows)
    agree = [
        np.corrcoef(hamming(one.codes(rows), one.codes(rows)).ravel(), (own @ own.T).ravel()) for one in (part, whole)
    ]
    assert abs(agree[0][0, 1] - agree[1][0, 1]) < 0.03
    labelled = adapt(rows, LEVELS, labels=labels)
    assert precision(-labelled.vectors(rows, "fine") @ labelled.vectors(rows, "fine").T, labels, labels) > 0.95


@pytest.mark.parametrize("labelled", [False, True])
def test_bytes_and_back(labelled: bool) -> None:
    rows, labels = kinds()
    head = adapt(rows, LEVELS, labels={"fine": labels} if labelled else None, neighbourhoods=averaged(unit(rows)))
    read = CollectionHead.from_bytes(head.to_bytes())
    assert read.to_bytes() == head.to_bytes()
    for name in ("levels", "made_of", "kinds", "fitted_on", "dim", "supervised"):
        assert getattr(read, name) == getattr(head, name)
    np.testing.assert_array_equal(read.codes(rows), head.codes(rows))
    for level in LEVELS:
        np.testing.assert_array_equal(read.vectors(rows, level), head.vectors(rows, level))
    assert repr(read) == repr(head)


def test_damaged_bytes_are_refused() -> None:
    head = adapt(kinds()[0], LEVELS)
    data = head.to_bytes()
    for place in (*range(0, 200, 7), len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(CorruptHeadError):
            CollectionHead.from_bytes(bytes(damaged))
    for length in (0, 10, 40, len(data) - 1):
        with pytest.raises(CorruptHeadError):
            CollectionHead.from_bytes(data[:length])
    with pytest.raises(CorruptHeadError, match="a head of version 2, and this version of pyhash reads 1: upgrade"):
        CollectionHead.from_bytes(data.replace(b"head\x01", b"head\x02"))
    senseless = dataclasses.replace(head, weight=head.weight[:, :5]).to_bytes()
    with pytest.raises(CorruptHeadError, match="a head that makes no sense"):
        CollectionHead.from_bytes(senseless)
    not_finite = dataclasses.replace(head, mean=head.mean * np.float32(np.nan)).to_bytes()
    with pytest.raises(CorruptHeadError, match="a head that makes no sense"):
        CollectionHead.from_bytes(not_finite)


def test_what_does_not_fit_is_refused() -> None:
    rows, labels = kinds()
    head = adapt(rows, LEVELS)
    with pytest.raises(ValueError, match=r"embeddings must be floats of shape \(n, 40\), .* got float32 \(200, 39\)"):
        head.codes(rows[:, 1:])
    with pytest.raises(ValueError, match="neighbourhoods must be one for each of 200 embeddings, got 3"):
        head.codes(rows, rows[:3])
    with pytest.raises(ValueError, match="level must be one of coarse, fine, got 'middle'"):
        head.vectors(rows, "middle")
    with pytest.raises(ValueError, match="level must be one of coarse, fine, got 'middle'"):
        head.with_neighbourhoods(rows, "middle")
    with pytest.raises(ValueError, match="labels must be of the levels coarse, fine, got middle"):
        adapt(rows, LEVELS, labels={"middle": labels})
    with pytest.raises(ValueError, match=r"labels of level 'fine' must have shape \(200,\)"):
        adapt(rows, LEVELS, labels={"fine": labels[1:]})
    with pytest.raises(ValueError, match=r"head must be one of hadamard-ridge, .*, lsh, got 'sign'"):
        adapt(rows, LEVELS, head="sign")
    with pytest.raises(ValueError, match="head 'laplacian' is for levels with labels: none is"):
        adapt(rows, LEVELS, head="laplacian")
    with pytest.raises(ValueError, match="head 'lsh' is for levels without labels: none is"):
        adapt(rows, LEVELS, labels=labels, head="lsh")
    with pytest.raises(ValueError, match=r"general must be 40 variances, one a dimension, got shape \(3,\)"):
        adapt(rows, LEVELS, general=np.ones(3))
    rows[7, 3] = np.nan
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity in row 7"):
        adapt(rows, LEVELS)


def test_kinds_of_heads_can_be_chosen() -> None:
    rows, labels = kinds()
    head = adapt(rows, LEVELS, labels={"coarse": labels}, head="laplacian")
    assert head.kinds == {"coarse": "laplacian", "fine": "pca-itq"}
    assert adapt(rows, LEVELS, labels={"coarse": labels}, head="lsh").kinds == {
        "coarse": "hadamard-ridge",
        "fine": "lsh",
    }
    assert head.affine().kind == "laplacian, pca-itq"
    unlabelled = head.with_neighbourhoods(averaged(head.own(rows)))
    assert unlabelled.kinds["coarse"] == "pca-itq"
    assert unlabelled.posteriors == {}
