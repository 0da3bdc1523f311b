"""Numerics of fitting hash heads: target codes, the ridge regression onto classes, and lifting rotations.

Features are only ever read in blocks of rows (or columns) that are held in float64, one block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLOCK_BYTES = 1 << 25  # of features held in float64 at a time
_RIDGES = 10.0 ** np.arange(-7, 2.01, 0.25)  # relative to the mean eigenvalue of the scatter
_ROTATION_ROWS = 20_000  # rows that a rotation is fitted on: more do not change it visibly


def target_codes(n_classes: int, bits: int, seed: int = 0) -> NDArray[np.int8]:
    """Codes of +1 and -1 for classes, far apart, in which no two bits split the classes alike.

    Up to ``2 * order`` classes, where `order` is the least order of a Hadamard matrix (Sylvester's or Paley's
    construction) that has `bits` columns: its rows with random signs, which differ in half of the bits, and for
    more classes than rows the negatives of rows too, which keeps the least distance at half of the bits, the
    most that so many codes can have (Plotkin, 1960); about half where `order` is more than `bits`. For still more
    classes: rows of Sylvester's matrix of the least order that has a row for each class, restricted to `bits` of
    its columns, which is a linear code; the columns are drawn at random and the rows taken greedily, each as far as
    can be from those before it. Every time the best of many draws is kept: the largest least distance, then the
    most even splits. A few classes may have hardly more splits than there are bits, so that no such rows have
    distinct columns; then the splits themselves are drawn.

    Parameters
    ----------
    n_classes : int
        At least 2, and at most ``2 ** bits``.
    bits : int
        From 1 to ``2 ** (n_classes - 1) - 1``, the number of ways to split the classes in two.
    seed : int

    Returns
    -------
    int8 array, shape (n_classes, bits)
        Rows are distinct; columns are distinct up to their sign, and none is constant.

    Raises
    ------
    ValueError
        When there are no such codes.
    """
    if n_classes < 2 or (n_classes - 1).bit_length() > bits:
        raise ValueError(f"n_classes must be from 2 to 2 ** bits for {bits} bits, got {n_classes}")
    if not 1 <= bits <= n_splits(n_classes):
        raise ValueError(f"bits must be from 1 to the {n_splits(n_classes)} splits of {n_classes} classes, got {bits}")
    rng = np.random.default_rng(seed)
    matrix = _hadamard_of_at_least(bits)
    few = n_classes <= 2 * len(matrix)
    draws = [_draw_rows(matrix, n_classes, bits, rng) if few else _draw_linear(n_classes, bits, rng)]
    if n_classes <= 16:
        draws.append(_draw_splits(n_classes, bits, rng))
    trials = int(np.clip(1e9 / (n_classes**2 * bits), 10, 300))
    for draw in draws:
        best, best_merit = None, (0, 0)
        for _, codes in zip(range(trials), draw, strict=False):
            unevenness = int(np.abs(codes.sum(axis=0, dtype=int)).max())
            if unevenness == n_classes or len(np.unique((codes * codes[0]).T, axis=0)) < bits:
                continue
            products = codes.astype(np.float32) @ codes.T.astype(np.float32)
            np.fill_diagonal(products, -bits)
            merit = (int(bits - products.max()) // 2, -unevenness)
            if merit[0] > 0 and (best is None or merit > best_merit):
                best, best_merit = codes, merit
        if best is not None:
            return best
    raise ValueError(f"found no codes of {bits} bits for {n_classes} classes whose bits all differ")


def n_splits(n_classes: int) -> int:
    """In how many ways classes can be split in two."""
    return (1 << (n_classes - 1)) - 1


def _hadamard_of_at_least(order: int) -> NDArray[np.int8]:
    while (matrix := hadamard(order)) is None:
        order += 1
    return matrix


def hadamard(order: int) -> NDArray[np.int8] | None:
    """A Hadamard matrix by Paley's first construction or Sylvester's doubling; None where neither gives one."""
    if order == 1:
        return np.ones((1, 1), np.int8)
    q = order - 1
    if q % 4 == 3 and all(q % factor for factor in range(2, int(q**0.5) + 1)):
        character = np.full(q, -1, np.int8)
        character[np.arange(1, q, dtype=np.int64) ** 2 % q] = 1
        character[0] = 0
        matrix = np.ones((order, order), np.int8)
        matrix[1:, 0] = -1
        matrix[1:, 1:] = character[(np.arange(q)[:, None] - np.arange(q)) % q] + np.eye(q, dtype=np.int8)
        return matrix
    half = hadamard(order // 2) if order % 2 == 0 else None
    return None if half is None else np.block([[half, half], [half, -half]])


def _draw_rows(
    matrix: NDArray[np.int8], n_classes: int, bits: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int8]]:
    order = len(matrix)
    while True:
        signed = rng.permutation(matrix) * rng.choice(np.array([-1, 1], np.int8), (order, 1))
        rows = np.concatenate([signed, -signed])[:n_classes]
        yield rows[:, rng.permutation(order)[:bits]]


def _draw_linear(n_classes: int, bits: int, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    n_words = 1 << (n_classes - 1).bit_length()
    words = np.arange(n_words)
    while True:
        columns = rng.choice(n_words - 1, bits, replace=False) + 1
        ones = (np.bitwise_count(words[:, None] & columns) & 1).astype(np.int8)
        weights = ones.sum(axis=1, dtype=int)  # words i and j are weights[i ^ j] apart
        taken = [0]
        nearest = weights + rng.random(n_words) / 2
        while len(taken) < n_classes:
            nearest[taken[-1]] = -1
            taken.append(int(nearest.argmax()))
            nearest = np.minimum(nearest, weights[words ^ taken[-1]] + rng.random(n_words) / 2)
        yield 1 - 2 * ones[taken]


def _draw_splits(n_classes: int, bits: int, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    while True:
        splits = rng.choice(n_splits(n_classes), bits, replace=False) + 1
        yield 1 - 2 * (splits >> np.arange(n_classes)[:, None] & 1).astype(np.int8)


def assign(codes: NDArray[np.int8], similarity: Floats) -> NDArray[np.int8]:
    """Give the codes to the classes so that similar classes get near codes.

    Maximises ``sum_ij similarity_ij <code_i, code_j>`` over permutations by steepest ascent in swaps: a quadratic
    assignment problem, of which a local optimum is enough. Codes that are all equally far apart stay as they are.

    Parameters
    ----------
    codes : int8 array, shape (classes, bits)
    similarity : float64 array, shape (classes, classes)
        Symmetric.

    Returns
    -------
    int8 array, shape (classes, bits)
        The rows of `codes` in another order.
    """
    n_classes = len(codes)
    order = np.arange(n_classes)
    products = codes.astype(np.float64) @ codes.T.astype(np.float64)
    gains = similarity @ products
    own = np.diag(similarity)
    curvature = own[:, None] + own - 2 * similarity
    for _ in range(int(np.clip(1e9 / n_classes**2, 50, 10 * n_classes))):
        diagonal = np.diag(gains)
        change = gains + gains.T - diagonal[:, None] - diagonal
        change += curvature * (np.diag(products)[:, None] - products)
        i, j = np.unravel_index(change.argmax(), change.shape)
        if change[i, j] <= 1e-9 * np.abs(gains).max():
            break
        gains += np.outer(similarity[:, i] - similarity[:, j], products[j] - products[i])
        swap = np.arange(n_classes)
        swap[[i, j]] = j, i
        gains = gains[:, swap]
        products = products[np.ix_(swap, swap)]
        order = order[swap]
    return codes[order]


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
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 1e-26 * n * (mean @ mean):
        raise ValueError("features must differ between pictures, got equal rows only")
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


def class_means(features: NDArray[Any], of_row: NDArray[np.intp], row_weights: Floats) -> Floats:
    """Weighted mean of each class: shape (classes, dim); this is also where features are checked to be finite."""
    sums = np.zeros((int(of_row.max()) + 1, features.shape[1]))
    for rows in blocks(*features.shape):
        order = np.argsort(of_row[rows], kind="stable")
        present, starts = np.unique(of_row[rows][order], return_index=True)
        block = features[rows] * row_weights[rows, None]
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
    matrix = np.linalg.qr(rng.standard_normal((bits, bits)))[0][:rank]
    if not iterations:
        return matrix
    n = len(features)
    rows = np.arange(n) if n <= _ROTATION_ROWS else np.sort(rng.choice(n, _ROTATION_ROWS, replace=False))
    projected = np.empty((len(rows), rank), np.float32)
    for part in blocks(len(rows), features.shape[1]):
        projected[part] = (features[rows[part]] - mean) @ directions
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
