"""The compiled loops of the Numba kernel: plain loops over the 64 lanes of a block.

LLVM turns them into the vector instructions of this CPU (a vector popcount where it has one). They run without the GIL.
`blocks` is a chunk `(blocks, n_words, 64)`, `start` the number of its first block; masks may be empty, and then hide
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..support import hold_through_fork, require
from .contract import LANES, PAD_DISTANCE, PAD_ID

numba = require("numba", "numba")
_extending = require("numba.extending", "numba")
# A child forked while another thread compiles would wait for that thread for ever.
hold_through_fork(require("numba.core.compiler_lock", "numba").global_compiler_lock)

# Blocks that stay in the first-level cache while every query of a tile passes over them.
_TILE_BYTES = 24 * 1024

# What is kept about the search for one query, as a row of int64.
_N, KTH, _WITHIN, _LARGEST_ID, _WORST, _WORST_ID = range(6)
_MIN_ID, _MAX_ID = -(2**63), 2**63 - 1
# _N: candidates held; KTH: the counter that the k-th nearest is in (the last one while there are fewer); _WITHIN: how
# many the counters up to that one hold; _LARGEST_ID: of all candidates ever; _WORST, _WORST_ID: the k-th nearest when
# candidates were last dropped.
INITIAL_STATE = (0, 0, 0, _MIN_ID, PAD_DISTANCE, _MAX_ID)

_FAR, _ZERO, _ONE = np.uint64(2**64 - 1), np.uint64(0), np.uint64(1)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _jit(function: _Function) -> _Function:
    """Compile at first call, without the GIL; keep the machine code on disk where there is a place for it."""
    try:
        compiled: _Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to write to
        compiled = numba.njit(nogil=True)(function)
    return compiled


def _count_bits(context: Any, word: Any) -> Any:
    """Tell Numba what to generate for the number of bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


_popcount: Callable[[Any], Any] = _extending.intrinsic(_count_bits)


@_jit
def _find(
    blocks: Any, begin: int, end: int, query: Any, words: Any, masks: Any, weights: Any, bound: int, distances: Any
) -> int:
    """Return the first block from `begin` on with a lane at `bound` or nearer, its `distances` written; else `end`."""
    # The minimum is taken in the loop that measures the last words: LLVM makes no vector code of a loop for it alone.
    near = np.uint64(bound)
    last = blocks.shape[1] - 1
    q_last, q_before = query[last], query[max(last - 1, 0)]
    for b in range(begin, end):
        least = _FAR
        if len(words):
            for lane in range(LANES):
                distances[lane] = _ZERO
            for t in range(len(words) - 1):
                w, q, mask, weight = words[t], query[words[t]], masks[t], weights[t]
                for lane in range(LANES):
                    distances[lane] += weight * _popcount((blocks[b, w, lane] ^ q) & mask)
            w, q, mask, weight = words[-1], query[words[-1]], masks[-1], weights[-1]
            for lane in range(LANES):
                d = distances[lane] + weight * _popcount((blocks[b, w, lane] ^ q) & mask)
                distances[lane] = d
                least = min(least, d)
        elif last == 0:
            for lane in range(LANES):
                d = _popcount(blocks[b, 0, lane] ^ q_last)
                distances[lane] = d
                least = min(least, d)
        elif last == 1:
            for lane in range(LANES):
                d = _popcount(blocks[b, 0, lane] ^ q_before) + _popcount(blocks[b, 1, lane] ^ q_last)
                distances[lane] = d
                least = min(least, d)
        else:
            q, r = query[0], query[1]
            if last & 1:
                w = 2
                for lane in range(LANES):
                    distances[lane] = _popcount(blocks[b, 0, lane] ^ q) + _popcount(blocks[b, 1, lane] ^ r)
            else:
                w = 1
                for lane in range(LANES):
                    distances[lane] = _popcount(blocks[b, 0, lane] ^ q)
            while w < last - 1:
                q, r = query[w], query[w + 1]
                for lane in range(LANES):
                    distances[lane] += _popcount(blocks[b, w, lane] ^ q) + _popcount(blocks[b, w + 1, lane] ^ r)
                w += 2
            for lane in range(LANES):
                d = distances[lane]
                d += _popcount(blocks[b, last - 1, lane] ^ q_before) + _popcount(blocks[b, last, lane] ^ q_last)
                distances[lane] = d
                least = min(least, d)
        if least <= near:
            return b
    return end


