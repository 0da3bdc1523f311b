"""What an encoder tells: of an image of a stream, and of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..images import Look, Source

__all__ = ["Encoded", "Fingerprints"]


@dataclass(frozen=True)
class Encoded:
    """An image of a stream with its code, or with what is wrong with it.

    Attributes
    ----------
    source : image
        As it was given.
    code : uint8 array, shape (n_bytes,), or None
    embedding : float32 array, shape (dim,), or None
        As the network projects it; None unless it was asked for.
    error : ImageError or None
        Why there is no code.
    look : Look or None
        How it looks, by which copies are found; None unless it was asked for.
    thumbnail : bytes or None
        A small JPEG file of it, without metadata; None unless it was asked for.
    """

    source: Source
    code: NDArray[np.uint8] | None = None
    embedding: NDArray[np.float32] | None = None
    error: ImageError | None = None
    look: Look | None = None
    thumbnail: bytes | None = None


class Fingerprints(NamedTuple):
    """What an encoder's codes depend on, in parts: hex digits that are the same only where the part is."""

    network: str
    """What turns pixels into embeddings, and how images are prepared for it; for an encoder that gives codes alone, all
    of it."""
    head: str
    """What turns embeddings into bits; empty for an encoder that gives codes alone."""
    decoder: str
    """What turns files into pixels, on this machine (see `images.decoder_identity`)."""
