"""What `pyhash bench` runs: this search beside its peers and the machine's limits, in one run, every answer checked.

Machines are shared and noisy, so peers take turns, round by round, and a ratio is the median of the rounds' ratios. One
thread and CPU time unless a case says otherwise. A peer that is not installed is left out, and the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from .bench import WIDTHS, Bench, Case, Row
from .calls import fallback, interrupts, small_calls, weights
from .clustered import clustered_codes, graph_index, latency, real_codes
from .joins import groups, hard_joins, join_clustered, join_large, join_real, join_two, join_uniform
from .searches import batch, limits, narrow_kernel, one_query, order, two_threads, uniform_indexed
from .storage import memory, packing

CASES: dict[str, tuple[Case, tuple[int, ...]]] = {
    case.__name__: (case, widths)
    for case, widths in [
        (limits, WIDTHS),
        (one_query, WIDTHS),
        (batch, WIDTHS),
        (narrow_kernel, WIDTHS),
        (clustered_codes, WIDTHS),
        (real_codes, (64,)),
        (graph_index, (64, 256)),
        (latency, (64,)),
        (small_calls, (64,)),
        (weights, (64,)),
        (order, (64, 256)),
        (uniform_indexed, WIDTHS),
        (join_uniform, (64, 128, 256)),
        (join_large, (64,)),
        (join_clustered, (64,)),
        (join_real, (64,)),
        (hard_joins, (64,)),
        (join_two, (64, 128, 256)),
        (groups, (64,)),
        (two_threads, WIDTHS),
        (interrupts, (64,)),
        (fallback, (64,)),
        (memory, (64,)),
        (packing, (64, 4096)),
    ]
}
"""Each case by its name, and the lengths of codes it is run with."""


def run(bench: Bench, only: str | None = None) -> Iterator[Row]:
    """Yield the rows of every case, or of those whose name contains `only`."""
    for name, (case, widths) in CASES.items():
        for bits in widths:
            if only is None or only in name:
                yield from case(bench, bits)
