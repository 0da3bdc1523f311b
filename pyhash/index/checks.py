"""Checks of arguments that several methods of an index take."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import as_array, check_int
from ..support import machine, memory
from .chunks import Words
from .segment import Ids

MAX_ID = 2**63 - 1

# Bytes, at most
_ENTRY = 12  # of an answer's distance and id
_CANDIDATE = 16  # of what is found and may be an answer
_HELD = 40  # of such a one in lists that grow and are put together
_LINK = 48  # of a code, while groups are found and listed
_GROUP = 200  # of a group's array, beside its ids

_TILE = 512  # queries, at most, that a thread answers at a time


def check_room(k: int, n_queries: int, n_codes: int, threads: int) -> None:
    """Raise MemoryError when answers of k entries cannot fit: those, and what threads hold until they are found."""
    threads = threads or machine.cpus()
    # Many queries are shared among the threads; of fewer, each has a list for every part of the codes (search/plan.h).
    parts = min(threads, -(-4 * threads // -(-n_queries // _TILE)))
    lists = parts * n_queries if parts > 1 else threads * _TILE
    candidates = min(lists * (2 * k + 32), min(lists, n_queries) * n_codes)
    memory.ask(
        _ENTRY * k * n_queries + _HELD * candidates,
        "k must be smaller",
        "%d answers to each of %d queries",
        k,
        n_queries,
    )


def room_within(n_codes: int, n_queries: int) -> int | None:
    """Return the room for what lies within a radius of each query."""
    return memory.room(_CANDIDATE * n_codes * n_queries)


def room_of_pairs(n_codes: int, n_others: int | None) -> int | None:
    """Return the room for the pairs of codes with one another, or with those of another index."""
    most = n_codes * (n_codes - 1) // 2 if n_others is None else n_codes * n_others
    return memory.room(2 * _CANDIDATE * most)


def room_of_groups(n_codes: int, n_words: int) -> int | None:
    """Ask for the memory of groups; return the room for what only makes it quicker, the sorted codes."""
    memory.ask(_LINK * n_codes, "there must be fewer codes", "groups of %d codes", n_codes)
    return memory.room(8 * n_codes * (n_words + 1))


def check_lists(n_groups: int) -> None:
    """Raise MemoryError when the arrays of so many groups cannot fit."""
    memory.ask(
        _GROUP * n_groups, "radius must be smaller, or there must be fewer codes", "lists of %d groups", n_groups
    )


def too_many(radius: int) -> MemoryError:
    """Return the error for a radius that brings more than memory holds."""
    available = memory.size(machine.available_memory())
    return MemoryError(f"radius must be smaller: what lies within {radius} needs more than the {available} available")


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


def in_order(ids: Ids, words: Words) -> tuple[Ids, Words]:
    """Return ids in ascending order, and their codes with them; ValueError when an id is there twice."""
    if np.all(ids[1:] > ids[:-1]):
        return ids, words
    n, n_words = words.shape
    memory.ask(8 * n * (n_words + 4), "codes must be fewer at a time", "%d codes in the order of their ids", n)
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise ValueError(f"ids must be unique, got {int(repeated[0])} more than once")
    return ordered, words[order]
