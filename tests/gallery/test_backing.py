"""Copies of galleries in use: one state of them, whole or not at all, in the place of nothing that is not a gallery."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from children import Child, Report, update_gallery
from galleries import FakeEncoder, photos, picture
from mounts import mounted
from tuning import tune

from pyhash import Gallery
from pyhash.errors import ForeignFileError, GalleryError
from pyhash.gallery import backing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def integrity(file: Path) -> str:
    with closing(sqlite3.connect(file)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])


def test_a_copy_answers_as_the_gallery_does(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        os.chmod(gallery.file, 0o600)
        assert os.path.getsize(f"{gallery.file}-wal")  # what cp would not see
        seen: list[tuple[int, int]] = []
        assert gallery.backup(copy, progress=lambda done, total: seen.append((done, total))) == copy
        assert seen[-1][0] == seen[-1][1] > 10
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600 or os.name == "nt"
        assert sorted(tmp_path.iterdir()) == [copy, folder]
        expected = gallery.search(folder / "a.png")
        with Gallery(folder, FakeEncoder(), copy) as other:
            assert other.search(folder / "a.png") == expected
            picture(folder / "new.png", 9)
            assert other.update().added == 1
            assert len(gallery) == 6


def test_while_another_process_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy is one state: whole batches, in the order of time."""
    folder = tmp_path / "photos"
    for number in range(300):
        picture(folder / f"{number:03}.png", number)
    Gallery(folder, FakeEncoder()).close()
    monkeypatch.setattr(backing, "_PAGES", 1)
    child = Child(update_gallery, folder, 0.002)
    child.go()
    counts = []
    with Gallery(folder, FakeEncoder()) as gallery:
        for _ in child.reports():
            gallery.backup(tmp_path / "copy.sqlite")
            assert integrity(tmp_path / "copy.sqlite") == "ok"
            with Gallery(folder, FakeEncoder(), tmp_path / "copy.sqlite") as copy:
                counts.append(len(copy))
                assert len(copy.index) == len(copy)
        assert child.wait() == 0
        assert counts == sorted(counts)
        assert len(gallery) == 300


def test_a_change_meanwhile_is_not_in_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backing, "_PAGES", 3)
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        changed = []

        def change(done: int, total: int) -> None:
            if not changed:
                changed.append(picture(folder / "new.png", 9))
                gallery.update()

        gallery.backup(tmp_path / "copy.sqlite", progress=change)
        assert len(gallery) == 7
        with Gallery(folder, FakeEncoder(), tmp_path / "copy.sqlite") as copy:
            assert len(copy) == len([*copy]) == 6


def test_what_is_replaced(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        target.write_text("my own notes about pyhash and pyha")
        with pytest.raises(ForeignFileError, match="a file that pyhash did not write is there"):
            gallery.backup(target)
        assert target.read_text() == "my own notes about pyhash and pyha"
        gallery.backup(target, overwrite=True)
        with closing(sqlite3.connect(tmp_path / "recipes")) as db:
            db.execute("CREATE TABLE recipes (name)")
        with pytest.raises(ForeignFileError):
            gallery.backup(tmp_path / "recipes")
        gallery.backup(target)  # a gallery
        (tmp_path / "link").symlink_to(target)
        assert gallery.backup(tmp_path / "link") == target
        assert (tmp_path / "link").is_symlink()
        for itself in (gallery.file, folder / ".." / "photos" / ".pyhash" / "gallery.sqlite"):
            with pytest.raises(ValueError, match="must not be the gallery itself"):
                gallery.backup(itself, overwrite=True)
        with pytest.raises(IsADirectoryError):
            gallery.backup(tmp_path)
        with pytest.raises(FileNotFoundError, match="no such folder"):
            gallery.backup(tmp_path / "nowhere" / "copy.sqlite")
        assert len(gallery) == 6
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_what_lies_beside_a_file_is_not_taken_for_a_part_of_the_copy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would play back the write-ahead log of a gallery that was killed, into the copy."""
    target = tmp_path / "target.sqlite"
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        with Gallery(photos(tmp_path / "others"), FakeEncoder()) as other:
            other.update()
            for suffix in ("", "-wal"):
                shutil.copy(f"{other.file}{suffix}", f"{target}{suffix}")
        gallery.backup(target)
        assert not os.path.exists(f"{target}-wal")
        with Gallery(folder, FakeEncoder(), target) as copy:
            assert [*copy] == [*gallery]
        Path(f"{target}-wal").write_bytes(b"whose?")
        target.unlink()
        with pytest.raises(ForeignFileError, match="taken for a part of the copy"):
            gallery.backup(target)
        assert not target.exists()
        with Gallery(tmp_path / "others", FakeEncoder()) as other:
            tune(monkeypatch, busy_seconds=0.05)
            with pytest.raises(GalleryError, match="cannot be replaced while it is in use"):
                gallery.backup(other.file)
            assert len(other) == 6
            other.update()


def test_interrupted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backing, "_PAGES", 3)
    target = tmp_path / "target"
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        gallery.backup(target)
        before = target.read_bytes()

        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gallery.backup(target, progress=interrupt)
        assert target.read_bytes() == before
        assert sorted(tmp_path.iterdir()) == [folder, target]


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        options = "-t", "tmpfs", "-o", "ro", "none"
        with mounted(tmp_path / "disk", *options) as disk, pytest.raises(OSError, match="Read-only") as info:
            gallery.backup(disk / "copy.sqlite")
        assert info.value.filename == os.fspath(disk / "copy.sqlite")


def back_up_on_a_full_disk(report: Report, folder: Path, target: Path) -> None:
    import resource

    with Gallery(folder, FakeEncoder()) as gallery:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            gallery.backup(target)
        except GalleryError as error:
            report(str(target) in str(error))


@pytest.mark.skipif(os.name == "nt", reason="sets a limit that Windows does not have")
def test_a_full_disk_leaves_the_old_copy(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        gallery.backup(target)
        before = target.read_bytes()
        picture(folder / "new.png", 9)
        gallery.update()
    child = Child(back_up_on_a_full_disk, folder, target)
    child.go()
    assert [*child.reports()] == [True]
    assert child.wait() == 0
    assert target.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [folder, target]


def back_up_and_die(report: Report, folder: Path, target: Path, step: int) -> None:
    calls = iter(range(1000))

    def die(done: int, total: int) -> None:
        if next(calls) == step:
            os._exit(7)

    with pytest.MonkeyPatch.context() as patch, Gallery(folder, FakeEncoder()) as gallery:
        patch.setattr(backing, "_PAGES", 4)
        gallery.backup(target, progress=die)


def test_killed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        gallery.backup(target)
    before = target.read_bytes()
    for step in random.Random(0).sample(range(6), 3):
        child = Child(back_up_and_die, folder, target, step)
        child.go()
        assert child.wait() == 7
        assert target.read_bytes() == before
