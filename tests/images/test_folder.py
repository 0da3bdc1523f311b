"""One walk of a folder: what counts as an image, what is named as unreadable, what is only out of sight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyhash.images import SUFFIXES, FoundImage, walk


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return root


def paths(folder: Path) -> list[str]:
    return [image.path for image in walk(folder).images]


def test_images_come_by_folder_and_name(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.png", "a/z.JPG", "a/deep/y.webp", "c.gif", "A.tif", "notes.txt", "a/README")
    assert paths(tmp_path) == ["A.tif", "c.gif", "a/z.JPG", "a/deep/y.webp", "b/x.png"]
    assert walk(tmp_path).failed == []
    assert walk(os.fspath(tmp_path)) == walk(tmp_path)


def test_every_suffix_counts_in_any_case(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number, suffix in enumerate(sorted(SUFFIXES))]
    touch(tmp_path, *names, *(name.upper() for name in names))
    assert len(paths(tmp_path)) == len({name.lower() for name in paths(tmp_path)}) * 2 == 2 * len(SUFFIXES)


def test_size_and_time_are_those_of_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "set/2.jpg")
    (tmp_path / "set/link.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    os.utime(tmp_path / "elsewhere/1.jpg", ns=(1, 10**18))
    status = (tmp_path / "elsewhere/1.jpg").stat()
    ctime = None if os.name == "nt" else status.st_ctime_ns
    expected = FoundImage("link.jpg", 5, 10**18, ctime, status.st_ino, status.st_dev)
    assert walk(tmp_path / "set").images[1] == expected


def test_hidden_names_and_links_to_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, ".trash/1.jpg", "a/.2.jpg", "a/3.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "folder.jpg").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "real.jpg").mkdir()
    found = walk(tmp_path)
    assert [image.path for image in found.images] == ["a/3.jpg"]
    assert found.failed == []


def test_what_is_no_image_is_named_with_its_reason(tmp_path: Path) -> None:
    touch(tmp_path, "good.jpg")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "broken.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = walk(tmp_path)
    assert [image.path for image in found.images] == ["good.jpg"]
    assert {os.path.relpath(error.path, tmp_path): error.reason for error in found.failed} == {
        "pipe.jpg": "not a regular file",
        os.path.join("sub", "broken.png"): "a link to a file that does not exist",
    }


def test_a_subfolder_that_cannot_be_listed_is_out_of_sight_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.jpg", "locked/2.jpg", "z/3.jpg")
    listed = os.scandir

    def scandir(path: str) -> object:
        if "locked" in os.fspath(path):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk(tmp_path)
    assert [image.path for image in found.images] == ["a/1.jpg", "z/3.jpg"]
    assert found.hidden == ("locked/",)
    assert [error.reason for error in found.failed] == ["cannot list this folder: Permission denied"]
    with pytest.raises(PermissionError):
        walk(tmp_path / "locked")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        walk(tmp_path / "gone")
