"""The photographs that ``pyhash demo`` indexes and searches, so that everything can be tried offline."""

from __future__ import annotations

import importlib.resources
import os
from importlib.resources.abc import Traversable
from pathlib import Path

from ..support import files

__all__ = ["copy_photographs"]


def copy_photographs(collection: str | os.PathLike[str], queries: str | os.PathLike[str]) -> list[Path]:
    """Copy the package's photographs of clothes out of it.

    A file that is there already is left alone.

    Parameters
    ----------
    collection : path
        Folder to search in: twelve photographs of each of ten kinds, a folder each.
    queries : path
        Folder for three more, to search with.

    Returns
    -------
    list of Path
        The queries.
    """
    photographs = importlib.resources.files("pyhash.models") / "photographs"
    for kind in (photographs / "collection").iterdir():
        _copy(kind, Path(collection) / kind.name)
    return _copy(photographs / "queries", Path(queries))


def _copy(source: Traversable, target: Path) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    copied = []
    for file in sorted(source.iterdir(), key=lambda file: file.name):
        path = target / file.name
        if not path.exists():
            files.write(path, [file.read_bytes()], [])
        copied.append(path)
    return copied
