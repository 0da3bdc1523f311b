"""Any sequence of changes of a folder, by two galleries on one file: both always answer as a plain dict would."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tuning import tune

from pyhash import Gallery, ImageError, Levels
from pyhash.encoder import Encoded
from pyhash.errors import GalleryError

PATHS = st.sampled_from(["a.png", "b.jpg", "c.webp", "sub/a.png", "sub/b.jpg", "sub/deep/a.png", "zé.png", "sub.png"])
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


class AgainstDict(RuleBasedStateMachine):
    """The model: the files as they are, with a time each, and as they were when the gallery last looked."""

    @initialize(
        logged_revisions=st.sampled_from([1, 3, 1024]),
        logged_rows=st.sampled_from([1, 65536]),
        fresh_paths=st.sampled_from([0, 2, 1024]),
        commit_images=st.sampled_from([1, 3, 64]),
    )
    def start(self, **tuned: int) -> None:
        self.patch = pytest.MonkeyPatch()
        tune(self.patch, **tuned)
        self.folder = Path(tempfile.mkdtemp())
        self.encoder = ReadingEncoder()
        self.files: dict[str, tuple[bytes, int]] = {}
        self.stored: dict[str, tuple[bytes, int]] = {}
        self.waiting: set[str] = set()
        self.updated = False
        self.ids: dict[str, int] = {}
        self.retired: set[int] = set()
        self.time = 10**18
        self.galleries = [Gallery(self.folder, self.encoder) for _ in range(2)]

    def teardown(self) -> None:
        if hasattr(self, "galleries"):
            for gallery in self.galleries:
                gallery.close()
            shutil.rmtree(self.folder)
            self.patch.undo()

    def codes(self) -> dict[str, bytes]:
        return {path: code for path, (code, _) in self.stored.items() if code and path not in self.waiting}

    # The folder

    @rule(path=PATHS, code=st.one_of(CODES, st.just(b"")))
    def write(self, path: str, code: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(code)
        self.time += 10**9
        os.utime(file, ns=(self.time, self.time))
        self.files[path] = (code, self.time)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.folder / path).unlink()
        del self.files[path]

    # The gallery

    @rule(which=GALLERIES)
    def update(self, which: int) -> None:
        todo = {path for path, file in self.files.items() if self.stored.get(path) != file} | self.waiting
        todo &= self.files.keys()
        self.encoder.seen.clear()
        changes = self.galleries[which].update()
        assert {os.path.relpath(path, self.folder) for path in self.encoder.seen} == todo
        good = [path for path in todo if self.files[path][0]]
        assert changes.changed == len([path for path in good if path in self.stored])
        assert changes.added == len(good) - changes.changed
        assert changes.removed == len(self.stored.keys() - self.files.keys())
        bad = sorted(os.fspath(self.folder / path) for path, (code, _) in self.files.items() if not code)
        assert [failure.path for failure in changes.failed] == bad
        assert changes.unchanged == len(self.files) - len(bad) - len(good)
        self.look(todo)

    @rule(which=GALLERIES, stop=st.integers(1, 4))
    def interrupted_update(self, which: int, stop: int) -> None:
        def interrupt(done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        self.encoder.seen.clear()
        try:
            self.galleries[which].update(progress=interrupt)
        except KeyboardInterrupt:
            assert len(self.encoder.seen) == stop
        self.look({os.path.relpath(path, self.folder) for path in self.encoder.seen})

    def look(self, seen: set[str]) -> None:
        """Note that the gallery has looked for what has gone, and at these."""
        self.updated = True
        for path in self.stored.keys() - self.files.keys():
            del self.stored[path]
            self.retired.add(self.ids.pop(path))
        self.stored |= {path: self.files[path] for path in seen}
        self.waiting = (self.waiting - seen) & self.stored.keys()

    @rule(which=GALLERIES)
    def reopen(self, which: int) -> None:
        self.galleries[which].close()
        self.galleries[which] = Gallery(self.folder, self.encoder)

    @rule(which=GALLERIES)
    def rebuild(self, which: int) -> None:
        self.galleries[which].close()
        self.galleries[which] = Gallery(self.folder, self.encoder, rebuild=True)
        self.updated = True
        self.waiting = set(self.stored)

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
        if not codes and (not self.updated or self.waiting):
            with pytest.raises(GalleryError, match="has no codes yet"):
                gallery.search_codes(query, k)
            return
        part = {None: slice(None), "coarse": slice(0, 1), "fine": slice(1, 4)}[level]
        where = data.draw(st.none() | st.lists(st.sampled_from(sorted(codes)), unique=True)) if codes else None
        omit = data.draw(st.none() | st.sampled_from(sorted(codes))) if codes else None
        near = sorted(
            (distance(codes[path][part], code[part]), gallery.id_of(self.folder / path), os.fspath(self.folder / path))
            for path in codes
            if (where is None or path in where) and path != omit
        )
        (found,) = gallery.search_codes(
            query,
            k,
            level=level,
            where=None if where is None else [self.folder / path for path in where],
            exclude=None if omit is None else [omit],
        )
        assert [(match.distance, match.id, match.path) for match in found] == near[:k]

    @rule(which=GALLERIES, radius=st.integers(0, 5))
    def duplicates(self, which: int, radius: int) -> None:
        codes = self.codes()
        if not codes:
            return
        groups = [
            {os.path.relpath(match.path, self.folder) for match in group}
            for group in self.galleries[which].duplicates(radius, check=False)
        ]
        left, expected = set(codes), []
        while left:
            reached, todo = set(), [left.pop()]
            while todo:
                node = todo.pop()
                reached.add(node)
                todo += [
                    other for other in codes if other not in reached and distance(codes[node], codes[other]) <= radius
                ]
            left -= reached
            if len(reached) > 1:
                expected.append(reached)
        assert sorted(map(sorted, groups)) == sorted(map(sorted, expected))

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "galleries"):
            return
        codes = self.codes()
        for gallery in self.galleries:
            assert len(gallery) == len(gallery.index) == len(codes)
            assert sorted(gallery) == sorted(os.fspath(self.folder / path) for path in codes)
            stats = gallery.stats()
            assert stats.waiting == len(self.waiting)
            assert stats.images + stats.failed + stats.waiting == len(self.stored)
            for path, code in codes.items():
                assert gallery[path].tobytes() == code
                assert path in gallery
            for path in self.stored:
                number = gallery.id_of(path)
                assert self.ids.setdefault(path, number) == number
                assert number not in self.retired
            for path in self.files.keys() - self.stored.keys():
                assert gallery.id_of(path) is None
                assert path not in gallery


def distance(a: bytes, b: bytes) -> int:
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


AgainstDict.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestGallery = AgainstDict.TestCase
