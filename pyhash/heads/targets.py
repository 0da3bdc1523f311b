"""Target codes of classes: far apart, and no two bits split the classes alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
