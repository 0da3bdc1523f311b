"""One walk of a folder: what counts as an image, what is named as unreadable, what is only out of sight."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import encoded, photo
from PIL import Image

from pyhash.images import KINDS, SUFFIXES, FoundImage, is_empty, raws_beside, walk


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
    assert found.links == 2
    assert not found.passed_over


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
    assert found.hidden == ("sub/broken.png",)  # its target may be on a disk that is away
    assert found.hides("sub/broken.png")
    assert not found.hides("sub/broken.png.jpg")


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
    assert found.hides("locked/deep/4.jpg")
    assert not found.hides("locked.jpg")
    assert [error.reason for error in found.failed] == ["cannot list this folder: Permission denied"]
    with pytest.raises(PermissionError):
        walk(tmp_path / "locked")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        walk(tmp_path / "gone")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to look everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


def test_what_may_not_be_looked_at_is_out_of_sight_not_gone() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = touch(Path(name), "a.jpg", "priv/1.jpg", "priv/deep/2.jpg", "priv/notes.txt", "shut/3.jpg")
        root.chmod(0o755)
        (root / "priv").chmod(0o444)  # can be listed, and nothing in it looked at
        (root / "shut").chmod(0o000)
        with as_nobody():
            found = walk(root)
        assert [image.path for image in found.images] == ["a.jpg"]
        assert sorted(found.hidden) == ["priv/1.jpg", "priv/deep/", "shut/"]
        assert all("Permission denied" in error.reason for error in found.failed)
        assert len(found.failed) == 3
        assert all(map(found.hides, ["priv/1.jpg", "priv/deep/2.jpg", "shut/3.jpg"]))
        assert not found.hides("a.jpg")
        for folder in ("priv", "shut"):
            (root / folder).chmod(0o755)


def test_a_path_that_is_too_long_is_named_and_the_rest_found(tmp_path: Path) -> None:
    touch(tmp_path, "z/1.jpg", f"{'n' * 251}.jpg")
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        Path("deep.jpg").touch()
    finally:
        os.chdir(before)
        os.close(before)
    found = walk(tmp_path)
    assert [image.path for image in found.images] == [f"{'n' * 251}.jpg", "z/1.jpg"]
    assert [error.reason for error in found.failed] == ["cannot list this folder: File name too long"]
    assert len(found.hidden) == 1


OF_A_KIND = {
    "camera RAW": ["1.raw", "2.R3D", "3.eip"],
    "Photoshop": ["9.psd", "9.PSB"],
    "SVG": ["10.svg"],
    "other image": ["11.exr", "12.xcf", "13.ico"],
    "sidecar": ["1.xmp", "IMG_1.AAE", "IMG_1.jpg.xmp", "2.pp3"],
    "video": ["14.mp4", "15.MOV", "16.mkv", "17.avi", "18.webm"],
    "film of a live photograph": ["IMG_1.MOV", "img_2.mp4"],
    "other": ["notes.txt", "README", "x.jpg.part", "Thumbs.db"],
}


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    assert list(OF_A_KIND) == list(KINDS)
    names = [name for some in OF_A_KIND.values() for name in some]
    touch(tmp_path, *names, "IMG_1.HEIC", "IMG_2.jpg", "14.png", ".DS_Store", "@eaDir/x.raw", "raw/20.raw", "out/1.raw")
    found = walk(tmp_path, ["out/", "*.xcf"])
    expected = {kind: len(some) for kind, some in OF_A_KIND.items()}
    expected["camera RAW"] += 1
    expected["other image"] -= 1
    assert found.passed_over == expected
    assert list(found.passed_over) == list(KINDS)
    assert [image.path for image in found.images] == ["14.png", "IMG_1.HEIC", "IMG_2.jpg"]
    assert walk(tmp_path / "raw").passed_over == {"camera RAW": 1}


def test_images_whose_names_do_not_tell_are_known_by_what_they_hold(tmp_path: Path) -> None:
    shot = "Screen Shot at 10.12.45 AM"
    kinds = {
        "JPEG": "cached",
        "PNG": shot,
        "WEBP": "a.jpg_large",
        "GIF": "a.b.cd",
        "TIFF": "x.img",
    }
    for kind, name in kinds.items():
        (tmp_path / name).write_bytes(encoded(Image.fromarray(photo(seed=1)), kind))
    (tmp_path / "heif").write_bytes(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + bytes(100))
    for name in ("text.txt", "IMG_1.jpg.part", "a.mp4", "b.tga"):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(photo(seed=1)), "JPEG"))
    touch(tmp_path, "README", "unknown.zzz")
    (tmp_path / "movie").write_bytes(b"\0\0\0\x1cftypisom\0\0\0\0isommp41" + bytes(100))
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    found = walk(tmp_path)
    assert [image.path for image in found.images] == sorted([*kinds.values(), "heif"])
    assert found.passed_over == {"other image": 1, "video": 1, "other": 8}
    assert (found.failed, found.hidden) == ([], ("broken",))  # what it leads to may be on a disk that is away
    excluded = walk(tmp_path, ["a.*", "cached"])
    assert [image.path for image in excluded.images] == [shot, "heif", "x.img"]
    assert excluded.excludes("cached")
    assert excluded.excludes("a.jpg_large")


def test_raw_files_beside_an_image_are_told() -> None:
    pairs = {
        "IMG_1.CR2": "IMG_1.JPG",
        "img_2.dng": "IMG_2.heic",
        "s/a.nef": "s/a.jpeg",
        "s/a.b.arw": "s/a.b.jpg",
        "t/both.dng": "t/both.jpg",
        "t/both.cr3": "t/both.jpg",
        "t/Case.raf": "t/Case.jpeg",
        "t/case.raf": "t/case.jpg",
    }
    others = ["S/a.nef", "a.nef", "IMG_1.raw", "c.dng", "c.png", "d.dng", "d.nef", "t/both.heic", "s/a.b.c.arw"]
    assert raws_beside([*others, *pairs, *pairs.values()]) == pairs
    assert raws_beside(["a.jpg", "a.heic", "b.dng"]) == {}


stems = st.sampled_from(["a", "A", "a.jpg", "b\nc", os.fsdecode(b"\xfe"), "x" * 200])
suffixes = st.sampled_from(
    ["", ".jpg", ".JPG", ".JpEg", ".heic", ".png", ".mov", ".MP4", ".raw", ".svg", ".t", ".jpg "]
)
places = st.sampled_from(["", "s/", "s/t/"])
paths_made = st.builds(lambda place, stem, suffix: place + stem + suffix, places, stems, suffixes)


@given(st.lists(paths_made, unique=True))
@settings(deadline=None)
def test_every_file_is_an_image_or_counted_once(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), *names)
        found = walk(folder)
        images = [name for name in names if name.lower().endswith(tuple(SUFFIXES))]
        assert sorted(image.path for image in found.images) == sorted(images)
        assert found.failed == []
        photographs = {os.path.splitext(name)[0].lower() for name in images if not name.lower().endswith(".png")}
        expected: Counter[str] = Counter()
        for name in set(names) - set(images):
            stem, suffix = os.path.splitext(name.lower())
            film = "film of a live photograph" if stem in photographs else "video"
            kinds = {".mov": film, ".mp4": film, ".raw": "camera RAW", ".svg": "SVG"}
            expected[kinds.get(suffix, "other")] += 1
        assert found.passed_over == expected


def test_an_empty_folder(tmp_path: Path) -> None:
    assert is_empty(tmp_path)
    assert not is_empty(tmp_path / "gone")
    touch(tmp_path, ".hidden")
    assert not is_empty(tmp_path)
    assert not is_empty(tmp_path / ".hidden")
