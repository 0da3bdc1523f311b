"""Mapped files beside a gallery's database: the same answers as without them, whatever became of either."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Child, Report
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tuning import tune

from pyhash import Gallery, Index
from pyhash.errors import GalleryError
from pyhash.gallery import loading, mapped
from pyhash.gallery.collection import restored
from pyhash.gallery.loading import Noted, keep, mapped_folder
from pyhash.gallery.records import NEIGHBOURS, Embedding, Identity, Lists, PartRecord, Record
from pyhash.gallery.snapshot import Snapshot, Snapshots
from pyhash.gallery.store import GalleryFile
from pyhash.heads import CollectionHead, adapt
from pyhash.images import Part
from pyhash.ranking import Neighbours, average, quantize

LEVELS = {"coarse": 16, "fine": 48}
IDENTITY = Identity("fake", "0" * 32, LEVELS, None, "decoder", "head", "whole")
DIM = 24


def embeddings(seed: int, n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(5, DIM))[rng.integers(0, 5, n)] + rng.normal(size=(n, DIM)) + 1).astype(np.float32)


class Writer:
    """Writes what an indexer would, without images."""

    def __init__(self, path: Path) -> None:
        self.file = GalleryFile(path)

    def head(self) -> CollectionHead | None:
        with self.file.reading():
            stored = self.file.vectors.head()
        return None if stored is None or stored.matrix is None else CollectionHead.from_bytes(stored.matrix)

    def put(self, paths: list[str], seed: int) -> None:
        """Store images, those of known paths anew; every third has a part, a box."""
        vectors, norms = quantize(embeddings(seed, 2 * len(paths)))
        head = self.head()
        rng = np.random.default_rng(seed)
        codes = (
            rng.integers(0, 256, (len(norms), 8), np.uint8) if head is None else head.codes(restored(vectors, norms))
        )
        made = [
            (code.tobytes(), Embedding(vector.tobytes(), float(norm)))
            for code, vector, norm in zip(codes, vectors, norms, strict=True)
        ]
        with self.file.writing(IDENTITY):
            for place, (path, whole, part) in enumerate(zip(paths, made, made[len(paths) :], strict=False)):
                parts = [PartRecord("box", Part("box", (0, 0, 1 + place, 2), "name"), *part)] * (place % 3 == 0)
                record = Record(path, 1, seed, whole[0], None, whole[1], b"%d" % seed, "decoder", parts=parts)
                self.file.put([record])

    def ids(self) -> list[int]:
        return [row for (row,) in self.file._db.execute("SELECT id FROM images ORDER BY id")]

    def remove(self, ids: list[int]) -> None:
        with self.file.writing(None):
            self.file.remove(ids)

    def list_(self, ids: list[int], seed: int) -> None:
        """Give rows neighbours."""
        rng = np.random.default_rng(seed)
        near = rng.choice([-1, *self.ids()], (len(ids), NEIGHBOURS)).astype(np.int64)
        weights = np.where(near < 0, 0, rng.random(near.shape)).astype(np.float32)
        with self.file.writing(None):
            self.file.vectors.put_neighbours(Lists(np.array(ids, np.int64), near, weights))
            self.file.note(ids)

    def fit(self, seed: int) -> None:
        """Fit a head that makes coarse of neighbourhoods."""
        rows = embeddings(seed, 60)
        head = adapt(rows, LEVELS).with_neighbourhoods(rows / np.linalg.norm(rows, axis=1, keepdims=True), "coarse")
        with self.file.writing(IDENTITY):
            number = self.file.vectors.put_head(LEVELS, head.to_bytes(), 60)
            stored = self.file._db.execute("SELECT row, vector, norm FROM embeddings ORDER BY row").fetchall()
            ids = np.array([row for row, _, _ in stored], np.int64)
            vectors = np.frombuffer(b"".join(vector for _, vector, _ in stored), np.int8).reshape(-1, DIM)
            norms = np.array([norm for _, _, norm in stored], np.float32)
            self.file.vectors.put_codes(number, ids, head.codes(restored(vectors, norms)))
            self.file.note(ids.tolist())
        self.list_(ids.tolist(), seed)


def filled(path: Path, n: int = 200) -> Writer:
    writer = Writer(path)
    writer.put([f"{number % 7}/{number}.jpg" for number in range(n)], 1)
    writer.fit(2)
    return writer


def snapshots_of(path: Path) -> Snapshots:
    return Snapshots(GalleryFile(path), lambda: Index(64))


def content(now: Snapshot) -> dict[str, Any]:
    """All that answers are made of."""
    ids = now.index.ids
    found: dict[str, Any] = {
        "ids": ids.tolist(),
        "codes": now.index.codes(ids).tolist() if len(ids) else [],
        "paths": now.paths.of(now.images),
        "parts": [*map(now.parts.part_of, ids.tolist())],
        "images": now.parts.images_of(ids).tolist(),
        "head": None if now.head is None else now.head.to_bytes(),
    }
    if now.collection is not None:
        lists = now.collection.lists(ids)
        found |= {name: now.collection.take(name, ids).vectors.tolist() for name in now.collection.names}
        found |= {"near": lists.ids.tolist(), "weights": lists.weights.tolist()}
        found |= {"around": now.collection.neighbourhoods(ids).vectors.tolist()}
        found |= {"unsettled": now.collection.unsettled().tolist()}
    return found


def of_database(path: Path) -> dict[str, Any]:
    """The same, loaded from the database alone."""
    with pytest.MonkeyPatch.context() as patch:
        tune(patch, mapped_from=10**9)
        patch.setattr(loading, "_usable", lambda file, identity, stored: None)
        with closing(GalleryFile(path)) as file:
            return content(Snapshots(file, lambda: Index(64)).now())


def noted(path: Path) -> Noted | None:
    with closing(sqlite3.connect(path)) as db:
        row = db.execute("SELECT value FROM settings WHERE key = 'mapped'").fetchone()
    return None if row is None else Noted.of(row[0])


def files_of(path: Path) -> list[Path]:
    return [file for file, _ in mapped.sizes(mapped_folder(path))]


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, mapped_from=50, small_difference=20, large_difference=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.sqlite"


# The same answers


def test_neighbourhoods_are_those_of_the_whole_collection(path: Path) -> None:
    filled(path)
    keep(path)
    now = snapshots_of(path).now()
    assert now.state.token is not None
    assert now.collection is not None
    ids = now.index.ids
    own, lists = now.collection.take("own", ids), now.collection.lists(ids)
    places = np.where(lists.ids < 0, -1, np.searchsorted(ids, lists.ids))
    expected = quantize(average(own, Neighbours(places, lists.weights))).vectors
    assert now.collection.neighbourhoods(ids[::-1]).vectors[::-1].tolist() == expected.tolist()


class AgainstDatabase(RuleBasedStateMachine):
    """One reader that stays and one that opens the file anew, beside what the database alone says."""

    @initialize(
        mapped_from=st.sampled_from([1, 10, 10**9]),
        small_difference=st.sampled_from([0, 3]),
        large_difference=st.sampled_from([2, 8, 1000]),
        logged_revisions=st.sampled_from([3, 1024]),
        logged_rows=st.sampled_from([4, 65536]),
    )
    def start(self, **tuned: int) -> None:
        self.patch = pytest.MonkeyPatch()
        tune(self.patch, **tuned)
        self.patch.setattr(loading.Loader, "begin", lambda *_: False)  # that is tried below
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "gallery.sqlite"
        self.copies: list[Path] = []
        self.writer = Writer(self.path)
        self.put(12, 0)
        self.stays = snapshots_of(self.path)

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self.writer.file.close()
            self.stays._file.close()
            shutil.rmtree(self.folder)
            self.patch.undo()

    def some(self, data: st.DataObject) -> list[int]:
        return data.draw(st.lists(st.sampled_from(self.writer.ids()), min_size=1, max_size=3, unique=True))

    @rule(n=st.integers(1, 6), seed=st.integers(0, 99), first=st.integers(0, 20))
    def put(self, n: int, seed: int, first: int = 0) -> None:
        self.writer.put([f"{number}.jpg" for number in range(first, first + n)], seed)

    @precondition(lambda self: self.writer.ids())
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.writer.remove(self.some(data))

    @precondition(lambda self: self.writer.ids())
    @rule(data=st.data(), seed=st.integers(0, 99))
    def rename(self, data: st.DataObject, seed: int) -> None:
        with self.writer.file.writing(None):
            for number in self.some(data):
                self.writer.file.rename(number, f"renamed/{seed}/{number}")

    @precondition(lambda self: self.writer.ids())
    @rule(data=st.data(), seed=st.integers(0, 99))
    def list_(self, data: st.DataObject, seed: int) -> None:
        self.writer.list_(self.some(data), seed)

    @precondition(lambda self: len(self.writer.ids()) > 1)
    @rule(seed=st.integers(0, 99))
    def fit(self, seed: int) -> None:
        self.writer.fit(seed)

    @rule()
    def keep(self) -> None:
        keep(self.path)

    @rule()
    def drop(self) -> None:
        loading.drop(self.writer.file)

    @rule()
    def delete_files(self) -> None:
        shutil.rmtree(mapped_folder(self.path), ignore_errors=True)

    @rule(seed=st.integers(0, 99))
    def do_without_embeddings_for_a_while(self, seed: int) -> None:
        with self.writer.file.writing(None):
            self.writer.file.forget_embeddings()
        self.look(stays=True)
        keep(self.path)
        with self.writer.file.reading():
            paths = [*self.writer.file.known()]
        for start in range(0, len(paths), 7):
            self.writer.put(paths[start : start + 7], seed)

    @rule()
    def back_up(self) -> None:
        self.copies.append(self.folder / f"{len(self.copies)}.copy")
        with closing(sqlite3.connect(self.copies[-1])) as copy:
            self.writer.file._db.backup(copy)

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Put an older database in the place of this one, beside files that were made since."""
        self.writer.file.close()
        self.stays._file.close()
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(data.draw(st.sampled_from(self.copies)), self.path)
        self.writer = Writer(self.path)
        self.stays = snapshots_of(self.path)

    @rule(stays=st.booleans())
    def look(self, stays: bool) -> None:
        if stays:
            assert content(self.stays.ask(lambda now: now)) == of_database(self.path)
            return
        with closing(GalleryFile(self.path)) as file:
            assert content(Snapshots(file, lambda: Index(64)).now()) == of_database(self.path)

    @invariant()
    def stays_right(self) -> None:
        if hasattr(self, "stays"):
            now = self.stays.now()
            assert now.collection is None or len(now.collection) == len(now.index)
            if now.collection is not None:  # what is kept of neighbourhoods has to be invalidated
                now.collection.neighbourhoods(now.index.ids)


