"""Tie-aware metrics of one ranking, from its histograms alone: how many items, and relevant ones, lie at each distance.

Arrays have one row a query and one column a distance, or a group of tied items in general; `seen` and `found` are the
running sums of `everything` and `hits`. See `pyhash.evaluate` for definitions and sources.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Tables:
    """Sums over ranks, indexed by how many ranks."""

    def __init__(self, n: int) -> None:
        ranks = np.arange(1, n + 1, dtype=np.float64)
        self.harmonic = np.concatenate([[0.0], np.cumsum(1 / ranks)])
        self.discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(1 + ranks))])
        self.log_factorial = np.concatenate([[0.0], np.cumsum(np.log(ranks))])


def mean_average_precision(distances: NDArray[Any], relevant: NDArray[np.bool_]) -> float:
    """Mean average precision of rankings by distance, the mean over all orders of what is equally far.

    Parameters
    ----------
    distances : array of integers, shape (q, n)
        Of each query to each item, at least 0.
    relevant : bool array, shape (q, n)
        Which items are right for each query; a query without any counts 0.

    Returns
    -------
    float

    See Also
    --------
    pyhash.evaluate : This and more, of codes and labels.

    Examples
    --------
    >>> mean_average_precision(np.array([[0, 0, 1]]), np.array([[False, True, False]]))  # rank 1 or 2
    0.75
    """
    width = int(distances.max()) + 1
    everything, hits = (
        np.stack([np.bincount(row[kept], minlength=width) for row, kept in zip(distances, rows, strict=True)])
        for rows in (np.ones_like(relevant), relevant)
    )
    sums = binary(everything, hits, [], 0, "retrieved", np.array([1]), Tables(distances.shape[1]))
    return float(sums["mAP"]) / len(distances)


def binary(
    everything: Ints,
    hits: Ints,
    cuts: list[int],
    radius: int | None,
    truncation: str,
    ranks: Ints,
    tables: Tables,
) -> dict[str, Any]:
    """The metrics of one ranking and one label level, summed over the queries (the rows)."""
    seen, found = everything.cumsum(axis=1), hits.cumsum(axis=1)
    possible = np.maximum(found[:, -1], 1)
    whole = _precision_sums(everything, hits, seen, found, everything, tables)
    sums = {"mAP": (whole.sum(axis=1) / possible).sum()}
    for k in cuts:
        if truncation == "possible":
            taken = np.clip(k - (seen - everything), 0, everything)
            cut = _precision_sums(everything, hits, seen, found, taken, tables).sum(axis=1)
            sums[f"mAP@{k}"] = (cut / np.minimum(possible, k)).sum()
        else:
            sums[f"mAP@{k}"] = _over_retrieved(everything, hits, seen, found, whole, k, tables).sum()
    points = np.concatenate([np.array(cuts, np.int64), ranks])
    expected = np.stack([_at(points, *pair) for pair in zip(seen, found, strict=True)])
    precision, recall = (expected / points).sum(axis=0), (expected / possible[:, None]).sum(axis=0)
    sums |= {f"P@{k}": value for k, value in zip(cuts, precision, strict=False)}
    sums |= {f"R@{k}": value for k, value in zip(cuts, recall, strict=False)}
    if radius is not None:
        ball = min(radius, everything.shape[1] - 1)
        sums[f"P@r<={radius}"] = (found[:, ball] / np.maximum(seen[:, ball], 1)).sum()
        sums[f"empty@r<={radius}"] = (seen[:, ball] == 0).sum()
    return sums | {"precision": precision[len(cuts) :], "recall": recall[len(cuts) :]}


def _at(ranks: Ints, seen: Ints, amount: Ints) -> Floats:
    """Expected amount among the first `ranks` items: within ties it grows linearly."""
    expected: Floats = np.interp(ranks, np.concatenate([[0], seen]), np.concatenate([[0], amount]))
    return expected


def _precision_sums(everything: Ints, hits: Ints, seen: Ints, found: Ints, taken: Ints, tables: Tables) -> Floats:
    """Expected sum of precision at the ranks of relevant items, over the first `taken` places of each group of ties.

    In a group of n items, r of them relevant, that follows N items with F relevant ones, place i holds a relevant item
    with probability r/n, and then (i-1)(r-1)/(n-1) relevant ones are expected before it in the group. The sum over i of
    r/n * (F + 1 + (i-1)(r-1)/(n-1)) / (N+i) needs only harmonic numbers.
    """
    before, found_before = seen - everything, found - hits
    harmonic = tables.harmonic[before + taken] - tables.harmonic[before]
    others = (hits - 1) / np.maximum(everything - 1, 1) * (taken - (before + 1) * harmonic)
    sums: Floats = hits / np.maximum(everything, 1) * ((found_before + 1) * harmonic + others)
    return sums


def _over_retrieved(
    everything: Ints, hits: Ints, seen: Ints, found: Ints, whole: Floats, k: int, tables: Tables
) -> Floats:
    """Expected average precision of the first k items over the number of relevant ones among them: shape (rows,).

    Only the group of ties that rank k cuts is random. How many relevant items it puts into the first k places is
    hypergeometric, and given that number their places are uniform, so the ratio is averaged over the number.
    """
    rows = np.arange(len(seen))
    group = np.minimum((seen < k).sum(axis=1), seen.shape[1] - 1)  # of the last item taken

    def column(values: NDArray[Any]) -> NDArray[Any]:
        taken: NDArray[Any] = values[rows, group][:, None]
        return taken

    n, r = column(everything), column(hits)
    before, found_before = column(seen) - n, column(found) - r
    m = np.minimum(k - before, n)
    # The number lies within t of its mean but for a chance below 2 exp(-2 t^2 / m) (Hoeffding, 1963): 1e-31 for this t.
    mean, t = m * r / np.maximum(n, 1), 6 * np.sqrt(m)
    least = np.maximum(np.maximum(0, m - (n - r)), np.floor(mean - t)).astype(np.int64)
    most = np.minimum(np.minimum(r, m), np.ceil(mean + t)).astype(np.int64)
    steps = np.arange(int((most - least).max()) + 1)
    j = np.minimum(least + steps, most)
    factorial = tables.log_factorial
    log_chance = -(factorial[j] + factorial[r - j] + factorial[m - j] + factorial[n - r - m + j])
    chance = np.exp(log_chance - log_chance.max(axis=1, keepdims=True)) * (steps <= most - least)
    harmonic = tables.harmonic[before + m] - tables.harmonic[before]
    others = (j - 1) / np.maximum(m - 1, 1) * (m - (before + 1) * harmonic)
    sums = column(whole.cumsum(axis=1) - whole) + j / np.maximum(m, 1) * ((found_before + 1) * harmonic + others)
    ratios = sums / np.maximum(found_before + j, 1)
    mean_ratio: Floats = (chance * ratios).sum(axis=1) / chance.sum(axis=1)
    return mean_ratio


def graded(everything: Ints, gains: Ints, agreement: Ints, cuts: list[int], tables: Tables) -> dict[str, Any]:
    """nDCG@k and mAHP@k of one ranking, summed over the queries (the rows)."""
    seen, gained = everything.cumsum(axis=1), gains.cumsum(axis=1)
    best_groups = agreement[:, ::-1]  # the best order: most levels first
    best_gains = best_groups * np.arange(agreement.shape[1])[::-1]
    best_seen, best_gained = best_groups.cumsum(axis=1), best_gains.cumsum(axis=1)
    sums: dict[str, Any] = {}
    for k in cuts:
        gain = _discounted(everything, gains, seen, k, tables)
        best = _discounted(best_groups, best_gains, best_seen, k, tables)
        sums[f"nDCG@{k}"] = (gain / np.where(best > 0, best, 1)).sum()
    ranks = np.arange(1, cuts[-1] + 1)
    curve = np.zeros(len(ranks))
    for row in range(len(seen)):
        best = _at(ranks, best_seen[row], best_gained[row])
        curve += _at(ranks, seen[row], gained[row]) / np.where(best > 0, best, 1)
    areas = curve.cumsum() / ranks
    return sums | {f"mAHP@{k}": areas[k - 1] for k in cuts}


def _discounted(sizes: Ints, gains: Ints, seen: Ints, k: int, tables: Tables) -> Floats:
    """Expected discounted cumulative gain of the first k items: every item of a group of ties has its mean gain."""
    ends = np.minimum(seen, k)
    discounts = tables.discount[ends] - tables.discount[np.minimum(seen - sizes, k)]
    total: Floats = (gains / np.maximum(sizes, 1) * discounts).sum(axis=1)
    return total
