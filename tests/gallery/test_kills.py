"""Processes that are killed while they change a gallery: nothing is lost, and what comes of it is as in one go.

So many are killed as the environment variable PYHASH_KILLS says, by default a few.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from children import Child, do_to_gallery
from galleries import SeeingEncoder, picture
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pyhash import Gallery
from pyhash.gallery import default_file
from pyhash.gallery.asking import digest_of

KILLS = int(os.environ.get("PYHASH_KILLS", "60"))
EXAMPLES = max(3, KILLS // 20)
MOMENTS = st.lists(st.lists(st.floats(0, 1.2), min_size=1, max_size=2).map(tuple), max_size=2)


def state(folder: Path) -> dict[str, Any]:
    """All that a gallery holds, by paths."""
    db = sqlite3.connect(default_file(folder))
    try:
        of_row = dict(db.execute("SELECT rows.id, path FROM rows JOIN images ON images.id = image"))
        of_image = dict(db.execute("SELECT id, path FROM images"))
        lists = {
            of_row[row]: ([of_row.get(n) for n in np.frombuffer(ids, np.int64).tolist()], weights)
            for row, ids, weights in db.execute("SELECT row, ids, weights FROM neighbours")
        }
        return {
            "lists": lists,
            "codes": {of_row[row]: code for row, code in db.execute("SELECT row, code FROM codes")},
            "vectors": {of_row[row]: rest for row, *rest in db.execute("SELECT row, vector, norm FROM embeddings")},
            "looks": {of_image[image]: rest for image, *rest in db.execute("SELECT image, blocks, grey FROM looks")},
            "small": {of_image[image]: small for image, small in db.execute("SELECT image, thumbnail FROM thumbnails")},
            "digests": dict(db.execute("SELECT path, digest FROM images")),
            "names": {path: of_image[image] for path, image in db.execute("SELECT path, image FROM names")},
            "forgotten": {path for (path,) in db.execute("SELECT path FROM forgotten")},
            "heads": db.execute("SELECT levels, matrix, fitted_on FROM heads").fetchall(),
        }
    finally:
        db.close()


def ids(folder: Path) -> dict[bytes, int]:
    db = sqlite3.connect(default_file(folder))
    try:
        return dict(
            db.execute("SELECT path, image FROM rows JOIN images ON images.id = image JOIN codes ON row = rows.id")
        )
    finally:
        db.close()


class World:
    """Two folders that change alike: of one the gallery is brought up to date in one go, of the other it is killed."""

    def __init__(self, root: Path) -> None:
        self.whole, self.killed = self.folders = root / "whole", root / "killed"
        self.paths: list[str] = []
        self.number = 0
        self.kills = 0
        self.before: dict[bytes, int] = {}
        self.same: set[str] = set()
        self.is_away = False
        for folder in self.folders:
            (folder / "b").mkdir(parents=True)

    def change(self, kind: str, where: str, which: int) -> None:
        """Change a file in both folders; `same` are the paths that are what they were, where they were."""
        self.number += 1
        other = f"{where}/{self.number:04}.png"
        if kind == "add" or not self.paths:
            self._write(other)
            return
        path = self.paths[which % len(self.paths)]
        if self.is_away and "b/" in (path[:2], other[:2]):
            return
        self.same -= {path}
        if kind == "change":
            self._write(path)
            return
        for folder in self.folders:
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            if kind == "move":
                (folder / path).rename(folder / other)
            elif kind == "copy":
                shutil.copyfile(folder / path, folder / other)
            elif kind == "link":
                os.link(folder / path, folder / other)
            else:
                (folder / path).unlink()
        if kind in ("move", "delete"):
            self.paths.remove(path)
        if kind != "delete":
            self.paths.append(other)

    def _write(self, path: str) -> None:
        if self.is_away and path.startswith("b/"):
            return
        for folder in self.folders:
            target = folder / path
            if target.exists():
                target.unlink()  # not into a file of two names
            picture(target, self.number, (8, 8))
        if path not in self.paths:
            self.paths.append(path)

    def away(self) -> None:
        """Take a disk away, or bring it back: the folder that it lies in is empty meanwhile."""
        for folder in self.folders:
            aside = folder.parent / f"{folder.name}-b"
            if self.is_away:
                (folder / "b").rmdir()
                aside.rename(folder / "b")
            else:
                (folder / "b").rename(aside)
                (folder / "b").mkdir()
        self.is_away = not self.is_away

    def do(self, what: str, which: int, moments: Iterable[tuple[float, ...]]) -> None:
        """Do one thing to both galleries; of the killed one by processes that are killed at these shares of its time.

        Processes of one tuple run at the same time. Files may have changed only before an update: else it depends on
        the order of what is done whose neighbours are found first.
        """
        path = self.paths[which % len(self.paths)] if self.paths else ""
        if what == "forget":
            if self.is_away or not path:
                return
            self.same -= {other for other in self.paths if (self.whole / other).samefile(self.whole / path)}
        if what == "rebuild":
            self.same.clear()  # all codes are forgotten at once, and said to be
        begun = time.monotonic()
        do_to_gallery(lambda _: None, self.whole, what, path)
        duration = time.monotonic() - begun
        for together in moments:
            children = [Child(do_to_gallery, self.killed, what, path) for _ in together]
            for child in children:
                child.go()
            begun = time.monotonic()
            for child, share in zip(children, sorted(together), strict=True):
                time.sleep(max(0, begun + share * duration - time.monotonic()))
                child.kill()
            self.kills += sum(child.wait() != 0 for child in children)
            self._is_whole()
        last = Child(do_to_gallery, self.killed, what, path)
        last.go()
        assert [*last.reports()] == [1]
        assert last.wait() == 0
        assert state(self.killed) == state(self.whole), what
        self._is_whole()
        self.before = ids(self.killed)
        self.same = {*map(os.fsdecode, self.before)} & {*self.paths}  # without what is gone and withheld

    def _is_whole(self) -> None:
        """Whether a gallery is in order, and has all that it had."""
        if not default_file(self.killed).exists():
            return
        with Gallery(self.killed, SeeingEncoder(), create=False) as gallery:
            checked = gallery.check()
            assert checked.damaged == []
            now = ids(self.killed)
            found = state(self.killed)
            contents = {found["digests"][path] for path in found["codes"]}
            for path in self.same:
                key = os.fsencode(path)
                if found["names"].get(key) in found["codes"]:
                    continue  # two images of one file have become one
                if self.is_away and path.startswith("b/") and key not in now:  # moved, as far as can be seen:
                    assert digest_of(self.killed.parent / "killed-b" / path[2:]) in contents
                    continue
                assert now.get(key) == self.before[key], path
            path = next((p for p in sorted(self.same) if os.fsencode(p) in now and (self.killed / p).exists()), None)
            if path is not None:
                assert gallery.search(self.killed / path, 1)[0].distance == 0


KINDS = ["add", "add", "add", "change", "move", "copy", "link", "delete"]
FOLDERS = ["a", "b", "b/c", "d"]
OTHER_THINGS = ["fit", "forget", "remember", "check", "backup", "rebuild"]


def test_killed_at_any_moment_the_outcome_is_as_in_one_go(tmp_path: Path) -> None:
    world, random = World(tmp_path), np.random.default_rng(KILLS)

    def moments() -> list[tuple[float, ...]]:
        return [tuple(random.uniform(0, 1.2, random.integers(1, 3))) for _ in range(4)]

    while world.kills < KILLS:
        for _ in range(int(random.integers(1, 12)) if world.number > 20 else 20):
            world.change(str(random.choice(KINDS)), str(random.choice(FOLDERS)), int(random.integers(1000)))
        if random.random() < 0.2:
            world.away()
        world.do("update", 0, moments())
        world.do(str(random.choice(OTHER_THINGS)), int(random.integers(1000)), moments())
    left = [*tmp_path.glob("**/.*.tmp*")]
    for path in left:
        os.utime(path, (1, 1))  # long ago
    world.do("update", 0, [])
    world.do("backup", 0, [])
    assert [path.name for path in left if path.exists()] == []


class Processes(RuleBasedStateMachine):
    """Files appear, change, move, vanish and come back; processes that follow them are killed, one or two at a time."""

    @initialize(n=st.integers(1, 30))
    def start(self, n: int) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.world = World(self.root)
        for number in range(n):
            self.world.change("add", FOLDERS[number % 4], 0)

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    @rule(
        changes=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(FOLDERS), st.integers(0, 999)), max_size=8),
        away=st.booleans(),
        moments=MOMENTS,
    )
    def change_and_update(
        self, changes: list[tuple[str, str, int]], away: bool, moments: list[tuple[float, ...]]
    ) -> None:
        for change in changes:
            self.world.change(*change)
        if away:
            self.world.away()
        self.world.do("update", 0, moments)

    @precondition(lambda self: self.world.before)
    @rule(what=st.sampled_from(OTHER_THINGS), which=st.integers(0, 999), moments=MOMENTS)
    def do_something_else(self, what: str, which: int, moments: list[tuple[float, ...]]) -> None:
        self.world.do(what, which, moments)


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=EXAMPLES, stateful_step_count=10, phases=[Phase.generate])
