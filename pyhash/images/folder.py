"""Which files of a folder are images."""

from __future__ import annotations

__all__ = ["SUFFIXES", "UNREADABLE"]

# fmt: off
UNREADABLE = frozenset({".heic", ".heif"})
"""Pictures that Pillow alone cannot decode; a folder of them must not look empty."""
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""File names that end in one of these, in any case, are pictures."""
