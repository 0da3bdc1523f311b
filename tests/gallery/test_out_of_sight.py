"""What is not seen is not gone, what has another name is not new, and a gallery is of one folder."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from galleries import FakeEncoder, photos, picture

from pyhash import images
from pyhash.errors import GalleryError
from pyhash.gallery import Gallery, recognising, update, walking


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def updated(folder: Path, file: Path | None = None, **options: Any) -> tuple[update.Changes, list[str]]:
    """Bring a gallery up to date; return what changed, and the names of what was encoded."""
    encoder = FakeEncoder()
    with Gallery(folder, encoder, file) as gallery:
        changes = gallery.update(**options)
    return changes, sorted(os.path.relpath(path, folder) for path in encoder.seen)


def paths_of(folder: Path) -> list[str]:
    with Gallery(folder, create=False) as gallery:
        return sorted(os.path.relpath(path, folder) for path in gallery)


# One content


def test_files_older_than_1970_are_files_as_others(folder: Path) -> None:
    os.utime(folder / "b.PNG", ns=(0, -86_400 * 10**9))
    updated(folder)
    os.utime(folder / "b.PNG", ns=(0, -2 * 86_400 * 10**9))
    changes, seen = updated(folder)
    assert (seen, changes.changed, changes.added) == ([], 0, 0)


def test_what_was_moved_renamed_or_touched_is_not_encoded_again(folder: Path) -> None:
    updated(folder)
    with Gallery(folder) as gallery:
        ids = {name: gallery.id_of(folder / name) for name in ("a.png", "sub/c.png", "z.webp")}
    (folder / "a.png").rename(folder / "renamed.png")
    (folder / "new").mkdir()
    (folder / "sub" / "c.png").rename(folder / "new" / "c.png")
    os.utime(folder / "b.PNG", ns=(0, 0))
    os.chmod(folder / "z.webp", 0o600)
    changes, seen = updated(folder)
    assert seen == []
    assert (changes.moved, changes.unchanged, changes.added, changes.changed, changes.removed) == (2, 4, 0, 0, 0)
    with Gallery(folder) as gallery:
        moved = {"renamed.png": "a.png", "new/c.png": "sub/c.png", "z.webp": "z.webp"}
        assert {name: gallery.id_of(folder / name) for name in moved} == {n: ids[before] for n, before in moved.items()}
        assert gallery.id_of(folder / "a.png") is None
    assert updated(folder)[0].unchanged == 6


def test_a_copy_is_an_image_of_its_own_and_not_encoded(folder: Path) -> None:
    updated(folder)
    shutil.copy(folder / "a.png", folder / "copy.png")
    changes, seen = updated(folder)
    assert (seen, changes.added, changes.unchanged) == ([], 1, 6)
    with Gallery(folder, FakeEncoder()) as gallery:
        found = gallery.search(folder / "copy.png", 2)
        assert [(Path(match.path).name, match.distance) for match in found] == [("a.png", 0), ("copy.png", 0)]


def test_a_file_that_took_the_name_of_another(folder: Path) -> None:
    updated(folder)
    with Gallery(folder) as gallery:
        code = gallery[folder / "a.png"].tolist()
    (folder / "a.png").replace(folder / "b.PNG")
    changes, seen = updated(folder)
    assert (seen, changes.changed, changes.removed) == ([], 1, 1)
    with Gallery(folder) as gallery:
        assert gallery[folder / "b.PNG"].tolist() == code


@pytest.mark.skipif(os.name == "nt", reason="the time of change is that of creation")
def test_a_change_in_place_is_seen_though_size_and_time_are_as_they_were(folder: Path) -> None:
    updated(folder)
    path = folder / "a.png"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert updated(folder)[1] == ["a.png"]


def test_a_gallery_that_did_not_note_inodes_learns_them_and_encodes_nothing(folder: Path) -> None:
    updated(folder)
    with Gallery(folder) as gallery, gallery._file.writing(None):
        gallery._file._db.execute("UPDATE images SET inode = NULL, ctime_ns = NULL, digest = NULL")
    changes, seen = updated(folder)
    assert (seen, changes.unchanged) == ([], 6)
    with Gallery(folder) as gallery, gallery._file.reading():
        assert all(row.inode is not None for row in gallery._file.known().values())


@pytest.mark.skipif(os.name == "nt", reason="there the inode is asked")
def test_inodes_that_a_mount_numbers_anew_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updated(folder)
    walk = images.walk

    def renumbered(*args: Any, **options: Any) -> images.Walk:
        found = walk(*args, **options)
        return dataclasses.replace(found, images=[image._replace(inode=image.inode + 1000) for image in found.images])

    monkeypatch.setattr(walking, "walk", renumbered)
    monkeypatch.setattr(update, "digest_of", lambda path: pytest.fail(f"{path} is read"))
    assert updated(folder)[0].unchanged == 6


# One file


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_with_two_names_is_one_image(folder: Path, link: Any) -> None:
    link(folder / "sub" / "c.png", folder / "0.png")
    changes, seen = updated(folder)
    assert (changes.added, changes.names, len(seen)) == (6, 1, 6)
    with Gallery(folder, FakeEncoder()) as gallery:
        number = gallery.id_of(folder / "sub" / "c.png")
        assert number == gallery.id_of(folder / "0.png") is not None
        assert gallery.duplicates().groups == ()
        found = gallery.search(folder / "0.png", exclude=folder / "0.png")
        assert {Path(match.path).name for match in found} == {"a.png", "b.PNG", "z.webp", "d.png", "e.jpeg"}
    if link is os.link:
        (folder / "0.png").unlink()
        changes, seen = updated(folder)
        assert (changes.moved, changes.names, seen) == (1, 0, [])
        with Gallery(folder) as gallery:
            assert gallery.id_of(folder / "sub" / "c.png") == number


def test_a_link_is_not_the_name_of_what_it_shows(folder: Path) -> None:
    os.symlink(folder / "z.webp", folder / "0.png")
    updated(folder)
    assert paths_of(folder) == ["a.png", "b.PNG", "sub/c.png", "sub/deep/d.png", "sub/e.jpeg", "z.webp"]


def test_names_that_an_earlier_version_kept_as_images_become_one(folder: Path) -> None:
    shutil.copy(folder / "a.png", folder / "c.png")
    updated(folder)
    (folder / "c.png").unlink()
    os.link(folder / "a.png", folder / "c.png")
    changes, seen = updated(folder)
    assert (changes.names, changes.removed, changes.unchanged, seen) == (1, 0, 6, [])


# Out of sight


def test_what_lies_in_a_folder_that_is_empty_now_is_kept(folder: Path) -> None:
    for number in range(12):
        picture(folder / f"{number}.png", 100 + number)
    updated(folder)
    shutil.move(folder / "sub", folder.parent / "away")
    (folder / "sub").mkdir()
    changes, _ = updated(folder)
    assert (changes.kept, changes.removed, changes.withheld) == (3, 0, 0)
    with Gallery(folder, FakeEncoder()) as gallery:
        assert gallery.search(folder.parent / "away" / "c.png", 1)[0].path == os.fspath(folder / "sub" / "c.png")
    (folder / "sub").rmdir()
    shutil.move(folder.parent / "away", folder / "sub")
    changes, seen = updated(folder)
    assert (changes.unchanged, changes.kept, seen) == (18, 0, [])
    shutil.rmtree(folder / "sub")
    (folder / "sub").mkdir()
    assert updated(folder, prune=True)[0].removed == 3


def test_the_whole_folder_may_be_away(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "g.sqlite"
    updated(folder, file)
    shutil.move(folder, tmp_path / "away")
    with pytest.raises(GalleryError, match="cannot be read"):
        updated(folder, file)
    folder.mkdir()
    changes, _ = updated(folder, file)
    assert (changes.kept, changes.removed) == (6, 0)


def test_what_lies_on_another_disk_is_kept_while_that_is_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = True
    device, walk = recognising._device, images.walk

    def device_of(path: str) -> int | None:
        inside = os.path.relpath(path, folder) == "sub"
        return -1 if inside and mounted else device(path)

    def walked(root: str, *options: Any) -> images.Walk:
        found = walk(root, *options)
        listed = [i._replace(device=-1) if i.path.startswith("sub/") and mounted else i for i in found.images]
        return images.Walk(listed, found.failed, found.hidden)

    monkeypatch.setattr(recognising, "_device", device_of)
    monkeypatch.setattr(walking, "walk", walked)
    for number in range(12):
        picture(folder / f"{number}.png", 100 + number)
    updated(folder)
    shutil.rmtree(folder / "sub")
    mounted = False
    for _ in range(2):
        changes, _ = updated(folder)
        assert (changes.kept, changes.removed) == (3, 0)
    picture(folder / "copy of d.png", 3)  # a copy of what is away: that was not moved
    changes, seen = updated(folder)
    assert (changes.kept, changes.added, changes.moved, seen) == (3, 1, 0, [])
    picture(folder / "sub" / "below the mount point.png", 50)
    assert updated(folder)[0].kept == 3
    mounted = True  # the disk is back, and its images are gone from it
    assert updated(folder)[0].removed == 3


@pytest.mark.parametrize(
    ("there", "gone", "dropped"), [(6, 1, 1), (2, 1, 1), (1, 1, 0), (12, 3, 3), (12, 4, 0), (8, 8, 0)]
)
def test_many_are_dropped_only_when_told(tmp_path: Path, there: int, gone: int, dropped: int) -> None:
    for number in range(there):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "note.txt").write_text("so that the folder is not empty")
    updated(tmp_path)
    for number in range(gone):
        (tmp_path / f"{number}.png").unlink()
    changes, _ = updated(tmp_path)
    assert (changes.removed, changes.withheld) == (dropped, gone - dropped)
    assert len(paths_of(tmp_path)) == there - dropped
    assert updated(tmp_path, prune=True)[0].removed == gone - dropped
    assert len(paths_of(tmp_path)) == there - gone


# Waiting


def test_an_interrupted_run_says_what_waits(folder: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with Gallery(folder, FakeEncoder()) as gallery:
        with pytest.raises(KeyboardInterrupt):
            gallery.update(progress=interrupt)
        assert (gallery.stats().images, gallery.stats().waiting) == (2, 4)
        assert gallery.update().added == 4
        assert gallery.stats().waiting == 0


def test_what_could_not_be_read_is_tried_again_with_other_software(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "text.jpg").write_text("hello")
    updated(folder)
    assert updated(folder)[1] == []
    monkeypatch.setattr(update, "readers", lambda: "another one")
    assert updated(folder)[1] == ["text.jpg"]
    assert updated(folder)[1] == []


# One folder


def test_another_folder_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "g.sqlite"
    updated(folder, file)
    other = photos(tmp_path / "other")
    picture(other / "a.png", 9, size=(50, 50))
    for path in ("b.PNG", "sub/c.png", "z.webp", "sub/e.jpeg"):
        (other / path).unlink()
    for options in ({}, {"encoder": FakeEncoder()}):
        with pytest.raises(GalleryError, match=f"is of the folder {folder}, not of {other}"):
            Gallery(other, file=file, **options)
    with pytest.raises(GalleryError, match=f"not of {tmp_path / 'typo'}"):
        Gallery(tmp_path / "typo", file=file)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_gallery_goes_with_its_folder(folder: Path, tmp_path: Path, inside: bool, how: Any) -> None:
    file = None if inside else tmp_path / "g.sqlite"
    updated(folder, file)
    how(folder, tmp_path / "moved")
    changes, seen = updated(tmp_path / "moved", file)
    assert (seen, changes.unchanged) == ([], 6)
    (tmp_path / "moved").rename(tmp_path / "renamed")
    with Gallery(tmp_path / "renamed", FakeEncoder(), file) as gallery:
        assert len(gallery.search(tmp_path / "renamed" / "a.png")) == 6
