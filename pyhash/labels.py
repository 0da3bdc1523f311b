"""Labels of images: as arrays, and where they come from: folder names, a CSV file, or a tree of classes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ImageError, LabelError
from .images import walk

__all__ = ["LabelError", "Labelled", "Labels", "as_labels", "read_labels"]

Labels = ArrayLike | Mapping[str, ArrayLike]
"""Labels as arrays: one a level, or a bare one; of integers or strings, one an image."""


def as_labels(argument: str, labels: Labels, n: int, bare: str = "label") -> dict[str, NDArray[Any]]:
    """Labels as they may be given: a mapping of level to array of shape (n,), or one array, of the level `bare`.

    Raises
    ------
    TypeError
        When labels are neither integers nor strings.
    ValueError
        When they are not one an image.
    """
    named = dict(labels) if isinstance(labels, Mapping) else {bare: labels}
    if not named:
        raise ValueError(f"{argument} must have at least one level, got none")
    arrays = {}
    for level, values in named.items():
        array = np.asarray(values)
        if array.dtype == object and all(isinstance(value, str) for value in array.flat):
            array = array.astype(str)
        if array.dtype.kind not in "biuU":
            raise TypeError(f"{argument} of level {level!r} must be integers or strings, got {array.dtype}")
        if array.shape != (n,):
            raise ValueError(f"{argument} of level {level!r} must have shape ({n},), one an image, got {array.shape}")
        arrays[level] = array
    return arrays


@dataclass(frozen=True)
class Labelled:
    """Images and what they show.

    Attributes
    ----------
    files : list of str
        Paths of the images.
    labels : dict of str to list of str
        The label of each image at each level, coarse levels first. A level for which the source has none is left
        out, except the finest.
    failed : list of ImageError
        What the folder holds besides and cannot be read, as `pyhash.images.walk` finds it.
    """

    files: list[str]
    labels: dict[str, list[str]]
    failed: list[ImageError] = field(default_factory=list)

    def take(self, rows: Iterable[int]) -> Labelled:
        """Return some of the images, in the order of `rows`, with their labels."""
        chosen = list(rows)
        labels = {level: [values[row] for row in chosen] for level, values in self.labels.items()}
        return Labelled([self.files[row] for row in chosen], labels, self.failed)


def read_labels(
    folder: str | os.PathLike[str], source: str | os.PathLike[str] | None, levels: Sequence[str]
) -> Labelled:
    """List the images of a folder with their labels.

    Parameters
    ----------
    folder : path
        Its images are found in all subfolders, as `pyhash.images.walk` does.
    source : "folders", path or None
        - ``"folders"``: the folder that an image lies in is its class, and the folders around that one its coarser
          groups, ``GROUP/CLASS/image.jpg``. With fewer folders than levels only the finest levels have labels.
        - a CSV file with a column ``path`` (from `folder`, or absolute) and a column for each level.
        - a CSV file without such a column: a tree. Its first column holds the names of class folders, the others, named
          like the levels, the groups that a class belongs to; the finest level may be missing, it is the class.
        - a JSON file: a tree as nested objects, groups around lists of class folders, the outermost groups being the
          first level: ``{"animal": ["cat", "dog"], "vehicle": ["car"]}``.
        - None: no labels.
    levels : sequence of str
        Names of the levels, from coarse to fine.

    Returns
    -------
    Labelled

    Raises
    ------
    LabelError
        When there are no images, an image has no label, or a level has no labels and is not a coarser one.
    OSError
        When a file or the folder cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"images must be a folder, got {os.fspath(folder)!r}")
    if source is None:
        files, failed = _images(folder)
        return Labelled(files, {}, failed)
    if source == "folders":
        return _from_folders(folder, levels)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path.name} is not UTF-8: {error}") from error
    if path.suffix.lower() == ".json":
        try:
            leaves = dict(_leaves(json.loads(text)))
        except json.JSONDecodeError as error:
            raise LabelError(f"{path.name} is not JSON: {error}") from error
        outer = levels[:-1]
        tree = {
            name: {level: groups[min(number, len(groups) - 1)] for number, level in enumerate(outer)}
            for name, groups in leaves.items()
        }
        return _from_tree(folder, tree, levels)
    try:
        table = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise LabelError(f"{path.name} is not CSV: {error}") from error
    rows = [{key: value for key, value in row.items() if key} for row in table]
    if not any(rows):
        raise LabelError(f"{path.name} holds no rows")
    if "path" in rows[0]:
        bare = next((number for number, row in enumerate(rows, 1) if not row["path"]), None)
        if bare is not None:
            raise LabelError(f"row {bare} of {path.name} has no path")
        files = [os.path.join(folder, row["path"]) for row in rows]
        return Labelled(files, _columns(rows, [column for column in rows[0] if column != "path"], levels, path.name))
    key = next(iter(rows[0]))
    return _from_tree(folder, {row[key]: row for row in rows}, levels)


