"""Whether what an index file says can be: checksums find damage, this finds what no index would have written."""

from __future__ import annotations

import numpy as np

from ..backend import PAD_ID, Ring
from ..codes import to_words
from ..support import memory
from .chunks import BLOCK, Words
from .segment import Segment
from .snapshot import Snapshot

_ROWS = 1 << 16  # codes of a ring looked at at once


def nonsense(now: Snapshot, bits: int) -> str | None:
    """Return what cannot be, or None. Looks at everything: about as long as reading it."""
    used = to_words(np.packbits(np.ones((1, bits), dtype=np.uint8), axis=1))[0]
    for segment in now.segments:
        problem = _of_codes(segment, used) or _of_ids(segment)
        if problem is None and segment.ring is not None:
            problem = _of_ring(segment, segment.ring)
        if problem is not None:
            return problem
    if any(segment.last_id >= now.next_id for segment in now.segments):
        return "the next id is not beyond the ids that there are"
    ids = now.ids() if len(now.segments) > 1 else np.empty(0, np.int64)
    return "an id is there twice" if np.any(ids[1:] == ids[:-1]) else None


def _of_codes(segment: Segment, used: Words) -> str | None:
    for blocks in segment.chunks.used(segment.n_codes):
        if np.any(np.bitwise_or.reduce(np.bitwise_or.reduce(blocks, axis=2), axis=0) & ~used):
            return "a code has bits beyond its length"
    if segment.removed is not None:
        lanes = segment.n_codes % BLOCK
        if lanes and int(segment.removed[segment.n_blocks - 1]) >> lanes:
            return "codes beyond the end are marked as removed"
    return None


def _of_ids(segment: Segment) -> str | None:
    ids = segment.ids
    if ids is None:
        return "-1 is an id" if segment.first_id <= PAD_ID <= segment.last_id else None
    own = ids[: segment.n_codes]
    if np.any(own[1:] <= own[:-1]):
        return "ids do not ascend"
    at = int(np.searchsorted(own, PAD_ID))
    return "-1 is an id" if at < len(own) and own[at] == PAD_ID else None


def _of_ring(segment: Segment, ring: Ring) -> str | None:
    """Every code must lie as far from the centre of its cluster as its place says: searches rest on that."""
    n, clusters = segment.n_codes, len(ring.least)
    memory.ask(17 * n, "mmap must be True", "the checks of a ring of %d codes", n)
    seen = np.zeros(n, dtype=np.bool_)
    if ring.order.max(initial=0) >= n:
        return "its ring refers to codes beyond the end"
    seen[ring.order] = True
    if not seen.all():
        return "its ring leaves codes out"
    first, starts = ring.first.astype(np.int64), ring.starts.astype(np.int64)
    steps = np.diff(first)
    if not clusters or first[0] != 0 or first[-1] != len(starts) or np.any(steps < 2):
        return "its ring has clusters without an end"
    ends = first[1:] - 1
    begins = np.append(starts[first[:-1]], n)
    if begins[0] != 0 or np.any(np.diff(starts) < 0) or np.any(starts[ends] != begins[1:]):
        return "its ring does not hold every code once"
    sizes = np.diff(starts, append=n)  # of each ring; what follows the end of a cluster is the next one's
    sizes[ends] = 0
    cluster = np.repeat(np.arange(clusters), steps)
    radius = ring.least.astype(np.int64)[cluster] + np.arange(len(starts)) - first[:-1][cluster]
    cluster_of, radius_of = np.repeat(cluster, sizes), np.repeat(radius, sizes)
    centres = ring.centres.transpose(0, 2, 1).reshape(-1, ring.centres.shape[1])
    for begin in range(0, n, _ROWS):
        end = min(n, begin + _ROWS)
        rows = segment.rows(np.arange(begin, end))
        distances = np.bitwise_count(rows ^ centres[cluster_of[begin:end]]).sum(axis=1, dtype=np.int64)
        if np.any(distances != radius_of[begin:end]):
            return "its ring holds codes in the wrong place"
    return None
