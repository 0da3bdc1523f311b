"""What an encoder tells: of an image of a stream, and of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..images import Look, Part, Source

__all__ = ["Encoded", "EncodedPart", "Fingerprints"]


class EncodedPart(NamedTuple):
    """A part of an image with its code; without one where the network makes no numbers of it."""

    part: Part
    code: NDArray[np.uint8] | None
    embedding: NDArray[np.float32] | None = None
    """As that of the image."""


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
    parts : sequence of EncodedPart
        Those that were asked for and that it has.
    """

    source: Source
    code: NDArray[np.uint8] | None = None
    embedding: NDArray[np.float32] | None = None
    error: ImageError | None = None
    look: Look | None = None
    thumbnail: bytes | None = None
    parts: Sequence[EncodedPart] = ()


class Fingerprints(NamedTuple):
    """What an encoder's codes depend on, in parts: hex digits that are the same only where the part is."""

    network: str
    """What turns pixels into embeddings, and how images are prepared for it; for an encoder that gives codes alone, all
    of it."""
    head: str
    """What turns embeddings into bits; empty for an encoder that gives codes alone."""
    decoder: str
    """What turns files into pixels, on this machine (see `images.decoder_identity`)."""
