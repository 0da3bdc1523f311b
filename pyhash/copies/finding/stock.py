"""What is known of the images among which copies are searched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...images import Source

__all__ = ["Stock"]


def _none() -> NDArray[np.int64]:
    return np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Stock:
    """Images by their place, 0 to n - 1."""

    path: Callable[[int], str]
    """Of an image's file, or what it is called."""
    n_bytes: NDArray[np.int64]
    """Of its file, when it was looked at; with `mtime_ns` that tells whether it is the same still."""
    mtime_ns: NDArray[np.int64]
    digests: list[bytes | None]
    """Of its bytes; None where that is not known."""
    blocks: NDArray[np.int16]
    """``(n, 2, 8, 8)``: of its look, as `pyhash.images.Look` has them; zeros where there is none."""
    thumbnail: Callable[[int], bytes | None]
    """Its thumbnail as a JPEG file, at most 160 pixels; None where there is none."""
    given: dict[int, Source] = field(default_factory=dict)
    """Images that are no files: what they are instead."""
    near: NDArray[np.int64] | None = None
    """``(n, k)``: places of the images that are like it, -1 where there are fewer; None where they are not known."""
    ids: NDArray[np.int64] | None = None
    """In a gallery."""
    reference: NDArray[np.bool_] | None = None
    """Which are there to be searched against, and never touched: each of the others is compared with these alone. None
    where all are compared with one another."""
    apart: NDArray[np.int64] = field(default_factory=_none)
    """``(m, 2)``: places of images of which a person said that they are no duplicates."""

    def __len__(self) -> int:
        return len(self.n_bytes)

    def source(self, place: int) -> Source:
        """What is decoded of an image."""
        return self.given[place] if place in self.given else self.path(place)

    def is_reference(self, place: int) -> bool:
        """Whether an image is there to be searched against."""
        return self.reference is not None and bool(self.reference[place])
