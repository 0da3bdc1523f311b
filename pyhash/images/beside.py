"""Camera RAW beside the image that a camera, or its owner, made of it: two files, one image."""

from __future__ import annotations

import os
from collections.abc import Iterable

__all__ = ["RAW_SUFFIXES", "raws_beside"]

# fmt: off
RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos",
    ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef", ".ptx", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})
# fmt: on
_DEVELOPED = (".jpg", ".jpeg", ".jpe", ".jfif", ".heic", ".heif", ".hif")
"""What RAW files lie beside; of several the first counts."""


def raws_beside(paths: Iterable[str]) -> dict[str, str]:
    """Return which of these paths are RAW files of an image among them, and of which: same folder, same name.

    The case of a name does not matter, unless there are several.
    """
    named = [(path, *os.path.splitext(path)) for path in paths]
    raws = [(path, stem) for path, stem, suffix in named if suffix.lower() in RAW_SUFFIXES]
    images: dict[str, list[tuple[str, int, str]]] = {_key(stem): [] for _, stem in raws}
    for path, stem, suffix in named if raws else ():
        if suffix.lower() in _DEVELOPED and (found := images.get(_key(stem))) is not None:
            found.append((stem, _DEVELOPED.index(suffix.lower()), path))
    return {
        path: min(images[_key(stem)], key=lambda each: (each[0] != stem, *each[1:]))[-1]
        for path, stem in raws
        if images[_key(stem)]
    }


def _key(stem: str) -> str:
    """A path without its ending, the case of its name left open."""
    folder, slash, name = stem.rpartition("/")
    return folder + slash + name.lower()
