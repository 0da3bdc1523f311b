"""Any sequence of changes of a folder and of wishes for parts: two galleries on one file hold what a dict holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tuning import tune

from pyhash import Gallery, Levels
from pyhash.encoder import Encoded, EncodedPart
from pyhash.images import Box, Part, Views

PATHS = st.sampled_from(["a.png", "b.jpg", "sub/a.png", "sub/deep/b.jpg", "z.webp"])
GALLERIES = st.integers(0, 1)
BOXES = st.lists(st.sampled_from([(0, 0, 8, 8), (0, 0, 1, 1), (3, 2, 8, 4), (7, 7, 8, 8)]), unique=True, min_size=1)
SIDE = 8


def code_of(content: bytes, part: Part | None) -> bytes:
    return content if part is None else crc32(repr(part).encode(), crc32(content)).to_bytes(4, "big")


class ReadingEncoder:
    """The code of a file is what the file says, and that of a part a checksum; all images are of one size."""

    name, fingerprint, bits = "reading", "0" * 32, 32
    levels = Levels({"coarse": 8, "fine": 24})

    def encode(self, images: Any, *, level: str | None = None) -> Any:
        raise NotImplementedError

    def stream(self, sources: Iterable[Any], *, views: Iterable[Views] | None = None) -> Iterator[Encoded]:
        listed = [*sources]
        for source, view in zip(listed, [Views()] * len(listed) if views is None else views, strict=True):
            content = Path(source).read_bytes()
            parts = [EncodedPart(part, as_code(code_of(content, part))) for part in view.of(SIDE, SIDE)]
            yield Encoded(source, as_code(content), parts=parts)


def as_code(code: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(code, np.uint8)


class AgainstDict(RuleBasedStateMachine):
    """The model: the files, each of a content that no other has but its copies, and the boxes that were given."""

    @initialize(
        logged_revisions=st.sampled_from([1, 3, 1024]),
        logged_rows=st.sampled_from([1, 65536]),
        mapped_from=st.sampled_from([1, 10, 100_000]),
        small_difference=st.sampled_from([0, 5, 1000]),
        commit_images=st.sampled_from([1, 20, 64]),
    )
    def start(self, **tuned: int) -> None:
        self.patch = pytest.MonkeyPatch()
        tune(self.patch, **tuned)
        self.folder = Path(tempfile.mkdtemp())
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.boxes: dict[str, list[Box]] = {}
        self.turned, self.tiles = False, ()
        self.count = 0
        self.galleries = [Gallery(self.folder, ReadingEncoder()) for _ in range(2)]

    def teardown(self) -> None:
        if hasattr(self, "galleries"):
            for gallery in self.galleries:
                gallery.close()
            shutil.rmtree(self.folder)
            self.patch.undo()

    def expected(self) -> dict[tuple[str, Part | None], bytes]:
        found = {}
        for path, content in self.stored.items():
            views = Views(self.turned, self.tiles or None, [Part("box", box) for box in self.boxes.get(path, ())])
            for part in (None, *views.of(SIDE, SIDE)):
                found[path, part] = code_of(content, part)
        return found

    # The folder

    @rule(path=PATHS)
    def write(self, path: str) -> None:
        self.count += 1
        self.files[path] = self.count.to_bytes(4, "big")
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(self.files[path])

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.folder / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(to=PATHS, keep=st.booleans(), data=st.data())
    def move_or_copy(self, to: str, keep: bool, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        if to in self.files:
            return
        (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
        if keep:
            shutil.copyfile(self.folder / path, self.folder / to)
            self.files[to] = self.files[path]
        else:
            (self.folder / path).rename(self.folder / to)
            self.files[to] = self.files.pop(path)

    # The gallery

    @rule(
        which=GALLERIES,
        turned=st.none() | st.booleans(),
        tiles=st.none() | st.sampled_from([(), (1, 2), (2, 2)]),
        stop=st.none() | st.integers(0, 4),
        data=st.data(),
    )
    def update(self, which: int, turned: bool | None, tiles: Any, stop: int | None, data: st.DataObject) -> None:
        given = None
        if self.files:
            given = data.draw(st.none() | st.dictionaries(st.sampled_from(sorted(self.files)), BOXES, max_size=2))
        self.note(turned, tiles, given)
        self.open(which, turned=turned, tiles=tiles)

        def interrupt(done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        try:
            self.galleries[which].update(prune=True, boxes=given, progress=interrupt)
        except KeyboardInterrupt:
            self.galleries[1 - which].update(prune=True)  # it goes on, and knows what was wished and given
        self.open(which)  # it says once what it wishes
        assert self.galleries[which].update(prune=True).unchanged == len(self.files)

    def open(self, which: int, **wishes: Any) -> None:
        self.galleries[which].close()
        self.galleries[which] = Gallery(self.folder, ReadingEncoder(), **wishes)

    def note(self, turned: bool | None, tiles: Any, given: dict[str, list[Box]] | None) -> None:
        """Do to the model what an update does."""
        self.turned = self.turned if turned is None else turned
        self.tiles = self.tiles if tiles is None else tiles
        boxes = {}
        for path, content in self.files.items():
            source = path if self.stored.get(path) == content else None
            if source is None:
                source = next((other for other, known in self.stored.items() if known == content), path)
            boxes[path] = self.boxes.get(source, []) if source in self.stored else []
        self.boxes = boxes | (given or {}) if given != {} else {}
        self.stored = dict(self.files)

    @rule(which=GALLERIES)
    def rebuild(self, which: int) -> None:
        self.open(which, rebuild=True)
        self.note(None, None, None)
        self.galleries[which].update(prune=True)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "galleries"):
            return
        expected = self.expected()
        for gallery in self.galleries:
            now = gallery._snapshots.now()
            ids = now.index.ids.tolist()
            found = {
                (os.path.relpath(gallery.path(row), self.folder), now.parts.part_of(row)): now.index.codes(
                    row
                ).tobytes()
                for row in ids
            }
            assert len(found) == len(ids)
            assert found == expected
            assert len(gallery) == len(self.stored)
            assert gallery.stats().parts == len(expected) - len(self.stored)
            assert all(gallery.id_of(self.folder / path) in ids for path in self.stored)

    @precondition(lambda self: self.stored)
    @rule(which=GALLERIES, code=st.binary(min_size=4, max_size=4), k=st.integers(1, 6))
    def search(self, which: int, code: bytes, k: int) -> None:
        (found,) = self.galleries[which].search_codes(as_code(code)[None], k)
        nearest: dict[str, int] = {}
        for (path, _), held in self.expected().items():
            distance = int(np.bitwise_count(as_code(held) ^ as_code(code)).sum())
            nearest[path] = min(distance, nearest.get(path, 99))
        assert [match.distance for match in found] == sorted(nearest.values())[:k]
        for match in found:
            path = os.path.relpath(match.path, self.folder)
            assert match.distance == nearest[path]
            held = self.expected()[path, match.part]
            assert int(np.bitwise_count(as_code(held) ^ as_code(code)).sum()) == match.distance
        assert len({match.id for match in found}) == len(found)


AgainstDict.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestParts = AgainstDict.TestCase