@_jit
def _visible(block: int, n_codes: int, dead: Any, allowed: Any) -> Any:
    """Return which lanes of a block may be answered, bit by bit."""
    left = n_codes - block * LANES
    lanes = _FAR if left >= LANES else (_ONE << np.uint64(left)) - _ONE
    if len(dead):
        lanes &= ~dead[block]
    if len(allowed):
        lanes &= allowed[block]
    return lanes


@_jit
def _bound(state: Any, k: int, shift: int, id: int) -> Any:
    """Return how near a code must be to come among the k nearest so far, if its id is `id` or larger."""
    bound = ((state[KTH] + 1) << shift) - 1
    if shift == 0 and state[_WITHIN] >= k and id > state[_LARGEST_ID]:
        bound = state[KTH] - 1  # it would lose every tie
    return min(bound, state[_WORST] - 1 if id > state[_WORST_ID] else state[_WORST])


@_jit
def _keep_k(distances: Any, ids: Any, state: Any, counts: Any, k: int, shift: int) -> None:
    """Drop all but the k nearest candidates; there are more."""
    n, kth = state[_N], state[KTH]
    needed = k - (state[_WITHIN] - counts[kth])  # of those counted with the k-th
    with_kth = np.empty(counts[kth], dtype=np.int64)
    m = 0
    for i in range(n):
        if distances[i] >> shift == kth:
            with_kth[m] = distances[i]
            m += 1
    worst = np.sort(with_kth)[needed - 1]
    m = 0
    for i in range(n):
        if distances[i] >> shift == kth:
            if distances[i] < worst:
                needed -= 1
            elif distances[i] == worst:
                with_kth[m] = ids[i]
                m += 1
    worst_id = np.sort(with_kth[:m])[needed - 1]
    counts[:] = 0
    m = 0
    for i in range(n):
        # m < k: a damaged file may hold an id twice, which must not make this keep too many
        if m < k and (distances[i] < worst or (distances[i] == worst and ids[i] <= worst_id)):
            distances[m], ids[m] = distances[i], ids[i]
            counts[distances[i] >> shift] += 1
            m += 1
    state[_N] = state[_WITHIN] = m
    state[_WORST], state[_WORST_ID] = worst, worst_id


