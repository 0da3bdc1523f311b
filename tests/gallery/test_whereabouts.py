"""Where a gallery lies by default: with its folder, or with the user where the folder's disk comes and goes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from galleries import FakeEncoder, photos, picture
from mounts import mounted

from pyhash.errors import GalleryError
from pyhash.gallery import Gallery, default_file, update
from pyhash.support import disks


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder; what lies under ``media`` comes and goes."""
    pytest.importorskip("platformdirs")
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: tmp_path / "data")
    media = tmp_path / "media"
    monkeypatch.setattr(disks, "comes_and_goes", lambda folder: media in Path(folder).resolve().parents)
    monkeypatch.setattr("pyhash.gallery.whereabouts._beside_data", lambda _: False)
    return tmp_path / "data" / "galleries"


@pytest.fixture
def stick(data: Path, tmp_path: Path) -> Path:
    """A folder on a disk that comes and goes, not indexed yet."""
    return photos(tmp_path / "media" / "stick" / "photos")


def index(folder: Path) -> tuple[update.Changes, Path]:
    with Gallery(folder, FakeEncoder()) as gallery:
        return gallery.update(), gallery.file


def test_with_the_folder_where_its_disk_stays(data: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "here")
    assert default_file(folder) == folder / ".pyhash" / "gallery.sqlite" == index(folder)[1]
    assert not data.exists()
    assert [path.name for path in (folder / ".pyhash").iterdir()] == ["gallery.sqlite"]


def test_in_the_data_folder_where_it_comes_and_goes(data: Path, stick: Path) -> None:
    changes, file = index(stick)
    assert file.parent == data
    assert file.name.startswith("photos-")
    assert changes.added == 6
    assert [path.name for path in (stick / ".pyhash").iterdir()] == ["mark"]
    assert index(stick)[0].unchanged == 6


def test_it_is_found_while_the_disk_is_away(stick: Path) -> None:
    _, file = index(stick)
    away = stick.parents[2] / "away"
    stick.parent.rename(away)  # unplugged, and the mount point with it
    assert default_file(stick) == file
    with Gallery(stick, FakeEncoder(), create=False) as gallery:
        assert len(gallery.search(away / "photos" / "a.png")) == 6
    stick.mkdir(parents=True)  # a mount point without its disk
    assert default_file(stick) == file
    changes, _ = index(stick)
    assert (changes.kept, changes.removed, changes.added) == (6, 0, 0)
    assert [*stick.iterdir()] == []  # where it would hide under the disk that comes back
    shutil.rmtree(stick.parent)
    away.rename(stick.parent)
    assert index(stick) == (update.Changes(0, 0, 0, 6, []), file)


def test_it_is_found_where_the_disk_is_mounted_elsewhere(stick: Path) -> None:
    _, file = index(stick)
    elsewhere = stick.parents[1] / "stick1"
    stick.parent.rename(elsewhere)
    changes, there = index(elsewhere / "photos")
    assert (there, changes.unchanged, changes.added) == (file, 6, 0)


def test_another_disk_in_the_same_place_has_its_own(stick: Path) -> None:
    _, file = index(stick)
    stick.parent.rename(stick.parents[2] / "away")
    stick.mkdir(parents=True)
    picture(stick / "other.png", 77, size=(50, 41))
    changes, other = index(stick)
    assert other != file
    assert changes.added == 1
    assert default_file(stick) == other


def test_a_copy_has_its_own(stick: Path) -> None:
    _, file = index(stick)
    copy = stick.parents[1] / "second" / "photos"
    shutil.copytree(stick, copy)
    changes, other = index(copy)
    assert other != file
    assert changes.added == 6
    assert default_file(copy) == other
    assert default_file(stick) == file


def test_a_mark_of_another_machine_is_kept(data: Path, stick: Path) -> None:
    """Both machines may then go on with their galleries."""
    index(stick)
    mark = (stick / ".pyhash" / "mark").read_text()
    shutil.rmtree(data)
    assert index(stick)[1] == data / f"{mark}.sqlite"
    assert (stick / ".pyhash" / "mark").read_text() == mark


@pytest.mark.parametrize("mark", [b"../../etc/x", b"", b"\xff\xfe", b"a/b", b"x" * 500, b"a.b"])
def test_a_mark_names_no_place(data: Path, stick: Path, mark: bytes) -> None:
    (stick / ".pyhash").mkdir()
    (stick / ".pyhash" / "mark").write_bytes(mark)
    assert index(stick)[1].parent == data


def test_without_its_mark_it_is_told_by_its_path(stick: Path) -> None:
    _, file = index(stick)
    shutil.rmtree(stick / ".pyhash")
    assert index(stick) == (update.Changes(0, 0, 0, 6, []), file)
    assert (stick / ".pyhash" / "mark").read_text() == file.stem


def test_what_cannot_be_written(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(tmp_path / "discs")
    access = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (os.fspath(path) == os.fspath(folder) and mode == os.W_OK) and access(path, mode),
    )
    file = default_file(folder)
    assert file.parent == data
    assert index(folder)[1] == file


def test_a_gallery_that_was_put_there_stays(data: Path, stick: Path) -> None:
    inside = stick / ".pyhash" / "gallery.sqlite"
    with Gallery(stick, FakeEncoder(), inside) as gallery:
        gallery.update()
    assert index(stick) == (update.Changes(0, 0, 0, 6, []), inside)
    assert not data.exists()


def test_no_gallery_is_made_where_there_is_no_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="its disk there"):
        Gallery(tmp_path / "media" / "nothing", FakeEncoder())
    assert not data.exists()


def test_what_is_no_gallery_in_the_data_folder(data: Path, stick: Path) -> None:
    data.mkdir(parents=True)
    (data / "notes.sqlite").write_bytes(b"not a database" * 99)
    (data / "empty.sqlite").touch()
    assert index(stick)[0].added == 6
    assert (data / "empty.sqlite").stat().st_size == 0


def test_a_real_disk_comes_and_goes(data: Path, tmp_path: Path) -> None:
    disk, point, second = tmp_path / "disk", tmp_path / "media" / "one", tmp_path / "media" / "two"
    disk.mkdir()
    with mounted(point, "--bind", disk):
        photos(point / "photos")
        _, file = index(point / "photos")
    with Gallery(point / "photos", FakeEncoder(), create=False) as gallery:
        assert len(gallery) == 6
    assert [*point.iterdir()] == []
    with mounted(second, "--bind", disk):
        changes, there = index(second / "photos")
        assert (there, changes.unchanged) == (file, 6)
