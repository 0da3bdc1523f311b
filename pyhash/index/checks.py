"""Checks of arguments that several methods of an index take."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import as_array, check_int
from ..support import machine
from .segment import Ids

MAX_ID = 2**63 - 1


def check_room(k: int, n_queries: int) -> None:
    """Raise MemoryError when answers of k entries cannot fit."""
    if 48 * k * n_queries > machine.available_memory():
        gigabytes = 12 * k * n_queries / 1e9
        raise MemoryError(
            f"k must be smaller: {k} answers to each of {n_queries} queries take {gigabytes:,.0f} GB, more than is left"
        )


def too_many(radius: int) -> MemoryError:
    """Return the error for a radius that brings more than memory holds."""
    return MemoryError(f"radius must be smaller: more lies within {radius} than fits in memory")


def check_ids(ids: ArrayLike, name: str) -> Ids:
    """Return ids as int64 `(n,)`; a single id as one entry."""
    array = np.atleast_1d(as_array(ids, name))
    if array.size == 0 and array.dtype == np.float64:  # what NumPy makes of an empty list
        array = array.astype(np.int64)
    if array.dtype == np.object_:  # what NumPy makes of integers that fit in no type of its own
        for id in array.flat:
            if type(id) is int:
                check_int(id, name, -MAX_ID - 1, MAX_ID)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got {array.ndim}-D")
    if array.dtype.kind == "u" and array.size:
        check_int(array.max(), name, maximum=MAX_ID)
    return array.astype(np.int64)


def check_where(where: ArrayLike, n_codes: int) -> NDArray[np.bool_] | Ids:
    """Return which codes are allowed: ids, or a mask of so many."""
    allowed = as_array(where, "where")
    if allowed.ndim != 1:
        raise ValueError(f"where must be 1-D, got {allowed.ndim}-D")
    if allowed.dtype != np.bool_:
        return check_ids(allowed, "where")
    if len(allowed) != n_codes:
        raise ValueError(f"where, as a mask, must have one entry a code: {n_codes}, got {len(allowed)}")
    return allowed


def check_unique(ids: Ids) -> NDArray[np.intp] | None:
    """Return the order in which ids ascend, None where they do as they are; ValueError when one is there twice."""
    if np.all(ids[1:] > ids[:-1]):
        return None
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise ValueError(f"ids must be unique, got {int(repeated[0])} more than once")
    return order