def _images(folder: Path) -> tuple[list[str], list[ImageError]]:
    """Return the paths of a folder's images, and what cannot be read; LabelError when there are no images."""
    found = walk(folder)
    if not found.images:
        raise LabelError(f"no images in {os.fspath(folder)}{_why_none(found.failed)}")
    return [os.path.join(folder, *image.path.split("/")) for image in found.images], found.failed


def _why_none(failed: list[ImageError]) -> str:
    return f" that can be read; {failed[0]}" if failed else ""


def _from_folders(folder: Path, levels: Sequence[str]) -> Labelled:
    files, failed = _images(folder)
    parts = [Path(file).relative_to(folder).parent.parts for file in files]
    while len({part[:1] for part in parts}) == 1 and parts[0]:  # such as one folder "train" around all
        parts = [part[1:] for part in parts]
    bare = next((file for file, part in zip(files, parts, strict=True) if not part), None)
    if bare is not None:
        raise LabelError(f"expected one folder per class (at least two); {bare} is not inside a class folder")
    depth = min(map(len, parts))
    known = levels[-depth:]
    labels = {}
    for number, level in enumerate(known):
        rest = len(known) - 1 - number  # folders that are inside the one of this level
        labels[level] = ["/".join(part[: len(part) - rest]) for part in parts]
    return Labelled(files, labels, failed)


def _from_tree(folder: Path, tree: dict[str, dict[str, str]], levels: Sequence[str]) -> Labelled:
    files, failed = _images(folder)
    rows = []
    for file in files:
        name = Path(file).parent.name
        if name not in tree:
            raise LabelError(f"the tree of classes has no class {name!r}, the folder of {file}")
        rows.append({**tree[name], "": name})
    columns = list(next(iter(tree.values())))
    if levels[-1] not in columns:
        rows = [{**row, levels[-1]: row[""]} for row in rows]
        columns.append(levels[-1])
    return Labelled(files, _columns(rows, columns, levels, "the tree of classes"), failed)


def _columns(
    rows: list[dict[str, str]], columns: list[str], levels: Sequence[str], source: str
) -> dict[str, list[str]]:
    if len(levels) == 1 and levels[0] not in columns and len(columns) == 1:
        rows, columns = [{levels[0]: row[columns[0]]} for row in rows], [levels[0]]
    if levels[-1] not in columns:
        raise LabelError(
            f"{source} must have a column for the level {levels[-1]!r}, got {', '.join(columns) or 'none'}"
        )
    labels = {level: [row[level] for row in rows] for level in levels if level in columns}
    for level, values in labels.items():
        empty = next((number for number, value in enumerate(values) if not value), None)
        if empty is not None:
            raise LabelError(f"row {empty + 1} of {source} has no label for the level {level!r}")
    return labels


def _leaves(tree: Any, groups: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each class of a nested tree with its groups, the class itself last."""
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield from _leaves(inner, (*groups, str(name)))
    elif isinstance(tree, list):
        for name in tree:
            yield str(name), (*groups, str(name))
    else:
        raise LabelError(f"a tree of classes must be objects around lists of names, got {tree!r}")
