"""When a ring is built for the first segment of an index: when searches have paid for it, and it makes them cheaper."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Literal

from ..backend import MAX_RING_WORDS, Kernel
from .chunks import Chunks
from .segment import Segment, merged
from .snapshot import Snapshot

Structure = Literal["auto", "flat", "ring"]

_log = logging.getLogger("pyhash")
_RING_FROM = 1 << 16  # codes from which "auto" thinks of a ring: below, a flat pass takes microseconds
_RING_AFTER = 4096  # flat passes that take about as long as building a ring
_RING_SHARE = 0.25  # of all codes: what a query may pass over, here and there, with a ring that is worth building
_FEW_QUERIES = 16  # in one call: below, each passes over the codes alone


class Rings:
    """Counts searches, and builds a ring when it is time. Threads that count at once may lose a count: no harm."""

    def __init__(self, structure: Structure) -> None:
        self.structure: Structure = structure
        self._flat_passes = 0.0  # over the first segment, since a ring was last thought of
        self._refused: tuple[weakref.ref[Chunks], int] | None = None  # whose ring does not pay, with how many codes
        self._builder: threading.Thread | None = None  # who builds at the moment

    def wanted(self, kernel: Kernel, now: Snapshot, n_queries: int) -> bool:
        """Count a search, and say whether searches have cost about as much by now as building a ring would."""
        if self.structure == "flat" or (self.structure == "auto" and now.n_codes < _RING_FROM):
            return False
        if not now.segments or not self._possible(kernel, now.segments[0]):
            return False
        if self.structure == "ring":
            return True
        if now.segments[0].n_codes < _RING_FROM:
            return False
        # Many queries in one call share a pass.
        self._flat_passes += n_queries if n_queries < _FEW_QUERIES else n_queries / 4
        return self._flat_passes >= _RING_AFTER

    def _possible(self, kernel: Kernel, first: Segment) -> bool:
        if first.ring is not None or not kernel.rings or first.chunks.n_words > MAX_RING_WORDS:
            return False
        if self._refused is not None and self._refused[0]() is first.chunks and first.n_codes < 2 * self._refused[1]:
            return False
        return first.n_codes < 2**32

    def reconsider(self) -> None:
        """Think of a ring anew, though it did not pay."""
        self._refused = None

    def build(self, kernel: Kernel, now: Snapshot, threads: int) -> tuple[Segment, Segment] | None:
        """Build a ring for the first segment if it pays: that segment and the one with a ring. No lock is held.

        None where it does not pay, cannot be had, or another thread is at it.
        """
        if not now.segments or not self._possible(kernel, now.segments[0]):
            return None
        builder = self._builder
        if builder is not None and builder is not threading.current_thread() and builder.is_alive():
            return None  # not where a fork or an interrupt left the name behind
        self._builder = threading.current_thread()
        first = now.segments[0]
        try:
            self._flat_passes = 0.0
            whole = merged([first]) if first.n_removed else first
            n_clusters, share = kernel.choose_clusters(whole.view(kernel), threads)
            if share > _RING_SHARE and self.structure != "ring":
                self._refused = weakref.ref(first.chunks), first.n_codes
                return None
            ring = whole.with_ring(kernel, n_clusters, threads)
        except MemoryError:  # searches go on without it
            _log.warning("no memory to build a ring for %d codes; searching without", first.n_codes)
            self._refused = weakref.ref(first.chunks), first.n_codes
            return None
        finally:
            self._builder = None
        _log.info("built a ring for %d codes", len(ring))
        return first, ring
