"""What stands for all that turns a file into pixels, on this machine."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
from typing import Any

import numpy as np

from ..errors import ImageError
from ..support import require
from .decode import load
from .decoded import RESIZES
from .formats import File

__all__ = ["decoder_identity"]

DECODING = 3
"""Raised whenever this package itself makes other pixels of a file than before (depth, colours, orientation, scale), or
another look."""

# A 21x13 JPEG whose pixels show how this machine decodes: chroma at half resolution and odd sides, where
# decoders differ.
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT0//wAARCAANABUDASIAAhEBAxEB/8QAGAAAAwEBAAAAAAAAAAAAAAAAAAUHAwb/xAAjEAABAwQCAQUAAAAAAAAAAAAB"
    "AAIDBAURITFREzJhobHR/8QAFQEBAQAAAAAAAAAAAAAAAAAAAgT/xAAlEQABAgUCBwEAAAAAAAAAAAABAgMABAURITGBIlGRobHR"
    "4fD/2gAMAwEAAhEDEQA/ANqa4FhG85TOK4tDSPJ6T89Kfx1smgMjvfKaw1UzWlxdk417JLpjfEhAwO2Njr+ECQpQxeO4be4KNgE0"
    "uC7jRP0hTu8Vsxnja45aGZA62fwIV8tTEpaAGN/h89NIU2txl5TaALDnf3H/2Q=="
)
# As large, in the other formats that lose something: WebP, AVIF, JPEG 2000.
_OTHERS = (
    (
        "UklGRm4AAABXRUJQVlA4IGIAAADwAwCdASoVAA0APrVOoUmnJKOhMAgA4BaJbACdMoRwL8AAqSg9OwVGAP724pGjSReJGWHdFEDw6UM3"
        "3tj2DLvLp2FAgLHekCNld+frz7gxKgrr9Ng1X4nX6uWmmdzfmTQAAA=="
    ),
    (
        "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAA"
        "AAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAARAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFD"
        "b2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAFQAAAA0AAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJu"
        "Y2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAATG1kYXQSAAoJGBDpjRAQ0GhAMjUZR4eGIYeeeeaAQACuslh542CvV3lW"
        "54qZcCzMhqMdZcxKb9yWn6aQcMjtTL1z2FV/tYssHw=="
    ),
    (
        "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAADQAAABUAAwcHAAAAAAAPY29scgEAAAAAABAA"
        "AAClanAyY/9P/1EALwAAAAAAFQAAAA0AAAAAAAAAAAAAABUAAAANAAAAAAAAAAAAAwcBAQcBAQcBAf9SAAwAAAABAAEEBAAA/1wAC0JI"
        "JFfTV9NXYv9kACUAAUNyZWF0ZWQgYnkgT3BlbkpQRUcgdmVyc2lvbiAyLjUuNP+QAAoAAAAAACYAAf+TyYARUCN6HGaAyqARUFHqI0FK"
        "BmftgICA/9k="
    ),
)


@functools.cache
def decoder_identity() -> str:
    """Return 16 hex digits that stand for what this machine makes of an image's file.

    They change with `DECODING`, which counts what this package does to pixels, and with the pixels of small images:
    JPEG, whole and at a half, a quarter and an eighth, by every filter, WebP, AVIF and JPEG 2000, and colours that are
    converted. So they stay the same over versions of Pillow and its libraries that decode alike, and a gallery is not
    encoded again for nothing. Formats that lose nothing need no image: their pixels are given. Whether images are
    brought near the wanted size first is for who asks for it to add (`Encoder.fingerprints` does).
    """
    digest = hashlib.sha256(f"{DECODING}".encode())
    for resize in RESIZES:
        digest.update(load(_JPEG, size=(7, 9), resize=resize).tobytes())
    for factor in (1, 2, 4, 8):
        file = File(io.BytesIO(_JPEG))
        with file.open() as image:
            image.draft("RGB", (image.width // factor, image.height // factor))
            file.decode(image)
            digest.update(image.tobytes())
    for source in (*map(base64.b64decode, _OTHERS), _lab()):
        with contextlib.suppress(ImageError):  # what this Pillow cannot read
            digest.update(load(source).tobytes())
    return digest.hexdigest()[:16]


def _lab() -> Any:
    """Return colours of the CIE's Lab, which are converted to be shown."""
    image_module: Any = require("PIL.Image", "encoder")
    ramp = np.arange(0, 256, 8, dtype=np.uint8)
    planes = (image_module.fromarray(np.resize(np.roll(ramp, shift), (8, 32))) for shift in (0, 5, 17))
    return image_module.merge("LAB", tuple(planes))