AgainstDatabase.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)
TestAgainstDatabase = AgainstDatabase.TestCase


def test_who_searches_does_not_wait_for_a_refit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = filled(path)
    keep(path)
    snapshots, other = snapshots_of(path), snapshots_of(path)
    before, goes_on = content(snapshots.now()), threading.Event()
    other.now()
    write = loading.write

    def slowly(*arguments: Any) -> Noted:
        goes_on.wait(60)
        return write(*arguments)

    monkeypatch.setattr(loading, "write", slowly)
    writer.fit(3)
    for _ in range(3):
        assert snapshots.now().is_old
        assert snapshots.ask(content) == before
    writer.put(["after.jpg"], 4)
    assert snapshots.ask(content) == before
    goes_on.set()
    assert other.ask(content, newest=True) == of_database(path)
    end = time.monotonic() + 60
    while snapshots.now().is_old and time.monotonic() < end:
        time.sleep(0.01)
    assert snapshots.ask(content) == of_database(path)


def test_who_searches_does_not_wait_where_much_was_added(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = filled(path)
    snapshots, goes_on = snapshots_of(path), threading.Event()
    token = snapshots.now().state.token
    write = loading.write

    def slowly(*arguments: Any) -> Noted:
        goes_on.wait(60)
        return write(*arguments)

    monkeypatch.setattr(loading, "write", slowly)
    for number in range(3):
        writer.put([f"{number}-{one}.jpg" for one in range(60)], number)
        assert snapshots.ask(content) == of_database(path)
        assert snapshots.now().state.token == token
    goes_on.set()
    end = time.monotonic() + 60
    while snapshots.now().state.token == token and time.monotonic() < end:
        time.sleep(0.01)
    assert snapshots.now().state.token == noted(path).token  # type: ignore[union-attr]
    assert snapshots.ask(content) == of_database(path)


def test_who_refits_sees_it_at_once_and_a_full_disk_is_no_reason_to_stay_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = filled(path)
    snapshots = snapshots_of(path)
    snapshots.now()

    def full(*_: Any) -> Noted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loading, "write", full)
    writer.fit(3)
    snapshots.wait()
    assert snapshots.ask(content) == of_database(path)
    writer.fit(4)
    end = time.monotonic() + 60
    while snapshots.now().is_old and time.monotonic() < end:
        time.sleep(0.01)
    assert snapshots.ask(content) == of_database(path)