@_jit
def topk_blocks(
    blocks: Any,
    begin: int,
    end: int,
    start: int,
    n_codes: int,
    first_id: int,
    ids: Any,
    dead: Any,
    allowed: Any,
    queries: Any,
    words: Any,
    masks: Any,
    weights: Any,
    k: int,
    shift: int,
    states: Any,
    counts: Any,
    found_distances: Any,
    found_ids: Any,
) -> None:
    """Pass queries over blocks [begin, end) of a chunk, and keep the nearest of each.

    Distances are small integers, so counting them tells the k-th smallest at once, and a candidate costs an append.
    """
    n_queries = len(queries)
    distances = np.empty(LANES, dtype=np.uint64)
    step = max(1, end - begin if n_queries == 1 else _TILE_BYTES // (blocks.shape[1] * LANES * 8))
    for tile in range(begin, end, step):
        stop = min(end, tile + step)
        for r in range(n_queries):
            state = states[r]
            b = tile
            while b < stop:
                slot = (start + b) * LANES
                bound = _bound(state, k, shift, ids[slot] if len(ids) else first_id + slot)
                if bound < 0:
                    break
                b = _find(blocks, b, stop, queries[r], words, masks, weights, bound, distances)
                if b == stop:
                    break
                lanes = _visible(start + b, n_codes, dead, allowed)
                for lane in range(LANES):
                    d = np.int64(distances[lane])
                    if d > bound or not lanes >> np.uint64(lane) & _ONE:
                        continue
                    slot = (start + b) * LANES + lane
                    id = ids[slot] if len(ids) else first_id + slot
                    bound = _bound(state, k, shift, id)
                    if d > bound:
                        continue
                    n, kth, within = state[_N], state[KTH], state[_WITHIN] + 1
                    found_distances[r, n] = d
                    found_ids[r, n] = id
                    counts[r, d >> shift] += 1
                    while kth > 0 and within - counts[r, kth] >= k:
                        within -= counts[r, kth]
                        kth -= 1
                    state[_N], state[KTH], state[_WITHIN] = n + 1, kth, within
                    state[_LARGEST_ID] = max(state[_LARGEST_ID], id)
                    if n + 1 == found_ids.shape[1] and n + 1 > k:
                        _keep_k(found_distances[r], found_ids[r], state, counts[r], k, shift)
                b += 1


@_jit
def keep_k_of_each(states: Any, counts: Any, found_distances: Any, found_ids: Any, k: int, shift: int) -> None:
    """Leave at most the k nearest of each query, in no order, padded."""
    for r in range(len(states)):
        if states[r, _N] > k:
            _keep_k(found_distances[r], found_ids[r], states[r], counts[r], k, shift)
        for i in range(states[r, _N], k):
            found_distances[r, i], found_ids[r, i] = PAD_DISTANCE, PAD_ID


@_jit
def within_blocks(
    blocks: Any,
    end: int,
    start: int,
    n_codes: int,
    dead: Any,
    allowed: Any,
    queries: Any,
    after: Any,
    words: Any,
    masks: Any,
    weights: Any,
    radius: int,
    place: Any,
    found: Any,
) -> int:
    """Pass queries over blocks of a chunk and write (query, slot, distance) of slots > after[query] within the radius.

    It begins where `place` (tile, query, block) says and stops when `found` has no room for another block, or at `end`;
    `place` then says where to go on. Returns how many were written.
    """
    n = 0
    tile, r, b = place[0], place[1], place[2]
    distances = np.empty(LANES, dtype=np.uint64)
    step = max(1, _TILE_BYTES // (blocks.shape[1] * LANES * 8))
    while tile < end:
        stop = min(end, tile + step)
        while r < len(queries):
            b = max(b, (after[r] + 1) // LANES - start)
            while b < stop:
                b = _find(blocks, b, stop, queries[r], words, masks, weights, radius, distances)
                if b == stop:
                    break
                if n + LANES > found.shape[1]:
                    place[0], place[1], place[2] = tile, r, b
                    return n
                lanes = _visible(start + b, n_codes, dead, allowed)
                for lane in range(LANES):
                    slot = (start + b) * LANES + lane
                    d = np.int64(distances[lane])
                    if d <= radius and slot > after[r] and lanes >> np.uint64(lane) & _ONE:
                        found[0, n], found[1, n], found[2, n] = r, slot, d
                        n += 1
                b += 1
            r, b = r + 1, tile
        tile, r, b = stop, 0, stop
    place[0] = end
    return n


@_jit
def hamming_rows(a: Any, begin: int, end: int, b: Any, out: Any) -> None:
    """Write the distances of rows [begin, end) of `a` to all columns of `b` `(n_words, n)`."""
    sums = np.empty(512, dtype=np.uint64)
    for first in range(0, b.shape[1], len(sums)):
        m = min(len(sums), b.shape[1] - first)
        for i in range(begin, end):
            q = a[i, 0]
            for j in range(m):
                sums[j] = _popcount(b[0, first + j] ^ q)
            for w in range(1, len(b)):
                q = a[i, w]
                for j in range(m):
                    sums[j] += _popcount(b[w, first + j] ^ q)
            for j in range(m):
                out[i, first + j] = np.int32(sums[j])


@_jit
def row_distances(rows: Any, owners: Any, queries: Any, words: Any, masks: Any, weights: Any, out: Any) -> None:
    """Write how far each row `(m, n_words)` is from the query that owns it."""
    for i in range(len(rows)):
        query = queries[owners[i]]
        distance = _ZERO
        if len(words):
            for t in range(len(words)):
                w = words[t]
                distance += weights[t] * _popcount((rows[i, w] ^ query[w]) & masks[t])
        else:
            for w in range(rows.shape[1]):
                distance += _popcount(rows[i, w] ^ query[w])
        out[i] = np.int64(distance)


@_jit
def link(parents: Any, first: Any, second: Any) -> None:
    """Join the groups of `first[p]` and `second[p]`. No parent is larger than its child."""
    for p in range(len(first)):
        a, b = first[p], second[p]
        while parents[a] != a:
            parents[a] = parents[parents[a]]
            a = parents[a]
        while parents[b] != b:
            parents[b] = parents[parents[b]]
            b = parents[b]
        parents[max(a, b)] = min(a, b)
