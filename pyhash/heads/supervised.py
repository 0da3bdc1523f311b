"""Heads fitted with labels: of images that show the same class the codes are near."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels, LevelsLike, as_levels
from ..labels import Labels, as_labels
from ..support import one_blas_thread
from . import numerics
from .head import Head, as_features, fitted
from .numerics import Floats
from .targets import assign, n_splits, target_codes

_MARGIN = 0.75  # how far the thresholds of a repeated split spread, in half distances between its two groups


def hadamard_ridge(
    features: NDArray[Any],
    labels: Labels,
    levels: LevelsLike,
    *,
    ridge: float | None = None,
    balance: bool = True,
    seed: int = 0,
) -> Head:
    """Supervised: regress the features onto codes of their classes that lie as far apart as can be.

    Each class gets a target code from a Hadamard matrix (`target_codes`), as in central similarity quantization (Yuan
    et al., CVPR 2020) and Hadamard codebook learning (Lin et al., ACM MM 2018). The map to the targets is ridge
    regression, ``W = (X'DX + rI)^-1 X'DT``: T holds the target of each image and the diagonal D its weight; with
    `balance` all classes weigh the same. The strength r is the one of a grid with the least generalised
    cross-validation error of the regression onto class indicators, ``RSS(r) / (1 - df(r)/n)^2`` (Golub, Heath and
    Wahba, Technometrics 1979), which is free once X'DX is decomposed. The threshold of a bit is midway between the
    mean logits of its two groups of classes.

    With more classes than bits the codes cannot all be equally far apart; then classes that the regression confuses
    get near ones, which matters much for the ranking. There `laplacian` tends to retrieve better still.

    C classes can be split in two in ``2^(C-1) - 1`` ways only. A level with more bits repeats splits with other
    thresholds, spread evenly between the two groups: Hamming distance then also says how sure an image's side is.

    Parameters
    ----------
    features, levels, seed
        See the module.
    labels : array or mapping of level to array, each of shape (n,)
        Those of each level; a bare array does for a code of one level.
    ridge : float, optional
        The strength r relative to the mean of the eigenvalues of X'DX that are not 0; None chooses it.
    balance : bool
        Whether every class weighs the same, whatever its size.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the levels of labels and code differ, a level has one class or too few bits for its classes, there are too
        few images, or features are not finite.
    """
    features, levels = as_features(features), as_levels(levels)
    named = _labels_of_levels(labels, levels, len(features))
    _check_ridge(ridge)
    spectra: dict[bytes, numerics.Spectrum] = {}
    weights, biases, details = [], [], {}
    for number, (level, bits) in enumerate(levels.items()):
        of_row, n_classes = _classes(level, named[level])
        if (n_classes - 1).bit_length() > bits:
            raise ValueError(f"level {level!r} must have enough bits to tell its {n_classes} classes apart, got {bits}")
        fit = numerics.regress(features, [of_row], _row_weights(of_row, balance), ridge, spectra)
        solution = fit.cross / fit.damped[:, None]
        distinct = min(bits, n_splits(n_classes))
        codes = target_codes(n_classes, distinct, seed + number)
        if n_classes > bits:
            codes = assign(codes, (fit.cross / fit.totals).T @ solution / fit.totals)
        weight = fit.spectrum.vectors @ (solution @ codes)
        scores, ones = fit.centred @ weight, codes > 0
        high = np.where(ones, scores, 0).sum(axis=0) / ones.sum(axis=0)
        low = np.where(ones, 0, scores).sum(axis=0) / (~ones).sum(axis=0)
        column, offset = _repeated(distinct, bits)
        weights.append(weight[:, column])
        biases.append(-fit.mean @ weights[-1] - ((high + low) / 2)[column] - offset * ((high - low) / 2)[column])
        details[level] = {"classes": n_classes, "splits": distinct, "ridge": fit.ridge}
    return fitted("hadamard-ridge", features, levels, weights, biases, details, supervised=True)


def laplacian(
    features: NDArray[Any],
    labels: Labels,
    levels: LevelsLike,
    *,
    ridge: float | None = None,
    balance: bool = True,
    rotation: Literal["itq", "random"] = "itq",
    seed: int = 0,
) -> Head:
    """Supervised: keep similar images close, the objective of Laplacian eigenmaps, solved under its constraints.

    ``min over h of sum_ij s_ij |h(x_i) - h(x_j)|^2 + r |h|^2`` for ``h(x) = W'x`` is least at W = 0. As in spectral
    hashing (Weiss, Torralba and Fergus, NeurIPS 2008) and locality preserving projections (He and Niyogi, NeurIPS
    2003) the outputs must therefore be balanced, ``sum_i h(x_i) = 0`` (X is centred), and decorrelated with unit
    variance, ``W'X'XW = nI``, where r is added to X'X so that it can be inverted: ``W'(X'X + rI)W = nI``. With L the
    Laplacian of S this is the generalised eigenproblem ``X'LX w = m (X'X + rI) w``, the smallest m first.

    The similarity of two images is ``1/n_c`` where both have class c and 0 elsewhere, summed over the labellings
    given. Every labelling gives S row sums of one, so X'LX is X'X, once for each, minus the scatter B of the class
    means, and the directions are those of the largest ``w'Bw / w'(X'X + rI)w``: for one labelling exactly linear
    discriminant analysis. `balance` weighs every class the same, as equal priors do there: X'X and B are
    then of weighted images. The strength r is chosen
    as for `hadamard_ridge`: the regression onto class indicators spans the same directions (Hastie, Buja and
    Tibshirani, Annals of Statistics 1995).

    B has rank C - 1 at most (C: classes, or combinations of labels), so **at most C - 1 directions are useful**,
    whatever the number of bits. They are weighted by their canonical correlation, so that a direction which hardly
    separates the classes hardly matters, and lifted to the level's bits by a matrix with orthonormal rows: the
    rotation that `pca_itq` describes, or a random one, which retrieves clearly worse. The lifted bits are no longer
    uncorrelated. With a single direction (two classes) the bits are thresholds along it, as in `hadamard_ridge`.

    Parameters
    ----------
    features, levels, seed
        See the module.
    labels : array or mapping of name to array, each of shape (n,)
        A code of several levels uses for each level its own labels. A code of one level uses all the labels there
        are, whatever their names: the similarities are summed. Give the finest last: `balance` goes by it.
    ridge : float, optional
        The strength r relative to the mean of the eigenvalues of X'X that are not 0; None chooses it.
    balance : bool
        Whether every class weighs the same, whatever its size.
    rotation : {"itq", "random"}

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the levels of labels and code differ, there is one class only, there are too few images, or features are
        not finite.
    """
    features, levels = as_features(features), as_levels(levels)
    if rotation not in ("itq", "random"):
        raise ValueError(f"rotation must be 'itq' or 'random', got {rotation!r}")
    _check_ridge(ridge)
    if len(levels) > 1:
        named = _labels_of_levels(labels, levels, len(features))
        used = {level: [level] for level in levels}
    else:
        named = as_labels("labels", labels, len(features), next(iter(levels)))
        used = {level: list(named) for level in levels}
    spectra: dict[bytes, numerics.Spectrum] = {}
    weights, biases, details = [], [], {}
    for number, (level, bits) in enumerate(levels.items()):
        classes = [_classes(name, named[name])[0] for name in used[level]]
        fit = numerics.regress(features, classes, _row_weights(classes[-1], balance), ridge, spectra)
        root = np.sqrt(fit.damped)[:, None]
        with one_blas_thread():
            basis, correlations, _ = np.linalg.svd(fit.cross / np.sqrt(fit.totals) / root, full_matrices=False)
        rank = min(bits, int((correlations > 1e-6 * correlations[0]).sum()))
        directions = fit.spectrum.vectors @ (basis[:, :rank] / root) * np.sqrt(len(features)) * correlations[:rank]
        if rank == 1:
            scores = fit.centred @ directions[:, 0]
            middle, half = (scores.max() + scores.min()) / 2, (scores.max() - scores.min()) / 2
            weights.append(np.repeat(directions, bits, axis=1))
            biases.append(-fit.mean @ weights[-1] - middle - half * _repeated(1, bits)[1])
        else:
            iterations = 50 if rotation == "itq" else 0
            lift = numerics.lift(features, fit.mean, directions, bits, iterations, seed + number)
            weights.append(directions @ lift)
            biases.append(-fit.mean @ weights[-1])
        details[level] = {"labels": used[level], "directions": rank, "ridge": fit.ridge}
    return fitted("laplacian", features, levels, weights, biases, details, supervised=True)


def _labels_of_levels(labels: Labels, levels: Levels, n: int) -> dict[str, NDArray[Any]]:
    if len(levels) > 1 and not isinstance(labels, Mapping):
        raise ValueError(f"labels must be a mapping with the levels {list(levels)}, got {type(labels).__name__}")
    named = as_labels("labels", labels, n, next(iter(levels)))
    if set(named) != set(levels):
        raise ValueError(f"labels must have the levels {list(levels)}, got {list(named)}")
    return named


def _repeated(distinct: int, bits: int) -> tuple[NDArray[np.intp], Floats]:
    """Which distinct split each bit uses, and where between its two groups (-1 to 1) its threshold lies."""
    column = np.arange(bits) % distinct
    copies = np.bincount(column)[column]
    return column, _MARGIN * ((2 * (np.arange(bits) // distinct) + 1) / copies - 1)


def _classes(level: str, labels: NDArray[Any]) -> tuple[NDArray[np.intp], int]:
    """The class of each image as an integer, and how many classes there are."""
    values, of_row = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(f"labels of level {level!r} must have at least 2 classes, got only {values[0].item()!r}")
    if len(of_row) <= len(values):
        raise ValueError(f"labels of level {level!r} must repeat: {len(of_row)} images have {len(values)} classes")
    return of_row.astype(np.intp), len(values)


def _row_weights(of_row: NDArray[np.intp], balance: bool) -> Floats:
    """Weight of each image; they sum to the number of images."""
    sizes = np.bincount(of_row)
    return (len(of_row) / len(sizes) / sizes)[of_row] if balance else np.ones(len(of_row))


def _check_ridge(ridge: float | None) -> None:
    if ridge is not None and not 0 <= ridge < np.inf:
        raise ValueError(f"ridge must be at least 0 and finite, got {ridge}")
