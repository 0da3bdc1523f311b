"""Plans put together without sense, on trees with links of all kinds: no bytes are lost, and all comes back."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from copied import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhash.copies import Plan, Step, carry_out, undo
from pyhash.copies.seen import look_at

if sys.platform == "win32":
    pytest.skip("links as POSIX systems have them", allow_module_level=True)

NAMES = [f"{folder}{name}" for folder in ("", "a/", "b/") for name in ("1", "2", "3.png")]
MOSTLY = ["file"] * 4
KINDS = st.tuples(st.sampled_from([*MOSTLY, "hard", "soft", "none"]), st.integers(0, 8), st.integers(0, 2))
STEPS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=8)
CHANGES = st.lists(st.tuples(st.sampled_from(["write", "remove", "swap", "touch"]), st.integers(0, 8)), max_size=3)


def make(root: Path, kinds: list[Any]) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    for name, (kind, other, content) in zip(NAMES, kinds, strict=True):
        path = root / name
        with contextlib.suppress(OSError):  # of what is not there
            if kind == "file":
                path.write_bytes(b"content %d" % content)
                os.utime(path, ns=(other * 10**9, other * 10**9))
            elif kind == "hard":
                os.link(root / NAMES[other], path, follow_symlinks=False)
            elif kind == "soft":
                path.symlink_to(root / NAMES[other])


def change(root: Path, what: str, place: int) -> None:
    path = root / NAMES[place]
    with contextlib.suppress(OSError):
        if what == "write":
            path.write_bytes(b"changed %d" % place)
        elif what == "remove":
            path.unlink()
        elif what == "touch":
            os.utime(path)
        else:
            os.replace(path, root / NAMES[place - 1])


def everything(*folders: Path) -> dict[str, Any]:
    """All files with what they are, and all links."""
    found: dict[str, Any] = {}
    for folder in folders:
        found |= {f"{folder.name}/{name}": what for name, what in tree(folder).items()}
        found |= {f"{folder.name}/{p.relative_to(folder)}": os.readlink(p) for p in folder.rglob("*") if p.is_symlink()}
    return found


@settings(max_examples=200)
@given(st.lists(KINDS, min_size=9, max_size=9), STEPS, CHANGES, st.sampled_from(["move", "hardlink"]))
def test_any_plan(kinds: list[Any], pairs: list[tuple[int, int]], changes: list[tuple[str, int]], action: Any) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(os.path.realpath(made)) / "photos"
        make(root, kinds)
        seen = {n: look_at(os.fspath(root / name)) for n, name in enumerate(NAMES) if is_plain(root / name)}
        steps = tuple(
            Step(action, seen[file], seen[kept], "by chance") for file, kept in pairs if {file, kept} <= seen.keys()
        )
        plan = Plan((os.fspath(root),), steps, os.fspath(root.parent / "out") if action == "move" else None)
        for what, place in changes:
            change(root, what, place)
        before = everything(root)
        contents = Counter(content for content, *_ in tree(root).values())
        carried = carry_out(plan, root.parent / "undo")
        assert len(carried.done) + len(carried.left) == len(steps)
        found = tree(root) | {f"out/{name}": what for name, what in tree(root.parent / "out").items()}
        assert Counter(content for content, *_ in found.values()) == contents
        for done in carried.done:
            assert look_at(done.step.kept.path).digest == done.step.kept.digest
        for name, what in before.items():
            if isinstance(what, str):
                assert os.readlink(root.parent / name) == what  # links are never touched
        if carried.undo_file is not None:
            for _ in range(2):
                undone = undo(root.parent / "undo")
                assert undone.left == ()
                assert everything(root) == before
        assert not (root.parent / "out").exists()


def is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