def test_another_network_is_not_waited_for(path: Path) -> None:
    """What a query is encoded with has to be what rows were encoded with."""
    writer = filled(path)
    snapshots = snapshots_of(path)
    snapshots.now()
    with writer.file.writing(IDENTITY._replace(fingerprint="1" * 32), rebuild=True):
        pass
    assert len(snapshots.now().index) == 0


def test_a_change_reaches_the_neighbourhoods_of_those_around(path: Path) -> None:
    """In two rounds: of those that name the row, and of those that name these; whether they are mapped or not."""
    writer = Writer(path)
    writer.put([f"{number}.jpg" for number in range(100)], 1)
    writer.fit(2)
    chain = writer.ids()[:4]  # each names the next, and nobody else names anybody
    rows = np.array([row for (row,) in writer.file._db.execute("SELECT row FROM codes ORDER BY row")])

    def name(some: list[int]) -> None:
        near = np.full((len(some), NEIGHBOURS), -1, np.int64)
        near[:, 0] = [chain[chain.index(row) + 1] if row in chain[:3] else -1 for row in some]
        with writer.file.writing(None):
            writer.file.vectors.put_neighbours(Lists(np.array(some), near, (near >= 0).astype(np.float32)))
            writer.file.note(some)

    name(rows.tolist())
    keep(path)
    snapshots = snapshots_of(path)
    for seed, places in enumerate(([3], [3, 1], [2]), 3):
        before = snapshots.ask(content)
        writer.put([f"{place}.jpg" for place in places], seed)
        name([chain[place] for place in places])
        now = snapshots.ask(content)
        assert now == of_database(path)
        slots = [np.searchsorted(now["ids"], row) for row in chain]
        then = [np.searchsorted(before["ids"], row) for row in chain]
        reached = {place for place in range(4) if now["around"][slots[place]] != before["around"][then[place]]}
        assert reached == {place for place in range(4) if any(0 <= one - place <= 2 for one in places)}


