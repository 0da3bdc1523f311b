"""Imports between folders of the package go to faces, and to nothing with a leading underscore.

Which folder may import which is in `pyproject.toml`, for `lint-imports`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyhash

ROOT = Path(pyhash.__file__).parent
FILES = sorted(ROOT.glob("*/*.py"))
ALLOWED = {"__version__", "_native"}


def crossing(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield what a file imports from outside its own folder: the module, with dots for the package, and the names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level >= 2:
            yield node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("pyhash"):
            yield (node.module or "").removeprefix("pyhash").lstrip("."), [alias.name for alias in node.names]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_only_faces_are_imported(file: Path) -> None:
    for module, names in crossing(file):
        assert "." not in module, f"{file.name} imports from inside another folder: {module}"
        private = [name for name in names if name.startswith("_") and name not in ALLOWED]
        assert not private, f"{file.name} imports private names of {module}: {private}"


def test_imports_are_found() -> None:
    assert ("codes", ["Levels", "LevelsLike", "as_levels"]) in list(crossing(ROOT / "heads" / "supervised.py"))
    assert len(FILES) > 50
