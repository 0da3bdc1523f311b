"""Candidates that were found by code, in a better order: by embeddings, or by a query's floats against codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..codes import LevelsLike, as_levels, check_codes
from ..index import Index
from .cosines import listed
from .neighbours import ask_for_candidates, check_places, check_same_width
from .vectors import Embeddings, Quantized, as_floats, as_quantized, as_rows

Ids = NDArray[np.int64]

_MAX_WEIGHT = 32767  # of a logit, as an integer: 65,536 of them sum to less than 2^31
_ONE = "embedding"


class Rescored(NamedTuple):
    """Candidates in a new order; what `rescore` and `rescore_codes` return."""

    similarities: NDArray[np.float64]
    """``(q, c)``, descending, or ``(c,)`` for one query; -inf where the id is -1."""
    ids: NDArray[np.int64]
    """The same shape: the ids that were given."""


def rescore(
    queries: Embeddings | Mapping[str, Embeddings],
    embeddings: Embeddings | Mapping[str, Embeddings],
    ids: ArrayLike,
    *,
    shares: Mapping[str, float] | None = None,
    own: str | None = None,
    threads: int | None = None,
) -> Rescored:
    """Order candidates by the cosine of int8 embeddings, or by a mix of several cosines.

    Parameters
    ----------
    queries : array_like of float, (q, dim) or (dim,), or Quantized, or a mapping of name to those
        What to compare with: one embedding a query, or several, by name, such as ``"own"`` and ``"neighbourhood"``.
    embeddings : array_like of float, (n, dim), or Quantized, or a mapping of the same names to those
        Of all rows. Give Quantized where there are many: floats are quantized at every call.
    ids : array_like of int, (q, c) or (c,)
        The candidates: rows of `embeddings`, as `Index.search` finds them where its ids are rows; -1 is none.
    shares : mapping of name to float, optional
        ``similarity = sum(share * cosine) / sum(share)``; by default all have the same share.
    own : str, optional
        Which one decides between equal similarities; by default the first.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    Rescored
        In the order (similarity descending, own similarity descending, id ascending): the same on every kernel.

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; it is named.

    Examples
    --------
    >>> import numpy as np, pyhash
    >>> embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> pyhash.rescore(np.array([0.6, 0.8]), embeddings, [0, 1, 2]).ids
    array([1, 2, 0])
    """
    several = _named(embeddings)
    asked = _named(queries)
    if asked.keys() != several.keys():
        raise ValueError(f"queries must have the names of embeddings, {list(several)}, got {list(asked)}")
    parts = _shares(shares, list(several))
    own = next(iter(several)) if own is None else own
    if own not in several:
        raise ValueError(f"own must be one of {list(several)}, got {own!r}")
    candidates, single = as_rows(ids, "ids"), np.ndim(ids) == 1
    n_threads = backend.threads(threads)
    cosines: dict[str, NDArray[np.float64]] = {}
    for name, share in parts.items():
        if not share and name != own:
            continue
        label = "" if isinstance(embeddings, Quantized) or not isinstance(embeddings, Mapping) else f"[{name!r}]"
        rows = as_quantized(several[name], f"embeddings{label}")
        some = as_quantized(as_rows(asked[name], "queries"), f"queries{label}")
        check_same_width(some.vectors, rows.vectors, f"queries{label}", f"embeddings{label}")
        places = check_places(candidates, "ids", (len(some.vectors), None), len(rows.vectors))
        if not cosines:
            ask_for_candidates(places, len(parts))
        cosines[name] = listed(some.vectors, rows.vectors, places, n_threads)
    total = sum(parts.values())
    mixed = np.zeros(places.shape)
    for name, share in parts.items():
        if share:
            mixed += share * cosines[name]
    return ordered(places, single, mixed / total, cosines[own])


def rescore_codes(
    queries: ArrayLike,
    codes: NDArray[np.uint8] | Index,
    ids: ArrayLike,
    *,
    levels: LevelsLike | None = None,
    shares: Mapping[str, float] | None = None,
    threads: int | None = None,
) -> Rescored:
    """Order candidates by a query's floats against their codes: needs no stored embeddings.

    The asymmetric distance of Gordo, Perronnin, Gong and Lazebnik ("Asymmetric distances for binary embeddings", TPAMI
    2014): the query keeps its logits, of which a code has the signs. The similarity is the cosine between the logits
    and the code's bits as +1 and -1. Logits are rounded to integers of 16 bits, so that sums are exact.

    Parameters
    ----------
    queries : array_like of float, (q, bits) or (bits,)
        Logits: what `pyhash.pack` makes codes of, with threshold 0.
    codes : uint8 array, (n, n_bytes), or Index
        Of all rows.
    ids : array_like of int, (q, c) or (c,)
        The candidates: rows of `codes`, or ids of the index; -1 is none.
    levels : Levels, mapping or int, optional
        How the code is divided; by default as the index has it, or one level.
    shares : mapping of level to float, optional
        ``similarity = sum(share * cosine at the level) / sum(share)``; by default the cosine of the whole code.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    Rescored
        In the order (similarity descending, id ascending): the same on every kernel.

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; it is named.
    KeyError
        When an id is not in the index.
    """
    logits = as_floats(as_rows(queries, "queries"), "queries")
    if levels is None:
        levels = codes.levels if isinstance(codes, Index) else logits.shape[1]
    cut = as_levels(levels)
    if logits.shape[1] != cut.bits:
        raise ValueError(f"queries must have {cut.bits} logits, one a bit, got {logits.shape[1]}")
    candidates, single = as_rows(ids, "ids"), np.ndim(ids) == 1
    if isinstance(codes, Index):
        given = check_places(candidates, "ids", (len(logits), None), 2**63 - 1)
        ask_for_candidates(given)
        known, places = np.unique(given, return_inverse=True)
        none = int(np.searchsorted(known, 0))  # how many of -1 there are: none or one
        rows, places = codes.codes(known[none:]), places.reshape(given.shape) - none
    else:
        rows = check_codes(codes, cut.bits, "codes")
        if rows.ndim != 2:
            raise ValueError(f"codes must have shape (n, n_bytes), got {rows.shape}")
        given = places = check_places(candidates, "ids", (len(logits), None), len(rows))
    parts = {"code": 1.0} if shares is None else _shares(shares, list(cut))
    n_threads = backend.threads(threads)
    ask_for_candidates(places)
    mixed = np.zeros(places.shape)
    for name, share in parts.items():
        if shares is None:
            mixed = _signed(logits, rows, places, n_threads)
        elif share:
            first = 8 * cut.byte_range(name).start
            part = np.ascontiguousarray(rows[:, cut.byte_range(name)])
            mixed += share * _signed(logits[:, first : first + cut[name]], part, places, n_threads)
    mixed /= sum(parts.values())
    mixed[given < 0] = -np.inf
    return ordered(given, single, mixed, mixed)


def _signed(logits: NDArray[np.float32], codes: NDArray[np.uint8], places: Ids, threads: int) -> NDArray[np.float64]:
    """Return the cosine of each query's logits, as integers, with the signs that the codes in its places stand for."""
    largest = np.abs(logits).max(axis=1, keepdims=True)
    weights = np.rint(logits / np.where(largest == 0, 1, largest) * _MAX_WEIGHT).astype(np.int16)
    sums = backend.active().signed_sums(weights, codes, places, threads)
    squares = np.square(weights, dtype=np.int64).sum(axis=1)
    lengths = np.sqrt(squares.astype(np.float64) * logits.shape[1])[:, None]
    cosines: NDArray[np.float64] = sums / np.where(lengths == 0, 1, lengths)
    return cosines


def ordered(ids: Ids, single: bool, similarities: NDArray[np.float64], own: NDArray[np.float64]) -> Rescored:
    """Return candidates in the order (similarity descending, own similarity descending, id ascending)."""
    order = np.lexsort((ids, -own, -similarities), axis=1)
    found = Rescored(np.take_along_axis(similarities, order, axis=1), np.take_along_axis(ids, order, axis=1))
    return Rescored(found.similarities[0], found.ids[0]) if single else found


def _named(embeddings: Embeddings | Mapping[str, Embeddings]) -> Mapping[str, Embeddings]:
    if not isinstance(embeddings, Mapping):
        return {_ONE: embeddings}
    if not embeddings:
        raise ValueError("embeddings must have at least one name, got an empty mapping")
    return embeddings


def _shares(shares: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    if shares is None:
        return dict.fromkeys(names, 1.0)
    for name, share in shares.items():
        if name not in names:
            raise ValueError(f"shares must name some of {names}, got {name!r}")
        if not 0 <= share < np.inf:
            raise ValueError(f"shares[{name!r}] must be at least 0, got {share!r}")
    if not any(shares.values()):
        raise ValueError(f"shares must have one above 0, got {dict(shares)}")
    return {name: float(shares.get(name, 0)) for name in names}
