"""The gallery's file: what survives a kill, other processes, damage and folders that cannot be written."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from children import Child, update_gallery
from galleries import FakeEncoder, execute, photos, picture
from tuning import tune

from pyhash import Index
from pyhash.errors import GalleryError
from pyhash.gallery import Changes, Gallery, encoders, records, store, update
from pyhash.support import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


# What survives


def test_interrupted_run_keeps_what_was_finished(folder: Path) -> None:
    for number in range(20):
        picture(folder / f"{number}.png", number)

    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with Gallery.open(folder, FakeEncoder()) as pictures:
        with pytest.raises(KeyboardInterrupt):
            pictures.update(progress=interrupt)
        assert len(pictures) == 10
        assert pictures.update() == Changes(16, 0, 0, 10, [])


def test_a_kill_loses_one_batch_at_most(folder: Path) -> None:
    """What another process sees while pictures are encoded is what would survive."""
    for number in range(200):
        picture(folder / f"{number}.png", number)
    lost = []
    with Gallery.open(folder, FakeEncoder()) as pictures, Gallery.open(folder) as survivor:
        pictures.update(progress=lambda done, total: lost.append(done - len(survivor)))
        assert pictures._file._db.execute("PRAGMA synchronous").fetchone() == (
            2,
        )  # FULL: on disk, not only handed over
        assert pictures._file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert min(lost) == 0
    assert max(lost) < 64


def healthy(file: Path) -> bool:
    db = sqlite3.connect(file)
    try:
        return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        db.close()


def test_killed_while_indexing(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    total = 400
    for number in range(total):
        picture(folder / f"{number % 7}" / f"{number}.png", number)
    stored = 0
    for kill_after in [70, 1, 140, 50]:
        child = Child(update_gallery, folder, 0.001)
        child.go()
        done = next(done for done in child.reports() if done >= kill_after)
        time.sleep(random.Random(kill_after).uniform(0, 0.03))
        child.kill()
        done = max([done, *child.reports()])
        assert child.wait() == -signal.SIGKILL
        with Gallery(folder, FakeEncoder(), create=False) as pictures:
            now = len(pictures)
        assert healthy(folder / ".pyhash" / "gallery.sqlite")
        assert now >= stored + done - update._COMMIT_ROWS  # nothing but the batch in flight
        stored = now
    assert 0 < stored < total
    encoder = FakeEncoder()
    with Gallery(folder, encoder) as pictures:
        assert pictures.update() == Changes(total - stored, 0, 0, stored, [])
        assert len(encoder.seen) == total - stored
        assert len(pictures) == total
        assert pictures.search(folder / "0" / "0.png", k=1)[0].distance == 0


def test_killed_at_any_moment(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(100):
        picture(folder / f"{number}.png", number)
    for delay in np.linspace(0, 0.06, 13):
        child = Child(update_gallery, folder, 0.0)
        child.go()
        time.sleep(delay)
        child.kill()
        child.wait()
        with Gallery(folder, FakeEncoder()) as pictures:  # also when it was killed while making the file
            stored = len(pictures)
            assert stored == 0 or len(pictures.search(folder / "0.png", k=100)) == stored
        assert healthy(folder / ".pyhash" / "gallery.sqlite")
        shutil.rmtree(folder / ".pyhash")


def test_three_processes_index_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(150):
        picture(folder / f"{number}.png", number)
    children = [Child(update_gallery, folder, 0.001) for _ in range(3)]
    for child in children:
        child.go()
    added = [[*child.reports()][-1] for child in children]
    assert sum(added) == 150  # each counts what it stored
    assert [child.wait() for child in children] == [0, 0, 0]
    assert healthy(folder / ".pyhash" / "gallery.sqlite")
    with Gallery(folder, FakeEncoder()) as pictures:
        assert len(pictures) == 150
        assert pictures.update() == Changes(0, 0, 0, 150, [])


def test_sees_what_others_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(folder, FakeEncoder()) as one, Gallery.open(folder, FakeEncoder()) as two:
        one.update()
        assert len(two.search(folder / "a.png")) == 6
        index = two.index
        assert two.index is index  # loaded once
        monkeypatch.delattr(store.GalleryFile, "rows")  # from here on the difference is enough
        (folder / "a.png").unlink()
        picture(folder / "new.png", 50)
        picture(folder / "new2.png", 51)
        one.update()
        assert len(two) == 7
        assert two.search(folder / "new.png", k=1)[0].path == os.fspath(folder / "new.png")
        assert len(two.index) == 7


def test_threads(folder: Path) -> None:
    errors: list[BaseException] = []
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
        stop = threading.Event()

        def look() -> None:
            try:
                while not stop.is_set():
                    assert pictures.search(folder / "a.png", k=1)[0].distance == 0
                    assert len(pictures) >= 6
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(10):
            picture(folder / f"t{number}.png", 200 + number)
            pictures.update()
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_many_threads_ask_whether_it_changed(folder: Path) -> None:
    errors: list[BaseException] = []
    with Gallery(folder, FakeEncoder()) as pictures:
        pictures.update()

        def ask() -> None:
            try:
                for _ in range(2000):
                    assert type(pictures._file.version()) is int
            except BaseException as error:
                errors.append(error)

        before = pictures._file.version()
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            pictures.update()
        for thread in threads:
            thread.join()
        assert pictures._file.version() != before
    assert errors == []


@pytest.mark.parametrize("method", ["remove", "update", "add", "snapshot"])
def test_interrupted_while_loading(folder: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next search loads again, and answers from no index that is half changed."""
    with Gallery(folder, FakeEncoder()) as pictures:
        pictures.update()
        before = pictures.index
        (folder / "z.webp").unlink()
        picture(folder / "a.png", 50, size=(50, 50))
        picture(folder / "new.png", 51)
        pictures.update()
        real = getattr(Index, method)

        def interrupted(*arguments: object, **options: object) -> None:
            real(*arguments, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Index, method, interrupted)
            with pytest.raises(KeyboardInterrupt):
                pictures.search(folder / "a.png")
        assert len(before) == 6
        assert pictures.search(folder / "a.png", 1)[0].distance == 0
        assert pictures.search(folder / "new.png", 1)[0].distance == 0
        assert {Path(path).name for path in pictures} == {"a.png", "b.PNG", "c.png", "d.png", "e.jpeg", "new.png"}
        with Gallery(folder, FakeEncoder()) as again:
            assert again.search(folder / "a.png") == pictures.search(folder / "a.png")


