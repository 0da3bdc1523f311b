"""Where the labels of pictures come from: folder names, a CSV file, or a tree of classes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabelError
from .images import SUFFIXES

__all__ = ["LabelError", "Labelled", "read_labels"]


@dataclass(frozen=True)
class Labelled:
    """Pictures and what they show.

    Attributes
    ----------
    files : list of str
        Paths of the pictures.
    labels : dict of str to list of str
        The label of each picture at each level, coarse levels first. A level for which the source has none is left
        out, except the finest.
    """

    files: list[str]
    labels: dict[str, list[str]]


def read_labels(
    folder: str | os.PathLike[str], source: str | os.PathLike[str] | None, levels: Sequence[str]
) -> Labelled:
    """List the pictures of a folder with their labels.

    Parameters
    ----------
    folder : path
        Its pictures are found in all subfolders.
    source : "folders", path or None
        - ``"folders"``: the folder that a picture lies in is its class, and the folders around that one its coarser
          groups, ``GROUP/CLASS/picture.jpg``. With fewer folders than levels only the finest levels have labels.
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
        When there are no pictures, a picture has no label, or a level has no labels and is not a coarser one.
    OSError
        When a file or the folder cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"images must be a folder, got {os.fspath(folder)!r}")
    if source is None:
        return Labelled(_pictures(folder), {})
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


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _pictures(folder: Path) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(parent, name) for name in sorted(names) if _is_picture(name)]
    if not found:
        raise LabelError(f"no pictures in {os.fspath(folder)}")
    return found


def _from_folders(folder: Path, levels: Sequence[str]) -> Labelled:
    files = _pictures(folder)
    parts = [Path(file).relative_to(folder).parent.parts for file in files]
    while len({part[:1] for part in parts}) == 1 and parts[0]:  # such as one folder "train" around all
        parts = [part[1:] for part in parts]
    bare = next((file for file, part in zip(files, parts, strict=True) if not part), None)
    if bare is not None:
        raise LabelError(
            f"pictures must lie in folders named after two classes or more, but {bare} lies in none of them"
        )
    depth = min(map(len, parts))
    known = levels[-depth:]
    labels = {}
    for number, level in enumerate(known):
        rest = len(known) - 1 - number  # folders that are inside the one of this level
        labels[level] = ["/".join(part[: len(part) - rest]) for part in parts]
    return Labelled(files, labels)


def _from_tree(folder: Path, tree: dict[str, dict[str, str]], levels: Sequence[str]) -> Labelled:
    files = _pictures(folder)
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
    return Labelled(files, _columns(rows, columns, levels, "the tree of classes"))


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
