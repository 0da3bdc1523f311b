"""Images to decode: a smooth photograph, and the bytes of its file."""

import io

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import Image

Image.init()
AVIF = pytest.param("AVIF", marks=pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow has no AVIF"))


def photo(width=60, height=40, seed=0):
    """A smooth colour image, as a uint8 array."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = [np.sin(x / rng.uniform(4, 12) + y / rng.uniform(4, 12) + rng.uniform(0, 6)) for _ in range(3)]
    return np.uint8(np.stack(waves, -1) * 110 + 128)


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
