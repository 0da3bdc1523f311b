"""What a search passes over: all codes of a snapshot, or those that the caller allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..backend import PAD_ID, Kernel, Metric
from ..support import memory
from .chunks import BLOCK, Slots
from .segment import Ids, Segment
from .snapshot import Snapshot, Target

_MAX_CANDIDATES = 1 << 24  # of a cascade, held at once: so many queries are taken together


def only(kernel: Kernel, now: Snapshot, where: NDArray[np.bool_] | Ids, n_queries: int) -> Target:
    """Those allowed: a mask aligned with `now.ids()`, or ids.

    Few allowed codes are gathered into small segments of their own; many are marked in a bit mask.
    """
    memory.ask(48 * len(where) + len(now), "where must be shorter", "the places of %d codes", len(where))
    segments = [segment.for_kernel(kernel) for segment in now.segments]
    if where.dtype == np.bool_ and len(segments) == 1 and segments[0].removed is None and segments[0].ring is None:
        slots = [np.flatnonzero(where)]
    else:
        wanted = now.ids()[where] if where.dtype == np.bool_ else ascending(where.astype(np.int64, copy=False))
        found = [segment.find(wanted) for segment in segments]
        slots = [s[s >= 0] for s in found]
    n_allowed = sum(map(len, slots))
    n_codes = sum(segment.n_codes for segment in segments)
    # Gathering a code costs about as much as passing over a few hundred, once for all queries.
    if n_allowed <= BLOCK or (n_allowed * 256 < n_codes * n_queries and n_allowed * 8 < n_codes):
        few = [
            Segment.of_rows(kernel.read_rows(segment.chunks.arrays, s), segment.ids_of(s))
            for segment, s in zip(segments, slots, strict=True)
            if len(s)
        ]
        return Target.of(kernel, few)
    masks = []
    for segment, s in zip(segments, slots, strict=True):
        marks = np.zeros(segment.n_blocks * BLOCK, dtype=np.bool_)
        marks[s] = True
        masks.append(np.packbits(marks, bitorder="little").view("<u8").astype(np.uint64, copy=False))
    return Target.of(kernel, segments, masks)


def cascaded(
    kernel: Kernel,
    target: Target,
    queries: NDArray[np.uint8],
    coarse: Metric | None,
    n_candidates: int,
    fine: Metric | None,
    k: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find candidates by one metric and order them by another; as `Kernel.topk` answers."""
    n_candidates = max(1, min(n_candidates, sum(map(len, target.segments))))
    step = max(1, _MAX_CANDIDATES // n_candidates)
    memory.ask(
        # A candidate's distance, id and slot, and those while they are found; answers, part by part and together.
        80 * n_candidates * min(step, len(queries)) + 24 * k * len(queries),
        "cascade's number of candidates must be smaller",
        "%d candidates and %d answers to each of %d queries",
        n_candidates,
        k,
        len(queries),
    )
    parts = []
    for begin in range(0, max(1, len(queries)), step):
        some = queries[begin : begin + step]
        _, near = kernel.topk(target.own, some, coarse, n_candidates, threads)
        slots = _slots_of(target.segments, near)
        parts.append(kernel.rerank(target.own, some, slots, fine, k, threads))
    return np.concatenate([distances for distances, _ in parts]), np.concatenate([ids for _, ids in parts])


def _slots_of(segments: Sequence[Segment], ids: Ids) -> Slots:
    """Return where these ids (any shape, -1 for none) lie: slots counted through the segments, -1 for none."""
    places = np.full(ids.size, -1, dtype=np.int64)
    flat = ids.reshape(-1)
    before = 0
    for segment in segments:
        slots = segment.find(flat)
        here = (slots >= 0) & (flat != PAD_ID)
        places[here] = before + slots[here]
        before += segment.n_codes
    return places.reshape(ids.shape)


def ascending(ids: Ids) -> Ids:
    """Return ids in ascending order, each once.

    As `numpy.unique` does; but that imports at its first call, and a child forked meanwhile would wait for ever.
    """
    ids = np.sort(ids)
    fresh = np.ones(len(ids), dtype=np.bool_)
    fresh[1:] = ids[1:] != ids[:-1]
    return ids[fresh]
