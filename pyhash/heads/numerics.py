"""Numerics of fitting hash heads: the ridge regression onto classes, and lifting rotations.

Features are only ever read in blocks of rows (or columns) that are held in float64, one block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..support import one_blas_thread

Floats = NDArray[np.float64]

_BLOCK_BYTES = 1 << 25  # of features held in float64 at a time
_RIDGES = 10.0 ** np.arange(-7, 2.01, 0.25)  # relative to the mean eigenvalue of the scatter
_ROTATION_ROWS = 20_000  # rows that a rotation is fitted on: more do not change it visibly


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (rank,), largest first, and eigenvectors (dim, rank) of the weighted scatter X'DX."""

    values: Floats
    vectors: Floats


def spectrum(features: NDArray[Any], mean: Floats, row_weights: Floats) -> Spectrum:
    """Decompose the scatter about `mean` of features (n, dim), through XX' where n is the smaller.

    Raises
    ------
    ValueError
        When all rows are equal.
    """
    n, dim = features.shape
    roots = np.sqrt(row_weights)[:, None]
    gram = np.zeros((min(n, dim),) * 2)
    if dim <= n:
        for rows in blocks(n, dim):
            block = (features[rows] - mean) * roots[rows]
            gram += block.T @ block
    else:
        for columns in blocks(dim, n):
            block = (features[:, columns] - mean[columns]) * roots
            gram += block @ block.T
    with one_blas_thread():
        values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 1e-26 * n * (mean @ mean):
        raise ValueError("features must differ between images, got equal rows only")
    rank = int((values > 1e-10 * values[0]).sum())
    values, vectors = values[:rank], vectors[:, :rank]
    if dim > n:
        left, vectors = vectors / np.sqrt(values), np.empty((dim, rank))
        for columns in blocks(dim, n):
            vectors[columns] = ((features[:, columns] - mean[columns]) * roots).T @ left
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(rank)]
    return Spectrum(values, vectors * np.where(largest < 0, -1.0, 1.0))  # their signs are arbitrary: fix them


@dataclass(frozen=True)
class Regression:
    """Ridge regression of centred features onto the indicators of classes.

    Attributes
    ----------
    mean : (dim,)
    centred : (classes, dim)
        Means of the classes about `mean`.
    totals : (classes,)
        Weight of each class.
    spectrum : Spectrum
    ridge : float
        Relative to the mean eigenvalue.
    damped : (rank,)
        Eigenvalues plus the ridge.
    cross : (rank, classes)
        ``vectors' X'D Y`` for the indicators Y.
    """

    mean: Floats
    centred: Floats
    totals: Floats
    spectrum: Spectrum
    ridge: float
    damped: Floats
    cross: Floats


def regress(
    features: NDArray[Any],
    classes: Sequence[NDArray[np.intp]],
    row_weights: Floats,
    ridge: float | None,
    cache: dict[bytes, Spectrum],
) -> Regression:
    """Regress onto the classes of several labellings at once; `cache` keeps spectra by their row weights.

    Without a `ridge`, it is the one with the least generalised cross-validation error. The residual sum of squares is
    ``spread - sum_k |cross_k|^2 (v_k + 2r) / (v_k + r)^2``, with `spread` that of the indicators about their mean.
    """
    n = len(features)
    totals = [np.bincount(of_row, row_weights) for of_row in classes]
    means = [class_means(features, of_row, row_weights) for of_row in classes]
    mean = totals[0] @ means[0] / totals[0].sum()
    key = row_weights.tobytes()
    if key not in cache:
        cache[key] = spectrum(features, mean, row_weights)
    values, vectors = cache[key].values, cache[key].vectors
    every: Floats = np.concatenate(totals).astype(np.float64)
    centred = np.concatenate(means) - mean
    cross = vectors.T @ (centred.T * every)
    if ridge is None:
        energy = (cross**2).sum(axis=1)
        spread = (every - every**2 / n).sum()
        errors = []
        for relative in _RIDGES:
            damped = values + relative * values.mean()
            residual = spread - (energy * (2 * damped - values) / damped**2).sum()
            freedom = 1 - (1 + (values / damped).sum()) / n
            errors.append(residual / freedom**2 if freedom > 0 else np.inf)
        ridge = float(_RIDGES[int(np.argmin(errors))])
    return Regression(mean, centred, every, cache[key], ridge, values + ridge * values.mean(), cross)


def class_means(features: NDArray[Any], of_row: NDArray[np.intp], row_weights: Floats | None = None) -> Floats:
    """Mean of each class: shape (classes, dim); this is also where features are checked to be finite."""
    sums = np.zeros((int(of_row.max()) + 1, features.shape[1]))
    for rows in blocks(*features.shape):
        order = np.argsort(of_row[rows], kind="stable")
        present, starts = np.unique(of_row[rows][order], return_index=True)
        block = features[rows].astype(np.float64) if row_weights is None else features[rows] * row_weights[rows, None]
        check_finite(block, rows.start)
        sums[present] += np.add.reduceat(block[order], starts, axis=0)
    means: Floats = sums / np.bincount(of_row, row_weights)[:, None]
    return means


def lift(features: NDArray[Any], mean: Floats, directions: Floats, bits: int, iterations: int, seed: int) -> Floats:
    """A matrix with orthonormal rows, (directions, bits), random at first, then better by iterative quantization.

    See `pyhash.heads.pca_itq`.
    """
    rng = np.random.default_rng(seed)
    rank = directions.shape[1]
    with one_blas_thread():
        matrix = np.linalg.qr(rng.standard_normal((bits, bits)))[0][:rank]
    if not iterations:
        return matrix
    n = len(features)
    rows = np.arange(n) if n <= _ROTATION_ROWS else np.sort(rng.choice(n, _ROTATION_ROWS, replace=False))
    projected = np.empty((len(rows), rank), np.float32)
    for part in blocks(len(rows), features.shape[1]):
        projected[part] = (features[rows[part]] - mean) @ directions
    with one_blas_thread():
        for _ in range(iterations):
            signs = np.where(projected @ matrix.astype(np.float32) > 0, np.float32(1), np.float32(-1))
            left, _, right = np.linalg.svd((projected.T @ signs).astype(np.float64), full_matrices=False)
            matrix = left @ right
    return matrix


def check_finite(values: NDArray[Any], first_row: int = 0) -> None:
    """Refuse NaN and infinity in what comes from features."""
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = first_row + int(finite.argmin())
        raise ValueError(f"features must be finite, got NaN or infinity in row {row}")


def blocks(length: int, width: int) -> Iterator[slice]:
    """Slices of `length` such that a block of this width takes at most 32 MiB in float64."""
    step = max(1, _BLOCK_BYTES // (8 * width))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
