"""Target codes of classes: far apart, and no two bits split the classes alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROWS = 1024  # of codes whose distances to all others are held at a time
_CANDIDATES = 64  # words of which the one that makes splits most uneven is left out


def target_codes(n_classes: int, bits: int, seed: int = 0) -> NDArray[np.int8]:
    """Codes of +1 and -1 for classes, far apart, in which no two bits split the classes alike.

    Up to ``2 * order`` classes, where `order` is the least order of a Hadamard matrix (Sylvester's or Paley's
    construction) that has `bits` columns: its rows, which differ in half of the bits, and for more classes than rows
    the negatives of rows too, which keeps the least distance at half of the bits, the most that so many codes can have
    (Plotkin, 1960); about half where `order` is more than `bits`. For still more classes: words of a binary linear
    code whose generator gets one column after another, each the one that leaves the fewest words of small weight.
    A few classes may have hardly more splits than there are bits, so that no such rows have distinct columns; then the
    splits themselves are drawn.

    What is left to chance is drawn several times, until the least distance is as large as any codes can have
    (`distance_bound`) and all splits are even, or nothing better has come for a while. The best is kept: the largest
    least distance, then the most even splits.

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
    perfect = distance_bound(n_classes, bits), -(n_classes % 2)
    patience = 50 if few else 4
    for draw in draws:
        best, best_merit, failures = None, (0, 0), 0
        for codes in draw:
            merit = _merit(codes)
            if merit > best_merit:
                best, best_merit, failures = codes, merit, 0
            else:
                failures += 1
            if best_merit >= perfect or failures >= patience:
                break
        if best is not None:
            return best
    raise ValueError(f"found no codes of {bits} bits for {n_classes} classes whose bits all differ")


def distance_bound(n_codes: int, bits: int) -> int:
    """Return a bound that the least distance of so many codes cannot exceed.

    Plotkin's: a bit tells at most ``floor(n / 2) * ceil(n / 2)`` pairs apart, and the least distance is at most the
    mean one. It holds for those codes too, at least half of all, that agree in the first bit, and so on for more bits.
    """
    bounds = []
    while n_codes > 1 and bits > 0:
        pairs_apart = (n_codes // 2) * ((n_codes + 1) // 2)
        bounds.append(bits * pairs_apart * 2 // (n_codes * (n_codes - 1)))
        n_codes, bits = (n_codes + 1) // 2, bits - 1
    return min(bounds)


def _merit(codes: NDArray[np.int8]) -> tuple[int, int]:
    """Return the least distance and how even the splits are; (0, 0) where two bits are alike or one is constant."""
    n_classes, bits = codes.shape
    unevenness = int(np.abs(codes.sum(axis=0, dtype=int)).max())
    splits = np.packbits(codes[0][:, None] == codes.T, axis=1)
    if unevenness == n_classes or len({split.tobytes() for split in splits}) < bits:
        return 0, 0
    nearest = -bits
    for start in range(0, n_classes, _ROWS):
        products = codes[start : start + _ROWS].astype(np.float32) @ codes.T.astype(np.float32)
        np.fill_diagonal(products[:, start:], -bits)
        nearest = max(nearest, int(products.max()))
    return ((bits - nearest) // 2, -unevenness) if nearest < bits else (0, 0)


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
    """Yield rows of a Hadamard matrix, and negatives of the first where there are more classes than rows."""
    order = len(matrix)
    while True:
        rows = rng.permutation(matrix)[:, rng.permutation(order)[:bits]]
        twice = max(0, n_classes - order)  # a row and its negative keep all splits even
        single = _signed(rows[twice:][: n_classes - 2 * twice])
        yield np.concatenate([rows[:twice], -rows[:twice], single])


def _signed(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """Choose the sign of each row so that every column's sum stays small."""
    signed, total = rows.copy(), np.zeros(rows.shape[1], int)
    for row in signed:
        if (total**3 @ row) > 0:  # of the sum of fourth powers: what is large already weighs most
            row *= -1
        total += row
    return signed


def _draw_linear(n_classes: int, bits: int, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    """Yield words of a linear code that has at least one for each class.

    More than half of its words are used. As each word w of least weight pairs all others, x with x + w, some pair is
    among the used: no choice of words raises the least distance, and so they are chosen for even splits.
    """
    n_words = 1 << (n_classes - 1).bit_length()
    words = np.arange(n_words)
    while True:
        columns = _generator(n_words, bits, rng)
        codes = 1 - 2 * (np.bitwise_count(words[:, None] & columns) & 1).astype(np.int8)
        total = np.zeros(bits, np.float32)
        for n_kept in range(n_words, n_classes, -1):
            candidates = rng.integers(n_kept, size=_CANDIDATES)
            worst = candidates[(codes[candidates] @ total).argmax()]
            total -= codes[worst]
            codes[worst] = codes[n_kept - 1]
        yield codes[:n_classes]


def _generator(n_words: int, bits: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Columns of the generator of a linear code, distinct and not 0, chosen one by one so that its words weigh much.

    Column c adds 1 to the weight of the words w whose common ones with c are odd in number. With each word counting
    ``exp(-weight)``, the best column is where the Walsh-Hadamard transform of the counts is least. After the last one,
    each column is taken back once or twice and chosen again.
    """
    words = np.arange(n_words)
    weights, free = np.zeros(n_words), np.ones(n_words, bool)
    free[0] = False
    columns = np.zeros(bits, np.int64)
    for turn in range(3 * bits):
        place = turn if turn < bits else int(rng.integers(bits))
        if turn >= bits:
            free[columns[place]] = True
            weights -= np.bitwise_count(words & columns[place]) & 1
        counts = np.exp(weights[1:].min() - weights)
        counts[0] = 0
        merits = _walsh_hadamard(counts) + 1e-9 * counts.sum() * rng.random(n_words)  # ties by lot
        columns[place] = column = np.flatnonzero(free)[merits[free].argmin()]
        free[column] = False
        weights += np.bitwise_count(words & column) & 1
    return columns


def _walsh_hadamard(values: Floats) -> Floats:
    half = 1
    while half < len(values):
        pairs = values.reshape(-1, 2, half)
        values = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    return values


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
