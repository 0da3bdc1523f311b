"""What a head of a gallery is fitted for: its levels, and labels of its images."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels, LevelsLike, check_int
from ..errors import LabelError
from ..labels import Labels, as_labels, read_labels
from .adapt import Labelling
from .folders import Folders
from .results import PathLike
from .store import GalleryFile

_BARE = "label"


def split_levels(levels: LevelsLike) -> dict[str, int]:
    """Return levels; of so many bits a quarter of the bytes coarse and the rest fine."""
    if isinstance(levels, Mapping):
        return dict(Levels(levels))
    bits = check_int(levels, "levels", 16)
    if bits % 8:
        raise ValueError(f"levels must be a multiple of 8 bits, got {bits}")
    coarse = max(1, bits // 32)
    return dict(Levels({"coarse": 8 * coarse, "fine": bits - 8 * coarse}))  # says which are too many


def labelling_of(
    file: GalleryFile, folders: Folders, labels: PathLike | Labels, levels: Sequence[str], ids: NDArray[np.int64]
) -> Labelling:
    """Return the labels of rows, as `Gallery.fit` takes them."""
    if isinstance(labels, (str, os.PathLike)):
        known, named = _of_source(file, folders, labels, levels, ids)
    else:
        known, named = np.ones(len(ids), np.bool_), as_labels("labels", labels, len(ids), _BARE)
    # What is known of one level only is what images show: it is wanted at every level.
    single = len(named) == 1 and (next(iter(named)) in (_BARE, levels[-1]))
    return Labelling(known, next(iter(named.values())) if single else named)


def _of_source(
    file: GalleryFile, folders: Folders, source: PathLike, levels: Sequence[str], ids: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
    roots = [*folders.roots.values()]
    found = read_labels([root for root in roots if os.path.isdir(root)] or roots, source, levels)
    real = functools.cache(os.path.realpath)  # of folders: an image may be a link
    parts = [os.path.split(os.path.abspath(path)) for path in found.files]
    keys = folders.keys(os.path.join(real(parent), name) for parent, name in parts)
    with file.reading():
        rows = file.ids_of(key or "" for key in keys)  # nothing is called nothing
    of_row = {row: place for place, row in enumerate(rows) if row is not None}
    places = np.array([of_row.get(row, -1) for row in ids.tolist()], np.int64)
    known = places >= 0
    if not known.any():
        raise LabelError(f"labels must be of images of the gallery, but {os.fspath(source)} names none of them")
    return known, {level: np.array(values)[places[known]] for level, values in found.labels.items()}
