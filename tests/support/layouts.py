"""Arrays laid out in memory in every way."""

from __future__ import annotations

import numpy as np


def layouts(features):
    """The same numbers in memory of every kind."""
    n, bits = features.shape
    yield "fortran", np.asfortranarray(features)
    yield "reversed", np.ascontiguousarray(features[::-1, ::-1])[::-1, ::-1]
    wide = np.zeros((2 * n, 3 * bits), dtype=features.dtype)
    wide[::2, ::3] = features
    yield "strided", wide[::2, ::3]
    padded = np.zeros((n, bits + 5), dtype=features.dtype)
    padded[:, 2:-3] = features
    yield "slice", padded[:, 2:-3]
    fixed = features.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    raw = np.zeros(features.nbytes + 1, dtype=np.uint8)
    shifted = raw[1:].view(features.dtype).reshape(features.shape)
    shifted[:] = features
    yield "unaligned", shifted
    yield "swapped", features.astype(features.dtype.newbyteorder())
    yield "broadcast", np.broadcast_to(features[0], features.shape)