# Damage


def test_every_page_of_every_file_is_looked_at(path: Path) -> None:
    filled(path).file.close()
    keep(path)
    right = of_database(path)
    rng = np.random.default_rng(0)
    first = noted(path)
    assert first is not None
    for name in [file.name.partition(".")[2] for file in files_of(path)]:
        for what in ("flip", "cut", "longer", "gone"):
            for _ in range(6 if what == "flip" else 1):
                keep(path)
                before = noted(path)
                assert before is not None
                file = mapped.path_of(mapped_folder(path), before.token, name)
                data = bytearray(file.read_bytes())
                at = int(rng.integers(0, len(data)))
                data[at] ^= 1 << int(rng.integers(0, 8))
                file.unlink()
                if what != "gone":
                    file.write_bytes({"flip": data, "cut": data[:at], "longer": data + b"\0"}[what])
                with Gallery(path.parent, file=path) as gallery:
                    found = gallery.check().damaged
                    padding = -before.arrays[0].nbytes % 4
                    assert bool(found) == (what != "gone") or padding
                snapshots = snapshots_of(path)
                assert snapshots.ask(content) == right
                snapshots._file.close()
                after = noted(path)
                assert after is not None
                if found or what == "gone":
                    assert after.token != before.token
                    assert {file.name.partition(".")[0] for file in files_of(path)} == {after.token}


def test_damage_that_is_found_late_is_no_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path, 2000).file.close()
    keep(path)
    right = of_database(path)
    note = noted(path)
    assert note is not None
    snapshots = snapshots_of(path)
    assert snapshots.now().state.token == note.token
    file = mapped.path_of(mapped_folder(path), note.token, "vectors.0")
    with open(file, "r+b") as damaged:
        damaged.seek(9 * 4096)
        damaged.write(bytes(100))
    with caplog.at_level(logging.WARNING, "pyhash"):
        assert snapshots.ask(content) == right
    assert "damaged" in caplog.text
    assert snapshots.now().state.token not in (None, note.token)


