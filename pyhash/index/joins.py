"""Pairs of codes that are near each other, a block at a time where all together may not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Kernel, Metric
from .checks import room_of_pairs, too_many
from .results import Pairs
from .segment import Segment
from .snapshot import Snapshot

_PAIRS = 1 << 21  # at most, of a block


def in_blocks(
    kernel: Kernel,
    now: Snapshot,
    other: Snapshot | None,
    n_words: int,
    metric: Metric | None,
    radius: int,
    threads: int,
) -> Iterator[Pairs]:
    """Yield all pairs as `Kernel.pairs` orders them, some at a time.

    The first try joins all codes. Where that brings too many pairs, half as many are joined with all, and so on: a
    single code cannot have more partners than there are codes.
    """
    right = now if other is None else other
    most = max(_PAIRS, right.n_codes)
    ids = now.ids()
    everyone = right.target(kernel).own
    done, step = 0, len(ids)
    while done < len(ids):
        whole = step >= len(ids)
        some = ids[done : done + step]
        try:
            if whole:
                others = None if other is None else everyone
                own = now.target(kernel).own
                room = room_of_pairs(len(now), None if other is None else len(other))
                found = Pairs(*kernel.pairs(own, others, metric, radius, threads, most, room))
            else:
                part = kernel.target([Segment.of_rows(now.rows(some, n_words), some).view(kernel)])
                room = room_of_pairs(len(some), len(right))
                found = Pairs(*kernel.pairs(part, everyone, metric, radius, threads, most, room))
        except MemoryError:
            if len(some) == 1:
                raise too_many(radius) from None
            step = len(some) // 2
            continue
        if other is None and not whole:  # joined with all codes, a code finds itself, and each pair is found twice
            later = found.j > found.i
            found = Pairs(found.i[later], found.j[later], found.distances[later])
        if len(found.i):
            yield found
        done += len(some)
        if not whole and len(found.i) < _PAIRS // 4:
            step = min(2 * step, len(ids) - 1)