def test_locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Gallery.open(folder, FakeEncoder()).close()
    tune(monkeypatch, busy_seconds=0.05)
    db = sqlite3.connect(folder / ".pyhash" / "gallery.sqlite", isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        with (
            Gallery.open(folder, FakeEncoder()) as pictures,
            pytest.raises(GalleryError, match="locked by another process"),
        ):
            pictures.update()
    finally:
        db.close()


def test_writers_wait_for_one_another(folder: Path) -> None:
    """A writer that had looked before another one was done would find its view outdated."""
    entered, identity = threading.Event(), encoders.identity_of(FakeEncoder(), os.fspath(folder))
    seen: list[int] = []

    def second() -> None:
        with Gallery.open(folder, FakeEncoder()) as pictures:
            entered.set()
            with pictures._file.writing(identity):
                seen.append(pictures._file.counts().images)

    with Gallery.open(folder, FakeEncoder()) as pictures:
        thread = threading.Thread(target=second)
        with pictures._file.writing(identity):
            pictures._file.put([records.Record("x.png", 1, 1, bytes(8), None)])
            thread.start()
            assert entered.wait(10)
            time.sleep(0.1)
        thread.join()
    assert seen == [1]


# Damaged, foreign, read-only


def test_not_a_gallery(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "g.sqlite"
    file.write_bytes(b"certainly not a database" * 100)
    before = file.read_bytes()
    with pytest.raises(GalleryError, match=r"g\.sqlite is not a pyhash gallery"):
        Gallery.open(folder, FakeEncoder(), file)
    assert file.read_bytes() == before
    file.unlink()
    execute(file, "CREATE TABLE recipes (name TEXT)")
    before = file.read_bytes()
    with pytest.raises(GalleryError, match="SQLite file, but not a pyhash gallery"):
        Gallery.open(folder, FakeEncoder(), file, rebuild=True)
    assert file.read_bytes() == before
    with pytest.raises(GalleryError, match=r"photos"):
        Gallery.open(folder, FakeEncoder(), folder)
    with pytest.raises(GalleryError, match=r"cannot make the folder .*--gallery"):
        Gallery.open(folder, FakeEncoder(), folder / "a.png" / "g.sqlite")


def test_an_empty_file_is_not_made_a_gallery(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "g.sqlite"
    file.touch()
    for rebuild in (False, True):
        with pytest.raises(
            GalleryError, match=r"g\.sqlite is empty, and so not a pyhash gallery; it was left as it is"
        ):
            Gallery(folder, FakeEncoder(), file, rebuild=rebuild)
    assert file.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [folder, file] or list(tmp_path.iterdir()) == [file, folder]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_gallery_is_seen_whole(folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Its name leads to a file that can be searched or to none, also where another process makes one meanwhile."""
    file = folder / ".pyhash" / "gallery.sqlite"
    real, seen = files.publish, []

    def publish(temporary: Path, path: Path) -> None:
        seen.append((healthy(temporary), path.exists()))
        if len(seen) == 1:
            Gallery(folder, FakeEncoder()).close()
            with Gallery(folder, FakeEncoder()) as other:
                other.update()
        real(temporary, path)

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files, "publish", publish)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with Gallery(folder, FakeEncoder()) as pictures:
        assert len(pictures) == 6
    assert seen == [(True, False), (True, False)]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_newer_format(folder: Path) -> None:
    Gallery.open(folder, FakeEncoder()).close()
    execute(folder / ".pyhash" / "gallery.sqlite", "PRAGMA user_version = 3")
    with pytest.raises(GalleryError, match=r"format 3, but this pyhash reads format 2 and older.*--upgrade"):
        Gallery.open(folder, FakeEncoder())


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE codes SET code = x'00' WHERE row = 3", "code of row 3 must be 8 bytes, got b'\\\\x00'"),
        ("UPDATE codes SET code = 'abcdefgh' WHERE row = 2", "code of row 2 must be 8 bytes, got 'abcdefgh'"),
        ("UPDATE codes SET code = x'0102030405060708' WHERE row = 2", "code of 2 does not match its checksum"),
        ("UPDATE codes SET row = 77 WHERE row = 2", "damaged"),
        ("PRAGMA user_version = 0", "damaged"),
        ("PRAGMA user_version = 1", "damaged"),
        ("UPDATE images SET path = x'2E2E2F70' WHERE id = 1", "stay in the folder"),
        ("UPDATE images SET path = 'text' WHERE id = 1", "must be bytes"),
        ("UPDATE images SET path = x'70' WHERE id = 4", "path of 4 does not match its checksum"),
        ("DELETE FROM images WHERE id = 4", "some of its codes belong to no image"),
        ("UPDATE heads SET levels = 'many'", "levels must be"),
        ("UPDATE heads SET levels = '[]'", "levels must be"),
        ("UPDATE heads SET levels = '{\"code\": 0}'", "levels must be"),
        ("UPDATE heads SET levels = '{\"code\": 99999999}'", "damaged"),
        ("UPDATE settings SET value = 'much' WHERE key = 'revision'", "revision must be a whole number, got 'much'"),
        ("UPDATE settings SET value = 'much' WHERE key = 'opened'", "opened must be a JSON object, got 'much'"),
        ("DROP TABLE rows", "no such table"),
    ],
)
def test_damaged_content(folder: Path, statement: str, message: str) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
    execute(folder / ".pyhash" / "gallery.sqlite", statement)
    with pytest.raises(GalleryError, match=message) as info, Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.search(folder / "a.png")
    assert "damaged" in str(info.value)


def test_flipped_and_cut_bytes(folder: Path) -> None:
    """Whatever the file holds: a GalleryError or an answer, and no code and no path in it that was never stored."""
    for number in range(30):
        picture(folder / f"{number}.png", number)
    encoder = FakeEncoder()
    with Gallery.open(folder, encoder) as pictures:
        pictures.update()
    file = folder / ".pyhash" / "gallery.sqlite"
    good = file.read_bytes()
    query = encoder.encode([folder / "a.png"])
    with Gallery(folder, encoder) as pictures:
        (true,) = map(set, pictures.search_codes(query, 40))
    rng = random.Random(0)
    refused = 0
    for trial in range(200):
        if trial % 10 == 0:
            bad = good[: rng.randrange(len(good))]
        else:
            data = bytearray(good)
            for _ in range(rng.choice([1, 1, 4, 50])):
                data[rng.randrange(len(data))] = rng.randrange(256)
            bad = bytes(data)
        for extra in file.parent.iterdir():
            extra.unlink()
        file.write_bytes(bad)
        try:
            with Gallery.open(folder, encoder) as pictures:
                (found,) = pictures.search_codes(query, 40)
                assert set(found) <= true, trial
                pictures.duplicates()
                pictures.stats()
        except GalleryError:
            refused += 1
    assert 50 < refused < 200


def test_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
    file = folder / ".pyhash" / "gallery.sqlite"
    before = sorted(p.name for p in file.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Gallery.open(folder, FakeEncoder()) as pictures:
        assert len(pictures.search(folder / "a.png")) == 6
        assert sorted(p.name for p in file.parent.iterdir()) == before
        with pytest.raises(GalleryError, match=r"cannot write the gallery .*--gallery FILE"):
            pictures.update()


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="needs a file system where nobody can write")
def test_folder_where_nothing_can_be_made() -> None:
    with pytest.raises(GalleryError, match=r"cannot make the folder /sys/kernel/\.pyhash: .*--gallery FILE"):
        Gallery.open("/sys/kernel", FakeEncoder())


def test_closed(folder: Path) -> None:
    pictures = Gallery.open(folder, FakeEncoder())
    pictures.close()
    pictures.close()
    with pytest.raises(GalleryError, match=r"the gallery .* is closed"):
        len(pictures)
