"""Fusion: how the vectors of several taps of a network join, and a head on what they give together.

What is fitted, whitening and weights of the taps and the head, is affine, and is folded into one matrix and vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels, LevelsLike, as_levels
from ..errors import LabelError
from ..support import require
from .fitting import SUPERVISED, Kind, fit
from .head import Head
from .numerics import blocks as row_blocks
from .numerics import class_means

Floats = NDArray[np.floating[Any]]

_WHITENING_FLOOR = 1e-2  # of the mean eigenvalue: directions that hold less are noise, and are not blown up


def fit_fused(
    features: NDArray[np.float32],
    blocks: Mapping[str, slice],
    levels: LevelsLike,
    labels: Mapping[str, NDArray[Any]] | None,
    *,
    kind: Kind = "hadamard-ridge",
    weights: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    **options: Any,
) -> Head:
    """Fit what joins the taps and what makes bits of them.

    Each tap is centred. For the heads that use labels it is whitened too: all its directions get equal variance,
    except that those with less than a hundredth of the mean variance are damped; otherwise early taps are ruled by a
    few directions such as brightness. The heads that use no labels need the variances, which are all
    they go by, so there a tap is only scaled. Either way the mean squared length is 1, times the weight of the tap.
    Without labels and without ``weights``, a tap weighs as much as its vectors of unit length varied over the images.

    Parameters
    ----------
    features : float32 array, shape (n, dim)
        **Overwritten.**
    blocks : mapping of str to slice
        Which columns come from which tap, as `pyhash.networks.feature_blocks` says.
    levels : Levels, mapping or int
    labels : mapping of level to array of shape (n,), or None
        Of the finest level at least; the others are grouped from it, as for `build`.
    kind, seed, **options
        As for `pyhash.heads.fit`.
    weights : mapping of level to sequence of float, optional
        As for `build`.

    Returns
    -------
    Head
        Of the features as they are; its ``details`` hold the weights of the taps as ``taps``.
    """
    levels = as_levels(levels)
    check_weights(weights, levels, blocks)
    if kind == "sign":
        head = fit(kind, features, None, levels=levels, seed=seed, **options)
        return replace(head, details={level: {"taps": dict.fromkeys(blocks, 1.0)} for level in levels})
    supervised = kind in SUPERVISED
    mean, maps = _standardize(features, blocks, whiten=supervised)
    named = _group_classes(features, dict(labels), list(levels)) if labels else {}
    varied = np.array([1.0 if supervised else 1 / maps[tap][0, 0] for tap in blocks])  # what scaling took off
    chosen = {
        level: list(weights[level])
        if weights and level in weights
        else (_weigh(features, blocks, named[level]) if supervised else (varied / varied.max()).tolist())
        for level in levels
    }
    widths = [columns.stop - columns.start for columns in blocks.values()]
    weight, bias = np.zeros((features.shape[1], levels.bits)), np.zeros(levels.bits)
    rates = np.zeros(levels.bits, np.float32)
    details: dict[str, dict[str, Any]] = {}
    scale = np.ones(features.shape[1])
    for _, group in itertools.groupby(levels, key=chosen.__getitem__):  # those of equal weights share a decomposition
        alike = list(group)
        wanted = np.repeat(chosen[alike[0]], widths)
        read = wanted > 0
        factor = np.where(read, wanted / scale, 1).astype(np.float32)
        features *= factor
        scale *= factor
        part = features if read.all() else np.ascontiguousarray(features[:, read])
        given = {level: named[level] for level in alike} if supervised else None
        head = fit(kind, part, given, levels={level: levels[level] for level in alike}, seed=seed, **options)
        columns = slice(levels.bit_range(alike[0]).start, levels.bit_range(alike[-1]).stop)
        weight[np.flatnonzero(read), columns] = head.weight * wanted[read, None]
        bias[columns], rates[columns] = head.bias, head.rates
        details |= {level: head.details.get(level, {}) for level in alike}
    for level in levels:
        if named:
            details[level]["classes"] = len(np.unique(named[level]))
        details[level]["taps"] = dict(zip(blocks, map(float, chosen[level]), strict=True))
    for tap, matrix in maps.items():
        weight[blocks[tap]] = matrix @ weight[blocks[tap]]
    bias -= mean @ weight
    return Head(kind, weight.astype(np.float32), bias.astype(np.float32), levels, rates, supervised, details)


def check_weights(weights: Mapping[str, Sequence[float]] | None, levels: Levels, blocks: Mapping[str, slice]) -> None:
    """Refuse weights that are not one for each tap, for a level that there is."""
    for level, values in (weights or {}).items():
        if level not in levels:
            raise ValueError(f"weights must be for the levels {', '.join(levels)}, got {level!r}")
        if len(values) != len(blocks) or not all(0 <= value < np.inf for value in values) or not any(values):
            raise ValueError(
                f"weights of level {level!r} must be {len(blocks)} numbers of at least 0, not all 0, "
                f"for the taps {', '.join(blocks)}; got {list(values)}"
            )


def _standardize(
    features: NDArray[np.float32], blocks: Mapping[str, slice], *, whiten: bool
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Centre, whiten or scale each block in place; return the mean and the matrix of each block."""
    n = len(features)
    rows = list(row_blocks(*features.shape))
    mean = class_means(features, np.zeros(n, np.intp))[0]
    maps = {}
    for tap, columns in blocks.items():
        width = columns.stop - columns.start
        if whiten:
            scatter = np.zeros((width, width))
            for part in rows:
                centred = features[part, columns] - mean[columns]
                scatter += centred.T @ centred
            matrix, energy = _whitening(scatter / n, float(np.square(mean[columns]).max()))
        else:
            matrix = np.eye(width)
            energy = sum(float(np.square(features[part, columns] - mean[columns]).sum()) for part in rows) / n
        matrix /= np.sqrt(energy) if energy > 0 else 1.0
        for part in rows:
            features[part, columns] = (features[part, columns] - mean[columns]) @ matrix
        maps[tap] = matrix
    return mean, maps


