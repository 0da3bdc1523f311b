"""The Numba backend: the contract of `_native.pyi` in NumPy and Numba, for where the C++ core is not compiled.

The kernels are plain loops over the 64 lanes of a block, which LLVM turns into the vector instructions of this CPU (a
vector popcount where it has one). They run without the GIL; threads are Python's, made for one call, because those of
Numba do not survive a fork.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..support import hold_through_fork, machine, require

numba = require("numba", "numba")
_extending = require("numba.extending", "numba")
# A child forked while another thread compiles would wait for that thread for ever.
hold_through_fork(require("numba.core.compiler_lock", "numba").global_compiler_lock)

LANES = 64
PAD_DISTANCE = 2**31 - 1
PAD_ID = -1

# Blocks that stay in the first-level cache while every query of a tile passes over them.
_TILE_BYTES = 24 * 1024
_TILE_QUERIES = 64  # of searches, which keep candidates for each
_TILE_ROWS = 8 * LANES
# Work (words of blocks times queries) below which another thread costs more than it saves.
_WORK_PER_THREAD = 1 << 17
# Distances that are counted one by one; those of metrics that reach farther share counters.
_MAX_COUNTERS = 1 << 14
_HITS = 1 << 16  # room for what one call of a kernel finds

_Words = NDArray[np.uint64]
_Ids = NDArray[np.int64]
_Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # queries, distances, ids
_Range = tuple[int, int, int]  # segment, first block, end block
_Task = tuple[int, int, list[_Range]]  # first query, end query, what to search
_T = TypeVar("_T")

# What is kept about the search for one query, as a row of int64.
_N, _KTH, _WITHIN, _LARGEST_ID, _WORST, _WORST_ID = range(6)
_MIN_ID, _MAX_ID = -(2**63), 2**63 - 1
# _N: candidates held; _KTH: the counter that the k-th nearest is in (the last one while there are fewer); _WITHIN: how
# many the counters up to that one hold; _LARGEST_ID: of all candidates ever; _WORST, _WORST_ID: the k-th nearest when
# candidates were last dropped.
_INITIAL_STATE = (0, 0, 0, _MIN_ID, PAD_DISTANCE, _MAX_ID)

_FAR, _ZERO, _ONE = np.uint64(2**64 - 1), np.uint64(0), np.uint64(1)


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    """View an array as read-only. Some are (a mapped file), and Numba compiles once more for each kind it meets."""
    view = array.view()
    view.flags.writeable = False
    return view


_NO_WORDS: _Words = _fixed(np.empty(0, dtype=np.uint64))
_NO_IDS: _Ids = _fixed(np.empty(0, dtype=np.int64))


class Segment:
    """A read-only view of one stored run of codes; it keeps its arrays alive."""

    def __init__(
        self,
        chunks: Sequence[_Words],
        n_codes: int,
        first_id: int,
        ids: _Ids | None,
        dead: _Words | None,
    ) -> None:
        self.chunks = [_fixed(chunk) for chunk in chunks]
        self.n_codes = n_codes
        self.n_blocks = -(-n_codes // LANES)
        self.first_id = first_id
        self.ids = _NO_IDS if ids is None else _fixed(ids)
        self.dead = _NO_WORDS if dead is None else _fixed(dead)

    def pieces(self, begin: int, end: int) -> Iterator[tuple[_Words, int, int, int]]:
        """Yield blocks [begin, end) chunk by chunk: the chunk, first and end block in it, its first block's number."""
        full = len(self.chunks[0]) if self.chunks else 1
        while begin < end:
            number = begin // full
            start = number * full
            stop = min(end, start + full)
            yield self.chunks[number], begin - start, stop - start, start
            begin = stop

    def slot_ids(self, slots: NDArray[np.int64]) -> _Ids:
        """Return the ids of slots."""
        return self.ids[slots] if len(self.ids) else slots + self.first_id

    def live_rows(self, begin: int, end: int) -> tuple[NDArray[np.int64], _Words]:
        """Return slots and codes `(n, n_words)` of what blocks [begin, end) hold."""
        pieces = [chunk[b:e].transpose(0, 2, 1) for chunk, b, e, _ in self.pieces(begin, end)]
        slots = np.arange(begin * LANES, min(end * LANES, self.n_codes))
        rows = np.concatenate(pieces).reshape(-1, pieces[0].shape[2])[: len(slots)]
        if len(self.dead):
            marks = self.dead[slots // LANES] >> (slots % LANES).astype(np.uint64)
            alive = (marks & _ONE) == 0
            slots, rows = slots[alive], rows[alive]
        return slots, _fixed(np.ascontiguousarray(rows))


class Metric:
    """What is measured: `sum over terms of weight * popcount((code[word] ^ query[word]) & mask)`."""

    def __init__(self, words: NDArray[np.uint32], masks: _Words, weights: NDArray[np.uint32]) -> None:
        self.terms = _fixed(words.astype(np.int64)), _fixed(masks), _fixed(weights.astype(np.uint64))
        self.largest = sum(int(mask).bit_count() * int(weight) for mask, weight in zip(masks, weights, strict=True))


_PLAIN = (_NO_IDS, _NO_WORDS, _NO_WORDS)  # no terms: every bit counts once


# Kernels. What is compiled: `blocks` is a chunk `(blocks, n_words, 64)`, `start` the number of its first block.


_Compiled = Callable[..., Any]


def _jit(function: _Compiled) -> _Compiled:
    """Compile at first call, without the GIL; keep the machine code on disk where there is a place for it."""
    try:
        compiled: _Compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to write to
        compiled = numba.njit(nogil=True)(function)
    return compiled


def _intrinsic(function: _Compiled) -> _Compiled:
    made: _Compiled = _extending.intrinsic(function)
    return made


@_intrinsic
def _popcount(context: Any, word: Any) -> Any:
    """Count the bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


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
    bound = ((state[_KTH] + 1) << shift) - 1
    if shift == 0 and state[_WITHIN] >= k and id > state[_LARGEST_ID]:
        bound = state[_KTH] - 1  # it would lose every tie
    return min(bound, state[_WORST] - 1 if id > state[_WORST_ID] else state[_WORST])


@_jit
def _keep_k(distances: Any, ids: Any, state: Any, counts: Any, k: int, shift: int) -> None:
    """Drop all but the k nearest candidates; there are more."""
    n, kth = state[_N], state[_KTH]
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
def _topk_blocks(
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
                    n, kth, within = state[_N], state[_KTH], state[_WITHIN] + 1
                    found_distances[r, n] = d
                    found_ids[r, n] = id
                    counts[r, d >> shift] += 1
                    while kth > 0 and within - counts[r, kth] >= k:
                        within -= counts[r, kth]
                        kth -= 1
                    state[_N], state[_KTH], state[_WITHIN] = n + 1, kth, within
                    state[_LARGEST_ID] = max(state[_LARGEST_ID], id)
                    if n + 1 == found_ids.shape[1] and n + 1 > k:
                        _keep_k(found_distances[r], found_ids[r], state, counts[r], k, shift)
                b += 1


@_jit
def _keep_k_of_each(states: Any, counts: Any, found_distances: Any, found_ids: Any, k: int, shift: int) -> None:
    """Leave at most the k nearest of each query, in no order, padded."""
    for r in range(len(states)):
        if states[r, _N] > k:
            _keep_k(found_distances[r], found_ids[r], states[r], counts[r], k, shift)
        for i in range(states[r, _N], k):
            found_distances[r, i], found_ids[r, i] = PAD_DISTANCE, PAD_ID


@_jit
def _within_blocks(
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
def _hamming_rows(a: Any, begin: int, end: int, b: Any, out: Any) -> None:
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


# Sharing work


def _useful_threads(threads: int, work: int) -> int:
    most = 1 + work // _WORK_PER_THREAD
    return 1 if most == 1 else min(threads or machine.cpus(), most)


def _map(function: Callable[[Any], _T], tasks: Sequence[Any], threads: int) -> list[_T]:
    if threads == 1 or len(tasks) == 1:
        return [function(task) for task in tasks]
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        return list(pool.map(function, tasks))


def _split(segments: Sequence[Segment], parts: int) -> list[list[_Range]]:
    """Cut the blocks of all segments, in order, into lists of about equal length."""
    total = sum(segment.n_blocks for segment in segments)
    lists: list[list[_Range]] = [[] for _ in range(parts)]
    before = 0
    for number, segment in enumerate(segments):
        for part, ranges in enumerate(lists):
            begin = max(total * part // parts, before)
            end = min(total * (part + 1) // parts, before + segment.n_blocks)
            if begin < end:
                ranges.append((number, begin - before, end - before))
        before += segment.n_blocks
    return lists


def _tasks(
    segments: Sequence[Segment], n_queries: int, tile: int, n_terms: int, threads: int
) -> tuple[list[_Task], int]:
    """Return what to do, and with how many threads: many queries are shared out, for few queries the codes are."""
    blocks = sum(segment.n_blocks for segment in segments)
    threads = _useful_threads(threads, blocks * n_terms * n_queries)
    parts = threads if n_queries < 8 * threads else 1
    if parts == 1:
        tile = max(1, min(tile, -(-n_queries // threads)))
    lists = _split(segments, parts)
    return [(j, min(j + tile, n_queries), part) for j in range(0, n_queries, tile) for part in lists], threads


# The contract


def topk(
    segments: Sequence[Segment],
    queries: _Words,
    metric: Metric | None,
    k: int,
    allowed: Sequence[_Words] | None,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The k nearest of each query `(q, n_words)` in (distance, id) order, padded with 2**31 - 1 and -1."""
    n_queries, n_words = queries.shape
    distances = np.full((n_queries, k), PAD_DISTANCE, dtype=np.int32)
    ids = np.full((n_queries, k), PAD_ID, dtype=np.int64)
    n_codes = sum(segment.n_codes for segment in segments)
    if not n_codes or not n_queries:
        return distances, ids
    queries = _fixed(queries)
    masks = [_NO_WORDS] * len(segments) if allowed is None else [_fixed(mask) for mask in allowed]
    terms, largest = (_PLAIN, n_words * 64) if metric is None else (metric.terms, metric.largest)
    k = min(k, n_codes)
    shift = max(0, largest.bit_length() - _MAX_COUNTERS.bit_length() + 1)
    n_counters = (largest >> shift) + 1
    room = min(n_codes, 2 * k + 256)

    def nearest(task: _Task) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        first, end, ranges = task
        n = end - first
        states = np.empty((n, len(_INITIAL_STATE)), dtype=np.int64)
        states[:] = _INITIAL_STATE
        states[:, _KTH] = n_counters - 1
        counts = np.zeros((n, n_counters), dtype=np.int64)
        found = np.empty((n, room), dtype=np.int64), np.empty((n, room), dtype=np.int64)
        own = queries[first:end]
        for s, begin, stop in ranges:
            stored = segments[s]
            segment = stored.n_codes, stored.first_id, stored.ids, stored.dead, masks[s]
            for chunk, b, e, start in stored.pieces(begin, stop):
                _topk_blocks(chunk, b, e, start, *segment, own, *terms, k, shift, states, counts, *found)
        _keep_k_of_each(states, counts, *found, k, shift)
        return first, found[0][:, :k], found[1][:, :k]

    tile = max(1, min(_TILE_QUERIES, (1 << 20) // (room + n_counters)))
    tasks, threads = _tasks(segments, n_queries, tile, len(terms[0]) or n_words, threads)
    for first, parts in itertools.groupby(_map(nearest, tasks, threads), key=operator.itemgetter(0)):
        _, part_distances, part_ids = zip(*parts, strict=True)
        some_distances, some_ids = np.concatenate(part_distances, axis=1), np.concatenate(part_ids, axis=1)
        order = np.lexsort((some_ids, some_distances))[:, :k]
        row = np.arange(len(order))[:, None]
        distances[first : first + len(order), :k] = some_distances[row, order]
        ids[first : first + len(order), :k] = some_ids[row, order]
    return distances, ids


class _Budget:
    """Memory for results that nobody has counted beforehand: too many must be an error, not the end of the process."""

    def __init__(self) -> None:
        self._left = machine.available_memory() // 4  # they are copied, sorted and copied again

    def take(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left < 0:
            raise MemoryError


def _collect(
    segment: Segment,
    begin: int,
    end: int,
    queries: _Words,
    after: NDArray[np.int64],
    terms: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    radius: int,
    allowed: _Words,
    budget: _Budget,
) -> Iterator[_Found]:
    """Yield (queries, slots, distances) of what blocks [begin, end) hold within the radius."""
    found = np.empty((3, _HITS), dtype=np.int64)
    for chunk, b, e, start in segment.pieces(begin, end):
        place = np.array([b, 0, b], dtype=np.int64)
        while place[0] < e:
            n = _within_blocks(
                chunk, e, start, segment.n_codes, segment.dead, allowed, queries, after, *terms, radius, place, found
            )
            if n:
                budget.take(24 * n)
                rows, slots, distances = found[:, :n].copy()
                yield rows, slots, distances


def within(
    segments: Sequence[Segment],
    queries: _Words,
    metric: Metric | None,
    radius: int,
    allowed: Sequence[_Words] | None,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """All with distance <= radius: offsets `(q + 1,)`, distances and ids in (distance, id) order a query."""
    n_queries, n_words = queries.shape
    queries = _fixed(queries)
    masks = [_NO_WORDS] * len(segments) if allowed is None else [_fixed(mask) for mask in allowed]
    terms = _PLAIN if metric is None else metric.terms
    budget = _Budget()

    def near(task: _Task) -> list[_Found]:
        first, end, ranges = task
        after = np.full(end - first, -1, dtype=np.int64)
        return [
            (rows + first, distances, segments[s].slot_ids(slots))
            for s, begin, stop in ranges
            for rows, slots, distances in _collect(
                segments[s], begin, stop, queries[first:end], after, terms, radius, masks[s], budget
            )
        ]

    tasks, threads = _tasks(segments, n_queries, _TILE_ROWS, len(terms[0]) or n_words, threads)
    rows, distances, ids = _joined(_map(near, tasks, threads))
    order = np.lexsort((ids, distances, rows))
    offsets = np.zeros(n_queries + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n_queries), out=offsets[1:])
    return offsets, distances[order].astype(np.int32), ids[order]


def pairs(
    segments: Sequence[Segment], radius: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """All pairs of stored codes, ids i < j, with distance <= radius, in (i, j) order."""
    blocks_per_tile = _TILE_ROWS // LANES
    budget = _Budget()

    def near(task: tuple[int, int]) -> list[_Found]:
        own, begin = task
        segment = segments[own]
        slots, rows = segment.live_rows(begin, min(begin + blocks_per_tile, segment.n_blocks))
        ids = segment.slot_ids(slots)
        found = []
        for number in range(own, len(segments)):
            other = segments[number]
            after = slots if number == own else np.full(len(slots), -1, dtype=np.int64)
            first = begin if number == own else 0
            for i, j, distances in _collect(
                other, first, other.n_blocks, rows, after, _PLAIN, radius, _NO_WORDS, budget
            ):
                here, there = ids[i], other.slot_ids(j)
                found.append((np.minimum(here, there), np.maximum(here, there), distances))
        return found

    tasks = [(s, b) for s, segment in enumerate(segments) for b in range(0, segment.n_blocks, blocks_per_tile)]
    n_codes = sum(segment.n_codes for segment in segments)
    n_words = max((segment.chunks[0].shape[1] for segment in segments if segment.chunks), default=0)
    work = n_codes * n_codes // (2 * LANES) * n_words
    i, j, distances = _joined(_map(near, tasks, _useful_threads(threads, work)))
    order = np.lexsort((j, i))
    return i[order], j[order], distances[order].astype(np.int32)


def _joined(lists: list[list[_Found]]) -> _Found:
    found = [part for parts in lists for part in parts]
    if not found:
        return _NO_IDS, _NO_IDS, _NO_IDS
    first, second, third = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return first, second, third


def hamming(a: _Words, b: _Words, threads: int) -> NDArray[np.int32]:
    """Distances `(m, n)` between rows of words `(m, n_words)` and `(n, n_words)`."""
    m, n = len(a), len(b)
    if m < n // 64:  # the longer side is the one that is shared
        return np.ascontiguousarray(hamming(b, a, threads).T)
    out = np.empty((m, n), dtype=np.int32)
    a, columns = _fixed(a), _fixed(np.ascontiguousarray(b.T))
    threads = _useful_threads(threads, m * n // LANES * a.shape[1])
    cuts = [m * part // threads for part in range(threads + 1)]
    _map(lambda part: _hamming_rows(a, cuts[part], cuts[part + 1], columns, out), range(threads), threads)
    return out