def test_check_finds_damage_and_repairs_it(path: Path) -> None:
    filled(path).file.close()
    keep(path)
    with Gallery(path.parent, file=path) as gallery:
        assert gallery.check().damaged == []
        note = noted(path)
        assert note is not None
        file = mapped.path_of(mapped_folder(path), note.token, "path_text")
        file.write_bytes(file.read_bytes()[:-5] + b"12345")
        (found,) = gallery.check().damaged
        assert "path_text is damaged" in found.what
        repaired = gallery.check(repair=True)
        assert (repaired.repaired, len(repaired.damaged)) == (True, 1)
        assert gallery.check().damaged == []
        assert noted(path) != note


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"token": 1}', "\x00"])
def test_a_note_without_sense_is_no_note(path: Path, text: str) -> None:
    filled(path).file.close()
    with closing(GalleryFile(path)) as file:
        file.note_mapped(text, made_of=file.revision())
    assert snapshots_of(path).ask(content) == of_database(path)


# Whose files they are


def test_files_of_another_past_are_not_believed(path: Path) -> None:
    writer = filled(path)
    with closing(sqlite3.connect(path.with_name("old"))) as copy:
        writer.file._db.backup(copy)
    writer.put(["7/new.jpg"], 8)
    keep(path)
    token = noted(path)
    writer.file.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(path.with_name("old"), path)
    restored_ = Writer(path)
    restored_.put(["other.jpg"], 9)  # as many changes as led to what was mapped
    now = snapshots_of(path).now()
    assert content(now) == of_database(path)
    assert b"other.jpg" in now.paths.of(now.images)
    assert noted(path) != token


def test_rows_of_before_something_was_forgotten_are_refused(path: Path) -> None:
    writer = filled(path)
    with writer.file.reading():
        identity, stored = writer.file.identity(), writer.file.vectors.head()
        assert identity is not None
        assert stored is not None
        slow = loading.write(writer.file, identity, stored, mapped_folder(path))
    writer.remove([1])
    loading.drop(writer.file)
    loading.note(writer.file, mapped_folder(path), slow)
    assert noted(path) is None
    assert files_of(path) == []


def test_nothing_that_was_forgotten_remains_in_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, small_difference=10**6, large_difference=10**6)  # nothing else is a reason to write them anew
    writer = filled(path)
    keep(path)
    ((vector,),) = writer.file._db.execute("SELECT vector FROM embeddings WHERE row = 77").fetchall()
    now = snapshots_of(path).now()
    assert now.collection is not None
    (own,) = now.collection.take("own", np.array([77])).vectors
    (name,) = now.paths.of(np.array([77]))
    secrets = [own.tobytes(), b"%b" % name]

    def everywhere() -> bytes:
        return b"".join(file.read_bytes() for file in files_of(path))

    assert all(secret in everywhere() for secret in secrets)
    before = noted(path)
    writer.file.close()
    with Gallery(path.parent, file=path) as gallery:
        gallery.forget(path.parent / name.decode())
    assert noted(path) not in (None, before)
    assert files_of(path)
    assert not any(secret in everywhere() for secret in secrets)
    assert snapshots_of(path).ask(content) == of_database(path)
    assert vector not in path.read_bytes()


def test_forgetting_says_what_could_not_be_deleted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path).file.close()
    keep(path)
    monkeypatch.setattr(mapped, "remove_others", lambda *_, **__: files_of(path))
    with Gallery(path.parent, file=path) as gallery:
        with pytest.raises(GalleryError, match=r"traces of them remain on the disk .* cannot be deleted while"):
            gallery.forget(path.parent / "0" / "0.jpg")
        assert gallery.check().traces


def test_embeddings_that_are_not_wanted_leave_them_too(path: Path) -> None:
    writer = filled(path)
    keep(path)
    with writer.file.writing(None):
        assert writer.file.forget_embeddings()
    assert snapshots_of(path).now().collection is None
    assert [file for file in files_of(path) if file.name.endswith("vectors.0")] == []


# Who writes them


def test_few_rows_are_not_mapped(path: Path) -> None:
    filled(path, 30).file.close()
    keep(path)
    assert snapshots_of(path).now().state.token is None
    assert not mapped_folder(path).exists()


def test_a_reader_leaves_them_for_the_next(path: Path) -> None:
    filled(path).file.close()
    first = snapshots_of(path).now()
    assert first.state.token is not None
    assert noted(path).token == first.state.token  # type: ignore[union-attr]
    assert snapshots_of(path).now().state.token == first.state.token


def test_they_go_when_few_rows_are_left(path: Path) -> None:
    writer = filled(path)
    keep(path)
    writer.remove(writer.ids()[:-3])
    keep(path)
    assert files_of(path) == []
    assert content(snapshots_of(path).now()) == of_database(path)