def _whitening(covariance: Floats, square: float) -> tuple[NDArray[np.float64], float]:
    """Return a matrix W with W W' = (covariance + damping)^-1, and the variance that is left behind it.

    By Cholesky's factors instead of principal axes: another rotation of the same, and what follows does not mind
    rotations. A tap that does not vary beyond the rounding of its values, whose largest square is given, becomes 0.
    """
    width = len(covariance)
    variance = float(np.trace(covariance)) / width
    if variance <= np.finfo(np.float32).eps ** 2 * square:
        return np.zeros((width, width)), 0.0
    damping = _WHITENING_FLOOR * variance
    factor = np.linalg.cholesky(covariance + damping * np.eye(width))
    triangular = require("scipy.linalg", "graph").solve_triangular
    matrix: NDArray[np.float64] = triangular(factor, np.eye(width), lower=True, check_finite=False).T
    return matrix, width - damping * float(np.square(matrix).sum())


def _weigh(features: NDArray[np.float32], blocks: Mapping[str, slice], labels: NDArray[Any]) -> list[float]:
    """Return for each block the root of the share of its variance that lies between classes; the largest is 1.

    n images without any difference between their C classes still have a share of (C - 1) / n, which is taken off.
    """
    _, of_row, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    means = class_means(features, of_row)
    chance = (len(sizes) - 1) / len(features)
    between = sizes / sizes.sum() @ np.square(means)
    shares = np.array([between[columns].sum() for columns in blocks.values()])
    shares = np.maximum(shares - chance, 1e-3 * shares.max() + 1e-12)
    return [float(weight) for weight in np.sqrt(shares / shares.max())]


def _group_classes(
    features: NDArray[np.float32], named: dict[str, NDArray[Any]], levels: list[str]
) -> dict[str, NDArray[Any]]:
    """Give levels without labels groups of the next finer level's classes: about the root of their number."""
    if levels[-1] not in named:
        raise LabelError(f"labels must be given for the finest level, {levels[-1]!r}")
    for finer, level in zip(levels[:0:-1], levels[-2::-1], strict=True):
        if level not in named:
            hierarchy = require("scipy.cluster.hierarchy", "graph")
            names, of_row = np.unique(named[finer], return_inverse=True)
            groups = np.arange(len(names))
            if len(names) > 3:
                linkage = hierarchy.ward(class_means(features, of_row))
                groups = hierarchy.fcluster(linkage, max(2, round(len(names) ** 0.5)), "maxclust")
            named[level] = groups[of_row]
    return named
