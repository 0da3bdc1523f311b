"""Any sequence of changes of two folders, by two galleries on one file: both always answer as a plain dict would."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tuning import tune

from pyhash import Gallery, ImageError, Levels
from pyhash.encoder import Encoded
from pyhash.errors import GalleryError

FOLDERS = ("one", "two")
ONE = ["a.png", "b.jpg", "c.webp", "sub/a.png", "sub/b.jpg", "sub/deep/a.png", "zé.png", "sub.png"]
PATHS = st.sampled_from([*(f"one/{path}" for path in ONE), *(f"two/{path}" for path in ONE[::2])])
CODES = st.integers(0, 15).map(lambda n: bytes([n // 4 * 85, n % 4, 0, n]))  # few, so that distances tie
GALLERIES = st.integers(0, 1)


class ReadingEncoder:
    """The code of a file is what the file says; what says nothing is no image."""

    name, fingerprint, bits = "reading", "0" * 32, 32
    levels = Levels({"coarse": 8, "fine": 24})

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, images: Any, *, level: str | None = None) -> Any:
        raise NotImplementedError

    def stream(self, sources: Iterable[Any]) -> Iterator[Encoded]:
        for source in sources:
            self.seen.append(source)
            content = Path(source).read_bytes()
            if content:
                yield Encoded(source, np.frombuffer(content, np.uint8))
            else:
                yield Encoded(source, error=ImageError(source, "empty"))


class Row(NamedTuple):
    """What the gallery is to know of an image."""

    content: bytes
    time: int
    state: Literal["coded", "failed", "waiting", "found"]  # waiting: it was looked at before


class AgainstDict(RuleBasedStateMachine):
    """The model: the files as they are, with a time each, and as they were when the gallery last looked."""

    @initialize(
        logged_revisions=st.sampled_from([1, 3, 1024]),
        logged_rows=st.sampled_from([1, 65536]),
        commit_images=st.sampled_from([1, 3, 64]),
    )
    def start(self, **tuned: int) -> None:
        self.patch = pytest.MonkeyPatch()
        tune(self.patch, **tuned)
        self.root = Path(tempfile.mkdtemp())
        for folder in FOLDERS:
            (self.root / folder).mkdir()
        self.encoder = ReadingEncoder()
        self.files: dict[str, tuple[bytes, int]] = {}
        self.stored: dict[str, Row] = {}
        self.updated = False
        self.indexed: set[str] = set()
        self.ids: dict[str, int] = {}
        self.retired: set[int] = set()
        self.time = 10**18
        self.galleries = [self.opened() for _ in range(2)]

    def opened(self, folders: Iterable[str] = FOLDERS, **options: Any) -> Gallery:
        return Gallery([self.root / folder for folder in folders], self.encoder, self.root / "g.sqlite", **options)

    def teardown(self) -> None:
        if hasattr(self, "galleries"):
            for gallery in self.galleries:
                gallery.close()
            shutil.rmtree(self.root)
            self.patch.undo()

    def codes(self) -> dict[str, bytes]:
        return {path: row.content for path, row in self.stored.items() if row.state == "coded"}

    def waiting(self) -> set[str]:
        return {path for path, row in self.stored.items() if row.state in ("waiting", "found")}

    # The folder

    @rule(path=PATHS, code=st.one_of(CODES, st.just(b"")))
    def write(self, path: str, code: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(code)
        self.time += 10**9
        os.utime(file, ns=(self.time, self.time))
        self.files[path] = (code, self.time)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(to=PATHS, data=st.data())
    def move(self, to: str, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).replace(self.root / to)
        self.files[to] = self.files.pop(path)

    # The gallery

    @rule(which=GALLERIES, prune=st.booleans())
    def update(self, which: int, prune: bool) -> None:
        self.updates(self.galleries[which], FOLDERS, prune)

    @rule(folder=st.sampled_from(FOLDERS), prune=st.booleans())
    def update_of_one_folder(self, folder: str, prune: bool) -> None:
        if self.indexed and folder not in self.indexed:
            return  # it is refused
        with self.opened([folder]) as gallery:
            self.updates(gallery, [folder], prune)

    def updates(self, gallery: Gallery, folders: Sequence[str], prune: bool) -> None:
        expected, todo = self.planned(prune, folders)
        self.encoder.seen.clear()
        changes = gallery.update(prune=prune)
        assert [os.path.relpath(path, self.root) for path in self.encoder.seen] == todo
        assert {name: getattr(changes, name) for name in expected} == expected
        files = {path: content for path, (content, _) in self.files.items() if path[:3] in folders}
        bad = sorted(os.fspath(self.root / path) for path, content in files.items() if not content)
        assert [failure.path for failure in changes.failed] == bad
        assert changes.added + changes.changed + changes.moved + changes.unchanged + len(bad) == len(files)
        self.encoded(todo)

    @rule(which=GALLERIES, stop=st.integers(1, 4), prune=st.booleans())
    def interrupted_update(self, which: int, stop: int, prune: bool) -> None:
        def interrupt(done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        _, todo = self.planned(prune, FOLDERS)
        self.encoder.seen.clear()
        try:
            self.galleries[which].update(progress=interrupt, prune=prune)
        except KeyboardInterrupt:
            assert len(self.encoder.seen) == stop
        self.encoded(todo[:stop])

    def planned(self, prune: bool, walked: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Do to the model what an update does before it encodes; return what it is to count, and what to encode."""
        self.updated = True
        self.indexed |= {*walked}
        rows, contents = dict(self.stored), self.codes()
        unseen = [path for path in rows if path not in self.files and path[:3] in walked]
        lost = [path for path in rows if path not in self.files and path[:3] not in walked and self.has_any(path[:3])]
        before = {path for path, row in rows.items() if row.state != "found"}
        counts: dict[str, Any] = dict.fromkeys(
            ("added", "changed", "removed", "unchanged", "moved", "names", "kept", "withheld"), 0
        )
        todo, strangers = [], []
        in_order = sorted((path for path in self.files if path[:3] in walked), key=os.path.split)
        for path in in_order:
            row, (content, time) = rows.get(path), self.files[path]
            if row is None or row.state == "found" or row.content != content:
                strangers.append(path)
                continue
            self.stored[path] = row._replace(time=time)
            if row.state == "waiting":
                todo.append(path)
            counts["unchanged"] += row.state == "coded"
        for path in strangers:
            content, time = self.files[path]
            alike = [p for p, row in rows.items() if row.state != "found" and row.content == content]
            source = next((p for p in alike if p in [*unseen, *lost] and path not in rows), None)
            if source is not None:
                (unseen if source in unseen else lost).remove(source)
                before.add(path)
                self.stored[path] = self.stored.pop(source)._replace(time=time)
                self.ids[path] = self.ids.pop(source)
                if rows[source].state == "waiting":
                    todo.append(path)
                counts["moved"] += rows[source].state == "coded"
            elif any(p in contents for p in alike):
                self.stored[path] = Row(content, time, "coded")
                counts["changed" if path in before else "added"] += 1
            else:
                todo.append(path)
                self.stored.setdefault(path, Row(b"", 0, "found"))
        away = [] if prune else [path for path in unseen if self.is_away(path)]
        gone = [path for path in unseen if path not in away]
        counts["kept"] = sum(path in contents for path in away)
        empty = {folder: sum(path in contents for path in away if path[:3] == folder) for folder in walked}
        counts["away"] = {
            os.fspath(self.root / folder): kept for folder, kept in empty.items() if kept and not self.has_any(folder)
        }
        for folder in () if prune else walked:
            held = sum(path[:3] == folder for path in contents)
            dropped = sum(path in contents for path in gone if path[:3] == folder)
            if dropped and (dropped == held or (dropped > 1 and dropped > held / 4)):
                counts["withheld"] += sum(path[:3] == folder for path in gone)
                gone = [path for path in gone if path[:3] != folder]
        for path in gone:
            counts["removed"] += rows[path].state != "found"
            del self.stored[path]
            self.retired.add(self.ids.pop(path))
        for path in todo:
            if self.files[path][0]:
                counts["changed" if path in before else "added"] += 1
        self.stored = dict(sorted(self.stored.items(), key=lambda item: self.ids.get(item[0], 10**9)))
        return counts, sorted(todo, key=os.path.split)

    def is_away(self, path: str) -> bool:
        """Whether a folder that the path lies in is there and empty."""
        parents = [self.root / parent for parent in Path(path).parents]
        return any(parent.is_dir() and not os.listdir(parent) for parent in parents)

    def has_any(self, folder: str) -> bool:
        return bool(os.listdir(self.root / folder))

    def encoded(self, paths: list[str]) -> None:
        """Note that the gallery has looked at these."""
        for path in paths:
            content, time = self.files[path]
            self.stored[path] = Row(content, time, "coded" if content else "failed")

    @rule(which=GALLERIES)
    def reopen(self, which: int) -> None:
        self.galleries[which].close()
        self.galleries[which] = self.opened()

    @rule(which=GALLERIES)
    def rebuild(self, which: int) -> None:
        self.galleries[which].close()
        self.galleries[which] = self.opened(rebuild=True)
        self.updated = True
        self.stored = {
            path: row if row.state == "found" else row._replace(state="waiting") for path, row in self.stored.items()
        }

    # What it answers

    @rule(
        which=GALLERIES,
        code=CODES,
        k=st.integers(1, 9),
        level=st.sampled_from([None, "coarse", "fine"]),
        data=st.data(),
    )
    def search(self, which: int, code: bytes, k: int, level: str | None, data: st.DataObject) -> None:
        gallery, codes = self.galleries[which], self.codes()
        query = np.frombuffer(code, np.uint8)[None]
        if not codes and (not self.updated or self.waiting()):
            with pytest.raises(GalleryError, match="has no codes yet"):
                gallery.search_codes(query, k)
            return
        part = {None: slice(None), "coarse": slice(0, 1), "fine": slice(1, 4)}[level]
        where = data.draw(st.none() | st.lists(st.sampled_from(sorted(codes)), unique=True)) if codes else None
        omit = data.draw(st.none() | st.sampled_from(sorted(codes))) if codes else None
        near = sorted(
            (distance(codes[path][part], code[part]), gallery.id_of(self.root / path), os.fspath(self.root / path))
            for path in codes
            if (where is None or path in where) and path != omit
        )
        (found,) = gallery.search_codes(
            query,
            k,
            level=level,
            where=None if where is None else [self.root / path for path in where],
            exclude=None if omit is None else [self.root / omit],
        )
        assert [(match.distance, match.id, match.path) for match in found] == near[:k]

    @rule(which=GALLERIES)
    def duplicates(self, which: int) -> None:
        """Files of equal bytes; those that have changed since are told, and in no group."""
        codes = self.codes()
        if not codes:
            return
        found = self.galleries[which].duplicates()
        same: dict[bytes, set[str]] = {}
        for path, content in codes.items():
            row = self.stored[path]
            if path not in self.files or self.files[path] == (content, row.time):
                same.setdefault(content, set()).add(path)
        groups = [{os.path.relpath(copy.path, self.root) for copy in group.images} for group in found.groups]
        assert sorted(map(sorted, groups)) == sorted(sorted(paths) for paths in same.values() if len(paths) > 1)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "galleries"):
            return
        codes = self.codes()
        for gallery in self.galleries:
            assert len(gallery) == len(gallery.index) == len(codes)
            assert sorted(gallery) == sorted(os.fspath(self.root / path) for path in codes)
            stats = gallery.stats()
            assert stats.waiting == len(self.waiting())
            assert stats.images + stats.failed + stats.waiting == len(self.stored)
            for path, code in codes.items():
                assert gallery[self.root / path].tobytes() == code
                assert self.root / path in gallery
            for path in self.stored:
                number = gallery.id_of(self.root / path)
                assert self.ids.setdefault(path, number) == number
                assert number not in self.retired
            for path in self.files.keys() - self.stored.keys():
                assert gallery.id_of(self.root / path) is None
                assert self.root / path not in gallery


def distance(a: bytes, b: bytes) -> int:
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


AgainstDict.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestGallery = AgainstDict.TestCase
