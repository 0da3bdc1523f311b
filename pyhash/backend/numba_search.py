"""The Numba kernel: the contract in NumPy and compiled loops, for where the C++ core is not compiled.

Threads are Python's, made for one call, because those of Numba do not survive a fork.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..codes import to_words
from ..support import machine
from . import contract, numba_kernels, products
from .contract import LANES, PAD_DISTANCE, PAD_ID, Codes, Distances, Ids, Int8s, Kernel, Ring, Similarities, Words

_TILE_QUERIES = 64  # of searches, which keep candidates for each
_TILE_ROWS = 8 * LANES
_TILE_WORDS = 1 << 20  # of candidates that are gathered at once
# Work (words of blocks times queries) below which another thread costs more than it saves.
_WORK_PER_THREAD = 1 << 17
# Distances that are counted one by one; those of metrics that reach farther share counters.
_MAX_COUNTERS = 1 << 14
_HITS = 1 << 16  # room for what one call of a kernel finds
_FOUND_BYTES = 24  # of one thing found

_Slots = NDArray[np.int64]
_Terms = tuple[NDArray[np.int64], Words, NDArray[np.uint64]]  # words, masks, weights; none: every bit counts once
_Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # queries, distances, ids
_Range = tuple[int, int, int]  # segment, first block, end block
_Task = tuple[int, int, list[_Range]]  # first query, end query, what to search
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Scalar = TypeVar("_Scalar", bound=np.generic)


def _fixed(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """View an array as read-only. Some are (a mapped file), and Numba compiles once more for each kind it meets."""
    view = array.view()
    view.flags.writeable = False
    return view


_NO_WORDS: Words = _fixed(np.empty(0, dtype=np.uint64))
_NO_IDS: Ids = _fixed(np.empty(0, dtype=np.int64))
_PLAIN: _Terms = _NO_IDS, _NO_WORDS, _NO_WORDS
_ONE = np.uint64(1)


class NumbaSegment:
    """A read-only view of a segment's arrays, which it keeps alive."""

    def __init__(
        self, chunks: Sequence[Words], n_codes: int, first_id: int, ids: Ids | None, dead: Words | None
    ) -> None:
        self.chunks = [_fixed(chunk) for chunk in chunks]
        self.n_codes = n_codes
        self.n_blocks = -(-n_codes // LANES)
        self.first_id = first_id
        self.ids = _NO_IDS if ids is None else _fixed(ids)
        self.dead = _NO_WORDS if dead is None else _fixed(dead)

    def ring_counters(self) -> None:
        """There is no ring."""

    def pieces(self, begin: int, end: int) -> Iterator[tuple[Words, int, int, int]]:
        """Yield blocks [begin, end) chunk by chunk: the chunk, first and end block in it, its first block's number."""
        full = len(self.chunks[0]) if self.chunks else 1
        while begin < end:
            number = begin // full
            start = number * full
            stop = min(end, start + full)
            yield self.chunks[number], begin - start, stop - start, start
            begin = stop

    def slot_ids(self, slots: _Slots) -> Ids:
        """Return the ids of slots."""
        return self.ids[slots] if len(self.ids) else slots + self.first_id

    def alive(self, slots: _Slots) -> NDArray[np.bool_]:
        """Return which slots hold a code that was not removed."""
        if not len(self.dead):
            return np.ones(len(slots), dtype=np.bool_)
        marks = self.dead[slots // LANES] >> (slots % LANES).astype(np.uint64)
        alive: NDArray[np.bool_] = (marks & _ONE) == 0
        return alive

    def live_rows(self, begin: int, end: int) -> tuple[_Slots, Words]:
        """Return slots and codes `(n, n_words)` of what blocks [begin, end) hold."""
        pieces = [chunk[b:e].transpose(0, 2, 1) for chunk, b, e, _ in self.pieces(begin, end)]
        slots = np.arange(begin * LANES, min(end * LANES, self.n_codes))
        rows = np.concatenate(pieces).reshape(-1, pieces[0].shape[2])[: len(slots)]
        if len(self.dead):
            alive = self.alive(slots)
            slots, rows = slots[alive], rows[alive]
        return slots, _fixed(np.ascontiguousarray(rows))


class NumbaMetric:
    """What is measured: `sum over terms of weight * popcount((code[word] ^ query[word]) & mask)`."""

    def __init__(self, words: NDArray[np.uint32], masks: Words, weights: NDArray[np.uint32]) -> None:
        self.terms: _Terms = _fixed(words.astype(np.int64)), _fixed(masks), _fixed(weights.astype(np.uint64))
        self.largest = sum(int(mask).bit_count() * int(weight) for mask, weight in zip(masks, weights, strict=True))


class NumbaTarget:
    """What a search passes over: segments, and for each the words of a mask, none where all is allowed."""

    def __init__(self, segments: Sequence[contract.Segment], allowed: Sequence[Words] | None) -> None:
        self.segments = _own(segments)
        self.masks = [_NO_WORDS] * len(self.segments) if allowed is None else [_fixed(mask) for mask in allowed]


def _own(segments: Sequence[contract.Segment]) -> list[NumbaSegment]:
    own = [segment for segment in segments if isinstance(segment, NumbaSegment)]
    if len(own) != len(segments):
        raise TypeError("segments must be those of this kernel")
    return own


def _target(target: contract.Target) -> NumbaTarget:
    if not isinstance(target, NumbaTarget):
        raise TypeError("target must be one of this kernel")
    return target


def _terms(metric: contract.Metric | None) -> _Terms:
    if metric is None:
        return _PLAIN
    if not isinstance(metric, NumbaMetric):
        raise TypeError("metric must be one of this kernel")
    return metric.terms


# Sharing work


def _useful_threads(threads: int, work: int) -> int:
    most = 1 + work // _WORK_PER_THREAD
    return 1 if most == 1 else min(threads or machine.cpus(), most)


def _map(function: Callable[[_Item], _Result], tasks: Sequence[_Item], threads: int) -> list[_Result]:
    if threads == 1 or len(tasks) == 1:
        return [function(task) for task in tasks]
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        return list(pool.map(function, tasks))


def _split(segments: Sequence[NumbaSegment], parts: int) -> list[list[_Range]]:
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
    segments: Sequence[NumbaSegment], n_queries: int, tile: int, n_terms: int, threads: int
) -> tuple[list[_Task], int]:
    """Return what to do, and with how many threads: many queries are shared out, for few queries the codes are."""
    blocks = sum(segment.n_blocks for segment in segments)
    threads = _useful_threads(threads, blocks * n_terms * n_queries)
    parts = threads if n_queries < 8 * threads else 1
    if parts == 1:
        tile = max(1, min(tile, -(-n_queries // threads)))
    lists = _split(segments, parts)
    return [(j, min(j + tile, n_queries), part) for j in range(0, n_queries, tile) for part in lists], threads


# What is found


class _Budget:
    """Memory for results that nobody has counted beforehand: too many must be an error, not the end of the process."""

    def __init__(self, room: int | None) -> None:
        self._left = math.inf if room is None else room // 4  # they are copied, sorted and copied again

    def take(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left < 0:
            raise MemoryError


def _collect(
    segment: NumbaSegment,
    begin: int,
    end: int,
    queries: Words,
    after: _Slots,
    terms: _Terms,
    radius: int,
    allowed: Words,
    budget: _Budget,
) -> Iterator[_Found]:
    """Yield (queries, slots, distances) of what blocks [begin, end) hold within the radius."""
    found = np.empty((3, _HITS), dtype=np.int64)
    for chunk, b, e, start in segment.pieces(begin, end):
        place = np.array([b, 0, b], dtype=np.int64)
        while place[0] < e:
            n = numba_kernels.within_blocks(
                chunk, e, start, segment.n_codes, segment.dead, allowed, queries, after, *terms, radius, place, found
            )
            if n:
                budget.take(_FOUND_BYTES * n)
                rows, slots, distances = found[:, :n].copy()
                yield rows, slots, distances


def _joined(lists: list[list[_Found]]) -> _Found:
    found = [part for parts in lists for part in parts]
    if not found:
        return _NO_IDS, _NO_IDS, _NO_IDS
    first, second, third = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return first, second, third


def _padded(n_queries: int, k: int) -> tuple[Distances, Ids]:
    return (
        np.full((n_queries, k), PAD_DISTANCE, dtype=np.int32),
        np.full((n_queries, k), PAD_ID, dtype=np.int64),
    )


class NumbaKernel:
    """The kernel named "numba"."""

    name = "numba"
    rings = False

    def segment(
        self,
        chunks: Sequence[Words],
        n_codes: int,
        first_id: int,
        ids: Ids | None,
        dead: Words | None,
        ring: Ring | None = None,
    ) -> NumbaSegment:
        """Describe a segment; one with a ring is a ValueError."""
        if ring is not None:
            raise ValueError("ring must be None: the Numba kernel searches none")
        return NumbaSegment(chunks, n_codes, first_id, ids, dead)

    def target(self, segments: Sequence[contract.Segment], allowed: Sequence[Words] | None = None) -> NumbaTarget:
        """Put together what is searched."""
        return NumbaTarget(segments, allowed)

    def metric(self, words: NDArray[np.uint32], masks: Words, weights: NDArray[np.uint32]) -> NumbaMetric:
        """Describe a metric."""
        return NumbaMetric(words, masks, weights)

    def topk(
        self, target: contract.Target, queries: Codes, metric: contract.Metric | None, k: int, threads: int
    ) -> tuple[Distances, Ids]:
        """The k nearest of each query."""
        distances, ids = self._topk(_target(target), to_words(np.atleast_2d(queries)), metric, k, threads)
        return (distances[0], ids[0]) if queries.ndim == 1 else (distances, ids)

    def _topk(
        self, target: NumbaTarget, queries: Words, metric: contract.Metric | None, k: int, threads: int
    ) -> tuple[Distances, Ids]:
        own, masks, terms = target.segments, target.masks, _terms(metric)
        n_queries, n_words = queries.shape
        distances, ids = _padded(n_queries, k)
        n_codes = sum(segment.n_codes for segment in own)
        if not n_codes or not n_queries:
            return distances, ids
        queries = _fixed(queries)
        largest = n_words * 64 if metric is None else metric.largest
        k = min(k, n_codes)
        shift = max(0, largest.bit_length() - _MAX_COUNTERS.bit_length() + 1)
        n_counters = (largest >> shift) + 1
        room = min(n_codes, 2 * k + 256)

        def nearest(task: _Task) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
            first, end, ranges = task
            n = end - first
            states = np.empty((n, len(numba_kernels.INITIAL_STATE)), dtype=np.int64)
            states[:] = numba_kernels.INITIAL_STATE
            states[:, numba_kernels.KTH] = n_counters - 1
            counts = np.zeros((n, n_counters), dtype=np.int64)
            found = np.empty((n, room), dtype=np.int64), np.empty((n, room), dtype=np.int64)
            some = queries[first:end]
            for s, begin, stop in ranges:
                stored = own[s]
                segment = stored.n_codes, stored.first_id, stored.ids, stored.dead, masks[s]
                for chunk, b, e, start in stored.pieces(begin, stop):
                    numba_kernels.topk_blocks(
                        chunk, b, e, start, *segment, some, *terms, k, shift, states, counts, *found
                    )
            numba_kernels.keep_k_of_each(states, counts, *found, k, shift)
            return first, found[0][:, :k], found[1][:, :k]

        tile = max(1, min(_TILE_QUERIES, (1 << 20) // (room + n_counters)))
        tasks, threads = _tasks(own, n_queries, tile, len(terms[0]) or n_words, threads)
        for first, parts in itertools.groupby(_map(nearest, tasks, threads), key=operator.itemgetter(0)):
            _, part_distances, part_ids = zip(*parts, strict=True)
            some_distances, some_ids = np.concatenate(part_distances, axis=1), np.concatenate(part_ids, axis=1)
            order = np.lexsort((some_ids, some_distances))[:, :k]
            row = np.arange(len(order))[:, None]
            distances[first : first + len(order), :k] = some_distances[row, order]
            ids[first : first + len(order), :k] = some_ids[row, order]
        return distances, ids

    def within(
        self,
        target: contract.Target,
        queries: Codes,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        room: int | None = None,
    ) -> tuple[Ids, Distances, Ids]:
        """All with distance <= radius."""
        own, masks, terms = _target(target).segments, _target(target).masks, _terms(metric)
        words = _fixed(to_words(np.atleast_2d(queries)))
        n_queries, n_words = words.shape
        budget = _Budget(room)

        def near(task: _Task) -> list[_Found]:
            first, end, ranges = task
            after = np.full(end - first, -1, dtype=np.int64)
            return [
                (rows + first, distances, own[s].slot_ids(slots))
                for s, begin, stop in ranges
                for rows, slots, distances in _collect(
                    own[s], begin, stop, words[first:end], after, terms, radius, masks[s], budget
                )
            ]

        tasks, threads = _tasks(own, n_queries, _TILE_ROWS, len(terms[0]) or n_words, threads)
        rows, distances, ids = _joined(_map(near, tasks, threads))
        order = np.lexsort((ids, distances, rows))
        offsets = np.zeros(n_queries + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=n_queries), out=offsets[1:])
        return offsets, distances[order].astype(np.int32), ids[order]

    def pairs(
        self,
        target: contract.Target,
        other: contract.Target | None,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        most: int | None = None,
        room: int | None = None,
    ) -> tuple[Ids, Ids, Distances]:
        """All pairs with distance <= radius."""
        counted = 0

        def keep(found: list[_Found]) -> list[_Found]:
            nonlocal counted
            counted += sum(len(i) for i, _, _ in found)
            if most is not None and counted > most:
                raise MemoryError
            return found

        i, j, distances = _joined(self._join(target, other, metric, radius, threads, _Budget(room), keep))
        if most is not None and len(i) > most:  # threads may have counted beside one another
            raise MemoryError
        order = np.lexsort((j, i))
        return i[order], j[order], distances[order].astype(np.int32)

    def groups(
        self,
        target: contract.Target,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        room: int | None = None,
    ) -> tuple[Ids, Ids]:
        """Codes linked by pairs."""
        ids = np.sort(np.concatenate([s.slot_ids(np.arange(s.n_codes)) for s in _target(target).segments] or [_NO_IDS]))
        parents = np.arange(len(ids))
        one_at_a_time = threading.Lock()
        budget = _Budget(room)

        def link(found: list[_Found]) -> None:
            with one_at_a_time:
                for i, j, _ in found:
                    numba_kernels.link(parents, np.searchsorted(ids, i), np.searchsorted(ids, j))
                    budget.take(-_FOUND_BYTES * len(i))

        self._join(target, None, metric, radius, threads, budget, link)
        while not np.array_equal(parents, parents[parents]):
            parents = parents[parents]
        sizes = np.bincount(parents, minlength=len(ids))
        linked = np.flatnonzero(sizes[parents] > 1)
        offsets = np.zeros(1 + np.count_nonzero(sizes > 1), dtype=np.int64)
        np.cumsum(sizes[sizes > 1], out=offsets[1:])
        return offsets, ids[linked[np.argsort(parents[linked], kind="stable")]]

    def _join(
        self,
        target: contract.Target,
        other: contract.Target | None,
        metric: contract.Metric | None,
        radius: int,
        threads: int,
        budget: _Budget,
        keep: Callable[[list[_Found]], _Result],
    ) -> list[_Result]:
        """Compare all with all; return what `keep` makes of the pairs of each task."""
        own = _target(target).segments
        targets = own if other is None else _target(other).segments
        terms = _terms(metric)
        blocks_per_tile = _TILE_ROWS // LANES

        def near(task: tuple[int, int]) -> _Result:
            number, begin = task
            segment = own[number]
            slots, rows = segment.live_rows(begin, min(begin + blocks_per_tile, segment.n_blocks))
            ids = segment.slot_ids(slots)
            found = []
            for target_number in range(number if other is None else 0, len(targets)):
                there = targets[target_number]
                same = other is None and target_number == number
                after = slots if same else np.full(len(slots), -1, dtype=np.int64)
                first = begin if same else 0
                for i, j, distances in _collect(
                    there, first, there.n_blocks, rows, after, terms, radius, _NO_WORDS, budget
                ):
                    a, b = ids[i], there.slot_ids(j)
                    if other is None:
                        a, b = np.minimum(a, b), np.maximum(a, b)
                    found.append((a, b, distances))
            return keep(found)

        tasks = [(s, b) for s, segment in enumerate(own) for b in range(0, segment.n_blocks, blocks_per_tile)]
        n_words = max((segment.chunks[0].shape[1] for segment in own if segment.chunks), default=0)
        work = sum(segment.n_blocks for segment in own) * sum(segment.n_codes for segment in targets) * n_words
        return _map(near, tasks, _useful_threads(threads, work))

    def rerank(
        self,
        target: contract.Target,
        queries: Codes,
        slots: _Slots,
        metric: contract.Metric | None,
        k: int,
        threads: int,
    ) -> tuple[Distances, Ids]:
        """Measure given candidates again."""
        own, terms = _target(target).segments, _terms(metric)
        ends = np.cumsum([segment.n_codes for segment in own], dtype=np.int64)
        if slots.size and (slots.min() < -1 or slots.max() >= (ends[-1] if len(ends) else 0)):
            raise ValueError("slots must be -1 or slots of the segments")
        distances, ids = _padded(len(queries), k)
        words = _fixed(to_words(queries))
        n_words = words.shape[1]

        def nearest(first: int) -> None:
            some = np.sort(slots[first : first + step], axis=1)
            fresh = some >= 0
            fresh[:, 1:] &= some[:, 1:] != some[:, :-1]
            owners, columns = np.nonzero(fresh)
            numbers = some[owners, columns]
            found = []
            for segment, end in zip(own, ends.tolist(), strict=True):
                begin = end - segment.n_codes
                here = np.flatnonzero((numbers >= begin) & (numbers < end))
                here = here[segment.alive(numbers[here] - begin)]
                if len(here):
                    near = numbers[here] - begin
                    measured = np.empty(len(here), dtype=np.int64)
                    rows = _fixed(self.read_rows(segment.chunks, near))
                    numba_kernels.row_distances(rows, owners[here] + first, words, *terms, measured)
                    found.append((owners[here], measured, segment.slot_ids(near)))
            owner, measured, own_ids = _joined([found])
            order = np.lexsort((own_ids, measured, owner))
            owner = owner[order]
            place = np.arange(len(owner)) - np.searchsorted(owner, owner)
            kept = place < k
            distances[first + owner[kept], place[kept]] = measured[order][kept]
            ids[first + owner[kept], place[kept]] = own_ids[order][kept]

        work = slots.size * n_words
        threads = _useful_threads(threads, work)
        step = max(1, min(_TILE_WORDS // max(1, slots.shape[1] * n_words), -(-len(queries) // threads)))
        _map(nearest, range(0, len(queries), step), threads)
        return distances, ids

    def squares(self, rows: Int8s, threads: int) -> NDArray[np.int32]:
        """Products of rows with themselves; BLAS has threads of its own."""
        return products.squares(rows)

    def similar(
        self,
        queries: Int8s,
        rows: Int8s,
        row_squares: NDArray[np.int32],
        k: int,
        without: Ids | None,
        threads: int,
    ) -> tuple[Similarities, Ids]:
        """The k most similar rows of each query."""
        return products.similar(queries, rows, row_squares, k, without)

    def products(
        self, queries: Int8s, rows: Int8s, places: Ids, threads: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Products with listed rows."""
        return products.products(queries, rows, places)

    def signed_sums(
        self, weights: NDArray[np.int16], codes: NDArray[np.uint8], places: Ids, threads: int
    ) -> NDArray[np.int32]:
        """Sums of weights by the bits of listed codes."""
        return products.signed_sums(weights, codes, places)

    def hamming(self, a: Words, b: Words, threads: int) -> Distances:
        """Distances between rows of words."""
        m, n = len(a), len(b)
        if m < n // 64:  # the longer side is the one that is shared
            return np.ascontiguousarray(self.hamming(b, a, threads).T)
        out = np.empty((m, n), dtype=np.int32)
        a, columns = _fixed(a), _fixed(np.ascontiguousarray(b.T))
        threads = _useful_threads(threads, m * n // LANES * a.shape[1])
        cuts = [m * part // threads for part in range(threads + 1)]
        _map(
            lambda part: numba_kernels.hamming_rows(a, cuts[part], cuts[part + 1], columns, out),
            range(threads),
            threads,
        )
        return out

    def read_rows(self, chunks: Sequence[Words], slots: _Slots) -> Words:
        """Return the codes in these slots as rows of words."""
        words = np.empty((len(slots), chunks[0].shape[1]), dtype=np.uint64)
        if not len(slots):
            return words
        if slots.min() < 0 or slots.max() >= LANES * sum(map(len, chunks)):
            raise ValueError("slots must be slots that there are")
        block, lane = np.divmod(slots, LANES)
        number, block = np.divmod(block, len(chunks[0]))
        order = np.argsort(number, kind="stable")
        changes = np.flatnonzero(np.diff(number[order])) + 1
        for here in np.split(order, changes):
            words[here] = chunks[number[here[0]]][block[here], :, lane[here]]
        return words

    def choose_clusters(self, segment: contract.Segment, threads: int) -> tuple[int, float]:
        """Refuse: there are no rings."""
        raise NotImplementedError("the Numba kernel builds no rings")

    def build_ring(self, segment: contract.Segment, n_clusters: int, threads: int) -> Ring:
        """Refuse: there are no rings."""
        raise NotImplementedError("the Numba kernel builds no rings")

    def permute(self, segment: contract.Segment, order: NDArray[np.uint32], chunks: Sequence[Words]) -> None:
        """Refuse: there are no rings."""
        raise NotImplementedError("the Numba kernel builds no rings")


KERNEL: Kernel = NumbaKernel()