def test_embeddings_that_come_later_are_mapped(path: Path) -> None:
    writer = filled(path)
    with writer.file.writing(None):
        writer.file.forget_embeddings()
    keep(path)
    assert noted(path).vectors == ()  # type: ignore[union-attr]
    writer.put([f"{number % 7}/{number}.jpg" for number in range(200)], 1)
    for _ in range(2):
        now = snapshots_of(path).now()
        assert now.collection is not None
        assert content(now) == of_database(path)


def test_they_are_written_anew_when_much_has_changed(path: Path) -> None:
    writer = filled(path)
    keep(path)
    first = noted(path)
    for number in range(4):
        writer.put([f"{number}-{one}.jpg" for one in range(6)], number)
        keep(path)
        assert (noted(path) == first) == (number < 3)
    assert {file.name.partition(".")[0] for file in files_of(path)} == {noted(path).token}  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("after", [0, 3])
def test_without_room_or_right_all_is_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: int, after: int
) -> None:
    filled(path).file.close()
    calls = iter(range(1000))
    add = mapped.Writer.add

    def fail(self: mapped.Writer, name: str, rows: Any) -> None:
        if next(calls) >= after:
            raise OSError(error, os.strerror(error))
        add(self, name, rows)

    monkeypatch.setattr(mapped.Writer, "add", fail)
    keep(path)  # and says nothing but in the log
    now = snapshots_of(path).now()
    assert now.state.token is None
    assert content(now) == of_database(path)
    assert files_of(path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="who may write everywhere")
def test_a_folder_that_cannot_be_written(path: Path) -> None:
    filled(path).file.close()
    path.parent.chmod(0o555)
    try:
        assert content(snapshots_of(path).now()) == of_database(path)
    finally:
        path.parent.chmod(0o755)


def test_files_that_are_deleted_while_they_are_used(path: Path) -> None:
    writer = filled(path)
    keep(path)
    snapshots = snapshots_of(path)
    now = snapshots.now()
    shutil.rmtree(mapped_folder(path))
    assert content(now) == of_database(path)
    writer.put(["a.jpg"], 3)
    assert snapshots.ask(content) == of_database(path)
    assert snapshots_of(path).ask(content) == of_database(path)


def test_what_cannot_be_deleted_is_left_for_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a file that is mapped cannot be deleted."""
    writer = filled(path)
    keep(path)
    old = files_of(path)
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self in old:
            raise PermissionError(errno.EACCES, "in use", os.fspath(self))
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        writer.put([f"{one}.jpg" for one in range(30)], 4)
        keep(path)
        assert {*old} < {*files_of(path)}
        assert content(snapshots_of(path).now()) == of_database(path)
        assert loading.drop(writer.file) == old
    for file in old:
        os.utime(file, (0, 0))
    keep(path)
    assert not {*old} & {*files_of(path)}


# Processes


def write_on_and_on(report: Report, path: Path) -> None:
    loading._MAPPED_FROM, loading._SMALL_DIFFERENCE = 1, 0
    writer = Writer(path)
    for number in range(10_000):
        writer.put([f"more/{number}.jpg"], number)
        keep(path)
        report(number)


def test_killed_while_writing(path: Path) -> None:
    filled(path).file.close()
    for kill_after in (0, 1, 3):
        child = Child(write_on_and_on, path)
        child.go()
        next(done for done in child.reports() if done >= kill_after)
        child.kill()
        child.wait()
        snapshots = snapshots_of(path)
        assert snapshots.ask(content) == of_database(path)
        snapshots._file.close()
    for file in files_of(path):
        os.utime(file, (0, 0))
    with closing(GalleryFile(path)) as file_:
        loading.drop(file_)
    assert files_of(path) == []


def test_a_reader_beside_a_writer(path: Path) -> None:
    filled(path).file.close()
    snapshots = snapshots_of(path)
    child = Child(write_on_and_on, path)
    child.go()
    for done in child.reports():
        now = snapshots.now()
        assert len(now.index) >= 200 + done + 1
        snapshots.ask(content)
        if done >= 15:
            break
    child.kill()
    child.wait()
    assert snapshots.ask(content) == of_database(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork_both_answer(path: Path) -> None:
    filled(path).file.close()
    keep(path)
    now = snapshots_of(path).now()
    right = of_database(path)
    child = os.fork()
    if child == 0:
        os._exit(0 if content(now) == right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert content(now) == right
