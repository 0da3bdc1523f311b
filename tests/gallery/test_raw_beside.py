"""A RAW file beside its JPEG or HEIC is another name of that image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from galleries import FakeEncoder, picture

from pyhash import Gallery
from pyhash.labels import read_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(["a.jpg", "a.CR2", "s/B.HEIC", "s/b.dng", "s/c.nef", "d.png", "d.dng", "e.jpg"]):
        picture(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


def held(gallery: Gallery) -> list[str]:
    return sorted(os.path.relpath(path, gallery.folder).replace(os.sep, "/") for path in gallery)


def test_it_is_one_image(folder: Path) -> None:
    encoder = FakeEncoder()
    with Gallery(folder, encoder) as gallery:
        changes = gallery.update()
        assert (changes.added, changes.names, changes.failed) == (6, 2, [])
        assert held(gallery) == ["a.jpg", "d.dng", "d.png", "e.jpg", "s/B.HEIC", "s/c.nef"]
        assert gallery.id_of("a.CR2") == gallery.id_of("a.jpg") is not None
        assert gallery.id_of(folder / "s" / "b.dng") == gallery.id_of("s/B.HEIC")
        picture(folder / "a.CR2", 77)
        assert (changes := gallery.update()).unchanged == 6
        assert changes.names == 2
        picture(folder / "a.jpg", 78)
        assert gallery.update().changed == 1
    assert not any(os.fspath(path).endswith(("a.CR2", "b.dng")) for path in encoder.seen)


def test_each_of_the_two_may_go_and_come_back(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        (folder / "a.jpg").rename(folder.parent / "a.jpg")
        changes = gallery.update()
        assert (changes.added, changes.removed, changes.names) == (1, 1, 1)
        assert "a.CR2" in held(gallery)
        (folder.parent / "a.jpg").rename(folder / "a.jpg")
        changes = gallery.update()
        assert (changes.added, changes.removed, changes.names) == (1, 0, 2)
        assert "a.jpg" in held(gallery)
        assert "a.CR2" not in held(gallery)
        (folder / "a.CR2").unlink()
        changes = gallery.update()
        assert (changes.added, changes.removed, changes.unchanged, changes.names) == (0, 0, 6, 1)


def test_links_of_raw_files_go_with_them(folder: Path) -> None:
    (folder / "best").mkdir()
    os.link(folder / "a.CR2", folder / "best" / "hard.CR2")
    (folder / "best" / "soft.cr2").symlink_to(folder / "a.CR2")
    (folder / "e.dng").symlink_to(folder / "e.jpg")  # a link from one to the other, and a circle
    os.link(folder / "d.dng", folder / "x.jpg")
    os.link(folder / "s" / "c.nef", folder / "x.dng")
    os.link(folder / "d.dng", folder / "s" / "c.jpg")
    with Gallery(folder, FakeEncoder()) as gallery:
        assert gallery.update().failed == []
        for names in ["a.jpg", "best/hard.CR2", "best/soft.cr2"], ["e.jpg", "e.dng"], ["x.jpg", "x.dng", "s/c.nef"]:
            assert len({gallery.id_of(name) for name in names}) == 1
        assert "a.jpg" in held(gallery)


def test_what_is_forgotten_does_not_come_back_as_raw(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        gallery.forget(folder / "a.jpg")
        gallery.update()
        assert not {"a.jpg", "a.CR2"} & {*held(gallery)}


def test_labels_name_it_once(folder: Path) -> None:
    names = {os.path.relpath(file, folder).replace(os.sep, "/") for file in read_labels(folder, None, ["fine"]).files}
    assert names == {"a.jpg", "d.dng", "d.png", "e.jpg", "s/B.HEIC", "s/c.nef"}
