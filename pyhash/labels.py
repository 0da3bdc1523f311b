"""Labels of images: as arrays, and where they come from: folder names, a CSV file, or a tree of classes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ImageError, LabelError
from .images import raws_beside, walk

__all__ = ["LabelError", "Labelled", "Labels", "as_labels", "read_labels"]

_T = TypeVar("_T")
_DELIMITERS = ",;\t|"

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
    folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    source: str | os.PathLike[str] | None,
    levels: Sequence[str],
    *,
    classes: Collection[str] | None = None,
) -> Labelled:
    """List the images of a folder with their labels.

    Parameters
    ----------
    folder : path or sequence of paths
        Its images are found in all subfolders, as `pyhash.images.walk` does. Several are taken together.
    source : "folders", path or None
        - ``"folders"``: the folder that an image lies in is its class, and the folders around that one its coarser
          groups, ``GROUP/CLASS/image.jpg``. With fewer folders than levels only the finest levels have labels.
        - a CSV file with a column ``path`` (from `folder`, or absolute) and a column for each level. Columns may be
          separated by commas, semicolons, tabs or bars; a first column of another name whose values are files is that
          of the paths.
        - a CSV file without paths: a tree. Its first column holds the names of class folders, the others, named
          like the levels, the groups that a class belongs to; the finest level may be missing, it is the class.
        - a JSON file: a tree as nested objects, groups around lists of class folders, the outermost groups being the
          first level: ``{"animal": ["cat", "dog"], "vehicle": ["car"]}``.
        - None: no labels.
    levels : sequence of str
        Names of the levels, from coarse to fine.
    classes : collection of str, optional
        The finest labels of other images that these are compared with. Folders around all are then left out or kept
        as that needs, and the images may be of one class.

    Returns
    -------
    Labelled

    Raises
    ------
    LabelError
        When there are no images, an image has no label or two, or a level has no labels and is not a coarser one.
    OSError
        When a file or the folder cannot be read.
    """
    folders = [*map(Path, [folder] if isinstance(folder, (str, os.PathLike)) else folder)]
    for one in folders:
        if not one.is_dir():
            raise NotADirectoryError(f"images must be a folder, got {os.fspath(one)!r}")
    if source is None:
        files, failed, _ = _images(folders)
        return Labelled(files, {}, failed)
    if source == "folders":
        return _from_folders(folders, levels, classes)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path.name} is not UTF-8: {error}") from error
    if path.suffix.lower() == ".json":
        try:
            leaves = _unique(_leaves(json.loads(text)), path.name)
        except json.JSONDecodeError as error:
            raise LabelError(f"{path.name} is not JSON: {error}") from error
        outer = levels[:-1]
        tree = {
            name: {level: groups[min(number, len(groups) - 1)] for number, level in enumerate(outer)}
            for name, groups in leaves.items()
        }
        return _from_tree(folders, tree, levels, path.name)
    rows = _table(text, path.name)
    key = _path_column(rows, folders)
    if key is not None:
        return _from_paths(folders, rows, key, levels, path.name)
    key = next(iter(rows[0]))
    return _from_tree(folders, _unique(((row[key], row) for row in rows), path.name), levels, path.name, key)


def _table(text: str, source: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file by the names of its columns, whatever separates these."""
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)  # the first of them where there is none
    try:
        table = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise LabelError(f"{source} is not CSV: {error}") from error
    rows = [{key.strip(): (value or "").strip() for key, value in row.items() if key} for row in table]
    if not any(rows):
        raise LabelError(f"{source} holds no rows")
    return rows


def _path_column(rows: list[dict[str, str]], folders: Sequence[Path]) -> str | None:
    """Return the column that holds paths: the one called so, or the first one if there are such files."""
    named = next((column for column in rows[0] if column.lower() == "path"), None)
    if named is not None:
        return named
    first = next(iter(rows[0]))
    return first if any(os.path.isfile(folder / row[first]) for row in rows for folder in folders) else None


def _from_paths(
    folders: Sequence[Path], rows: list[dict[str, str]], key: str, levels: Sequence[str], source: str
) -> Labelled:
    bare = next((number for number, row in enumerate(rows, 1) if not row[key]), None)
    if bare is not None:
        raise LabelError(f"row {bare} of {source} has no path")
    labels = _columns(rows, [column for column in rows[0] if column != key], levels, source)
    named = ([os.path.join(folder, row[key]) for folder in folders] for row in rows)
    files = [next(filter(os.path.exists, paths), paths[0]) for paths in named]
    kept: dict[tuple[int, int] | str, int] = {}  # by the file itself: one image can have several paths
    for row, file in enumerate(files):
        first = kept.setdefault(_identity(file), row)
        for level, values in labels.items():
            if values[first] != values[row]:
                raise LabelError(
                    f"rows {first + 1} and {row + 1} of {source} give one image, {rows[row][key]!r}, two labels of the "
                    f"level {level!r}, {values[first]!r} and {values[row]!r}: keep one of them"
                )
    return Labelled(files, labels).take(kept.values())


