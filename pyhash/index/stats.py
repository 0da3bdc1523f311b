"""What an index, or its file, says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from ..backend import Kernel
from ..codes import Levels
from .segment import Segment


@dataclass(frozen=True)
class SegmentStats:
    """One segment of an index: codes that are stored and searched together."""

    codes: int
    removed: int
    """Codes that were removed, and whose place is not yet used again."""
    clusters: int
    """Of its ring; 0 while it is searched flat."""
    answered: int
    """Queries that the ring answered since it was built or opened."""
    handed_back: int
    """Queries that it left to a flat pass."""
    codes_per_query: float | None
    """Codes passed over for an answered query, on average; None before the first."""

    @classmethod
    def of(cls, segment: Segment, kernel: Kernel) -> SegmentStats:
        """Describe a segment, and how queries fared with this kernel."""
        ring = segment.ring
        counters = None if ring is None or not kernel.rings else segment.view(kernel).ring_counters()
        answered, handed_back, scanned = counters or (0, 0, 0)
        return cls(
            codes=len(segment),
            removed=segment.n_removed,
            clusters=0 if ring is None else len(ring.least),
            answered=answered,
            handed_back=handed_back,
            codes_per_query=scanned / answered if answered else None,
        )


@dataclass(frozen=True)
class IndexStats:
    """What `Index.stats` says."""

    codes: int
    bits: int
    levels: dict[str, int]
    structure: str
    segments: list[SegmentStats]
    nbytes: int
    """Bytes in use for codes and ids."""
    reserved_bytes: int
    """Bytes of memory taken for them, room to grow included."""
    readonly: bool
    kernel: str


@dataclass(frozen=True)
class IndexHeader:
    """What the header of an index file says; what `Index.header` returns."""

    version: int
    """Of the file's format."""
    levels: Levels
    structure: str
    codes: int
    """Without those that were removed."""
    removed: int
    """Codes that were removed, and still take their place in the file."""
    clusters: int
    """Of the rings in the file; 0 where there are none."""
    nbytes: int
    """Size of the file."""

    @property
    def bits(self) -> int:
        """Length of a code in bits."""
        return self.levels.bits