def _identity(file: str) -> tuple[int, int] | str:
    """Return what is the same for all names of a file."""
    try:
        status = os.stat(file)
    except OSError:
        return os.path.abspath(file)  # it will be told when the file is read
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(file)


def _unique(pairs: Iterable[tuple[str, _T]], source: str) -> dict[str, _T]:
    """Return the classes of a tree; LabelError when one of them is said to lie in two places."""
    found: dict[str, _T] = {}
    for name, groups in pairs:
        if found.setdefault(name, groups) != groups:
            raise LabelError(f"{source} lists the class {name!r} twice, in different groups: keep one of them")
    return found


def _images(folders: Sequence[Path]) -> tuple[list[str], list[ImageError], list[tuple[str, ...]]]:
    """Return the paths of the images of folders, what cannot be read, and the subfolders that each image lies in.

    LabelError when there are no images.
    """
    walks = [(folder, walk(folder)) for folder in folders]
    found = [(folder, [image.path for image in found.images]) for folder, found in walks]
    raws = [raws_beside(paths) for _, paths in found]
    inside = [
        (folder, path.split("/"))
        for (folder, paths), raw in zip(found, raws, strict=True)
        for path in paths
        if path not in raw
    ]
    failed = [error for _, found in walks for error in found.failed]
    if not inside:
        raise LabelError(f"no images in {' and '.join(map(os.fspath, folders))}{_why_none(failed)}")
    return [os.path.join(folder, *parts) for folder, parts in inside], failed, [tuple(p[:-1]) for _, p in inside]


def _why_none(failed: list[ImageError]) -> str:
    return f" that can be read; {failed[0]}" if failed else ""


def _from_folders(folders: Sequence[Path], levels: Sequence[str], classes: Collection[str] | None) -> Labelled:
    files, failed, parts = _images(folders)
    places = zip(*parts, strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, places))  # such as "train"
    if classes is not None:
        # As many as leave labels that the others have; a folder that holds one class only is no folder around it.
        deepest = min(map(len, parts))
        fits = {n: sum("/".join(part[n:]) in classes for part in parts) for n in range(min(shared + 1, deepest))}
        shared = max(fits, key=lambda n: (fits[n], n), default=shared)
    parts = [part[shared:] for part in parts]
    bare = next((file for file, part in zip(files, parts, strict=True) if not part), None)
    if bare is not None:
        raise LabelError(f"expected one folder per class (at least two); {bare} is not inside a class folder")
    depth = min(map(len, parts))
    known = levels[-depth:]
    labels = {}
    for number, level in enumerate(known):
        rest = len(known) - 1 - number  # folders that are inside the one of this level
        labels[level] = ["/".join(part[: len(part) - rest]) for part in parts]
    kept: dict[tuple[int, int] | str, int] = {}
    for row, file in enumerate(files):
        first = kept.setdefault(_identity(file), row)
        if parts[first] != parts[row]:
            raise LabelError(f"{files[first]} and {file} are one image (a link) in two classes: remove one of them")
    return Labelled(files, labels, failed)


def _from_tree(
    folders: Sequence[Path], tree: dict[str, dict[str, str]], levels: Sequence[str], source: str, key: str = ""
) -> Labelled:
    files, failed, _ = _images(folders)
    names = [Path(file).parent.name for file in files]
    if key and not tree.keys() & set(names):
        raise LabelError(
            f"{source} must have a column 'path' with files of {os.fspath(folders[0])}, or a first column with the "
            f"names of its class folders; its columns are {', '.join(map(repr, next(iter(tree.values()))))}, and "
            f"{key!r} holds neither, {next(iter(tree))!r} for example"
        )
    rows = []
    for name, file in zip(names, files, strict=True):
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
    if len(columns) == 1 and columns[0] not in levels:  # whatever it is called, it says what each image is
        rows, columns = [{levels[-1]: row[columns[0]]} for row in rows], [levels[-1]]
    if levels[-1] not in columns:
        raise LabelError(
            f"{source} must have a column for the level {levels[-1]!r}, got {', '.join(columns) or 'none'}: "
            "rename a column, or call the level after it"
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
